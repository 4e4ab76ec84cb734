"""Does the file say the same as the network it came from?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from hwnas.core import ExportError

BATCHES = (1, 2, 5, 16)
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """How far a file's logits are from torch's.

    Attributes:
        largest_difference: Absolute, over all logits of all batches.
        batches: The batch sizes that were really run.
        tolerance: What was allowed.
    """

    largest_difference: float
    batches: tuple[int, ...]
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        """A plain map."""
        return {
            "largest_difference": self.largest_difference,
            "batches": list(self.batches),
            "tolerance": self.tolerance,
        }


def open_session(model: bytes | Path) -> onnxruntime.InferenceSession:
    """An onnxruntime session on one CPU thread that does not spin.

    Raises:
        ExportError: If the runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    content = str(model) if isinstance(model, Path) else model
    name = model.name if isinstance(model, Path) else "the exported model"
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"{name}: onnxruntime refuses it: {str(error).splitlines()[0]}") from error


def logits(session: onnxruntime.InferenceSession, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [n, classes] of preprocessed images [n, c, h, w]."""
    output: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return output


def check_parity(
    network: nn.Module,
    model: bytes | Path,
    *,
    input_shape: tuple[int, ...],
    batches: Sequence[int] = BATCHES,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Parity:
    """Run file and network on the same normal images and compare.

    Args:
        network: Run in evaluation mode; its mode is left as it was.
        model: The ONNX file or its bytes.
        input_shape: (channels, height, width).
        batches: Batch sizes to run.
        tolerance: Largest absolute difference allowed.
        seed: Of the images.

    Raises:
        ExportError: If the runtime refuses a batch size or the outputs differ by more than the tolerance.
    """
    session = open_session(model)
    rng = np.random.default_rng(seed)
    training = network.training
    network.eval()
    largest = 0.0
    try:
        for n in batches:
            images = rng.standard_normal((n, *input_shape), dtype=np.float32)
            with torch.inference_mode():
                expected = network(torch.from_numpy(images)).numpy()
            try:
                found = logits(session, images)
            except Exception as error:
                raise ExportError(f"the ONNX file does not run at batch {n}: {str(error).splitlines()[0]}") from error
            largest = max(largest, float(np.abs(found - expected).max()))
    finally:
        network.train(training)
    if not largest <= tolerance:
        raise ExportError(
            f"the ONNX file differs from torch by {largest:.3g} on logits; at most {tolerance:.0e} is allowed",
            hint="this is a fault of the exporter or of the network: keep both and report them",
        )
    return Parity(largest, tuple(batches), tolerance)
