import pytest
import torch
from torch import nn

from hwnas.core import DataError
from hwnas.nn import reestimate_batch_norm


def test_statistics_are_the_plain_average_over_batches() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(norm)
    norm.running_mean = torch.full((3,), 100.0)
    batches = [torch.randn(8, 3, 4, 4) * 2 + 1 for _ in range(5)]
    reestimate_batch_norm(network, batches)
    assert norm.running_mean is not None and norm.running_var is not None
    mean = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    var = torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0)
    assert torch.allclose(norm.running_mean, mean, atol=1e-6)
    assert torch.allclose(norm.running_var, var, atol=1e-5)


def test_twice_is_once_and_dropout_stays_off() -> None:
    inner = nn.BatchNorm2d(3)
    network = nn.Sequential(nn.Dropout(0.9), inner, nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    batches = [torch.randn(8, 3, 4, 4) for _ in range(3)]
    reestimate_batch_norm(network, batches)
    first = {name: value.clone() for name, value in network.state_dict().items()}
    reestimate_batch_norm(network, batches)
    assert all(torch.equal(first[name], value) for name, value in network.state_dict().items())
    assert inner.running_mean is not None
    assert torch.allclose(inner.running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0))


def test_modes_and_momentum_are_left_as_they_were() -> None:
    first, second = nn.BatchNorm2d(1, momentum=0.3), nn.BatchNorm2d(1).eval()
    network = nn.Sequential(first, second)
    reestimate_batch_norm(network, [torch.randn(2, 1, 2, 2)])
    assert (first.momentum, first.training, second.training) == (0.3, True, False)


def test_no_batch_is_refused() -> None:
    with pytest.raises(DataError, match="got no batch"):
        reestimate_batch_norm(nn.BatchNorm2d(1), [])
