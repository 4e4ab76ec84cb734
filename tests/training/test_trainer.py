import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.core import NonFiniteLossError, RecipeError, generator
from hwnas.data import Batch, ImageData, Images, MiniBatch, Part, Preprocessing, batches
from hwnas.training import Plain, Schedule, Trainer


def images(n: int = 64) -> Images:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    pixels = rng.integers(0, 120, (n, 8, 8, 1), dtype=np.uint8)
    pixels[labels == 1, :, 4:] += 100
    part = Part(ImageData(pixels, labels, ("left", "right"), "made up"), np.arange(n))
    return Images(part, Preprocessing.fit(part))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))


def trainer(module: nn.Module, data: Images, **changes: float) -> Trainer:
    schedule = Schedule(**({"epochs": 4, "learning_rate": 0.05} | changes))  # type: ignore[arg-type]

    def serve(rng: np.random.Generator) -> Iterator[Batch]:
        return batches(data, batch_size=16, generator=rng)

    return Trainer(module, Plain(module, 8), batches=serve, steps=4, schedule=schedule)


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_the_loss_falls_and_images_are_counted() -> None:
    t = trainer(network(), images())
    found = [t.epoch(k, generator(0, k)) for k in range(4)]
    assert found[-1]["loss"] < 0.5 * found[0]["loss"]
    assert [row["images"] for row in found] == [64] * 4


def test_one_step_is_sgd_with_nesterov_momentum_and_decay_on_matrices_only() -> None:
    """A second implementation of the update, on a batch that is the whole data."""
    data, module = images(16), network()
    t = trainer(module, data, momentum=0.9, weight_decay=0.1, warmup=0.0, clip=1e9)
    before = weights(module)
    module.train()
    batch = next(batches(data, batch_size=16, generator=generator(0, 0)))
    nn.functional.cross_entropy(module(batch.images(8)), batch.labels).backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.load_state_dict(before)
    t.epoch(0, generator(0, 0))
    for name, parameter in module.named_parameters():
        gradient = gradients[name] + (0.1 * before[name] if parameter.ndim > 1 else 0)
        expected = before[name] - 0.05 * (gradient + 0.9 * gradient)
        assert torch.allclose(parameter, expected, atol=1e-5), name


def test_an_epoch_can_be_repeated_to_the_bit_from_its_state() -> None:
    data = images()
    unbroken = trainer(network(), data)
    for k in range(3):
        unbroken.epoch(k, generator(7, k))
    first = trainer(network(), data)
    first.epoch(0, generator(7, 0))
    saved = {name: part.state_dict() for name, part in first.state.items()}
    second = trainer(network(), data)
    for name, part in second.state.items():
        part.load_state_dict(saved[name])
    for k in (1, 2):
        second.epoch(k, generator(7, k))
    for (name, a), b in zip(weights(unbroken.module).items(), weights(second.module).values(), strict=True):
        assert torch.equal(a, b), name


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    """Case O-16: the message names epoch and step, and the weights stay as they were."""
    data, module = images(), network()
    t = trainer(module, data)
    rule, calls = t.rule, 0

    def poisoned(batch: MiniBatch, rng: np.random.Generator) -> float:
        nonlocal calls
        calls += 1
        loss = rule(batch, rng)
        return math.nan if calls == 7 else loss

    t.rule = poisoned
    t.epoch(0, generator(0, 0))
    before: dict[str, torch.Tensor] = {}

    def watch(done: int, total: int, loss: float) -> None:
        before.update({name: p.detach().clone() for name, p in module.named_parameters()})

    t.progress = watch
    with pytest.raises(NonFiniteLossError, match="epoch 2, step 3: loss nan"):
        t.epoch(1, generator(0, 1))
    assert all(torch.equal(before[name], p) for name, p in module.named_parameters())


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    data, module = images(), network()
    t = trainer(module, data)
    linear = module[4]  # type: ignore[index]
    linear.bias.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteLossError, match="epoch 1, step 1: loss .* gradient norm (inf|nan)"):
        t.epoch(0, generator(0, 0))


def test_a_huge_learning_rate_ends_in_the_error_not_in_nan_weights() -> None:
    data, module = images(), network()
    t = trainer(module, data, learning_rate=1e30, clip=1e30, warmup=0.0, epochs=5)
    with pytest.raises(NonFiniteLossError, match="lower .training. learning_rate"):
        for k in range(5):
            t.epoch(k, generator(0, k))


def test_the_gradient_is_clipped() -> None:
    data, module = images(16), network()
    t = trainer(module, data, clip=1e-3, momentum=0.0, weight_decay=0.0, warmup=0.0)
    before = weights(module)
    t.epoch(0, generator(0, 0))
    moved = math.sqrt(sum(float(((p.detach() - before[n]) ** 2).sum()) for n, p in module.named_parameters()))
    assert moved == pytest.approx(0.05 * 1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"momentum": 1.0}, "momentum 1.0"),
        ({"weight_decay": -1e-3}, "weight_decay -0.001"),
    ],
)
def test_impossible_schedules_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Schedule(**({"epochs": 3} | changes))  # type: ignore[arg-type]


def test_weights_that_overflow_in_the_last_step_are_found() -> None:
    """No loss is computed after it, so nothing but the weights themselves can tell."""
    data, module = images(16), network()
    t = Trainer(
        module,
        Plain(module, 8),
        batches=lambda rng: batches(data, batch_size=16, generator=rng),
        steps=1,
        schedule=Schedule(1, learning_rate=3e38, warmup=0.0, momentum=0.0, clip=1e38),
        what="member-abc",
        table="members",
    )
    module[4].bias.register_hook(lambda gradient: gradient + 100)  # type: ignore[index]
    message = r"training of member-abc diverged by the end of epoch 1: 4.bias is not finite \(learning rate 3e\+38\)"
    with pytest.raises(NonFiniteLossError, match=message) as caught:
        t.epoch(0, generator(0, 0))
    assert "lower [members] learning_rate" in caught.value.hint


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "clip", "momentum", "average", "warmup"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_schedule_is_made_of_numbers(name: str, value: float) -> None:
    with pytest.raises(RecipeError, match=name):
        Schedule(**({"epochs": 1} | {name: value}))  # type: ignore[arg-type]
