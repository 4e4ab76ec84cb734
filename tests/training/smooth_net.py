"""A model space without norms, whose gradients over parts of a batch add up to those of the whole."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from hwnas.nn import LayerChoice, ModelSpace


class Smooth(ModelSpace):
    def __init__(self) -> None:
        super().__init__(resolutions=(4,), channels=1)
        self.act = LayerChoice([nn.Tanh(), nn.Sigmoid(), nn.Softplus()], label="act")
        self.conv = LayerChoice([nn.Conv2d(1, 3, k, padding=k // 2) for k in (1, 3)], label="conv")
        self.head = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.act(self.conv(x)).flatten(1)))
