"""Networks and weights of the authors of ProxylessNAS and once-for-all, by their own names.

`load_ofa_state` fills a supernet; `load_published` builds one network from its configuration, as their packages `ofa`
and `proxylessnas` write it to JSON, with its weights.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.nn.blocks import (
    build_block,
    describe_head,
    describe_mbconv,
    describe_mixing_head,
    describe_separable,
    describe_stem,
)
from hwnas.nn.build_around import build_around
from hwnas.space import Block
from hwnas.zoo.channels import divisible
from hwnas.zoo.ofa_mobilenet_v3 import ACTIVATIONS, OfaMobileNetV3Supernet
from hwnas.zoo.ofa_resnet50_d import OfaResNet50DSupernet

NORM_EPS = 1e-5
"""What every norm here adds to a variance; see `shifted`."""

_PARTS: Mapping[str, str] = {
    "expand.": "inverted_bottleneck.conv.",
    "expand_norm.": "inverted_bottleneck.bn.",
    "depthwise.": "depth_conv.conv.",
    "depthwise_norm.": "depth_conv.bn.",
    "se.": "depth_conv.se.fc.",
    "project.": "point_linear.conv.",
    "project_norm.": "point_linear.bn.",
}
"""Parts of a block, here and there."""

_HEAD = ("classifier.linear.weight", "classifier.linear.bias")


def plain_names(state: Mapping[str, object]) -> dict[str, Tensor]:
    """A checkpoint with one name per tensor, whatever version of the authors' packages wrote it.

    The wrapping `{"state_dict": ...}`, the prefix of a parallel module, the older "mobile_inverted_conv", and the
    doubled names of elastic layers ("bn.bn", "conv.conv", "linear.linear") are undone; counters of batches are dropped.

    Raises:
        SpaceError: If it holds anything but tensors.

    Example:
        >>> sorted(plain_names({"module.blocks.1.mobile_inverted_conv.point_linear.bn.bn.bias": torch.zeros(1)}))
        ['blocks.1.conv.point_linear.bn.bias']
    """
    inner = state.get("state_dict", state)
    if not isinstance(inner, Mapping):
        raise SpaceError(f"state_dict is a {type(inner).__name__}; expected names to tensors, as torch.load gives them")
    found = {}
    for name, value in inner.items():
        if not isinstance(value, Tensor):
            raise SpaceError(f"{name} is a {type(value).__name__}; expected a tensor for every name of a checkpoint")
        short = str(name).removeprefix("module.").replace(".mobile_inverted_conv.", ".conv.")
        short = short.replace(".conv.conv.weight", ".conv.weight")
        short = short.replace(".bn.bn.", ".bn.").replace(".linear.linear.", ".linear.")
        if not short.endswith("num_batches_tracked"):
            found[short] = value
    return found


def shifted(variance: Tensor, norm_eps: float) -> Tensor:
    """Running variances for norms that add `NORM_EPS`, from those of norms that add `norm_eps`: the same function.

    A trained network keeps its outputs, and its entries in a latency table need no eps. Only further training, whose
    batch statistics are not shifted, differs by it.

    Example:
        >>> shifted(torch.ones(1), 1e-3)
        tensor([1.0010])
    """
    return variance + (norm_eps - NORM_EPS)


def load_ofa_state(
    supernet: OfaMobileNetV3Supernet | OfaResNet50DSupernet,
    state: Mapping[str, object],
    *,
    norm_eps: float = 1e-5,
    reset_head: bool = False,
) -> None:
    """Take over the weights of a once-for-all network.

    Source: github.com/mit-han-lab/once-for-all, package `ofa`, and the checkpoints that it downloads. Read a file
    with `torch.load(path, map_location="cpu", weights_only=True)`.

    Args:
        supernet: Of the form that the weights are of; changed in place.
        state: The state of `OFAMobileNetV3`, `OFAProxylessNASNets` or `OFAResNets`, in any of the authors' naming.
        norm_eps: What the authors' norms add to variances: 1e-5 in MobileNetV3 and ResNet, 1e-3 in ProxylessNAS.
        reset_head: Leave the classifier as it is, freshly initialised, where the number of classes differs.

    Raises:
        SpaceError: If a tensor is missing, left over or of another shape, or the classes differ and `reset_head` is
            not set. Nothing is loaded then.

    Example:
        >>> from hwnas.zoo import OfaMobileNetV3
        >>> tiny = OfaMobileNetV3(classes=2, widths=(8,), strides=(2,), se=(False,), activations=("relu",))
        >>> load_ofa_state(tiny.supernet(), {"first_conv.conv.weight": torch.zeros(16, 3, 3, 3)})
        Traceback (most recent call last):
        ...
        hwnas.core.errors.SpaceError: the checkpoint lacks 90 tensors, the first is "first_conv.bn.weight" (...
    """
    theirs = plain_names(state)
    pairs = list(_targets(supernet))
    if reset_head and all(name in theirs for name in _HEAD):
        classes = len(theirs[_HEAD[1]])
        if classes != supernet.family.classes:
            pairs = [pair for pair in pairs if pair[1] not in _HEAD]
            for name in _HEAD:
                del theirs[name]
    names = {name for _, name, _ in pairs}
    missing = [name for _, name, _ in pairs if name not in theirs]
    extra = sorted(set(theirs) - names)
    if missing:
        near = f'; left over: "{extra[0]}"' if extra else ""
        raise SpaceError(
            f'the checkpoint lacks {len(missing)} tensors, the first is "{missing[0]}"{near}',
            hint="build the family with the kernels, expansions, depths and width that the weights were trained with",
        )
    if extra:
        raise SpaceError(
            f'the checkpoint has {len(extra)} tensors more than space {supernet.space.name}, the first is "{extra[0]}"',
            hint="build the family with the kernels, expansions, depths and width that the weights were trained with",
        )
    ready = []
    for ours, name, target in pairs:
        value = theirs[name].detach()
        if value.numel() != target.numel() or value.squeeze().shape != target.squeeze().shape:
            _refuse_misfit(ours, name, value, target, supernet.family.classes)
        ready.append((target, shifted(value, norm_eps) if name.endswith("running_var") else value))
    with torch.no_grad():
        for target, value in ready:
            target.copy_(value.reshape(target.shape))


def _refuse_misfit(ours: str, name: str, value: Tensor, target: Tensor, classes: int) -> NoReturn:
    found, wanted = tuple(value.shape), tuple(target.shape)
    if name in _HEAD:
        raise SpaceError(
            f"{name} is {found}: the checkpoint is for {len(value)} classes, the data has {classes}",
            hint="reset_head=True keeps all other weights and leaves the classifier to be trained",
        )
    raise SpaceError(f"{name} is {found}; {ours} expects {wanted}: the checkpoint is of another width or input")


def _targets(supernet: OfaMobileNetV3Supernet | OfaResNet50DSupernet) -> Iterator[tuple[str, str, Tensor]]:
    """Name here, name there, and the tensor, for everything that a checkpoint fills."""
    resnet = isinstance(supernet, OfaResNet50DSupernet)
    # Where each stage begins among all blocks, as the authors number them: chains have a fixed block first.
    lengths = (len(stage) for stage in cast(Iterable[nn.ModuleList], supernet.stages))
    places = list(itertools.accumulate(lengths, initial=0 if resnet else 1))
    for ours, tensor in (*supernet.named_parameters(), *supernet.named_buffers()):
        if ours.endswith("num_batches_tracked"):
            continue
        if isinstance(supernet, OfaResNet50DSupernet):
            name = _resnet_name(ours, places)
        else:
            name = _theirs(ours, places, supernet.family.kernels, mixes=supernet.family.mix_width > 0)
        yield ours, name, tensor


_RESNET_PARTS: Mapping[str, str] = {
    "reduce": "conv1",
    "convolve": "conv2",
    "restore": "conv3",
    "shortcut": "downsample",
}


def _resnet_name(ours: str, first: Sequence[int]) -> str:
    room, rest = ours.split(".", 1)
    if room == "head":
        return _head_name(rest, mixes=False)
    if room == "stem":
        part, leaf = rest.split(".", 1)
        layer = {"first": "input_stem.0", "second": "input_stem.1.conv", "third": "input_stem.2"}[part]
        return f"{layer}.{leaf.replace('norm.', 'bn.')}"
    stage, block, part, leaf = rest.split(".", 3)
    place = first[int(stage)] + int(block)
    return f"blocks.{place}.{_RESNET_PARTS[part]}.{leaf.replace('norm.', 'bn.')}"


def _theirs(ours: str, first: Sequence[int], kernels: tuple[int, ...], *, mixes: bool) -> str:
    room, _, rest = ours.partition(".")
    if room == "stem":
        return _stem_name(rest)
    if room == "head":
        return _head_name(rest, mixes=mixes)
    place = 0
    if room == "stages":
        stage, block, rest = rest.split(".", 2)
        place = first[int(stage)] + int(block)
    if step := re.fullmatch(r"transforms\.(\d+)", rest):
        small = len(kernels) - 2 - int(step[1])
        return f"blocks.{place}.conv.depth_conv.conv.{kernels[small + 1]}to{kernels[small]}_matrix"
    return _block_name(place, rest)


def _stem_name(ours: str) -> str:
    return "first_conv." + ours.replace("norm.", "bn.")


def _head_name(ours: str, *, mixes: bool) -> str:
    part, _, leaf = ours.partition(".")
    last = "final_expand_layer" if mixes else "feature_mix_layer"
    layers = {
        "conv": f"{last}.conv",
        "norm": f"{last}.bn",
        "mix": "feature_mix_layer.conv",
        "classifier": "classifier.linear",
    }
    return f"{layers[part]}.{leaf}"


def _block_name(place: int, ours: str) -> str:
    part = next(part for part in _PARTS if ours.startswith(part))
    return f"blocks.{place}.conv.{_PARTS[part]}{ours.removeprefix(part)}"


# ------------------------------------------------------------------------------------------------ one published network


def describe_published(config: Mapping[str, Any], *, resolution: int, classes: int | None = None) -> list[Block]:
    """The blocks of a network that its authors describe in JSON, from stem to head.

    Args:
        config: Of `ProxylessNASNets` or `MobileNetV3`, as `json.load` gives it.
        resolution: Side of the square images.
        classes: Of the classifier; None for those of the configuration.

    Raises:
        SpaceError: If it holds what no block here stands for; names it.
    """
    return [block for _, block in _published(config, resolution, classes)]


def load_published(
    config: Mapping[str, Any], state: Mapping[str, object], *, classes: int | None = None, reset_head: bool = False
) -> nn.Sequential:
    """A network that its authors released, with their weights, in evaluation mode. It takes images of any size.

    Source: github.com/mit-han-lab/proxylessnas and github.com/mit-han-lab/once-for-all, `net.config` and `init`.

    Args:
        config: As in `describe_published`.
        state: Tensors, or numpy arrays, by the authors' names.
        classes: Of the data; None for those of the configuration.
        reset_head: Draw a new classifier where the number of classes differs.

    Raises:
        SpaceError: If a tensor is missing or has another shape, the configuration holds what no block here stands for,
            or the classes differ and `reset_head` is not set.
    """
    theirs = plain_names({k: torch.as_tensor(v) if hasattr(v, "__array__") else v for k, v in state.items()})
    known = int(config["classifier"]["out_features"])
    if classes not in {None, known} and not reset_head:
        raise SpaceError(
            f"the network is for {known} classes, the data has {classes}",
            hint="reset_head=True keeps all other weights and leaves the classifier to be trained",
        )
    norm_eps = float(config.get("bn", {}).get("eps", 1e-3))
    parts = []
    for place, block in _published(config, 1, classes):
        tensors: dict[str, Tensor] = {}
        for ours, value in build_block(block).state_dict().items():
            if ours.endswith("num_batches_tracked"):
                continue
            match block.kind:
                case "stem":
                    name = _stem_name(ours)
                case "head" | "mixing_head":
                    name = _head_name(ours, mixes=block.kind == "mixing_head")
                case _:
                    name = _block_name(place, ours)
            if name in _HEAD and classes not in {None, known}:
                tensors[ours] = value
                continue
            if name not in theirs:
                raise SpaceError(f'the checkpoint lacks "{name}", which the configuration asks for')
            found = theirs[name].detach()
            if found.numel() != value.numel() or found.squeeze().shape != value.squeeze().shape:
                raise SpaceError(f"{name} is {tuple(found.shape)}; the configuration expects {tuple(value.shape)}")
            found = shifted(found, norm_eps) if name.endswith("running_var") else found.clone()
            tensors[ours] = found.reshape(value.shape)
        parts.append(build_around(block, tensors, mode=False))
    network = nn.Sequential(*parts)
    network.training = False
    return network


def _published(config: Mapping[str, Any], resolution: int, classes: int | None) -> list[tuple[int, Block]]:
    """Each block that is not left out, with its place in the configuration.

    Raises:
        SpaceError: If it holds what no block here stands for.
    """
    stem = config["first_conv"]
    found = [
        (
            -1,
            describe_stem(
                int(stem["in_channels"]),
                int(stem["out_channels"]),
                resolution,
                kernel=int(stem["kernel_size"]),
                stride=int(stem["stride"]),
                activation_name=_activation(stem),
            ),
        )
    ]
    for place, row in enumerate(config["blocks"]):
        layer = row.get("conv", row.get("mobile_inverted_conv"))
        if layer is None or layer["name"] == "ZeroLayer":
            continue
        if layer["name"] not in {"MBConvLayer", "MBInvertedConvLayer"} or layer.get("groups") is not None:
            raise SpaceError(f"block {place} is {dict(layer)}; expected MBConvLayer without groups")
        found.append((place, _described(layer, found[-1][1].output_shape[1], shortcut=row["shortcut"] is not None)))
    out = classes or int(config["classifier"]["out_features"])
    mix, (c_in, size, _) = config["feature_mix_layer"], found[-1][1].output_shape
    width, act = int(mix["out_channels"]), _activation(mix)
    if "final_expand_layer" in config:
        expand = int(config["final_expand_layer"]["out_channels"])
        head = describe_mixing_head(c_in, expand, width, out, size, activation_name=act)
    else:
        head = describe_head(c_in, width, out, size, activation_name=act)
    return [*found, (-1, head)]


def _described(layer: Mapping[str, Any], size: int, *, shortcut: bool) -> Block:
    c_in, c_out = int(layer["in_channels"]), int(layer["out_channels"])
    kernel, stride, act = int(layer["kernel_size"]), int(layer["stride"]), _activation(layer)
    if layer["expand_ratio"] == 1:
        if layer.get("use_se"):
            raise SpaceError(f"block {dict(layer)} squeezes and excites without expansion; no block here does")
        return describe_separable(
            c_in, c_out, size, kernel=kernel, stride=stride, activation_name=act, shortcut=shortcut
        )
    hidden = int(layer.get("mid_channels") or round(c_in * layer["expand_ratio"]))
    return describe_mbconv(
        c_in,
        c_out,
        size,
        hidden=hidden,
        kernel=kernel,
        stride=stride,
        activation_name=act,
        squeeze=divisible(hidden // 4) if layer.get("use_se") else 0,
        shortcut=shortcut,
    )


def _activation(layer: Mapping[str, Any]) -> str:
    name = str(layer.get("act_func", "relu6"))
    return ACTIVATIONS.get(name, name)
