"""Chains of layers with skips, of ENAS's macro space: layers, reductions, whole networks, and their shared weights.

Layer k reads layer k - 1 and adds what its skips bring from layers further back; 0 is the stem. Where a stage ends, the
image is halved, and with it every earlier value that a later layer still reads. Such a network is no chain, so each of
its pieces is a block of its own; what they cost adds up exactly in multiply-adds and parameters.

Shapes: n images, c channels, h height, w width; features are square.
Source: Pham et al. 2018 (arXiv 1802.03268), section 2.3, and the network that its released code trains to search
(melodyguan/enas, src/cifar10/general_child.py), in which skips are added up before a norm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn.cells import describe_cell_stem, describe_kernel
from hwnas.nn.gates import Gate
from hwnas.nn.two_input_cells import Pool, build_piece, describe_factorized_reduce, describe_pool_classifier
from hwnas.space import Block

OPERATIONS = ("conv_3x3", "sep_conv_3x3", "conv_5x5", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
"""In the order of the released code."""

Skips = tuple[int, ...]
"""Of a layer k a 0 or 1 for each of 0 to k - 2, from which it may take something beside what layer k - 1 gives."""

Wiring = tuple[tuple[str, Skips], ...]
"""Of each layer its operation and its skips."""


class SummedLayer(nn.Module):
    """A 1x1 convolution with norm and rectifier, and behind it a pool or a convolution with norm and rectifier.

    Args:
        channels: In and out.
        operation: One of `OPERATIONS`.

    Raises:
        SpaceError: If the operation is unknown.

    Example:
        >>> import torch
        >>> SummedLayer(4, "sep_conv_5x5")(torch.zeros(1, 4, 6, 6)).shape
        torch.Size([1, 4, 6, 6])
    """

    def __init__(self, channels: int, operation: str) -> None:
        super().__init__()
        kind, side = _read(operation)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.mix_norm = nn.BatchNorm2d(channels)
        if kind.endswith("pool"):
            self.rest: nn.Module = Pool(channels, channels, mode=kind[:3], kernel=side, stride=1)
            return
        groups = channels if kind == "sep_conv" else 1
        layers: list[nn.Module] = [nn.Conv2d(channels, channels, side, 1, side // 2, groups=groups, bias=False)]
        if kind == "sep_conv":
            layers.append(nn.Conv2d(channels, channels, 1, bias=False))
        self.rest = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> the same shape."""
        return cast(Tensor, self.rest(F.relu(self.mix_norm(self.mix(x)))))


def _read(operation: str) -> tuple[str, int]:
    """The kind of an operation and the side of its window.

    Raises:
        SpaceError: If the operation is unknown.
    """
    if operation not in OPERATIONS:
        raise SpaceError(f'operation "{operation}" is unknown; {did_you_mean(operation, OPERATIONS)}')
    kind, _, window = operation.rpartition("_")
    return kind, int(window[0])


@cache
def describe_summed_layer(operation: str, channels: int, size: int) -> Block:
    """The entry of a `SummedLayer` on square features of side `size`.

    Raises:
        SpaceError: If the operation is unknown.

    Example:
        >>> layer = describe_summed_layer("sep_conv_3x3", 36, 32)
        >>> layer.macs == 32 * 32 * 36 * (36 + 9 + 36), layer.parameters == 36 * (36 + 9 + 36) + 4 * 36
        (True, True)
    """
    kind, side = _read(operation)
    window = side * side
    rest = {"conv": window * channels, "sep_conv": window + channels}.get(kind, 0)
    weights = channels * (channels + rest)
    shape = (channels, size, size)
    norms = 2 * channels * (1 + (rest > 0))
    return Block("summed_layer", (("operation", operation),), shape, shape, size * size * weights, weights + norms)


def describe_norm(channels: int, size: int) -> Block:
    """The entry of a norm that follows a sum, so that no convolution takes it in."""
    shape = (channels, size, size)
    return Block("norm", (), shape, shape, 0, 2 * channels)


# ---------------------------------------------------------------------------------------------------------- networks


@dataclass(frozen=True)
class SummedFrame:
    """A network of layers without their wiring, for one size of images.

    Attributes:
        channels: Of the images.
        size: Their side.
        layers: Of each stage.
        widths: Channels of each stage.
        classes: Of the head.

    Example:
        >>> frame = SummedFrame(3, 32, (4, 4, 4), (36, 36, 36), 10)
        >>> frame.sizes, frame.ends, frame.head.parameters
        ((32, 16, 8), (4, 8, 12), 370)
    """

    channels: int
    size: int
    layers: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The side of each stage's features."""
        sides = [self.size]
        while len(sides) < len(self.layers):
            sides.append(-(-sides[-1] // 2))
        return tuple(sides)

    @property
    def ends(self) -> tuple[int, ...]:
        """The last layer of each stage, counted from 1."""
        return tuple(sum(self.layers[: stage + 1]) for stage in range(len(self.layers)))

    def stage(self, layer: int) -> int:
        """In which stage a layer stands, counted from 0; the layer from 1."""
        return next(stage for stage, end in enumerate(self.ends) if layer <= end)

    @property
    def stem(self) -> Block:
        """The first convolution."""
        return describe_cell_stem(self.channels, self.widths[0], self.size)

    @property
    def head(self) -> Block:
        """The classifier."""
        return describe_pool_classifier(self.widths[-1], self.classes, self.sizes[-1], rectify=0)

    def layer(self, layer: int, operation: str) -> Block:
        """The block of a layer."""
        stage = self.stage(layer)
        return describe_summed_layer(operation, self.widths[stage], self.sizes[stage])

    def addition(self, layer: int) -> Block:
        """Of one skip of a layer."""
        stage = self.stage(layer)
        return describe_kernel("add", self.widths[stage], self.sizes[stage])

    def norm(self, layer: int) -> Block:
        """Behind the sum of a layer."""
        stage = self.stage(layer)
        return describe_norm(self.widths[stage], self.sizes[stage])

    def reduction(self, stage: int) -> Block:
        """Into a stage after the first, counted from 0, of any value."""
        before = stage - 1
        return describe_factorized_reduce(self.widths[before], self.widths[stage], self.sizes[before], rectify=0)

    def readers(self, source: int, stage: int) -> range:
        """The layers from a stage on that may take a value from before it."""
        return range(max(self.ends[stage - 1] + 1, source + 2), self.ends[-1] + 1)

    def carried(self, wiring: Wiring, stage: int) -> list[int]:
        """Which values are reduced into a stage: the last one, and those that a later layer still takes.

        Example:
            >>> frame = SummedFrame(3, 8, (2, 2), (4, 4), 2)
            >>> frame.carried((("conv_3x3", ()), ("conv_3x3", (0,)), ("conv_3x3", (1, 0)), ("conv_3x3", (0, 0, 0))), 1)
            [0, 2]
        """
        last = self.ends[stage - 1]
        taken = (
            source
            for source in range(last)
            if any(wiring[layer - 1][1][source] for layer in self.readers(source, stage))
        )
        return [*taken, last]


class SummedNetwork(nn.Module):
    """A network of layers with skips.

    Args:
        frame: Its stem, stages and head.
        wiring: Of each layer its operation and its skips.

    Example:
        >>> import torch
        >>> frame = SummedFrame(3, 8, (1, 1), (4, 6), 2)
        >>> SummedNetwork(frame, (("conv_3x3", ()), ("max_pool_3x3", (1,))))(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 2])
    """

    def __init__(self, frame: SummedFrame, wiring: Wiring) -> None:
        super().__init__()
        self.frame, self.wiring = frame, wiring
        self.stem = build_piece(frame.stem)
        self.layers = nn.ModuleList(
            _build(frame.layer(n, operation)) for n, (operation, _) in enumerate(wiring, start=1)
        )
        self.norms = nn.ModuleList(_build(frame.norm(n)) for n in range(2, len(wiring) + 1))
        self.reductions = nn.ModuleList(
            nn.ModuleDict({str(source): build_piece(frame.reduction(stage)) for source in frame.carried(wiring, stage)})
            for stage in range(1, len(frame.layers))
        )
        self.head = build_piece(frame.head)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side]."""
        values: dict[int, Tensor] = {0: self.stem(x)}
        for number, (layer, (_, skips)) in enumerate(zip(self.layers, self.wiring, strict=True), start=1):
            if number - 1 in self.frame.ends:
                reductions = cast(Mapping[str, nn.Module], self.reductions[self.frame.ends.index(number - 1)])
                values = {int(source): reduction(values[int(source)]) for source, reduction in reductions.items()}
            y = layer(values[number - 1])
            for source, bit in enumerate(skips):
                y = y + values[source] if bit else y
            values[number] = self.norms[number - 2](y) if number > 1 else y
        return cast(Tensor, self.head(values[len(self.layers)]))

    @property
    def block(self) -> Block:
        """The whole network as one block, whose settings say all that is needed to build it again."""
        pieces = [self.frame.stem, self.frame.head]
        for number, (operation, skips) in enumerate(self.wiring, start=1):
            pieces += [self.frame.layer(number, operation), *[self.frame.addition(number)] * sum(skips)]
            pieces += [self.frame.norm(number)] if number > 1 else []
        for stage in range(1, len(self.frame.layers)):
            pieces += [self.frame.reduction(stage)] * len(self.frame.carried(self.wiring, stage))
        return Block(
            "summed_network",
            (("plan", json.dumps([asdict(self.frame), self.wiring])),),
            self.frame.stem.input_shape,
            self.frame.head.output_shape,
            sum(piece.macs for piece in pieces),
            sum(piece.parameters for piece in pieces),
        )


class ElasticSummedNetwork(nn.Module):
    """The weights of all networks of one frame: each layer has every operation, each stage every reduction.

    A reduction belongs to the value that it reduces, whoever reads it, as in the released code.

    Args:
        frame: For any size of images; weights do not depend on it.
        operations: Of every layer, in the order of the gates' codes.
    """

    def __init__(self, frame: SummedFrame, operations: Sequence[str]) -> None:
        super().__init__()
        self.frame, self.names = frame, tuple(operations)
        layers = range(1, frame.ends[-1] + 1)
        self.stem = build_piece(frame.stem)
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: _build(frame.layer(n, name)) for name in operations}) for n in layers
        )
        self.norms = nn.ModuleList(_build(frame.norm(n)) for n in layers[1:])
        self.reductions = nn.ModuleList(
            nn.ModuleList(build_piece(frame.reduction(stage)) for _ in range(frame.ends[stage - 1] + 1))
            for stage in range(1, len(frame.layers))
        )
        self.head = build_piece(frame.head)

    def forward(self, x: Tensor, wiring: Wiring) -> Tensor:
        """One choice: as `SummedNetwork`."""
        values: dict[int, Tensor] = {0: self.stem(x)}
        for number, (operation, skips) in enumerate(wiring, start=1):
            if number - 1 in self.frame.ends:
                stage = self.frame.ends.index(number - 1) + 1
                values = self._reduced(values, stage, self.frame.carried(wiring, stage))
            y = self._layer(number, operation)(values[number - 1])
            for source, bit in enumerate(skips):
                y = y + values[source] if bit else y
            values[number] = self.norms[number - 2](y) if number > 1 else y
        return cast(Tensor, self.head(values[len(wiring)]))

    def soft(self, x: Tensor, wiring: Sequence[tuple[Gate, Sequence[Gate]]]) -> Tensor:
        """The relaxation: a layer is the weighted sum of its operations, and takes each value as much as its bit says.

        Args:
            x: [n, c, side, side].
            wiring: Of each layer the gate of its operation, and of each bit one over 0 and 1.

        Returns:
            Logits [n, classes].
        """
        # What no gate supports runs as little as in a single network: its bits are 0 here.
        supported = tuple((self.names[0], tuple(int(1 in bit.support) for bit in bits)) for _, bits in wiring)
        values: dict[int, Tensor] = {0: self.stem(x)}
        for number, (operation, bits) in enumerate(wiring, start=1):
            if number - 1 in self.frame.ends:
                stage = self.frame.ends.index(number - 1) + 1
                values = self._reduced(values, stage, self.frame.carried(supported, stage))
            first, *others = operation.support
            y: Tensor = operation.weight(first) * self._layer(number, self.names[first])(values[number - 1])
            for code in others:
                y = y + operation.weight(code) * self._layer(number, self.names[code])(values[number - 1])
            for source, bit in enumerate(bits):
                y = y + bit.weight(1) * values[source] if 1 in bit.support else y
            values[number] = self.norms[number - 2](y) if number > 1 else y
        return cast(Tensor, self.head(values[len(wiring)]))

    def cut(self, frame: SummedFrame, wiring: Wiring) -> SummedNetwork:
        """The plain network of one wiring, with its own copy of the weights."""
        network = SummedNetwork(frame, wiring)
        for name in ("stem", "norms", "head"):
            getattr(network, name).load_state_dict(getattr(self, name).state_dict())
        for number, (layer, (operation, _)) in enumerate(zip(network.layers, wiring, strict=True), start=1):
            layer.load_state_dict(self._layer(number, operation).state_dict())
        for mine, its in zip(self.reductions, network.reductions, strict=True):
            for source, reduction in cast(Mapping[str, nn.Module], its).items():
                reduction.load_state_dict(cast(nn.ModuleList, mine)[int(source)].state_dict())
        return network.train(self.training)

    def _layer(self, number: int, operation: str) -> nn.Module:
        return cast(Mapping[str, nn.Module], self.layers[number - 1])[operation]

    def _reduced(self, values: Mapping[int, Tensor], stage: int, sources: Sequence[int]) -> dict[int, Tensor]:
        reductions = cast(nn.ModuleList, self.reductions[stage - 1])
        return {source: reductions[source](values[source]) for source in sources}


def _build(block: Block) -> nn.Module:
    """The module of a layer or of the norm behind it, with fresh random weights."""
    return SUMMED_BUILDERS[block.kind](block)


def _build_network(block: Block) -> nn.Module:
    frame, wiring = json.loads(str(block.setting("plan")))
    frame |= {name: tuple(frame[name]) for name in ("layers", "widths")}
    return SummedNetwork(SummedFrame(**frame), tuple((operation, tuple(skips)) for operation, skips in wiring))


SUMMED_BUILDERS: Mapping[str, Callable[[Block], nn.Module]] = {
    "norm": lambda block: nn.BatchNorm2d(block.input_shape[0]),
    "summed_layer": lambda block: SummedLayer(block.input_shape[0], str(block.setting("operation"))),
    "summed_network": _build_network,
}
