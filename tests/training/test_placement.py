"""Averaged weights, bfloat16, compiled networks, and the GPU: what they change and what they must not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hwnas.core import DeviceError, generator
from hwnas.data import Batch, Images, batches
from hwnas.training import Placement, Plain, Schedule, Trainer
from tests.training.test_trainer import images, network, trainer, weights


def test_the_average_takes_the_place_of_the_weights_after_the_last_epoch() -> None:
    """A second implementation: the average by hand, over the weights that each step leaves."""
    data, share = images(), 0.7
    plain = trainer(network(), data, epochs=2)
    passed: list[dict[str, torch.Tensor]] = []
    plain.progress = lambda *_: passed.append(weights(plain.module))
    for k in range(2):
        plain.epoch(k, generator(3, k))
    expected = passed[0]
    for after in passed[1:]:
        expected = {
            name: share * value + (1 - share) * after[name] if value.is_floating_point() else after[name]
            for name, value in expected.items()
        }
    averaged = trainer(network(), data, epochs=2, average=share)
    averaged.epoch(0, generator(3, 0))
    for name, value in weights(averaged.module).items():
        assert torch.equal(value, passed[3][name]), f"{name}: not before the end"
    averaged.epoch(1, generator(3, 1))
    for name, value in weights(averaged.module).items():
        if value.is_floating_point():
            assert torch.allclose(value, expected[name], atol=1e-6), name
            assert name == "1.running_mean" or not torch.equal(value, passed[-1][name]), name


def test_an_average_outlives_a_kill() -> None:
    data = images()
    unbroken = trainer(network(), data, epochs=2, average=0.9)
    for k in range(2):
        unbroken.epoch(k, generator(7, k))
    first = trainer(network(), data, epochs=2, average=0.9)
    first.epoch(0, generator(7, 0))
    saved = {name: part.state_dict() for name, part in first.state.items()}
    second = trainer(network(), data, epochs=2, average=0.9)
    for name, part in second.state.items():
        part.load_state_dict(saved[name])
    second.epoch(1, generator(7, 1))
    for (name, a), b in zip(weights(unbroken.module).items(), weights(second.module).values(), strict=True):
        assert torch.equal(a, b), name


def placed(placement: Placement, data: Images, *, compiled: bool = False) -> tuple[Trainer, list[float]]:
    module, losses = network(), list[float]()

    def serve(rng: Any) -> Any:
        return batches(data, batch_size=16, generator=rng)

    found = Trainer(
        module,
        Plain(module, 8),
        batches=serve,
        steps=4,
        schedule=Schedule(epochs=3, learning_rate=0.05),
        placement=placement,
        compiled=compiled,
        progress=lambda done, total, loss: losses.append(loss),
    )
    for k in range(3):
        found.epoch(k, generator(0, k))
    return found, losses


def test_bfloat16_computes_with_fewer_bits_and_keeps_weights_and_losses_in_float32() -> None:
    data = images()
    whole, exact = placed(Placement(), data)
    half, rough = placed(Placement(precision="bfloat16"), data)
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.1, abs=0.05)
    assert rough[-1] < 0.5 * rough[0]
    assert {value.dtype for value in half.module.parameters()} == {torch.float32}
    outside = half.module.eval()(torch.zeros(1, 1, 8, 8))
    assert outside.dtype == torch.float32
    assert torch.equal(outside, type(half.module).forward(half.module, torch.zeros(1, 1, 8, 8))), "only in an epoch"
    assert list(half.module.state_dict()) == list(whole.module.state_dict())


class Seen(nn.Module):
    """Notes the type of what its layer gives."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 2)
        self.seen: set[torch.dtype] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(x.flatten(1))
        self.seen.add(found.dtype)
        return found


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_layers_compute_at_the_precision_asked_for(precision: Any, dtype: torch.dtype) -> None:
    module = Seen()
    Trainer(
        module,
        Plain(module, 8),
        batches=lambda rng: batches(images(), batch_size=32, generator=rng),
        steps=2,
        schedule=Schedule(epochs=1),
        placement=Placement(precision=precision),
    ).epoch(0, generator(0))
    assert module.seen == {dtype}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own, which change with its version
def test_a_compiled_network_learns_the_same() -> None:
    data = images()
    _, plain = placed(Placement(), data)
    compiled, losses = placed(Placement(), data, compiled=True)
    assert losses == pytest.approx(plain, rel=1e-3)
    assert list(compiled.module.state_dict()) == list(network().state_dict())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused_with_the_way_out() -> None:
    with pytest.raises(DeviceError, match="processor is cuda, and torch sees no GPU here") as raised:
        Placement("cuda")
    assert 'processor = "cpu"' in raised.value.hint


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_learns_what_the_processor_learns(precision: Any) -> None:
    here, there = images(), images()
    on_gpu = Images(there.part, there.preprocessing, device="cuda")
    _, expected = placed(Placement(), here)
    found, losses = placed(Placement("cuda", precision), on_gpu)
    assert losses == pytest.approx(expected, rel=0.01 if precision == "float32" else 0.15, abs=0.02)
    assert {value.device.type for value in found.module.parameters()} == {"cuda"}


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_on_the_processor() -> None:
    from hwnas.data import Augment

    here = images()
    there = Images(here.part, here.preprocessing, device="cuda")
    augment = Augment(shift=0.2, flip=True, cutout=0.3)
    pairs: list[tuple[Batch, Batch]] = list(
        zip(
            *(batches(one, batch_size=16, generator=generator(1), augment=augment) for one in (here, there)),
            strict=True,
        )
    )
    for one, other in pairs:
        assert other.labels.is_cuda and torch.equal(one.labels, other.labels.cpu())
        assert torch.allclose(one.images(8), other.images(8).cpu(), atol=1e-6)
