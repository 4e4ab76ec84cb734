import pytest
import torch
from torch import Tensor

from hwnas.core import SpaceError
from hwnas.nn import ElasticMBConv, Gate
from hwnas.nn.elastic import ElasticBatchNorm, centre


def layer(**changes: object) -> ElasticMBConv:
    torch.manual_seed(0)
    settings = {
        "kernels": (3, 5, 7),
        "expansions": (3, 4, 6),
        "stride": 1,
        "activation_name": "hswish",
        "squeeze": 4,
    }
    return ElasticMBConv(8, 8, **(settings | changes))  # type: ignore[arg-type]


def randomise(module: torch.nn.Module) -> None:
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("expansion", [3, 4, 6])
@pytest.mark.parametrize("training", [False, True])
def test_hard_cut_and_soft_one_hot_agree(kernel: int, expansion: int, *, training: bool) -> None:
    elastic = layer()
    randomise(elastic)
    block = elastic.cut(kernel=kernel, expansion=expansion)
    x = torch.randn(4, 8, 6, 6)
    for module in (elastic, block):
        module.train(training)
    k, e = (3, 5, 7).index(kernel), (3, 4, 6).index(expansion)
    soft = elastic.soft(
        x,
        kernel=Gate(torch.eye(3)[k], (0, 1, 2)),
        expansion=Gate(torch.eye(3)[e], (0, 1, 2)),
    )
    hard = elastic(x, kernel=kernel, expansion=expansion)
    assert torch.allclose(hard, block(x), atol=1e-5)
    assert torch.allclose(hard, soft, atol=1e-5)


def test_a_mixed_kernel_is_the_mixture_of_kernels() -> None:
    elastic = layer(squeeze=0).eval()
    x = torch.randn(2, 8, 6, 6)
    weights = torch.tensor([0.2, 0.3, 0.5])
    before: list[Tensor] = []

    def keep(part: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        before.append(inputs[0])

    handle = elastic.depthwise_norm.register_forward_hook(keep)
    elastic.soft(x, kernel=Gate(weights, (0, 1, 2)), expansion=Gate(torch.eye(3)[2], (2,)))
    for kernel in (3, 5, 7):
        elastic(x, kernel=kernel, expansion=6)
    handle.remove()
    mixed, *parts = before
    assert torch.allclose(mixed, sum(w * part for w, part in zip(weights, parts, strict=True)), atol=1e-5)


def test_gates_get_gradients_and_unsampled_weights_get_none_or_zero() -> None:
    elastic = layer()
    kernel, expansion = torch.full((3,), 1 / 3, requires_grad=True), torch.full((3,), 1 / 3, requires_grad=True)
    out = elastic.soft(torch.randn(4, 8, 6, 6), kernel=Gate(kernel, (0, 1, 2)), expansion=Gate(expansion, (0, 1, 2)))
    (out**2).sum().backward()  # type: ignore[no-untyped-call]
    assert kernel.grad is not None and bool((kernel.grad != 0).all())
    assert expansion.grad is not None and bool((expansion.grad != 0).all())


def test_options_outside_the_support_cost_nothing() -> None:
    elastic = layer().train()
    seen: list[int] = []
    elastic.depthwise_norm.register_forward_hook(lambda part, inputs, output: seen.append(output.shape[1]))
    elastic.soft(
        torch.randn(2, 8, 6, 6),
        kernel=Gate(torch.eye(3)[0], (0,)),
        expansion=Gate(torch.tensor([0.5, 0.5, 0.0]), (0, 1)),
    )
    assert seen == [32], "the widest supported option has 8 x 4 hidden channels; 48 must not run"


def test_a_cut_has_its_own_weights() -> None:
    elastic = layer()
    block = elastic.cut(kernel=3, expansion=3)
    with torch.no_grad():
        block.expand.weight.zero_()
    assert bool((elastic.expand.weight != 0).any())


def test_centre_is_the_middle() -> None:
    weight = torch.arange(49.0).reshape(1, 1, 7, 7)
    assert torch.equal(centre(weight, 3)[0, 0], weight[0, 0, 2:5, 2:5])


def test_batch_norm_of_a_cut_equals_torch() -> None:
    norm = ElasticBatchNorm(6)
    plain = torch.nn.BatchNorm2d(4)
    norm.cut(plain)
    x = torch.randn(5, 4, 3, 3)
    assert torch.allclose(norm(x), plain(x))
    assert torch.allclose(norm.running_mean[:4], plain.running_mean)  # type: ignore[arg-type]
    assert torch.equal(norm.running_mean[4:], torch.zeros(2)), "channels that did not run keep their statistics"


@pytest.mark.parametrize("support", [(), (0, 0), (3,)])
def test_gates_without_a_sensible_support_are_refused(support: tuple[int, ...]) -> None:
    with pytest.raises(SpaceError, match="must name some of the options"):
        Gate(torch.ones(3) / 3, support)
