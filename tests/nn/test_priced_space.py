from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.cost import UnitSumCost
from hwnas.nn import (
    Block,
    ElasticConv2d,
    InputChoice,
    LayerChoice,
    ModelSpace,
    Repeat,
    ValueChoice,
    model_space,
    redraw,
    with_units,
)
from hwnas.nn import priced_space as room
from hwnas.nn.priced_space import describe
from tests.nn.own_nets import Cells, Everything, Plain, conv


def macs_by_hooks(network: nn.Module, x: Tensor) -> int:
    """A second count: outputs times the weights that each of them multiplies."""
    total = 0

    def count(module: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += out[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    for module in network.modules():
        module.register_forward_hook(count)
    network(x)
    return total


@pytest.mark.parametrize("net", [Everything(), Plain(1, 4), Cells()], ids=lambda net: type(net).__name__)
def test_the_units_of_a_network_are_its_blocks(net: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    # Branches that nothing reads are priced, though an extracted network leaves them out.
    monkeypatch.setattr(model_space, "_drop_unused", lambda network, image: None)
    priced = with_units(net.eval())
    assert priced.space.digest == net.space.digest
    macs = UnitSumCost.count(priced.space, "macs")
    parameters = UnitSumCost.count(priced.space, "parameters")
    for architecture in net.space.sample(15, np.random.default_rng(1)):
        side = int(architecture["resolution"])
        plain = net.extract(architecture).eval()
        assert macs(architecture).value == macs_by_hooks(plain, torch.zeros(1, net.channels, side, side))
        assert parameters(architecture).value == sum(p.numel() for p in plain.parameters())


def test_every_block_can_be_built_alone_and_does_what_it_says() -> None:
    priced = with_units(Everything())
    blocks = {block.key: block for unit in priced.space.units for block in unit.blocks if block is not None}
    assert blocks.keys() == priced.makers.keys()
    for block in blocks.values():
        module = priced.build_block(block).eval()
        x = torch.zeros(2, *block.input_shape)
        assert tuple(module(x).shape[1:]) == block.output_shape
        assert sum(p.numel() for p in module.parameters()) == block.parameters
    with pytest.raises(SpaceError, match="has no block"):
        priced.build_block(describe(nn.Linear(3, 3), (3,)))


def test_equal_places_share_an_entry_and_different_ones_do_not() -> None:
    assert describe(conv(8, 8, 3), (8, 6, 6)).key == describe(conv(8, 8, 3), (8, 6, 6)).key
    kinds = [
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2),
    ]
    assert len({describe(kind, (8, 6, 6)).key for kind in kinds}) == 3
    assert describe(nn.LeakyReLU(0.1), (8, 6, 6)).key != describe(nn.LeakyReLU(0.2), (8, 6, 6)).key
    first, second = Everything(), Everything()
    keys = [[b.key for u in with_units(n).space.units for b in u.blocks if b] for n in (first, second)]
    assert keys[0] == keys[1], "another instance has the same table"


def test_a_new_block_has_new_weights() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    redraw(layer)
    assert not torch.equal(before, layer.weight)


def test_identity_costs_nothing_and_what_is_absent_is_none() -> None:
    priced = with_units(Everything())
    units = {unit.name: unit for unit in priced.space.units}
    assert "tail.candidates.twice.blocks.0" in units, "a candidate with choices inside has units of its own"
    tail = units["tail"]
    assert tail.labels == ("resolution", "tail", "inner")
    by = {option: [] for option in ("k3", "twice", "skip")}  # type: ignore[var-annotated]
    for n, block in enumerate(tail.blocks):
        by[("k3", "twice", "skip")[n // 2 % 3]].append(block)
    assert all(block is None for block in by["skip"] + by["twice"])
    assert all(block is not None for block in by["k3"])


# ------------------------------------------------------------------------------------------------------------ refusals


class Small(ModelSpace):
    def __init__(self) -> None:
        super().__init__(resolutions=(8,), channels=1)


def test_parameters_outside_of_any_unit_are_named_with_the_way_out() -> None:
    class Bare(Small):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 3)
            self.act = LayerChoice([nn.ReLU(), nn.Tanh()], label="act")

    with pytest.raises(SpaceError, match=r"stem: its parameters \(weight, bias\) belong to no unit") as raised:
        with_units(Bare())
    assert "self.stem = nn.Block(...)" in raised.value.hint


def test_a_block_that_hangs_on_a_decision_elsewhere_is_refused() -> None:
    class Strided(Small):
        def __init__(self) -> None:
            super().__init__()
            self.first = LayerChoice([nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 3, 2, 1)], label="first")
            self.second = Block(nn.Conv2d(4, 4, 3, padding=1))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.second(self.first(x))
            return y

    with pytest.raises(SpaceError, match=r"second: sees .* so its cost hangs on decisions elsewhere"):
        with_units(Strided())


def test_a_width_that_is_passed_on_is_no_decision_elsewhere() -> None:
    class Wide(Small):
        def __init__(self) -> None:
            super().__init__()
            width = ValueChoice((2, 4), label="width")
            self.first, self.second = ElasticConv2d(1, width, 3), ElasticConv2d(width, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.second(self.first(x))
            return y

    second = with_units(Wide()).space.units[1]
    assert second.labels == ("resolution", "width")
    assert [block.macs for block in second.blocks if block] == [8 * 8 * 2 * 3, 8 * 8 * 4 * 3]


def test_a_unit_of_two_inputs_or_two_places_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

    class Adds(Small):
        def __init__(self) -> None:
            super().__init__()
            self.add = Block(Two())

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.add(x, x)
            return y

    with pytest.raises(SpaceError, match="add: called with 2 inputs"):
        with_units(Adds())

    class Again(Small):
        def __init__(self) -> None:
            super().__init__()
            self.pool = Block(nn.AvgPool2d(2))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.pool(self.pool(x))
            return y

    with pytest.raises(SpaceError, match="pool: called twice in one network"):
        with_units(Again())


def test_a_unit_of_too_many_decisions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_ENTRIES", 5)
    with pytest.raises(SpaceError, match="wide: hangs on 3 decisions with 12 combinations; at most 5"):
        with_units(Everything())


def test_what_cannot_run_or_gives_no_tensor_is_named() -> None:
    with pytest.raises(SpaceError, match=r"Linear cannot run on one image of shape \(4,\)"):
        describe(nn.Linear(3, 3), (4,))

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(SpaceError, match="Pair gives a tuple"):
        describe(Pair(), (4,))


def test_inputs_that_are_chosen_cost_nothing_by_themselves() -> None:
    class Skips(Small):
        def __init__(self) -> None:
            super().__init__()
            self.row = Repeat(lambda n: conv(1, 1, 3), depths=(1, 2), label="depth")
            self.skip = InputChoice(2, label="skip")

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.skip([x, self.row(x)])
            return y

    assert [unit.name for unit in with_units(Skips()).space.units] == ["row.blocks.0", "row.blocks.1"]
