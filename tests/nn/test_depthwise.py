"""The depthwise convolution's own gradient against the library's."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hwnas.nn import depthwise
from hwnas.nn.blocks import MBConv
from hwnas.nn.depthwise import depthwise_convolution, kernel_gradient


def _library(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=weight.shape[0])


@given(
    n=st.integers(1, 3),
    c=st.integers(1, 4),
    h=st.integers(1, 6),
    w=st.integers(1, 6),
    kernel=st.sampled_from([1, 3, 5, 7]),
    seed=st.integers(0, 99),
)
def test_the_kernels_gradient_is_the_librarys(n: int, c: int, h: int, w: int, kernel: int, seed: int) -> None:
    torch.manual_seed(seed)
    x, gradient = torch.randn(n, c, h, w).double(), torch.randn(n, c, h, w).double()
    weight = torch.randn(c, 1, kernel, kernel).double().requires_grad_()
    (expected,) = torch.autograd.grad(_library(x, weight), weight, gradient)
    assert torch.allclose(kernel_gradient(x, gradient, kernel), expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("slow", [True, False])
def test_both_ways_give_the_same_output_and_gradients(slow: bool, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "_library_is_slow", lambda *_: slow)
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 4).requires_grad_(), torch.randn(3, 1, 5, 5).requires_grad_()
    ours, theirs = depthwise_convolution(x, weight, stride=stride), _library(x, weight, stride)
    assert torch.equal(ours, theirs)
    assert ("SumOverShifts" in type(ours.grad_fn).__name__) == (slow and stride == 1)
    gradient = torch.randn_like(ours)
    for mine, expected in zip(
        torch.autograd.grad(ours, (x, weight), gradient),
        torch.autograd.grad(theirs, (x, weight), gradient),
        strict=True,
    ):
        assert torch.allclose(mine, expected, atol=1e-5)


def test_under_autocast_gradients_have_the_type_of_what_they_belong_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in bfloat16 training on a CPU without AVX-512."""
    monkeypatch.setattr(depthwise, "_library_is_slow", lambda *_: True)
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 4).requires_grad_(), torch.randn(3, 1, 5, 5).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = depthwise_convolution(x, weight)
    assert y.dtype == torch.bfloat16
    gradient = torch.randn_like(y)
    found = torch.autograd.grad(y, (x, weight), gradient)
    expected = torch.autograd.grad(_library(x, weight), (x, weight), gradient.float())
    for mine, exact in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert torch.allclose(mine, exact, atol=0.05 * float(exact.abs().max()))


def test_it_can_be_differentiated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "_library_is_slow", lambda *_: True)
    torch.manual_seed(0)
    x, weight = torch.randn(1, 2, 3, 3).double().requires_grad_(), torch.randn(2, 1, 5, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(depthwise_convolution, (x, weight))
    assert torch.autograd.gradgradcheck(depthwise_convolution, (x, weight))


def test_without_gradients_it_is_the_librarys_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter must see a convolution, not a function of ours."""
    monkeypatch.setattr(depthwise, "_library_is_slow", lambda *_: pytest.fail("it was asked"))
    with torch.no_grad():
        depthwise_convolution(torch.ones(1, 1, 2, 2), torch.nn.Parameter(torch.ones(1, 1, 5, 5)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own, which change with its version
def test_the_compiler_sees_a_training_block_in_one_piece() -> None:
    import torch._dynamo as dynamo

    block = MBConv(8, 8, hidden=16, kernel=5, stride=1, activation_name="hswish", squeeze=4).train()
    found = dynamo.explain(block)(torch.randn(4, 8, 4, 4))
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
