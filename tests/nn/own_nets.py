"""Model spaces that tests share, written as a user writes them."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from hwnas.nn import (
    Block,
    Cell,
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    InputChoice,
    InvertedBottleneck,
    LayerChoice,
    ModelSpace,
    Repeat,
    ValueChoice,
)


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
    )


class Everything(ModelSpace):
    """Every kind of choice once; 18 x 54 x ... networks."""

    def __init__(self, channels: int = 1, classes: int = 4, resolutions: tuple[int, ...] = (12, 16)) -> None:
        super().__init__(resolutions=resolutions, channels=channels)
        width = ValueChoice((8, 12, 16), label="width")
        self.stem = Block(conv(channels, 8, 3, 2))
        self.wide = ElasticConv2d(8, width, ValueChoice((3, 5), label="kernel"))
        self.norm = ElasticBatchNorm2d(width)
        self.narrow = ElasticConv2d(width, 8, 3, bias=True)
        self.stage = Repeat(
            lambda n: InvertedBottleneck(8, 8, kernels=(3, 5), expansions=(2, 3), label=f"block{n}"),
            depths=(0, 1, 2),
            label="depth",
        )
        self.tail = LayerChoice(
            {
                "k3": conv(8, 8, 3),
                "twice": Repeat(lambda n: conv(8, 8, 1), depths=(1, 2), label="inner"),
                "skip": nn.Identity(),
            },
            label="tail",
        )
        self.branch = Block(conv(8, 8, 1))
        self.skip = InputChoice(2, n_chosen=None, label="skip")
        self.head = ElasticLinear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = self.narrow(self.norm(self.wide(y)).relu())
        y = self.tail(self.stage(y))
        y = y + self.skip([y, self.branch(y)])
        return cast(Tensor, self.head(y.mean((2, 3))))


class Plain(ModelSpace):
    """The twenty lines of an article: two layer choices and a skip."""

    def __init__(self, channels: int, classes: int, width: int = 8) -> None:
        super().__init__(resolutions=(8,), channels=channels)
        self.first = LayerChoice([conv(channels, width, k) for k in (3, 5)], label="first")
        self.second = LayerChoice([conv(width, width, k) for k in (3, 5)], label="second")
        self.skip = InputChoice(1, n_chosen=None, label="skip")
        self.head = Block(nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = self.second(y) + self.skip([y])
        return cast(Tensor, self.head(z.mean((2, 3))))


class Cells(ModelSpace):
    """Two cells that share their decisions, not their weights."""

    def __init__(self, *, merge: str = "all") -> None:
        super().__init__(resolutions=(8,), channels=3)
        self.stem = Block(conv(3, 4, 3))
        self.cells = nn.ModuleList(
            Cell(
                {"conv": lambda node, source: conv(4, 4, 3), "skip": lambda node, source: nn.Identity()},
                nodes=2,
                slots=1,
                inputs=2,
                merge="all" if merge == "all" else "loose_ends",
                label="cell",
            )
            for _ in range(2)
        )
        self.squeeze = nn.ModuleList(Block(conv(8, 4, 1)) for _ in range(2 if merge == "all" else 0))
        self.head = Block(nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        before = now = self.stem(x)
        for n, cell in enumerate(self.cells):
            y = cell([before, now])
            # Of loose ends there are one or two, so they are added instead of convolved.
            before, now = now, self.squeeze[n](y) if len(self.squeeze) else sum(y.split(4, dim=1))
        return cast(Tensor, self.head(now.mean((2, 3))))
