"""ENAS's macro space: a chain of layers, each of which chooses its operation and from which earlier layers it takes.

The micro space of the same paper, two cells of two-input nodes, is `hwnas.zoo.nasnet.ENAS_MICRO`.

Source: Pham et al. 2018 (arXiv 1802.03268), section 2.3, and the network that the released code trains to search
(melodyguan/enas): 12 layers of 36 channels, the image halved after the fourth and the eighth. What that code finds it
retrains as another network, wider, with skips that are put side by side and pass a 1x1 convolution. Here a network that
is cut out is the one that was searched, with skips that are added up, so that its weights and its costs are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import cast

from torch import Tensor, nn

from hwnas.core import Architecture, Option, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.nn import build_block
from hwnas.nn.gates import Gate, Gates, check_resolution
from hwnas.nn.summed_skips import OPERATIONS, ElasticSummedNetwork, SummedFrame, SummedNetwork, Wiring
from hwnas.space import Block, Decision, Space, Unit
from hwnas.zoo.sides import check_sides

MOST_AFTER = 16
"""Layers after the first stage: whether a value is carried beyond it hangs on a bit of each of them."""

ENAS_MACRO = (
    "0 | 3 0 | 0 1 0 | 2 0 0 1 | 2 0 0 0 0 | 3 1 1 0 1 0 | 2 0 0 0 0 0 1 | 2 0 1 1 0 1 1 1 | 1 0 1 1 1 0 1 0 1 | "
    "0 0 0 0 0 0 0 0 0 0 | 2 0 0 0 0 0 1 0 0 0 0 | 0 1 0 0 1 1 0 0 0 0 1 1 | 2 0 1 0 0 0 0 0 1 0 1 1 0 | "
    "1 0 0 1 0 0 0 1 1 1 0 1 0 1 | 0 1 1 0 1 0 1 0 0 0 0 0 1 0 0 | 2 0 0 1 0 0 0 0 0 0 0 1 0 1 0 1 | "
    "2 0 1 0 0 0 1 0 0 1 1 1 1 0 0 1 0 | 2 0 0 0 0 1 0 1 0 1 0 0 1 0 1 0 0 1 | 3 0 1 1 0 1 0 0 0 0 0 1 0 1 0 1 0 0 0 | "
    "3 0 1 1 0 0 0 0 0 0 0 0 0 1 1 0 0 0 0 1 | 0 1 0 0 1 0 1 1 0 0 0 1 0 0 0 0 0 1 1 0 0 | "
    "3 0 1 0 1 1 0 0 1 0 1 1 0 1 1 0 1 0 0 1 0 0 | 0 1 0 1 0 1 0 0 0 0 0 0 0 0 1 0 1 0 0 1 0 0 0 | "
    "0 1 1 0 0 0 1 1 1 0 1 0 0 0 1 0 1 0 0 1 1 0 0 0"
)
"""The network of 24 layers that the released script retrains."""


@dataclass(frozen=True)
class EnasMacro:
    """The family: everything that fixes a space. One list entry per stage where a field is a list.

    Attributes:
        name: Of the space; part of the latency table's file name.
        channels: Of the images, 1 or 3; comes from the data.
        classes: Comes from the data.
        resolutions: Sides of the square input, searched; each stage after the first halves them.
        operations: Of a layer.
        layers: Of each stage.
        widths: Channels of each stage.

    Raises:
        SpaceError: If a value is impossible; names the field and the value.

    Example:
        >>> family = EnasMacro()
        >>> f"{family.space.size:.1e}", len(family.space.decisions)
        ('1.6e+29', 79)
    """

    name: str = "enas_macro"
    channels: int = 3
    classes: int = 10
    resolutions: tuple[int, ...] = (32,)
    operations: tuple[str, ...] = OPERATIONS
    layers: tuple[int, ...] = (4, 4, 4)
    widths: tuple[int, ...] = (36, 36, 36)

    def __post_init__(self) -> None:
        for operation in self.operations:
            if operation not in OPERATIONS:
                raise SpaceError(f'operations holds "{operation}"; {did_you_mean(operation, OPERATIONS)}')
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise SpaceError(f"operations is {list(self.operations)}; expected at least one, each once")
        for field in ("channels", "classes"):
            if getattr(self, field) < 1:
                raise SpaceError(f"{field} is {getattr(self, field)}; it must be above 0")
        if len(self.layers) != len(self.widths) or not self.layers:
            raise SpaceError(
                f"layers has {len(self.layers)} entries, widths has {len(self.widths)}; expected one per stage"
            )
        if min(self.layers) < 1:
            raise SpaceError(f"layers is {list(self.layers)}; they must be above 0")
        if min(self.widths) < 2:
            raise SpaceError(f"widths is {list(self.widths)}; expected at least 2, as a reduction gives two halves")
        if sum(self.layers[1:]) > MOST_AFTER:
            raise SpaceError(
                f"layers is {list(self.layers)}; at most {MOST_AFTER} may follow the first stage, as what is carried "
                "beyond it hangs on each of them"
            )
        least = 2 ** (len(self.layers) - 1)
        check_sides(self.resolutions, why="each stage after the first halves it", least=least)

    @cached_property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return _space(self)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: one operation, each layer with the value before its input.

        Example:
            >>> EnasMacro(layers=(2, 1), widths=(8, 8)).code(EnasMacro(layers=(2, 1), widths=(8, 8)).default())
            '0 | 0 1 | 0 0 1'
        """
        wiring = (
            (self.operations[0], tuple(int(source == layer - 2) for source in range(layer - 1)))
            for layer in range(1, sum(self.layers) + 1)
        )
        return self._architecture(tuple(wiring), self.resolutions[-1])

    def supernet(self) -> EnasMacroSupernet:
        """All networks in one set of weights, freshly initialised from torch's global generator."""
        return EnasMacroSupernet(self)

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights."""
        return build_block(block)

    def build_network(self, architecture: Architecture) -> SummedNetwork:
        """The plain network, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return SummedNetwork(self.frame(int(architecture["resolution"])), self.wiring(architecture))

    def frame(self, resolution: int) -> SummedFrame:
        """The network without its wiring, for images of one size."""
        return SummedFrame(self.channels, resolution, self.layers, self.widths, self.classes)

    def wiring(self, architecture: Architecture) -> Wiring:
        """The operation and the skips of each layer.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        self.space.encode([architecture])
        return tuple(
            (str(architecture[f"layer{layer}.operation"]), tuple(int(architecture[bit]) for bit in self.bits(layer)))
            for layer in range(1, sum(self.layers) + 1)
        )

    def bits(self, layer: int) -> list[str]:
        """The labels of a layer's skips, in the order of where they come from; layers are counted from 1."""
        return [f"layer{layer}.from{source}" for source in range(layer - 1)]

    def architecture(self, code: str, *, resolution: int | None = None) -> Architecture:
        """The architecture of a code, at the largest resolution unless given.

        Args:
            code: In the released code's notation: of each layer the number of its operation and its skips; bars between
                layers may be left out.
            resolution: Side of the images.

        Raises:
            SpaceError: If it is no code of as many layers, or names operations that the space lacks.

        Example:
            >>> EnasMacro(layers=(2, 1), widths=(8, 8)).architecture("0 | 3 1 | 5 0 1")["layer2.operation"]
            'sep_conv_5x5'
        """
        words = code.replace("|", " ").split()
        layers = sum(self.layers)
        expected = layers + layers * (layers - 1) // 2
        if len(words) != expected or not all(word.isdigit() for word in words):
            raise SpaceError(
                f"space {self.name}: a code of {len(words)} numbers; expected {expected}: of each of {layers} layers "
                "its operation and a 0 or 1 for each value before its input"
            )
        numbers, wiring = [int(word) for word in words], []
        for layer in range(1, layers + 1):
            operation, *skips = numbers[:layer]
            numbers = numbers[layer:]
            if operation >= len(OPERATIONS):
                raise SpaceError(f"space {self.name}: layer {layer} has operation {operation}; the last is 5")
            wiring.append((OPERATIONS[operation], tuple(skips)))
        return self._architecture(tuple(wiring), resolution or self.resolutions[-1])

    def code(self, architecture: Architecture) -> str:
        """The code of an architecture, a bar between layers.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        return " | ".join(
            " ".join(map(str, (OPERATIONS.index(operation), *skips))) for operation, skips in self.wiring(architecture)
        )

    def _architecture(self, wiring: Wiring, resolution: int) -> Architecture:
        options: dict[str, Option] = {"resolution": resolution}
        for layer, (operation, skips) in enumerate(wiring, start=1):
            options[f"layer{layer}.operation"] = operation
            options |= dict(zip(self.bits(layer), skips, strict=True))
        return self.space.canonical(options)


class EnasMacroSupernet(nn.Module):
    """The weights of an `EnasMacro` family.

    The resolution is hard: the images must come in the size that the gates ask for. The rest may be soft.
    """

    def __init__(self, family: EnasMacro) -> None:
        super().__init__()
        self.family = family
        self.network = ElasticSummedNetwork(family.frame(family.resolutions[-1]), family.operations)

    @property
    def space(self) -> Space:
        """The decisions that the gates answer."""
        return self.family.space

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits [n, classes] of images [n, c, side, side].

        Raises:
            SpaceError: If the images are not of the size that the gates ask for, or the resolution is soft.
        """
        check_resolution(x, gates, self.family.resolutions)
        if isinstance(gates, Architecture):
            return cast(Tensor, self.network(x, self.family.wiring(gates)))
        answers: Mapping[str, Gate] = gates
        layers = range(1, sum(self.family.layers) + 1)
        return self.network.soft(
            x, [(answers[f"layer{n}.operation"], [answers[bit] for bit in self.family.bits(n)]) for n in layers]
        )

    def extract(self, architecture: Architecture) -> SummedNetwork:
        """The plain network of one architecture, with its own copy of the weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        wiring = self.family.wiring(architecture)
        return self.network.cut(self.family.frame(int(architecture["resolution"])), wiring)


@cache
def _space(family: EnasMacro) -> Space:
    frames = [family.frame(resolution) for resolution in family.resolutions]
    frame = frames[0]
    decisions = [Decision("resolution", family.resolutions)]
    units = [Unit("stem", ("resolution",), tuple(f.stem for f in frames))]
    for layer in range(1, sum(family.layers) + 1):
        if layer - 1 in frame.ends:
            units += _reductions(frames, frame.ends.index(layer - 1) + 1)
        label = f"layer{layer}.operation"
        decisions += [Decision(label, family.operations), *(Decision(bit, (0, 1)) for bit in family.bits(layer))]
        every = tuple(f.layer(layer, operation) for f in frames for operation in family.operations)
        units.append(Unit(f"layer{layer}", ("resolution", label), every))
        for bit in family.bits(layer):
            added = (block for f in frames for block in (None, f.addition(layer)))
            units.append(Unit(bit, ("resolution", bit), tuple(added)))
        if layer > 1:
            units.append(Unit(f"layer{layer}.norm", ("resolution",), tuple(f.norm(layer) for f in frames)))
    return Space(family.name, tuple(decisions), (*units, Unit("head", ("resolution",), tuple(f.head for f in frames))))


def _reductions(frames: list[SummedFrame], stage: int) -> list[Unit]:
    """Of the values that are halved where a stage begins: the last one, and each that any later layer takes."""
    frame, units = frames[0], []
    last = frame.ends[stage - 1]
    for source in range(last):
        bits = [f"layer{reader}.from{source}" for reader in frame.readers(source, stage)]
        blocks = (
            f.reduction(stage) if taken else None for f in frames for taken in range(2 ** len(bits))
        )  # entry 0 has no bit set
        units.append(Unit(f"stage{stage + 1}.reduce{source}", ("resolution", *bits), tuple(blocks)))
    always = tuple(f.reduction(stage) for f in frames)
    return [*units, Unit(f"stage{stage + 1}.reduce{last}", ("resolution",), always)]
