"""Networks of memory banks in shared weights: each is cut from the same convolutions.

A smaller network has fewer of a layer's channels, the centre of its kernels, and of its 1x1 convolution the rows of the
banks that it reads. Each layer has weights of its own; in SMASH's code, the layers of a block share theirs.

Shapes: n images, c channels, h height, w width.
Source: Brock et al. 2017 (arXiv 1708.05344), section 3.2, for convolutions that are sliced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.elastic import ElasticBatchNorm, centre
from hwnas.nn.memory_banks import (
    BankConvolutions,
    BankFrame,
    BankNetwork,
    BankRead,
    Layer,
    LayerPlan,
    Plans,
    build_bank_piece,
    run_block,
    run_pattern,
)
from hwnas.nn.two_input_cells import build_piece


class ElasticBankLayer(nn.Module):
    """A layer whose plan is chosen at every call; each bank has its own norm and its own rows of the 1x1 convolution.

    Args:
        width: Channels of a bank.
        readable: Banks that it may read.
        writable: Banks that it may write, and so its units at most.
        bottleneck: Channels that its 1x1 convolution gives, per unit.
        kernel: Side of the largest kernel.
    """

    def __init__(self, *, width: int, readable: int, writable: int, bottleneck: int, kernel: int) -> None:
        super().__init__()
        self.width, self.bottleneck = width, bottleneck
        most = writable * width
        self.before = nn.ModuleList(ElasticBatchNorm(width) for _ in range(readable))
        self.mix = nn.Parameter(torch.empty(bottleneck * most, readable * width, 1, 1))
        self.after = ElasticBatchNorm(bottleneck * most)
        self.convolutions = nn.ParameterList(
            torch.empty(most, most if number % 2 else bottleneck * most, kernel, kernel) for number in range(4)
        )
        for weight in (self.mix, *self.convolutions):
            nn.init.kaiming_uniform_(weight, a=5**0.5)

    def forward(self, read: Sequence[Tensor], plan: LayerPlan) -> Tensor:
        """[n, width, h, w] of each bank that it reads -> [n, units * width, h, w]."""
        normed = torch.cat([self.before[bank](x) for bank, x in zip(plan.reads, read, strict=True)], dim=1)
        y = self.after(F.conv2d(F.relu(normed), self._mixing(plan)))
        padding = plan.dilation * (plan.kernel // 2)

        def convolve(number: int, x: Tensor) -> Tensor:
            weight = self._kernel(number, plan)
            return F.conv2d(F.relu(x), weight, None, 1, padding, plan.dilation, plan.groups)

        return run_pattern(plan.pattern, convolve, y)

    def cut(self, plain: nn.Module, plan: LayerPlan) -> None:
        """Copy one plan's share of the weights into its plain layer."""
        read, convolutions = cast(tuple[BankRead, BankConvolutions], tuple(plain.children()))
        self.after.cut(read.after)
        norms = [cast(ElasticBatchNorm, self.before[bank]) for bank in plan.reads]
        read.before.eps = norms[0].eps
        with torch.no_grad():
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(read.before, name).copy_(torch.cat([getattr(norm, name) for norm in norms]))
            read.mix.weight.copy_(self._mixing(plan))
            for number, convolution in convolutions.convolutions.items():
                cast(Tensor, convolution.weight).copy_(self._kernel(int(number), plan))

    def _mixing(self, plan: LayerPlan) -> Tensor:
        rows = self.mix[: self.bottleneck * plan.units * self.width]
        return torch.cat([rows[:, bank * self.width : (bank + 1) * self.width] for bank in plan.reads], dim=1)

    def _kernel(self, number: int, plan: LayerPlan) -> Tensor:
        c_out = plan.units * self.width
        c_in = c_out if number % 2 else self.bottleneck * c_out
        return centre(self.convolutions[number], plan.kernel)[:c_out, : c_in // plan.groups]


class ElasticBankNetwork(nn.Module):
    """The weights of all networks of one frame.

    Args:
        frame: For any size of images; weights do not depend on it.
    """

    def __init__(self, frame: BankFrame) -> None:
        super().__init__()
        self.frame = frame
        blocks = range(len(frame.widths))
        self.stem = build_bank_piece(frame.stem)
        self.transitions = nn.ModuleList(
            nn.Sequential(*(build_bank_piece(block) for block in frame.transition(number))) for number in blocks[1:]
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                ElasticBankLayer(
                    width=frame.widths[number],
                    readable=frame.readable(layer),
                    writable=frame.writable(layer),
                    bottleneck=frame.bottleneck,
                    kernel=frame.largest,
                )
                for layer in range(frame.layers[number])
            )
            for number in blocks
        )
        self.head = build_piece(frame.head)

    def forward(self, x: Tensor, plans: Plans) -> Tensor:
        """One choice: as `BankNetwork`."""
        y: Tensor = self.stem(x)
        for number, chosen in enumerate(plans):
            y = self.transitions[number - 1](y) if number else y
            layers = [(_planned(layer, plan), plan) for layer, plan in zip(self._layers(number), chosen, strict=False)]
            y = run_block(y, layers, width=self.frame.widths[number], banks=self.frame.banks)
        return cast(Tensor, self.head(y))

    def cut(self, frame: BankFrame, plans: Plans) -> BankNetwork:
        """The plain network of some plans, with its own copy of the weights."""
        network = BankNetwork(frame, plans)
        for name in ("stem", "transitions", "head"):
            getattr(network, name).load_state_dict(getattr(self, name).state_dict())
        for number, (block, chosen) in enumerate(zip(network.blocks, plans, strict=True)):
            for mine, plain, plan in zip(self._layers(number), cast(nn.ModuleList, block), chosen, strict=False):
                mine.cut(plain, plan)
        return network.train(self.training)

    def _layers(self, block: int) -> list[ElasticBankLayer]:
        return cast(list[ElasticBankLayer], list(cast(nn.ModuleList, self.blocks[block])))


def _planned(layer: ElasticBankLayer, plan: LayerPlan) -> Layer:
    return lambda read: cast(Tensor, layer(read, plan))
