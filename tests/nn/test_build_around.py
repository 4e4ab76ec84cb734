import pytest
import torch

from hwnas.core import SpaceError
from hwnas.nn import build_block
from hwnas.nn.blocks import describe_mbconv
from hwnas.nn.build_around import build_around

BLOCK = describe_mbconv(4, 4, 8, hidden=8, kernel=3, stride=1, activation_name="hswish", squeeze=8)


def test_it_is_the_module_that_the_weights_came_from() -> None:
    torch.manual_seed(0)
    plain = build_block(BLOCK)
    plain(torch.randn(4, 4, 8, 8))
    made = build_around(BLOCK, plain.state_dict(), mode=False)
    x = torch.randn(2, 4, 8, 8)
    assert repr(made) == repr(plain)
    assert torch.equal(made(x), plain.eval()(x))
    assert [name for name, _ in made.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert list(made.state_dict()) == list(plain.state_dict())
    assert not any(part.training for part in made.modules())
    assert all(part.training for part in build_around(BLOCK, plain.state_dict()).modules())
    assert all(p.requires_grad and p.is_leaf for p in made.parameters())


def test_two_modules_share_nothing_but_what_they_are_given() -> None:
    state = build_block(BLOCK).state_dict()
    a, b = (build_around(BLOCK, {name: value.clone() for name, value in state.items()}) for _ in range(2))
    seen: list[int] = []
    a.register_forward_hook(lambda *args: seen.append(1))
    a.train()(torch.randn(2, 4, 8, 8)).sum().backward()
    b(torch.randn(2, 4, 8, 8))
    assert seen == [1]
    assert all(p.grad is None for p in b.parameters())
    b.expand = torch.nn.Identity()
    assert isinstance(build_around(BLOCK, state).expand, torch.nn.Conv2d)
    assert int(a.state_dict()["expand_norm.num_batches_tracked"]) == 1
    assert int(build_around(BLOCK, state).state_dict()["expand_norm.num_batches_tracked"]) == 0


def test_weights_that_do_not_fit_are_named() -> None:
    state = build_block(BLOCK).state_dict()
    with pytest.raises(SpaceError, match=r"tensor expand.weight is \(8, 4, 3, 3\); expected \(8, 4, 1, 1\)"):
        build_around(BLOCK, {**state, "expand.weight": torch.zeros(8, 4, 3, 3)})
    with pytest.raises(SpaceError, match="tensor se.reduce.bias is missing"):
        build_around(BLOCK, {name: value for name, value in state.items() if name != "se.reduce.bias"})
