"""One torch module, one `.pt2` file: what the torch runtimes load where others load ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from hwnas.core import ExportError

EXPORTER = "torch.export"


def write_pt2(module: nn.Module, path: Path, *, input_shape: tuple[int, ...], batch: int) -> None:
    """Write a module as one file of torch.export, for a fixed batch.

    Its graph holds the operators of eager torch, unfused. It needs no Python class to be loaded, and no compiler. The
    module's mode is left as it was.

    Args:
        module: Takes one tensor [batch, *input_shape].
        path: Overwritten; ends in ".pt2".
        input_shape: (channels, height, width) of one image.
        batch: Images per run.

    Raises:
        ExportError: If torch cannot export it; the message holds its first line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "pool.pt2"
        >>> write_pt2(nn.AdaptiveAvgPool2d(1), path, input_shape=(3, 8, 8), batch=1)
        >>> path.stat().st_size > 0
        True
    """
    modes = {name: part.training for name, part in module.named_modules()}
    example = torch.zeros(batch, *input_shape)
    try:
        module.eval()
        with warnings.catch_warnings(), torch.no_grad():
            # Of the exporter's own making; nothing a user could act on.
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(module, (example,)), path)
    except Exception as error:
        # The exporter's errors share no base: a module may raise anything when it is traced.
        lines = str(error).strip().splitlines()
        first = lines[0] if lines else type(error).__name__
        raise ExportError(f"torch.export of {type(module).__name__} to {path.name} failed: {first}") from error
    finally:
        for name, part in module.named_modules():
            part.training = modes[name]
