"""Networks whose answer is no function of the image are refused when the space is read."""

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import SpaceError
from hwnas.nn import Block, LayerChoice, ModelSpace, check_evaluation, reestimate_batch_norm
from hwnas.training import SinglePath


class Noise(nn.Module):
    """Dropout by a function, which nobody switches off."""

    def __init__(self, *, follows: bool = False) -> None:
        super().__init__()
        self.follows = follows

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=self.training if self.follows else True)


class Net(ModelSpace):
    """One layer of the author's between two others."""

    def __init__(self, layer: nn.Module, *, only_in: str = "", in_forward: bool = False) -> None:
        super().__init__(resolutions=(8,), channels=1)
        first = {f"k{k}": nn.Conv2d(1, 4, k, padding=k // 2) for k in (3, 5)}
        if only_in:
            first[only_in] = nn.Sequential(first[only_in], layer)  # type: ignore[assignment]
        self.first = LayerChoice(first, label="first")
        self.layer = Block(nn.Identity() if only_in else layer)
        self.head = Block(nn.Linear(4, 2))
        self.in_forward = in_forward

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(self.first(x)).mean((2, 3))
        return cast(Tensor, self.head(F.dropout(y) if self.in_forward else y))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, momentum=None),
        nn.BatchNorm2d(4, affine=False),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.Dropout(0.5),
        nn.Dropout2d(0.5),
        Noise(follows=True),
        nn.ReLU(inplace=True),
    ],
)
def test_norms_and_dropouts_that_follow_the_mode_go_all_the_way(layer: nn.Module) -> None:
    """Trained by a rule that keeps no statistics, cut and estimated afresh: the same alone and in a batch."""
    torch.manual_seed(0)
    net = Net(layer)
    check_evaluation(net)
    net.train()
    SinglePath(net)
    architecture = net.default()
    net(torch.randn(4, 1, 8, 8), architecture).sum().backward()
    plain = net.extract(architecture)
    images = torch.randn(32, 1, 8, 8) * 3 + 1
    reestimate_batch_norm(plain, [images[:16], images[16:]])
    plain.eval()
    with torch.inference_mode():
        together = plain(images)
        assert torch.allclose(together[:1], plain(images[:1]), atol=1e-5)
    for norm in plain.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.InstanceNorm2d) and norm.running_mean is not None:
            with torch.inference_mode():
                seen = plain.first(images)  # type: ignore[operator]
            assert torch.allclose(norm.running_mean, seen.mean((0, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.BatchNorm1d, nn.BatchNorm3d])
def test_a_batch_norm_without_statistics_is_named(kind: type[nn.Module]) -> None:
    """It would be switched on by the estimation of what it does not have, and crash."""
    net = Net(nn.Sequential(nn.ReLU(), kind(4, track_running_stats=False)))
    with pytest.raises(
        SpaceError, match=rf"layer\.\S*1: a {kind.__name__} that keeps no statistics .*depends on the others"
    ) as caught:
        check_evaluation(net)
    assert "nn.GroupNorm" in caught.value.hint


def test_extraction_leaves_a_norm_without_statistics_without_them() -> None:
    """In a script nobody reads the space as a recipe does."""
    net = Net(nn.BatchNorm2d(4, track_running_stats=False))
    plain = net.extract(net.default())
    reestimate_batch_norm(plain, [torch.randn(8, 1, 8, 8)])
    assert plain.eval()(torch.randn(8, 1, 8, 8)).shape == (8, 2)


def test_dropout_that_stays_on_is_named_with_its_module() -> None:
    with pytest.raises(SpaceError, match=r"^layer\S*: gives another answer .* each time, in evaluation mode") as caught:
        check_evaluation(Net(Noise()))
    assert "training=self.training" in caught.value.hint
    with pytest.raises(SpaceError, match=r"^Net: gives another answer"):
        check_evaluation(Net(nn.ReLU(), in_forward=True))


class DrawnNoise(nn.Module):
    """Random numbers of its author's, in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


def test_random_numbers_in_evaluation_are_named_beside_dropout() -> None:
    with pytest.raises(SpaceError, match=r"^layer\S*: .*random numbers drawn in forward") as caught:
        check_evaluation(Net(DrawnNoise()))
    assert "random numbers: if self.training" in caught.value.hint


def test_an_option_that_only_some_networks_have_is_looked_at() -> None:
    with pytest.raises(SpaceError, match=r"^first\S*: gives another answer .*k5"):
        check_evaluation(Net(Noise(), only_in="k5"))


def test_nothing_of_the_model_or_of_the_generators_is_moved() -> None:
    net = Net(nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    check_evaluation(net)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
