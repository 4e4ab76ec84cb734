"""Where weights are trained, and with how many bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from hwnas.core import DeviceError

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Placement:
    """Processor and precision of training; has nothing to do with the device that is searched for.

    Attributes:
        processor: "cpu", or "cuda": the first GPU that this process sees.
        precision: "float32", or "bfloat16": convolutions and matrix products in bfloat16, weights, norms' statistics
            and losses in float32 (autocast).

    Raises:
        DeviceError: If there is no such processor here, or it has no bfloat16.

    Example:
        >>> Placement().device
        device(type='cpu')
    """

    processor: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.processor == "cuda" and not torch.cuda.is_available():
            raise DeviceError(
                "processor is cuda, and torch sees no GPU here",
                hint='set [training] processor = "cpu", or install a torch with CUDA; hwnas check shows what is there',
            )
        if self.precision == "bfloat16" and self.processor == "cuda" and not torch.cuda.is_bf16_supported():
            raise DeviceError(
                f"precision is bfloat16, which {torch.cuda.get_device_name()} does not have",
                hint='set [training] precision = "float32"',
            )

    @property
    def device(self) -> torch.device:
        """As torch names it."""
        return torch.device(self.processor)

    def place(self, module: M) -> M:
        """Move a module there, in the layout in which depthwise convolutions are quick; returns the module itself."""
        return module.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def forward_of(self, module: nn.Module) -> Callable[..., Any]:
        """The module's forward pass at this precision, whose outputs are float32 in any case."""
        plain = module.forward
        if self.precision == "float32":
            return plain

        def forward(*inputs: Any) -> torch.Tensor:
            # Inside the call, as autocast holds for a thread, and a step may run networks in several.
            with torch.autocast(self.processor, torch.bfloat16):
                found: torch.Tensor = plain(*inputs)
            return found.float()

        return forward


@contextmanager
def calling(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within, calls of the module are calls of another forward pass; its weights, names and state stay as they are.

    Example:
        >>> module = nn.Identity()
        >>> with calling(module, lambda x: x + 1):
        ...     module(1)
        2
        >>> module(1)
        1
    """
    module.forward = forward
    try:
        yield
    finally:
        del module.forward  # the class's own shows again
