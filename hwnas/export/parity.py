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
from hwnas.device.refusals import first_line, refusal

BATCHES = (1, 2, 5, 16)
TOLERANCE = 1e-4
_RELATIVE = 1e-5  # of the largest logit: ten times what two orders of float32 sums differ by


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
    name = str(model) if isinstance(model, Path) else "the exported model"
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        what, hint = refusal(first_line(error), runtime=f"onnxruntime {onnxruntime.__version__}")
        raise ExportError(f"{name}: onnxruntime refuses it: {what}", hint=hint) from error


def logits(session: onnxruntime.InferenceSession, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [n, classes] of preprocessed images [n, c, h, w]."""
    output: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return output


def check_parity(
    network: nn.Module,
    model: bytes | Path,
    *,
    input_shape: tuple[int, ...],
    images: NDArray[np.float32] | None = None,
    batches: Sequence[int] = BATCHES,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Parity:
    """Run file and network on the same images and compare.

    Args:
        network: Run in evaluation mode; its mode is left as it was.
        model: The ONNX file or its bytes.
        input_shape: (channels, height, width).
        images: Preprocessed [n, c, h, w], taken in turn. Without them normal noise is used, on which a trained network
            may answer with logits of hundreds; `allowed_on_noise` says what is then tolerated.
        batches: Batch sizes to run.
        tolerance: Largest absolute difference allowed.
        seed: Of the noise.

    Raises:
        ExportError: If the runtime refuses a batch size, or the outputs differ by more than the tolerance or are not
            all finite numbers.
    """
    session = open_session(model)
    rng = np.random.default_rng(seed)
    training = network.training
    network.eval()
    largest, allowed, start = 0.0, tolerance, 0
    try:
        for n in batches:
            if images is None:
                batch = rng.standard_normal((n, *input_shape), dtype=np.float32)
            else:
                batch = images[np.arange(start, start + n) % len(images)]
                start += n
            with torch.inference_mode():
                expected = network(torch.from_numpy(batch)).numpy()
            _check_finite(expected, "the network", n)
            if images is None:
                allowed = max(allowed, allowed_on_noise(expected, tolerance))
            try:
                found = logits(session, batch)
            except Exception as error:
                raise ExportError(f"the ONNX file does not run at batch {n}: {first_line(error)}") from error
            _check_finite(found, "the ONNX file", n)
            largest = max(largest, float(np.abs(found - expected).max()))
    finally:
        network.train(training)
    if not largest <= allowed:
        raise ExportError(
            f"the ONNX file differs from torch by {largest:.3g} on logits; at most {allowed:.2g} is allowed",
            hint="this is a fault of the exporter or of the network: keep both and report them",
        )
    return Parity(largest, tuple(batches), tolerance)


def _check_finite(outputs: NDArray[np.float32], of: str, batch: int) -> None:
    """Refuse outputs that no comparison would notice: NaN is neither larger nor smaller than anything.

    Raises:
        ExportError: If one is NaN or infinite.
    """
    wrong = int((~np.isfinite(outputs)).sum())
    if wrong:
        raise ExportError(
            f"{of} answers with {wrong} of {outputs.size} logits that are not finite numbers, at batch {batch}",
            hint="its weights have overflowed: train it again with a lower learning rate",
        )


def allowed_on_noise(expected: NDArray[np.float32], tolerance: float) -> float:
    """What two runs may differ by on images that are none: a share of the largest logit, where that is more.

    Example:
        >>> allowed_on_noise(np.array([[3.0, -8.0]]), 1e-4), allowed_on_noise(np.array([[150.0, -10.0]]), 1e-4)
        (0.0001, 0.0015)
    """
    return max(tolerance, round(_RELATIVE * float(np.abs(expected).max()), 12))
