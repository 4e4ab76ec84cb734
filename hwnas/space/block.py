"""What a space is built of, as far as costs are concerned: blocks, and the units that choose among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from hwnas.core import Option, SpaceError

FEATURES = ("blocks", "boundary", "se", "residual", "macs", "parameters")
"""What every block can be counted for; each is a sum over the blocks of a network."""


@dataclass(frozen=True)
class Block:
    """A piece of a network that the runtime fuses and that is timed as a whole.

    Attributes:
        kind: Which builder makes it: "stem", "mbconv", "head", ...
        settings: All that changes its time, in a fixed order: shapes, kernel, stride, activation, ...
        input_shape: (channels, height, width) of one image at its entry.
        output_shape: (channels, height, width), or (features,) at the end of a network.
        macs: Multiply-adds of one image; one multiply with its add counts as one; norms fold into convolutions.
        parameters: Trainable numbers, norms included.
        se: Whether it holds a squeeze-and-excitation.
        residual: Whether its input is added to its output.
        kernels: What the runtime makes of it, for a block of which there are too many kinds to measure each as a whole
            (cells), each as often as it runs. None: it is measured as a whole.

    Example:
        >>> stem = Block("stem", (("kernel", 3), ("stride", 2)), (1, 28, 28), (16, 14, 14), 28224, 176)
        >>> stem.key
        'stem kernel=3 stride=2 1x28x28->16x14x14'
        >>> stem.feature("boundary")
        3920
    """

    kind: str
    settings: tuple[tuple[str, Option], ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    macs: int
    parameters: int
    se: bool = False
    residual: bool = False
    kernels: tuple[Block, ...] | None = None
    key: str = field(init=False, default="")

    def __post_init__(self) -> None:
        settings = " ".join(f"{name}={value}" for name, value in self.settings)
        shapes = "->".join("x".join(map(str, shape)) for shape in (self.input_shape, self.output_shape))
        object.__setattr__(self, "key", " ".join(filter(None, (self.kind, settings, shapes))))

    def setting(self, name: str) -> Option:
        """One of the settings.

        Raises:
            SpaceError: If the block has no such setting.
        """
        for known, value in self.settings:
            if known == name:
                return value
        raise SpaceError(f"block {self.key!r} has no setting {name!r}")

    def feature(self, name: str) -> int:
        """The block's share of one of `FEATURES`; `boundary` counts the numbers that cross its two ends.

        Raises:
            SpaceError: If the feature is unknown.
        """
        match name:
            case "blocks":
                return 1
            case "boundary":
                return prod(self.input_shape) + prod(self.output_shape)
            case "se":
                return int(self.se)
            case "residual":
                return int(self.residual)
            case "macs":
                return self.macs
            case "parameters":
                return self.parameters
        raise SpaceError(f"unknown feature {name!r}; known: {', '.join(FEATURES)}")


@dataclass(frozen=True)
class Unit:
    """A place in a network, and the block that stands there for each combination of some decisions.

    Attributes:
        name: Where: "stage2.block3".
        labels: The decisions that choose, each once. A decision that can be inactive is read at its first option
            then, so whatever deactivates it must be among the labels and the block must be absent or not depend on it.
        blocks: One per combination, the last label varying fastest; None where the place is empty.

    Example:
        >>> a, b = (Block("conv", (("kernel", k),), (8, 4, 4), (8, 4, 4), k * k * 128, k * k * 8) for k in (3, 5))
        >>> Unit("layer", ("kernel",), (a, b)).blocks[1].setting("kernel")
        5
    """

    name: str
    labels: tuple[str, ...]
    blocks: tuple[Block | None, ...]
