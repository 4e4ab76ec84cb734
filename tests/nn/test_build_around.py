import pytest
import torch

from hwnas.core import SpaceError
from hwnas.nn import build_block
from hwnas.nn.blocks import describe_mbconv
from hwnas.nn.build_around import build_around, cut_like

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


NARROW = describe_mbconv(4, 4, 8, hidden=6, kernel=3, stride=1, activation_name="hswish", squeeze=4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_cut_holds_copies_of_the_first_channels(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    wide = build_block(BLOCK).to(memory_format=layout)
    wide(torch.randn(4, 4, 8, 8))
    narrow = cut_like(NARROW, wide)
    state = wide.state_dict()
    for name, tensor in narrow.state_dict().items():
        corner = state[name][tuple(slice(0, n) for n in tensor.shape)]
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, corner)
            assert tensor.stride() == corner.clone().stride()
        assert tensor.untyped_storage().data_ptr() != state[name].untyped_storage().data_ptr()
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    assert all(p.requires_grad and p.is_leaf for p in narrow.parameters())
    assert narrow.training and not cut_like(NARROW, wide.eval()).training
    assert cut_like(NARROW, wide, mode=True).training


def test_a_cut_as_wide_as_its_source_computes_what_it_does() -> None:
    source = build_block(BLOCK).eval()
    cut = cut_like(BLOCK, source)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(cut(x), source(x))
    with torch.no_grad():
        next(cut.parameters()).zero_()
    assert not torch.equal(cut(x), source(x))


def test_a_cut_takes_changed_tensors_as_they_are() -> None:
    kernel = torch.zeros(6, 1, 3, 3)
    cut = cut_like(NARROW, build_block(BLOCK), changed={"depthwise.weight": kernel})
    assert cut.state_dict()["depthwise.weight"].data_ptr() == kernel.data_ptr()
    with pytest.raises(SpaceError, match=r"tensor depthwise.weight is \(6, 1, 5, 5\); expected \(6, 1, 3, 3\)"):
        cut_like(NARROW, build_block(BLOCK), changed={"depthwise.weight": torch.zeros(6, 1, 5, 5)})


def test_a_source_that_cannot_be_cut_is_named() -> None:
    with pytest.raises(SpaceError, match=r"tensor expand.weight is \(6, 4, 1, 1\); expected at least \(8, 4, 1, 1\)"):
        cut_like(BLOCK, build_block(NARROW))
    with pytest.raises(SpaceError, match=r"tensor expand.weight is \(8,\); expected at least \(8, 4, 1, 1\)"):
        cut_like(BLOCK, torch.nn.ModuleDict({"expand": torch.nn.BatchNorm2d(8)}))
    without = describe_mbconv(4, 4, 8, hidden=8, kernel=3, stride=1, activation_name="hswish", squeeze=0)
    with pytest.raises(SpaceError, match="part se is missing in MBConv"):
        cut_like(BLOCK, build_block(without))
    lame = build_block(BLOCK)
    lame.expand_norm = torch.nn.BatchNorm2d(8, affine=False)
    with pytest.raises(SpaceError, match="tensor expand_norm.weight is missing; expected at least"):
        cut_like(BLOCK, lame)
