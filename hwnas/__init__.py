"""hwnas: measure a device, search for the networks that are best on it, hand over ONNX files with measured numbers.

The names below are the promised ones; everything else is importable and may change. They are loaded when first used, so
`import hwnas` costs nothing.

Example:
    >>> import hwnas
    >>> hwnas.Limit("latency_ms", at_most=2.0).violation(2.5)
    0.5
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.core import Architecture, Budget, Evaluation, HwnasError, Limit, Metric, Objective
    from hwnas.cost import LatencyTable
    from hwnas.device import Device
    from hwnas.job import Front, Recipe, TabularFront, profile
    from hwnas.job.entry import search
    from hwnas.space import Space
    from hwnas.study import Study

_ROOMS = {
    "Architecture": "hwnas.core",
    "Budget": "hwnas.core",
    "Device": "hwnas.device",
    "Evaluation": "hwnas.core",
    "Front": "hwnas.job",
    "HwnasError": "hwnas.core",
    "LatencyTable": "hwnas.cost",
    "Limit": "hwnas.core",
    "Metric": "hwnas.core",
    "Objective": "hwnas.core",
    "Recipe": "hwnas.job",
    "Space": "hwnas.space",
    "Study": "hwnas.study",
    "TabularFront": "hwnas.job",
    "profile": "hwnas.job",
    "search": "hwnas.job.entry",
}

__all__ = [
    "Architecture",
    "Budget",
    "Device",
    "Evaluation",
    "Front",
    "HwnasError",
    "LatencyTable",
    "Limit",
    "Metric",
    "Objective",
    "Recipe",
    "Space",
    "Study",
    "TabularFront",
    "profile",
    "search",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(_ROOMS[name]), name)
    raise AttributeError(f"module 'hwnas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
