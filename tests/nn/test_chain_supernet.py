from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch

from hwnas.core import Architecture, SpaceError
from hwnas.nn import Gate, one_hot_gates
from hwnas.nn.blocks import describe_head, describe_mbconv, describe_separable, describe_stem
from hwnas.nn.chain_supernet import ChainSupernet, Choice
from hwnas.space import Block, Decision, Space, Unit


def place(size: int, kernel: int) -> Block:
    return describe_separable(4, 4, size, kernel=kernel, stride=1, activation_name="relu")


def space(sides: tuple[int, ...] = (4, 8)) -> Space:
    stems = tuple(describe_stem(1, 4, side, kernel=3, stride=1, activation_name="relu") for side in sides)
    heads = tuple(describe_head(4, 8, 3, side, activation_name="relu") for side in sides)
    first = tuple(place(side, k) for side in sides for k in (3, 5))
    second = tuple(block for side in sides for block in (place(side, 3), None))
    return Space(
        "tiny",
        (Decision("resolution", sides), Decision("a", ("k3", "k5")), Decision("b", ("k3", "skip"))),
        (
            Unit("stem", ("resolution",), stems),
            Unit("a", ("resolution", "a"), first),
            Unit("b", ("resolution", "b"), second),
            Unit("head", ("resolution",), heads),
        ),
    )


def net() -> ChainSupernet:
    torch.manual_seed(0)
    return ChainSupernet(space()).eval()


def candidates(supernet: ChainSupernet, n: int) -> list[torch.nn.Module]:
    return list(cast(Choice, supernet.places[n]).candidates)


def test_hard_soft_and_extracted_networks_agree() -> None:
    supernet = net()
    for a in space().enumerate():
        x = torch.randn(2, 1, int(a["resolution"]), int(a["resolution"]))
        plain = supernet.extract(a)
        assert len(plain) == 4 - (a["b"] == "skip")
        assert torch.allclose(supernet(x, a), plain(x), atol=1e-6)
        assert torch.allclose(supernet(x, one_hot_gates(space(), a)), plain(x), atol=1e-6)


def test_only_what_is_chosen_runs_and_gets_a_gradient() -> None:
    supernet = net().train()
    a = Architecture({"resolution": 8, "a": "k5", "b": "skip"})
    supernet(torch.randn(2, 1, 8, 8), a).sum().backward()
    used = {
        name.rpartition(".candidates.")[0] + name.rpartition(".candidates.")[2][:1]
        for name, p in supernet.named_parameters()
        if p.grad is not None
    }
    assert used == {"places.00", "places.11", "places.30"}


def test_a_mixture_is_the_weighted_sum_of_its_support() -> None:
    supernet = net()
    a = Architecture({"resolution": 8, "a": "k5", "b": "k3"})
    gates = one_hot_gates(space(), a)
    x = torch.randn(2, 1, 8, 8)
    inside: list[torch.Tensor] = []
    head = candidates(supernet, 3)[0]
    head.register_forward_hook(lambda part, inputs, output: inside.append(inputs[0]))
    for share in ([1.0, 0.0], [0.0, 1.0], [0.25, 0.75]):
        supernet(x, {**gates, "b": Gate(torch.tensor(share), (0, 1))})
    assert torch.allclose(inside[2], 0.25 * inside[0] + 0.75 * inside[1], atol=1e-6)


def test_the_gradient_of_a_gate_is_the_branch_seen_by_the_loss() -> None:
    """Cai et al. 2019, equation 4: the derivative at a one-hot gate is <dL/dy, o_j(x)> for every branch j."""
    supernet = net()
    gates = one_hot_gates(space(), Architecture({"resolution": 4, "a": "k3", "b": "k3"}))
    values = torch.tensor([1.0, 0.0], requires_grad=True)
    x = torch.randn(2, 1, 4, 4)
    branches: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    for candidate in candidates(supernet, 1):
        candidate.register_forward_hook(lambda part, inputs, output: branches.append(output))
    after = candidates(supernet, 2)[0]
    after.register_forward_hook(lambda part, inputs, output: outputs.append(inputs[0]))
    supernet(x, {**gates, "a": Gate(values, (0, 1))}).square().sum().backward()
    y = outputs[0].detach().requires_grad_()
    rest = torch.nn.Sequential(after, candidates(supernet, 3)[0])
    [seen] = torch.autograd.grad(rest(y).square().sum(), y)
    assert values.grad is not None
    expected = torch.stack([(seen * branch).sum() for branch in branches])
    assert torch.allclose(values.grad, expected, rtol=1e-4)


def test_a_hard_sample_with_a_gradient_runs_one_branch() -> None:
    supernet = net()
    gates = one_hot_gates(space(), Architecture({"resolution": 4, "a": "k3", "b": "k3"}))
    values = torch.tensor([1.0, 0.0], requires_grad=True)
    ran: list[int] = []
    for n, candidate in enumerate(candidates(supernet, 1)):
        candidate.register_forward_hook(lambda part, inputs, output, n=n: ran.append(n))
    supernet(torch.randn(1, 1, 4, 4), {**gates, "a": Gate(values, (0,))}).sum().backward()
    assert ran == [0]
    assert values.grad is not None and values.grad[0] != 0


def test_images_of_another_size_are_refused() -> None:
    supernet = net()
    a = Architecture({"resolution": 8, "a": "k5", "b": "k3"})
    with pytest.raises(SpaceError, match=r"images of \(4, 4\) for a network of resolution 8"):
        supernet(torch.randn(1, 1, 4, 4), a)
    gates = {**one_hot_gates(space(), a), "resolution": Gate(torch.ones(2) / 2, (0, 1))}
    with pytest.raises(SpaceError, match="supports 2 options"):
        supernet(torch.randn(1, 1, 8, 8), gates)
    with pytest.raises(SpaceError, match="no option 'k9'"):
        supernet.extract(Architecture({"resolution": 8, "a": "k9", "b": "k3"}))


def test_places_of_several_decisions_are_refused() -> None:
    blocks = tuple(place(4, k) for k in (3, 5) for _ in range(2))
    two = Space("two", (Decision("a", (3, 5)), Decision("b", (1, 2))), (Unit("u", ("a", "b"), blocks),))
    with pytest.raises(SpaceError, match=r"unit 'u' depends on \['a', 'b'\]"):
        ChainSupernet(two)


def test_blocks_that_differ_between_resolutions_are_refused() -> None:
    blocks = (place(4, 3), place(8, 5))
    odd = Space("odd", (Decision("resolution", (4, 8)),), (Unit("u", ("resolution",), blocks),))
    with pytest.raises(SpaceError, match="unit 'u' has other blocks at another resolution"):
        ChainSupernet(odd)


def test_blocks_that_add_nothing_are_built_so() -> None:
    with_it, without = (
        describe_mbconv(4, 4, 4, hidden=8, kernel=3, stride=1, activation_name="relu", squeeze=0, shortcut=shortcut)
        for shortcut in (True, False)
    )
    assert "shortcut" not in with_it.key and without.key.startswith("mbconv") and "shortcut=0" in without.key
    a, b = (
        ChainSupernet(Space("one", (Decision("x", (1,)),), (Unit("u", ("x",), (block,)),))).eval()
        for block in (with_it, without)
    )
    b.load_state_dict(a.state_dict())
    x = torch.randn(1, 4, 4, 4)
    only = Architecture({"x": 1})
    assert torch.allclose(a(x, only), x + b(x, only), atol=1e-6)
    assert np.isfinite(a(x, only).detach().numpy()).all()
