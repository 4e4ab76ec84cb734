from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.nn import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    Gate,
    InputChoice,
    LayerChoice,
    ModelSpace,
    Repeat,
    ValueChoice,
    one_hot_gates,
)
from hwnas.nn.choices import Choice
from hwnas.space import Decision
from hwnas.training import SinglePath
from tests.nn.own_nets import Cells, Everything, Plain
from tests.training.test_rules import toy_batch

NETS: dict[str, Callable[[], ModelSpace]] = {
    "everything": Everything,
    "plain": lambda: Plain(1, 4),
    "cells": Cells,
    "cells with loose ends": lambda: Cells(merge="loose_ends"),
}


def images(net: ModelSpace, architecture: Architecture, n: int = 2) -> Tensor:
    side = int(architecture["resolution"])
    return torch.randn(n, net.channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETS)
def test_a_network_as_called_as_gated_and_as_extracted_is_one(name: str) -> None:
    torch.manual_seed(0)
    net = NETS[name]().eval()
    for architecture in net.space.sample(30, np.random.default_rng(0)):
        x = images(net, architecture)
        called, plain = net(x, architecture), net.extract(architecture)
        assert torch.allclose(called, net(x, one_hot_gates(net.space, architecture)), atol=1e-6)
        assert torch.allclose(called, plain(x), atol=1e-6)
        assert not any(isinstance(module, Choice) for module in plain.modules()), "no choice is left"
        plain.train()(x).sum().backward()
        unused = [name for name, parameter in plain.named_parameters() if parameter.grad is None]
        assert not unused, f"parameters that nothing reads: {unused}"


def test_a_step_leaves_what_it_did_not_sample_untouched() -> None:
    net = Plain(1, 4)
    architecture = Architecture({"resolution": 8, "first": 1, "second": 0, "skip.0": 0})
    net(images(net, architecture), architecture).sum().backward()
    touched = {
        name.rsplit(".", 2)[0].removesuffix(".module") for name, p in net.named_parameters() if p.grad is not None
    }
    assert touched == {"first.candidates.1", "second.candidates.0", "head"}


def test_soft_gates_reach_every_branch_they_support() -> None:
    net = Plain(1, 4)
    values = torch.tensor([0.3, 0.7], requires_grad=True)
    gates = one_hot_gates(net.space, net.default()) | {"first": Gate(values, (0, 1))}
    net(images(net, net.default()), gates).sum().backward()
    assert values.grad is not None
    assert (values.grad != 0).all()


def test_the_decisions_stand_in_the_order_of_the_modules_with_their_conditions() -> None:
    space = Everything().space
    assert [d.label for d in space.decisions] == [
        *("resolution", "width", "kernel", "depth"),
        *("block0.kernel", "block0.expansion", "block1.kernel", "block1.expansion"),
        *("tail", "inner", "skip.0", "skip.1"),
    ]
    conditions = {d.label: [[(c.label, c.options) for c in group] for group in d.active_if] for d in space.decisions}
    assert conditions["block0.kernel"] == [[("depth", (1, 2))]]
    assert conditions["block1.kernel"] == [[("depth", (2,))]]
    assert conditions["inner"] == [[("tail", ("twice",))]]
    assert conditions["width"] == []
    assert space.size == 2 * 3 * 2 * (1 + 4 + 16) * 4 * 4


def test_one_label_in_two_cells_is_one_decision_active_if_either_place_is() -> None:
    class Two(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.a = LayerChoice({"x": LayerChoice([nn.ReLU(), nn.Tanh()], label="s"), "y": nn.ReLU()}, label="a")
            self.b = LayerChoice({"x": LayerChoice([nn.ReLU(), nn.Tanh()], label="s"), "y": nn.ReLU()}, label="b")

    [shared] = [d for d in Two().space.decisions if d.label == "s"]
    assert [[(c.label, c.options) for c in group] for group in shared.active_if] == [
        [("a", ("x",))],
        [("b", ("x",))],
    ]
    assert Two().space.size == 3 * 2 + 1
    assert Cells().space.size == 2 * 3 * 2 * 2


def test_one_label_with_two_sets_of_options_is_refused() -> None:
    class Twice(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.a = LayerChoice([nn.ReLU(), nn.Tanh()], label="s")
            self.b = LayerChoice([nn.ReLU()], label="s")

    with pytest.raises(SpaceError, match=r"b: decision 's' has the options \[0\] here and \[0, 1\] elsewhere"):
        _ = Twice().space


def test_a_prior_draws_as_often_as_it_says() -> None:
    class Rare(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.a = LayerChoice({"often": nn.ReLU(), "rare": nn.Tanh()}, label="a", prior=(3, 1))

    space = Rare().space
    drawn = space.sample(4000, np.random.default_rng(0))
    assert sum(a["a"] == "rare" for a in drawn) / 4000 == pytest.approx(0.25, abs=3 * (0.1875 / 4000) ** 0.5)
    assert Decision("a", (1, 2), prior=(1, 1)).shares == (0.5, 0.5)


def test_calls_that_mean_nothing_say_so() -> None:
    net = Plain(1, 4)
    a = net.default()
    with pytest.raises(SpaceError, match="called without gates"):
        net(images(net, a))
    with pytest.raises(SpaceError, match=r"images of \(9, 9\) for a network of resolution 8"):
        net(torch.zeros(1, 1, 9, 9), a)
    soft = Everything()
    gates = one_hot_gates(soft.space, soft.default()) | {"resolution": Gate(torch.tensor([0.5, 0.5]), (0, 1))}
    with pytest.raises(SpaceError, match="a batch has one size"):
        soft(torch.zeros(1, 1, 12, 12), gates)
    plain = net.extract(a)
    assert torch.equal(plain.eval()(images(net, a), a), plain(images(net, a)))
    with pytest.raises(SpaceError, match="it cannot run as"):
        plain(images(net, a), Architecture({**a, "first": 1}))
    with pytest.raises(SpaceError, match="resolutions is"):
        ModelSpace(resolutions=(8, 4))
    with pytest.raises(SpaceError, match="no option 7"):
        net.extract(Architecture({**a, "first": 7}))


def test_a_soft_width_is_refused_and_a_hard_one_carries_its_gradient() -> None:
    net = Everything()
    one = one_hot_gates(net.space, net.default())
    x = images(net, net.default())
    with pytest.raises(SpaceError, match="the gate of width 'width' supports 2 options") as raised:
        net(x, one | {"width": Gate(torch.tensor([0.5, 0.5, 0.0]), (0, 1))})
    assert "InvertedBottleneck" in raised.value.hint
    values = torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
    net(x, one | {"width": Gate(values, (1,))}).sum().backward()
    assert values.grad is not None
    assert values.grad[1] != 0


def test_a_width_that_a_layer_was_not_told_of_is_named() -> None:
    class Forgetful(ModelSpace):
        def __init__(self) -> None:
            super().__init__(resolutions=(8,), channels=1)
            self.a = ElasticConv2d(1, ValueChoice((4, 8), label="width"), 3)
            self.b = ElasticConv2d(8, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.b(self.a(x))
            return y

    net = Forgetful()
    with pytest.raises(SpaceError, match="got 4 channels; its in_channels are decided as 8"):
        net(torch.zeros(1, 1, 8, 8), Architecture({"resolution": 8, "width": 4}))


def test_elastic_kernels_are_mixed_as_weights() -> None:
    conv = ElasticConv2d(2, 3, ValueChoice((1, 3), label="k"))

    class One(ModelSpace):
        def __init__(self) -> None:
            super().__init__(resolutions=(6,), channels=2)
            self.conv = conv

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x)
            return y

    net, x = One(), torch.randn(1, 2, 6, 6)
    hard = [net(x, Architecture({"resolution": 6, "k": k})) for k in (1, 3)]
    gates = {"resolution": Gate(torch.ones(1), (0,)), "k": Gate(torch.tensor([0.25, 0.75]), (0, 1))}
    assert torch.allclose(net(x, gates), 0.25 * hard[0] + 0.75 * hard[1], atol=1e-6)


def test_a_branch_that_nothing_reads_is_left_out_but_those_before_it_stay() -> None:
    class Two(ModelSpace):
        def __init__(self) -> None:
            super().__init__(resolutions=(8,), channels=1)
            self.shared = nn.Conv2d(1, 2, 1)
            self.left, self.right = nn.Conv2d(2, 2, 1), nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2))
            self.take = InputChoice(2, label="take")

        def forward(self, x: Tensor) -> Tensor:
            y = self.shared(x)
            z: Tensor = self.take([self.left(y), self.right(y)])
            return z

    net = Two().eval()
    left = net.extract(Architecture({"resolution": 8, "take": 0}))
    assert sorted({name.split(".")[0] for name, _ in left.named_parameters()}) == ["left", "shared"]
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(left(x), net(x, Architecture({"resolution": 8, "take": 0})))


def test_norms_of_an_extracted_network_keep_statistics_again() -> None:
    net = Everything()
    SinglePath(net)
    assert not any(m.track_running_stats for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    plain = net.extract(net.default())
    assert all(m.track_running_stats for m in plain.modules() if isinstance(m, nn.BatchNorm2d))


def test_a_supernet_trains_under_the_rules_of_every_supernet() -> None:
    torch.manual_seed(0)
    net = Plain(1, 3)
    rule = SinglePath(net, random=2)
    batch = toy_batch(8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(40):
        optimizer.zero_grad(set_to_none=True)
        losses.append(rule(batch, np.random.default_rng(step)))
        optimizer.step()
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_an_extracted_network_is_saved_and_loaded_as_any_module() -> None:
    net = Everything()
    architecture = net.default()
    plain = net.extract(architecture).eval()
    file = io.BytesIO()
    torch.save(plain.state_dict(), file)
    file.seek(0)
    other = Everything().extract(architecture).eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    x = images(net, architecture)
    assert torch.equal(plain(x), other(x))


def test_shared_weights_of_elastic_layers_are_the_first_of_the_widest() -> None:
    width = ValueChoice((2, 4), label="w")
    norm, conv = ElasticBatchNorm2d(width), ElasticConv2d(width, width, 3, depthwise=True, bias=True)
    with torch.no_grad():
        norm.norm.weight.copy_(torch.arange(4.0))
    assert norm.frozen({"w": 2}, {}).weight.tolist() == [0.0, 1.0]  # type: ignore[operator]
    small = conv.frozen({"w": 2}, {})
    assert isinstance(small, nn.Conv2d)
    assert small.groups == 2
    assert torch.equal(small.weight, conv.weight[:2])


def test_wrong_elastic_layers_are_refused() -> None:
    with pytest.raises(SpaceError, match="kernels are odd"):
        ElasticConv2d(1, 2, ValueChoice((2, 3), label="k"))
    with pytest.raises(SpaceError, match="depthwise from 1 to 2"):
        ElasticConv2d(1, 2, 3, depthwise=True)
    with pytest.raises(SpaceError, match="expected ascending whole numbers"):
        ValueChoice((3, 3), label="k")
    with pytest.raises(SpaceError, match="label is empty"):
        ValueChoice((3,), label="")
    with pytest.raises(SpaceError, match="'w' is 3; expected one of"):
        (2 * ValueChoice((1, 2), label="w")).at({"w": 3})


def test_repeats_may_hold_choices_that_wake_with_depth() -> None:
    class Deep(ModelSpace):
        def __init__(self) -> None:
            super().__init__(resolutions=(4,), channels=1)
            self.row = Repeat(lambda n: LayerChoice([nn.ReLU(), nn.Tanh()], label=f"op{n}"), depths=(1, 3), label="d")

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.row(x)
            return y

    assert Deep().space.size == 2 + 8


def test_an_elastic_norm_needs_a_momentum() -> None:
    with pytest.raises(SpaceError, match="momentum is None.*expected a number"):
        ElasticBatchNorm2d(4, momentum=None)


def test_sides_that_no_memory_holds_are_refused() -> None:
    """Before a network is run on them, which is the first that is done with a model of one's own."""
    with pytest.raises(SpaceError, match="resolutions holds 100000; expected at most 4096 pixels"):
        ModelSpace(resolutions=(32, 100000))
    assert ModelSpace(resolutions=(4096,)).resolutions == (4096,)
