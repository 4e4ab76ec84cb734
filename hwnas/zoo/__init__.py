"""Ready families of networks, one file each: decisions plus builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from hwnas.core import Architecture, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn import Supernet
from hwnas.space import Space
from hwnas.zoo.mobilenet_v3 import MobileNetV3
from hwnas.zoo.nasbench201 import NasBench201


class Family(Protocol):
    """A space and how to build it."""

    @property
    def name(self) -> str:
        """Part of the latency table's file name."""
        ...

    @property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        ...

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights, as `hwnas search` does."""
        ...

    def default(self) -> Architecture:
        """The network one would take without a search."""
        ...

    def supernet(self) -> Supernet:
        """All networks in one set of weights, freshly initialised from torch's global generator.

        Raises:
            SpaceError: If the family has none.
        """
        ...


AnyFamily = MobileNetV3 | NasBench201
"""Each family with its own fields; what they share is `Family`."""

FAMILIES: Mapping[str, AnyFamily] = {
    "mobilenet_v3": MobileNetV3("mobilenet_v3"),
    "mobilenet_v3_tiny": MobileNetV3(
        "mobilenet_v3_tiny",
        resolutions=(8, 12, 16),
        stem_width=8,
        widths=(12, 16, 24),
        strides=(1, 2, 2),
        head_width=64,
    ),
    "nasbench201": NasBench201("nasbench201"),
    "nasbench201_small": NasBench201("nasbench201_small", resolutions=(16,), cells=2),
    "toy": MobileNetV3(
        "toy",
        resolutions=(32, 48),
        kernels=(3, 5),
        expansions=(3, 6),
        depths=(1, 2),
        stem_width=8,
        stem_stride=2,
        widths=(8, 16),
        strides=(2, 2),
        se=(False, True),
        activations=("relu", "hswish"),
        head_width=32,
    ),
}
"""Every family with the values it has when a recipe says nothing else."""


def family(name: str, overrides: Mapping[str, object], *, channels: int, classes: int) -> AnyFamily:
    """The family of that name for some data, with a recipe's own values.

    Args:
        name: A key of `FAMILIES`.
        overrides: Fields of the family to values; `name`, `channels` and `classes` are not a recipe's to say.
        channels: Of the images.
        classes: Of the labels.

    Raises:
        SpaceError: If the name, a field or a value is wrong; names it and the nearest right one.

    Example:
        >>> family("toy", {"kernels": [3]}, channels=3, classes=2).kernels
        (3,)
    """
    if name not in FAMILIES:
        raise SpaceError(f'name is "{name}"; {did_you_mean(name, FAMILIES)}', hint="hwnas spaces lists them")
    base = FAMILIES[name]
    known = [field.name for field in fields(base) if field.name not in ("name", "channels", "classes")]
    values: dict[str, Any] = {field: getattr(base, field) for field in known}
    for field, value in overrides.items():
        if field not in known:
            raise SpaceError(f'unknown key "{field}" = {value!r}; {did_you_mean(field, known)}')
        values[field] = value
    try:
        found: AnyFamily = TypeAdapter(type(base)).validate_python(
            values | {"name": name, "channels": channels, "classes": classes}, strict=False
        )
    except ValidationError as error:
        first = error.errors()[0]
        own = first.get("ctx", {}).get("error")
        if isinstance(own, SpaceError):  # the family's own check, which names field and value already
            raise own from error
        where = ".".join(str(part) for part in first["loc"])
        raise SpaceError(f"{where} is {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}") from error
    # Another data set or other options are other blocks, so another latency table: the name tells them apart.
    return replace(found, name=f"{name}-{found.space.entries_digest[:6]}")


__all__ = ["FAMILIES", "AnyFamily", "Family", "MobileNetV3", "NasBench201", "family"]
