"""A chain of convolutions with skips: each layer reads any of the layers before it.

What a layer reads is concatenated, smaller features being padded with zeros to the size of the largest; a layer that
reads none reads the image; what no layer reads goes to the classifier. A network runs one convolution per layer. Its
cost is written as a sum over its connections, each the share of the convolution that reads one source, as otherwise it
would hang on the filters of all layers at once. Shapes: n images, c channels, h height, w width.

Source: Zoph and Le 2017 (arXiv 1611.01578), sections 3.1 and 3.3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.space import Block


@dataclass(frozen=True)
class SkipLayer:
    """One layer of a chain.

    Attributes:
        height: Of the filters, odd.
        width: Of the filters, odd.
        filters: How many.
        stride: In both directions.
        sources: Earlier layers that it reads, counted from 0, ascending; empty: the image.
    """

    height: int
    width: int
    filters: int
    stride: int = 1
    sources: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sides:
    """Of the square features of one layer.

    Attributes:
        read: What the layer reads, after padding.
        given: What it gives.
    """

    read: int
    given: int


def sides_of(layers: Iterable[tuple[int, Sequence[int]]], side: int) -> list[Sides]:
    """The sizes in a chain on images of some side.

    Args:
        layers: Of each its stride and sources.
        side: Of the image.

    Example:
        >>> sides_of([(2, ()), (1, (0,)), (1, ()), (2, (1, 2))], 9)
        [Sides(read=9, given=5), Sides(read=5, given=5), Sides(read=9, given=9), Sides(read=9, given=5)]
    """
    found: list[Sides] = []
    for stride, sources in layers:
        read = max([found[source].given for source in sources], default=side)
        found.append(Sides(read, -(-read // stride)))
    return found


def unread_layers(sources: Sequence[Sequence[int]]) -> list[int]:
    """The layers that no layer reads, counted from 0, from the sources of each.

    Example:
        >>> unread_layers([(), (0,), (), (1,)])
        [2, 3]
    """
    read = {source for row in sources for source in row}
    return [layer for layer in range(len(sources)) if layer not in read]


# ---------------------------------------------------------------------------------------------------------- modules


def padded(x: Tensor, side: int) -> Tensor:
    """Square features with zeros at the right and at the bottom up to a side.

    Example:
        >>> padded(torch.ones(1, 1, 1, 1), 2)
        tensor([[[[1., 0.],
                  [0., 0.]]]])
    """
    missing = side - x.shape[-1]
    return F.pad(x, (0, missing, 0, missing)) if missing else x


def joined(inputs: Sequence[Tensor]) -> Tensor:
    """Features side by side in their channels, the smaller ones padded."""
    side = max(x.shape[-1] for x in inputs)
    return torch.cat([padded(x, side) for x in inputs], dim=1) if len(inputs) > 1 else inputs[0]


class FlatConvNormRelu(nn.Module):
    """Convolution with a filter that need not be square, norm, rectifier."""

    def __init__(self, c_in: int, layer: SkipLayer) -> None:
        super().__init__()
        kernel = layer.height, layer.width
        self.conv = nn.Conv2d(
            c_in, layer.filters, kernel, layer.stride, (layer.height // 2, layer.width // 2), bias=False
        )
        self.norm = nn.BatchNorm2d(layer.filters)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, filters, ceil(h / stride), ceil(w / stride)]."""
        return F.relu(self.norm(self.conv(x)), inplace=True)


class SkipNetwork(nn.Module):
    """A whole chain with its classifier.

    Args:
        channels: Of the images.
        classes: Of the labels.
        side: Of the images.
        layers: In order; each reads only what stands before it.

    Example:
        >>> layers = (SkipLayer(3, 1, 4), SkipLayer(1, 3, 8), SkipLayer(3, 3, 8, 1, (0, 1)))
        >>> network = SkipNetwork(3, 10, 8, layers)
        >>> network.layers[2].conv.in_channels, network(torch.zeros(2, 3, 8, 8)).shape
        (12, torch.Size([2, 10]))
    """

    def __init__(self, channels: int, classes: int, side: int, layers: Sequence[SkipLayer]) -> None:
        super().__init__()
        self.channels, self.classes, self.side, self.plan = channels, classes, side, tuple(layers)
        self.layers = nn.ModuleList(
            FlatConvNormRelu(sum(self.plan[source].filters for source in layer.sources) or channels, layer)
            for layer in self.plan
        )
        self.unread = unread_layers([layer.sources for layer in self.plan])
        self.classifier = nn.Linear(sum(self.plan[layer].filters for layer in self.unread), classes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, side, side] -> logits [n, classes]."""
        values: list[Tensor] = []
        for module, layer in zip(self.layers, self.plan, strict=True):
            values.append(module(joined([values[source] for source in layer.sources] or [x])))
        # Of sizes that differ each is averaged over its own: padding would only scale what the classifier weighs.
        means = [F.adaptive_avg_pool2d(values[layer], 1).flatten(1) for layer in self.unread]
        return cast(Tensor, self.classifier(torch.cat(means, dim=1)))

    @property
    def block(self) -> Block:
        """The network as one block, from which it can be built again."""
        text = json.dumps([astuple(layer) for layer in self.plan], separators=(",", ":"))
        shares = describe_skip_network(self.channels, self.classes, self.side, self.plan)
        return Block(
            "skip_network",
            (("plan", text),),
            (self.channels, self.side, self.side),
            (self.classes,),
            sum(block.macs for block in shares),
            sum(block.parameters for block in shares),
        )


class SourceConvolution(nn.Module):
    """The share of a layer's convolution that reads one source: padding, and a convolution without bias."""

    def __init__(self, c_in: int, layer: SkipLayer, *, side: int) -> None:
        super().__init__()
        self.side = side
        kernel = layer.height, layer.width
        self.conv = nn.Conv2d(
            c_in, layer.filters, kernel, layer.stride, (layer.height // 2, layer.width // 2), bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, h] -> [n, filters, ceil(side / stride), ceil(side / stride)]."""
        return cast(Tensor, self.conv(padded(x, self.side)))


class NormRelu(nn.Module):
    """Norm, rectifier."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> the same shape."""
        return F.relu(self.norm(x))


class Readout(nn.Module):
    """The share of the classifier that reads one layer: mean over the image, linear layer."""

    def __init__(self, channels: int, classes: int, *, bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> [n, classes]."""
        return cast(Tensor, self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1)))


# ---------------------------------------------------------------------------------------------------------- entries


def describe_source_convolution(c_in: int, size: int, layer: SkipLayer, *, side: int) -> Block:
    """The entry of a `SourceConvolution`.

    Args:
        c_in: Channels of the source.
        size: Side of its features.
        layer: Whose share it is; its sources do not matter.
        side: To which the features are padded.

    Example:
        >>> block = describe_source_convolution(24, 16, SkipLayer(5, 3, 36), side=16)
        >>> block.key, block.macs == 16 * 16 * 5 * 3 * 24 * 36
        ('source_conv height=5 width=3 stride=1 24x16x16->36x16x16', True)
    """
    out = -(-side // layer.stride)
    weights = layer.height * layer.width * c_in * layer.filters
    return Block(
        "source_conv",
        (
            ("height", layer.height),
            ("width", layer.width),
            ("stride", layer.stride),
            *((("side", side),) if side != size else ()),
        ),
        (c_in, size, size),
        (layer.filters, out, out),
        macs=out * out * weights,
        parameters=weights,
    )


def describe_norm_relu(channels: int, size: int) -> Block:
    """The entry of a `NormRelu`."""
    return Block("norm_relu", (), (channels, size, size), (channels, size, size), 0, 2 * channels)


def describe_readout(channels: int, classes: int, size: int, *, bias: bool) -> Block:
    """The entry of a `Readout`.

    Example:
        >>> describe_readout(36, 10, 32, bias=True).parameters
        370
    """
    weights = channels * classes
    return Block(
        "readout",
        (("bias", int(bias)),),
        (channels, size, size),
        (classes,),
        macs=weights,
        parameters=weights + (classes if bias else 0),
    )


def describe_skip_network(channels: int, classes: int, side: int, layers: Sequence[SkipLayer]) -> list[Block]:
    """The entries that a network is the sum of."""
    sides = sides_of([(layer.stride, layer.sources) for layer in layers], side)
    blocks: list[Block] = []
    for layer, found in zip(layers, sides, strict=True):
        read = [(layers[source].filters, sides[source].given) for source in layer.sources] or [(channels, side)]
        blocks += [describe_source_convolution(c_in, size, layer, side=found.read) for c_in, size in read]
        blocks.append(describe_norm_relu(layer.filters, found.given))
    blocks += [
        describe_readout(layers[number].filters, classes, sides[number].given, bias=number == len(layers) - 1)
        for number in unread_layers([layer.sources for layer in layers])
    ]
    return blocks


def _build_source(block: Block) -> nn.Module:
    settings = {name: int(value) for name, value in block.settings}
    layer = SkipLayer(settings["height"], settings["width"], block.output_shape[0], settings["stride"])
    return SourceConvolution(block.input_shape[0], layer, side=settings.get("side", block.input_shape[1]))


def _build_network(block: Block) -> nn.Module:
    rows = json.loads(str(block.setting("plan")))
    layers = [SkipLayer(h, w, filters, stride, tuple(sources)) for h, w, filters, stride, sources in rows]
    return SkipNetwork(block.input_shape[0], block.output_shape[0], block.input_shape[1], layers)


SKIP_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "norm_relu": lambda block: NormRelu(block.input_shape[0]),
    "readout": lambda block: Readout(
        block.input_shape[0], block.output_shape[0], bias=bool(int(block.setting("bias")))
    ),
    "skip_network": _build_network,
    "source_conv": _build_source,
}
