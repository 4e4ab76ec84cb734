"""Ready families of networks, one file each: decisions plus builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Protocol, get_args, get_type_hints, runtime_checkable

from pydantic import TypeAdapter, ValidationError
from torch import nn

from hwnas.core import Architecture, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn import Supernet
from hwnas.space import Block, Space
from hwnas.zoo.attentive_nas import AttentiveNas
from hwnas.zoo.bossnas import HyTra
from hwnas.zoo.darts import DARTS_IMAGENET, Darts
from hwnas.zoo.dpp_net import DPP_NET_IMAGENET, DppNet
from hwnas.zoo.enas import EnasMacro
from hwnas.zoo.fbnet import FBNet
from hwnas.zoo.fpnas import Fpnas
from hwnas.zoo.genetic_cnn import GeneticCnn
from hwnas.zoo.metaqnn import MetaQnn
from hwnas.zoo.mobilenet_v3 import MobileNetV3
from hwnas.zoo.nas_rl import NasRl
from hwnas.zoo.nasbench201 import NasBench201
from hwnas.zoo.nasnet import AMOEBANET_MOBILE, ENAS_MICRO, NASNET_MOBILE, PNASNET_MOBILE, NasNet
from hwnas.zoo.nats_bench import NatsSize
from hwnas.zoo.ofa_mobilenet_v3 import OFA_PROXYLESS, OfaMobileNetV3
from hwnas.zoo.ofa_resnet50_d import OfaResNet50D
from hwnas.zoo.own_model import OwnModel
from hwnas.zoo.proxyless import ProxylessNAS
from hwnas.zoo.shufflenet_spos import ShuffleNetSpos
from hwnas.zoo.smash import Smash


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

    @property
    def channels(self) -> int:
        """Of the images."""
        ...

    @property
    def classes(self) -> int:
        """Of the labels."""
        ...

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the images, ascending."""
        ...

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        ...

    def build_network(self, architecture: Architecture) -> nn.Module:
        """The plain network of an architecture, with fresh random weights."""
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


@runtime_checkable
class HasSmallest(Protocol):
    """A family whose cheapest network has nothing to train, so that it says which is the smallest worth training."""

    def smallest(self) -> Architecture:
        """The smallest network of the sandwich rule."""
        ...


AnyFamily = (
    AttentiveNas
    | Darts
    | DppNet
    | EnasMacro
    | FBNet
    | Fpnas
    | GeneticCnn
    | HyTra
    | MetaQnn
    | MobileNetV3
    | NasBench201
    | NasNet
    | NasRl
    | NatsSize
    | OfaMobileNetV3
    | OfaResNet50D
    | ProxylessNAS
    | ShuffleNetSpos
    | Smash
)
"""Each ready family with its own fields; what they share is `Family`."""

FAMILIES: Mapping[str, AnyFamily] = {
    "amoebanet_mobile": AMOEBANET_MOBILE,
    "attentive_nas": AttentiveNas("attentive_nas"),
    "attentive_nas_32px": AttentiveNas(
        "attentive_nas_32px", classes=10, resolutions=(24, 28, 32), stem_stride=1, strides=(1, 1, 2, 2, 1, 2, 1)
    ),
    "bossnas_hytra": HyTra("bossnas_hytra"),
    "bossnas_hytra_small": HyTra(
        "bossnas_hytra_small",
        classes=10,
        resolutions=(32,),
        stem="small",
        stem_width=16,
        widths=(32, 64, 128, 256),
        head_width=16,
        block=2,
    ),
    "darts": Darts("darts"),
    "darts_imagenet": DARTS_IMAGENET,
    "darts_small": Darts("darts_small", cells=8, width=16),
    "dpp_net": DppNet("dpp_net"),
    "dpp_net_imagenet": DPP_NET_IMAGENET,
    "enas_macro": EnasMacro("enas_macro"),
    "enas_macro_small": EnasMacro("enas_macro_small", resolutions=(16,), layers=(2, 2, 2), widths=(8, 16, 32)),
    "enas_micro": ENAS_MICRO,
    "enas_micro_small": replace(
        ENAS_MICRO, name="enas_micro_small", resolutions=(16,), cells=2, width=16, stem_width=48
    ),
    "fbnet": FBNet("fbnet"),
    "fbnet_small": FBNet("fbnet_small", classes=10, resolutions=(32,), stem_stride=1, strides=(1, 1, 2, 2, 1, 2, 1)),
    "fpnas": Fpnas("fpnas"),
    "fpnas_small": Fpnas("fpnas_small", classes=10, resolutions=(32,), stem_stride=1, strides=(1, 2, 2, 1, 2, 1)),
    "genetic_cnn": GeneticCnn("genetic_cnn"),
    "metaqnn": MetaQnn("metaqnn"),
    "metaqnn_small": MetaQnn(
        "metaqnn_small", resolutions=(16,), filters=(8, 16, 32), hidden=(64, 32), most_convs=2, most_pools=2
    ),
    "mobilenet_v3": MobileNetV3("mobilenet_v3"),
    "mobilenet_v3_tiny": MobileNetV3(
        "mobilenet_v3_tiny",
        resolutions=(8, 12, 16),
        stem_width=8,
        widths=(12, 16, 24),
        strides=(1, 2, 2),
        head_width=64,
    ),
    "nas_rl": NasRl("nas_rl"),
    "nas_rl_small": NasRl(
        "nas_rl_small",
        resolutions=(16,),
        depths=(4,),
        heights=(1, 3, 5),
        widths=(1, 3, 5),
        filters=(8, 16, 24),
        reach=3,
    ),
    "nasbench201": NasBench201("nasbench201"),
    "nasbench201_small": NasBench201("nasbench201_small", resolutions=(16,), cells=2),
    "nasnet": NasNet("nasnet"),
    "nasnet_mobile": NASNET_MOBILE,
    "nats_size": NatsSize("nats_size"),
    "ofa_mobilenet_v3": OfaMobileNetV3("ofa_mobilenet_v3"),
    "ofa_mobilenet_v3_32px": OfaMobileNetV3(
        "ofa_mobilenet_v3_32px", classes=10, resolutions=(24, 28, 32), stem_stride=1, strides=(1, 2, 2, 1, 2)
    ),
    "ofa_proxyless": OFA_PROXYLESS,
    "ofa_resnet50_d": OfaResNet50D("ofa_resnet50_d"),
    "pnasnet_mobile": PNASNET_MOBILE,
    "proxyless": ProxylessNAS("proxyless"),
    "proxyless_small": ProxylessNAS(
        "proxyless_small", classes=10, resolutions=(32,), stem_stride=1, strides=(1, 2, 2, 1, 2, 1)
    ),
    "shufflenet_spos": ShuffleNetSpos("shufflenet_spos"),
    "shufflenet_spos_small": ShuffleNetSpos(
        "shufflenet_spos_small", classes=10, resolutions=(32,), stem_stride=1, strides=(1, 2, 2, 2)
    ),
    "smash": Smash("smash"),
    "smash_small": Smash(
        "smash_small",
        resolutions=(16,),
        layers=(2, 2, 2),
        widths=(8, 12, 16),
        windows=("3x3", "3x3_dilated_2", "5x5"),
        groups=(1, 2),
        stem_kernel=3,
    ),
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


def family(name: str, overrides: Mapping[str, object], *, channels: int, classes: int) -> Family:
    """The family of that name for some data, with a recipe's own values.

    Args:
        name: A key of `FAMILIES`, or "file.py:Class" for a model space of one's own (see `OwnModel`).
        overrides: Fields of the family to values, or arguments of the class; `name`, `channels` and `classes` are not a
            recipe's to say.
        channels: Of the images.
        classes: Of the labels.

    Raises:
        SpaceError: If the name, a field or a value is wrong; names it and the nearest right one.

    Example:
        >>> family("toy", {"resolutions": [16]}, channels=3, classes=2).resolutions
        (16,)
    """
    if ":" in name:
        return OwnModel.load(name, overrides, channels=channels, classes=classes)
    if name not in FAMILIES:
        raise SpaceError(f'name is "{name}"; {did_you_mean(name, FAMILIES)}', hint="hwnas spaces lists them")
    base = FAMILIES[name]
    known = [field.name for field in fields(base) if field.name not in ("name", "channels", "classes")]
    values: dict[str, Any] = {field: getattr(base, field) for field in known}
    types = get_type_hints(type(base))
    for field, value in overrides.items():
        if field not in known:
            raise SpaceError(f'unknown key "{field}" = {value!r}; {did_you_mean(field, known)}')
        if _has_truth(value) and not _takes_truth(types[field]):
            raise SpaceError(f"{field} is {value!r}; expected no true or false, which are no numbers")
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


def _has_truth(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_has_truth, value)))


def _takes_truth(annotation: object) -> bool:
    return annotation is bool or any(map(_takes_truth, get_args(annotation)))


__all__ = [
    "FAMILIES",
    "AnyFamily",
    "AttentiveNas",
    "Darts",
    "DppNet",
    "EnasMacro",
    "FBNet",
    "Family",
    "Fpnas",
    "GeneticCnn",
    "HasSmallest",
    "HyTra",
    "MetaQnn",
    "MobileNetV3",
    "NasBench201",
    "NasNet",
    "NasRl",
    "NatsSize",
    "OfaMobileNetV3",
    "OfaResNet50D",
    "OwnModel",
    "ProxylessNAS",
    "ShuffleNetSpos",
    "Smash",
    "family",
]
