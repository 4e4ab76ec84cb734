"""One torch module, one ONNX file: the exporter that profiling and delivery share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from hwnas.core import ExportError

OPSET = 17
EXPORTER = "torch.onnx, TorchScript"
CONSTANT_FOLDING = True


def write_onnx(module: nn.Module, path: Path, *, input_shape: tuple[int, ...]) -> None:
    """Write a module as one ONNX file with a dynamic batch axis.

    The TorchScript exporter is used: it takes a tenth of the time of the newer one, writes a single file, keeps the
    opset it is asked for, and keeps hard-swish and hard-sigmoid whole, which the runtime then fuses. The module's mode
    and gradients are left as they were.

    Args:
        module: Takes one tensor [batch, *input_shape].
        path: Overwritten. The caller gives a temporary name where half a file would do harm.
        input_shape: (channels, height, width) of one image.

    Raises:
        ExportError: If the exporter fails; the message holds its first line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "pool.onnx"
        >>> write_onnx(nn.AdaptiveAvgPool2d(1), path, input_shape=(3, 8, 8))
        >>> path.stat().st_size > 0
        True
    """
    modes = {name: part.training for name, part in module.named_modules()}
    example = torch.zeros(2, *input_shape)
    try:
        module.eval()
        with _silent(), warnings.catch_warnings():
            # The exporter announces its own deprecation at every call; nothing a user could act on.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (example,),
                str(path),
                dynamo=False,
                opset_version=OPSET,
                do_constant_folding=CONSTANT_FOLDING,
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            )
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(f"ONNX export of {type(module).__name__} to {path.name} failed: {first}") from error
    finally:
        for name, part in module.named_modules():
            part.training = modes[name]


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter from printing the whole graph where it fails: the error says which operator it was.

    Its own switch is turned on at every export; where torch has lost what is replaced here, the graph is printed.
    """
    name = "_jit_onnx_log"
    before = getattr(torch._C, name, None)
    if before is None:
        yield
        return
    setattr(torch._C, name, lambda *_: None)
    try:
        yield
    finally:
        setattr(torch._C, name, before)
