"""Bilevel steps: the second order in closed form, and who is moved by what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hwnas.core import Architecture, NonFiniteLossError, RecipeError, generator
from hwnas.data import Batch, ImageData, Images, Part, Preprocessing, batches
from hwnas.nn import (
    ArchitectureParameters,
    BinaryGate,
    Concrete,
    Gate,
    GateMaker,
    Gates,
    HardSample,
    Softmax,
    STConcrete,
    TwoPath,
    one_hot_gates,
    rescale_pairs,
)
from hwnas.space import Decision, Space
from hwnas.testing import check_training_state
from hwnas.training import (
    Bilevel,
    LookAhead,
    Schedule,
    Trainer,
    first_order_gradient,
    second_order_gradient,
    sgd_look_ahead,
)
from hwnas.zoo import family

# ------------------------------------------------------------------------------------------------------ the mathematics


def randoms(seed: int) -> Callable[..., Tensor]:
    rng = np.random.default_rng(seed)
    return lambda *shape: torch.tensor(rng.normal(size=shape))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 2), st.integers(1, 5), st.integers(1, 5))
def test_the_hypergradient_of_a_quadratic(seed: int, xi: float, rows: int, columns: int) -> None:
    """Section 4.3: L_tr = |w - A alpha|^2 / 2, L_va = |w - b|^2 / 2 give xi A^T (w' - b); the difference is exact."""
    draw = randoms(seed)
    a, b = draw(rows, columns), draw(rows)
    w, alpha = draw(rows).requires_grad_(), draw(columns).requires_grad_()
    before = w.detach().clone()
    loss, (found,) = second_order_gradient(
        [w],
        [alpha],
        training_loss=lambda: (w - a @ alpha).square().sum() / 2,
        validation_loss=lambda: (w - b).square().sum() / 2,
        ahead=[LookAhead(xi, torch.zeros(rows, dtype=torch.float64))],
    )
    ahead = before - xi * (before - a @ alpha.detach())
    assert found is not None
    assert torch.allclose(found, xi * a.T @ (ahead - b), atol=1e-10, rtol=0)
    assert float(loss) == pytest.approx(float((ahead - b).square().sum() / 2), abs=1e-10)
    assert torch.equal(w, before) and w.grad is None and alpha.grad is None


def test_each_weight_has_its_own_rate_and_drift() -> None:
    """Two tensors, the direct part of alpha, and a parameter without a part in the training loss."""
    draw = randoms(0)
    a, b, rates, drifts = [draw(4, 3), draw(2, 3)], [draw(4), draw(2)], [0.3, 0.9], [draw(4), draw(2)]
    w = [draw(4).requires_grad_(), draw(2).requires_grad_()]
    alpha, direct = draw(3).requires_grad_(), draw(1).requires_grad_()
    _, found = second_order_gradient(
        w,
        [alpha, direct],
        training_loss=lambda: (
            torch.stack([(x - m @ alpha).square().sum() for x, m in zip(w, a, strict=True)]).sum() / 2
        ),
        validation_loss=lambda: (
            torch.stack([(x - y).square().sum() for x, y in zip(w, b, strict=True)]).sum() / 2
            + (alpha.square().sum() + direct.square().sum()) / 2
        ),
        ahead=[LookAhead(rate, drift) for rate, drift in zip(rates, drifts, strict=True)],
    )
    expected = alpha.detach().clone()
    for x, m, y, rate, drift in zip(w, a, b, rates, drifts, strict=True):
        ahead = x.detach() - rate * (x.detach() - m @ alpha.detach()) - drift
        expected += rate * m.T @ (ahead - y)
    assert found[0] is not None and torch.allclose(found[0], expected, atol=1e-10, rtol=0)
    assert found[1] is not None and torch.equal(found[1], direct.detach())


def curved(w: Tensor, alpha: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return (torch.tanh(x @ w) @ alpha.softmax(0) - y).square().mean()


def test_the_difference_stands_for_the_mixed_second_derivative() -> None:
    """Second implementation: differentiate through the step of the weights."""
    draw = randoms(1)
    w, alpha = draw(5, 4).requires_grad_(), draw(4).requires_grad_()
    training, validation, xi = (draw(30, 5), draw(30)), (draw(30, 5), draw(30)), 0.5
    (slope,) = torch.autograd.grad(curved(w, alpha, *training), w, create_graph=True)
    (exact,) = torch.autograd.grad(curved(w - xi * slope, alpha, *validation), alpha)
    _, (found,) = second_order_gradient(
        [w],
        [alpha],
        training_loss=lambda: curved(w, alpha, *training),
        validation_loss=lambda: curved(w, alpha, *validation),
        ahead=[LookAhead(xi, torch.zeros_like(w.detach()))],
        radius=1e-4,
    )
    _, (first,) = first_order_gradient([alpha], validation_loss=lambda: curved(w, alpha, *validation))
    assert found is not None and first is not None
    assert torch.allclose(found, exact, atol=1e-8, rtol=0)
    assert not torch.allclose(first, exact, atol=1e-3), "or the first order would have passed too"


def test_without_a_step_ahead_the_second_order_is_the_first() -> None:
    draw = randoms(2)
    w, alpha, data = draw(5, 4).requires_grad_(), draw(4).requires_grad_(), (draw(30, 5), draw(30))
    _, first = first_order_gradient([alpha], validation_loss=lambda: curved(w, alpha, *data))
    _, second = second_order_gradient(
        [w],
        [alpha],
        training_loss=lambda: curved(w, alpha, *data),
        validation_loss=lambda: curved(w, alpha, *data),
        ahead=[LookAhead(0.0, torch.zeros_like(w.detach()))],
    )
    assert first[0] is not None and second[0] is not None and torch.equal(first[0], second[0])


@pytest.mark.parametrize("failing", [1, 2])
def test_weights_are_put_back_even_if_a_loss_raises(failing: int) -> None:
    w, alpha = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    calls = 0

    def loss() -> Tensor:
        nonlocal calls
        calls += 1
        if calls > failing:
            raise RuntimeError("out of memory")
        return (w * alpha).square().sum()

    with pytest.raises(RuntimeError, match="out of memory"):
        second_order_gradient(
            [w], [alpha], training_loss=loss, validation_loss=loss, ahead=[LookAhead(0.1, torch.ones(3))]
        )
    assert torch.equal(w, torch.ones(3))


@pytest.mark.parametrize(
    ("momentum", "nesterov", "decay"), [(0.0, False, 0.0), (0.9, False, 0.1), (0.9, True, 0.1), (0.5, True, 0.0)]
)
def test_the_step_ahead_is_the_step_that_the_optimizer_takes(momentum: float, nesterov: bool, decay: float) -> None:
    """At the first step, without a velocity, and at later ones; each group with its own rate."""
    draw = randoms(3)
    w = [draw(4, 3).requires_grad_(), draw(5).requires_grad_()]
    groups = [{"params": [w[0]], "weight_decay": decay}, {"params": [w[1]], "lr": 0.01}]
    sgd = torch.optim.SGD(groups, lr=0.2, momentum=momentum, nesterov=nesterov)
    for _ in range(3):
        slopes = [draw(*weight.shape) for weight in w]
        for weight, slope in zip(w, slopes, strict=True):
            weight.grad = slope
        kept = repr(sgd.state_dict())
        ahead = sgd_look_ahead(sgd, w)
        assert repr(sgd.state_dict()) == kept
        expected = [x.detach() - s.rate * g - s.drift for x, s, g in zip(w, ahead, slopes, strict=True)]
        sgd.step()
        for weight, value in zip(w, expected, strict=True):
            assert torch.allclose(weight, value, atol=1e-12, rtol=0)


def test_optimizers_that_cannot_be_looked_ahead_are_refused() -> None:
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(RecipeError, match="one step of SGD ahead; the weights' optimizer is AdamW"):
        sgd_look_ahead(torch.optim.AdamW([w]), [w])
    with pytest.raises(RecipeError, match=r"dampening of the weights' optimizer is 0.5"):
        sgd_look_ahead(torch.optim.SGD([w], lr=0.1, momentum=0.9, dampening=0.5), [w])
    with pytest.raises(RecipeError, match=r"lacks a weight of shape \(2, 1\)"):
        sgd_look_ahead(torch.optim.SGD([w], lr=0.1), [torch.ones(2, 1)])


# ------------------------------------------------------------------------------------------------------------- the rule

SPACE = Space(
    "mixed", (Decision("first", ("zero", "conv", "skip")), Decision("stride", (1,)), Decision("second", (1, 3)))
)
SIDE = 8


class Mixed(nn.Module):
    """A supernet of two mixed operations between a stem and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.space = SPACE
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.ModuleList([nn.Conv2d(4, 4, side, padding=side // 2) for side in (1, 3)])
        self.head = nn.Linear(4 * SIDE * SIDE, 2)

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        if isinstance(gates, Architecture):
            gates = one_hot_gates(self.space, gates)
        x = self.stem(x.to(self.head.weight.dtype))
        first: list[Callable[[Tensor], Tensor]] = [torch.zeros_like, self.conv, lambda y: y]
        for gate, options in ((gates["first"], first), (gates["second"], list(self.second))):
            x = torch.stack([gate.weight(code) * options[code](x) for code in gate.support]).sum(0)
        logits: Tensor = self.head(x.flatten(1))
        return logits

    def extract(self, architecture: Architecture) -> nn.Module:
        raise NotImplementedError


def images(seed: int, n: int = 64) -> Images:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    pixels = rng.integers(0, 120, (n, SIDE, SIDE, 1), dtype=np.uint8)
    pixels[labels == 1, :, 4:] += 60
    part = Part(ImageData(pixels, labels, ("left", "right"), "made up"), np.arange(n))
    return Images(part, Preprocessing.fit(part))


TRAINING, VALIDATION = images(0), images(1)


def batch_of(data: Images, rng: np.random.Generator) -> Batch:
    return next(batches(data, batch_size=32, generator=rng))


MAKERS: dict[str, GateMaker] = {
    "softmax": Softmax(),
    "concrete": Concrete(1.0),
    "st_concrete": STConcrete(1.0),
    "binary": BinaryGate(),
    "two_path": TwoPath(),
}


class Setting:
    """A supernet, its parameters, a rule, and the trainer around it."""

    def __init__(
        self,
        *,
        gates: GateMaker | None = None,
        second_order: bool = False,
        rate: float = 0.05,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        torch.manual_seed(0)
        self.net = Mixed().to(dtype)
        self.parameters = ArchitectureParameters(SPACE, noise=0.1, rng=np.random.default_rng(0), dtype=dtype)
        self.adam = torch.optim.Adam(self.parameters.parameters(), lr=rate, betas=(0.5, 0.999), weight_decay=1e-3)
        self.rule = Bilevel(
            self.net,
            self.parameters,
            self.adam,
            lambda rng: batch_of(VALIDATION, rng),
            resolution=SIDE,
            gates=gates or Softmax(),
            look_ahead=(lambda: self.trainer.optimizer) if second_order else None,
            **options,
        )
        self.trainer = Trainer(
            self.net, self.rule, batches=self.serve, steps=2, schedule=Schedule(epochs=4, learning_rate=0.05)
        )
        self.net.train()

    def serve(self, rng: np.random.Generator) -> Iterator[Batch]:
        return batches(TRAINING, batch_size=32, generator=rng)

    def step(self, seed: int = 0) -> float:
        rng = generator(0, seed)
        return self.rule.architecture_step(batch_of(TRAINING, rng), batch_of(VALIDATION, rng), rng)


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def same(module: nn.Module, kept: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, kept[name]) for name, value in copies(module).items())


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_each_step_moves_its_own_and_leaves_the_other_to_the_bit(name: str, second_order: bool) -> None:
    """Contract 7, norms' statistics included."""
    s = Setting(gates=MAKERS[name], second_order=second_order)
    s.trainer.epoch(0, generator(0, "before"))  # so that there is momentum on both sides
    s.trainer.optimizer.zero_grad(set_to_none=True)
    weights, alphas = copies(s.net), copies(s.parameters)
    s.step()
    assert same(s.net, weights) and not same(s.parameters, alphas)
    assert all(p.grad is None for p in [*s.net.parameters(), *s.parameters.parameters()])

    alphas = copies(s.parameters)
    s.rule.weight_gradients(batch_of(TRAINING, generator(0, 1)), generator(0, 2))
    assert all(p.grad is None for p in s.parameters.parameters()) and any(
        p.grad is not None for p in s.net.parameters()
    )
    s.trainer.optimizer.step()
    assert same(s.parameters, alphas) and not same(s.net, weights)


def by_hand(s: Setting, validation: Batch, weights: Mapping[str, Tensor]) -> Tensor:
    logits = torch.func.functional_call(s.net, dict(weights), (validation.images(SIDE), Softmax()(s.parameters(), RNG)))
    return F.cross_entropy(logits, validation.labels)


RNG = np.random.default_rng(0)


def test_the_architecture_step_follows_the_gradient_of_its_order() -> None:
    """Second implementation: differentiate through the optimizer's step, velocity and decay included."""
    found, exact = {}, {}
    for second_order in (False, True):
        s = Setting(second_order=second_order, dtype=torch.float64)
        s.trainer.epoch(0, generator(0, "before"))
        rng = generator(0, 0)
        training, validation = batch_of(TRAINING, rng), batch_of(VALIDATION, rng)
        weights: dict[str, Tensor] = dict(s.net.named_parameters())
        alphas: list[Tensor] = list(s.parameters.parameters())
        ahead = dict(weights)
        if second_order:
            slopes = torch.autograd.grad(by_hand(s, training, weights), list(weights.values()), create_graph=True)
            for (name, weight), slope in zip(weights.items(), slopes, strict=True):
                group = next(g for g in s.trainer.optimizer.param_groups if any(weight is p for p in g["params"]))
                full = slope + group["weight_decay"] * weight
                velocity = 0.9 * s.trainer.optimizer.state[weight]["momentum_buffer"] + full
                ahead[name] = weight - group["lr"] * (full + 0.9 * velocity)
        exact[second_order] = torch.cat(torch.autograd.grad(by_hand(s, validation, ahead), alphas))
        direct = {name: weight.detach() for name, weight in ahead.items()}
        without = torch.cat(torch.autograd.grad(by_hand(s, validation, direct), alphas))
        s.rule.optimizer = torch.optim.SGD(alphas, lr=1.0)
        before = torch.cat(alphas).detach()
        s.rule.architecture_step(training, validation, rng)
        found[second_order] = before - torch.cat(alphas).detach()
    assert torch.allclose(found[False], exact[False], atol=1e-12, rtol=0)
    assert torch.allclose(found[True], exact[True], atol=1e-5, rtol=0)
    assert float((exact[True] - without).abs().max()) > 1e-3, "the part that comes through the weights must be seen"


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_are_smoothed_in_the_training_loss_alone(smoothing: float) -> None:
    s = Setting(label_smoothing=smoothing)
    rng = generator(0, 0)
    training, validation = batch_of(TRAINING, rng), batch_of(VALIDATION, rng)
    gates = Softmax()(s.parameters(), rng)
    with torch.no_grad():
        expected = F.cross_entropy(s.net(training.images(SIDE), gates), training.labels, label_smoothing=smoothing)
        chosen = F.cross_entropy(s.net(validation.images(SIDE), gates), validation.labels)
    assert s.rule.weight_gradients(training, rng) == pytest.approx(float(expected), rel=1e-5)
    assert s.rule.architecture_step(training, validation, rng) == pytest.approx(float(chosen), rel=1e-5)


def test_weights_that_did_not_run_get_no_gradient() -> None:
    """So that neither momentum nor decay moves them."""
    s = Setting(weight_gates=HardSample(SPACE))
    for seed in range(6):
        s.net.zero_grad(set_to_none=True)
        s.rule.weight_gradients(batch_of(TRAINING, generator(0, 0)), generator(0, seed))
        drawn = HardSample(SPACE)(s.parameters(), generator(0, seed))
        assert (s.net.conv.weight.grad is not None) == (drawn["first"].support == (1,))
        for code, option in enumerate(s.net.second):
            assert all((p.grad is not None) == (drawn["second"].support == (code,)) for p in option.parameters())


@pytest.mark.parametrize(("every", "warmup", "expected"), [(1, 0, [0, 1, 2, 3, 4, 5]), (3, 0, [0, 3]), (2, 3, [3, 5])])
def test_architecture_steps_come_when_they_are_due(every: int, warmup: int, expected: list[int]) -> None:
    seen: list[int] = []

    def objective(loss: Tensor, gates: Mapping[str, Gate]) -> Tensor:
        seen.append(s.rule.steps)
        return loss

    s = Setting(every=every, warmup=warmup, objective=objective, second_order=True)
    for seed in range(6):
        s.rule(batch_of(TRAINING, generator(0, seed)), generator(0, seed))
    assert seen == expected


def test_two_paths_keep_the_probabilities_of_what_was_not_drawn() -> None:
    s = Setting(gates=TwoPath(), after_step=rescale_pairs)
    for seed in range(8):
        before = s.parameters()["first"].detach().softmax(0)
        s.step(seed)
        after = s.parameters()["first"].detach().softmax(0)
        assert sum(torch.isclose(before, after, rtol=1e-5, atol=0).tolist()) == 1, "two of three options were moved"


@pytest.mark.parametrize(("price", "best"), [(0.0, {"conv", "skip"}), (5.0, {"zero"})])
def test_a_search_learns_and_a_price_moves_it(price: float, best: set[str]) -> None:
    costs = torch.tensor([0.0, 2.0, 1.0])

    def objective(loss: Tensor, gates: Mapping[str, Gate]) -> Tensor:
        return loss + price * gates["first"].values @ costs

    s = Setting(rate=0.1, objective=objective)
    losses = [s.trainer.epoch(k, generator(0, k))["loss"] for k in range(4) for _ in range(3)]
    assert s.parameters.most_likely()["first"] in best
    if not price:
        assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("second_order", [False, True])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(second_order: bool) -> None:
    def build() -> tuple[dict[str, Any], Callable[[int, np.random.Generator], dict[str, float]]]:
        s = Setting(gates=Concrete(1.0), weight_gates=HardSample(SPACE), second_order=second_order, every=3)
        return {**s.trainer.state, "rule": s.rule}, s.trainer.epoch

    def forgetful() -> tuple[dict[str, Any], Callable[[int, np.random.Generator], dict[str, float]]]:
        state, epoch = build()
        del state["rule"]
        return state, epoch

    check_training_state(build, epochs=3)
    with pytest.raises(AssertionError, match="resumed from its checkpoint"):
        check_training_state(forgetful)


def test_a_step_that_is_not_finite_moves_nothing() -> None:
    s = Setting(objective=lambda loss, gates: loss * float("nan"))
    weights, alphas = copies(s.net), copies(s.parameters)
    with pytest.raises(NonFiniteLossError, match="after 0 weight steps has the objective nan"):
        s.rule(batch_of(TRAINING, generator(0, 0)), generator(0, 0))
    assert same(s.net, weights) and same(s.parameters, alphas)


def test_parameters_in_the_wrong_hands_are_refused() -> None:
    net, parameters = Mixed(), ArchitectureParameters(SPACE)

    def rule(optimizer: torch.optim.Optimizer, **options: int) -> Bilevel:
        return Bilevel(
            net,
            parameters,
            optimizer,
            lambda rng: batch_of(VALIDATION, rng),
            resolution=SIDE,
            gates=Softmax(),
            **options,  # type: ignore[arg-type]
        )

    with pytest.raises(RecipeError, match="holds 1 other tensors and lacks 2 of 2 architecture parameters"):
        rule(torch.optim.Adam([net.head.weight]))
    with pytest.raises(RecipeError, match="every is 0 and warmup 0"):
        rule(torch.optim.Adam(parameters.parameters()), every=0)
    with pytest.raises(RecipeError, match="every is 1 and warmup -2"):
        rule(torch.optim.Adam(parameters.parameters()), warmup=-2)
    net.parameters_of_the_search = parameters
    with pytest.raises(RecipeError, match="2 architecture parameters are among the supernet's weights"):
        rule(torch.optim.Adam(parameters.parameters()))


@pytest.mark.parametrize("second_order", [False, True])
def test_a_family_of_the_zoo_is_searched(second_order: bool) -> None:
    toy = family("toy", {"resolutions": [SIDE * 4]}, channels=1, classes=2)
    torch.manual_seed(0)
    net = toy.supernet()
    net.train()
    parameters = ArchitectureParameters(toy.space)
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    rule = Bilevel(
        net,
        parameters,
        torch.optim.Adam(parameters.parameters(), lr=0.1),
        lambda rng: batch_of(VALIDATION, rng),
        resolution=SIDE * 4,
        gates=Softmax(),
        look_ahead=(lambda: sgd) if second_order else None,
    )
    assert np.isfinite(rule(batch_of(TRAINING, generator(0, 0)), generator(0, 0)))
    for label, values in parameters().items():
        moved = len(values) == 1 or bool((values != 0).all())
        assert moved, f"{label} was not moved"


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_a_step_repeats_to_the_bit(seed: int) -> None:
    found = []
    for _ in range(2):
        s = Setting(gates=Concrete(0.5), second_order=True)
        s.rule(batch_of(TRAINING, np.random.default_rng(seed)), np.random.default_rng(seed))
        found.append([*s.parameters.parameters(), *(p.grad for p in s.net.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


# ----------------------------------------------------------------------------------------------- the score function


def by_score(n: int) -> Any:
    sampler = HardSample(SPACE)

    def draw(logits: Mapping[str, Tensor], rng: np.random.Generator) -> list[tuple[dict[str, Any], Tensor]]:
        samples = sampler.sample(logits, n, rng)
        return [(sampler.gates(logits, a), p) for a, p in zip(samples.architectures, samples.log_probs, strict=True)]

    return draw


def test_a_step_by_the_score_function_is_the_one_written_out() -> None:
    """Second implementation: errors by hand, and the gradient of log-probabilities as one-hot less probabilities."""
    s = Setting(draws=by_score(12), dtype=torch.float64)
    s.trainer.epoch(0, generator(0, "before"))
    weights = copies(s.net)
    drawn: list[tuple[Any, float]] = []
    s.rule.objective = lambda error, gates: drawn.append((gates, float(error))) or 3.0 * error  # type: ignore[func-returns-value]
    s.rule.optimizer = torch.optim.SGD(list(s.parameters.parameters()), lr=1.0)
    before = {label: values.detach().clone() for label, values in s.parameters().items()}
    rng = generator(0, 5)
    training, validation = batch_of(TRAINING, rng), batch_of(VALIDATION, rng)
    mean = s.rule.architecture_step(training, validation, rng)
    assert same(s.net, weights), "the weights and the norms' statistics stay as they are"
    assert len(drawn) == 12 and len({error for _, error in drawn}) > 1
    with torch.no_grad():
        for gates, error in drawn:
            outputs = s.net(validation.images(SIDE).to(torch.float64), gates)
            assert error == pytest.approx(1 - float((outputs.argmax(1) == validation.labels).double().mean()), abs=1e-6)
    s.net.load_state_dict(weights)  # the networks above ran in training mode and moved the norms' statistics
    values = 3.0 * np.array([error for _, error in drawn])
    assert mean == pytest.approx(values.mean(), rel=1e-5)
    advantages = (values - values.mean()) / values.std(ddof=1)
    for label, logits in before.items():
        if len(logits) > 1:
            codes = np.array([gates[label].support[0] for gates, _ in drawn])
            slopes = np.eye(len(logits))[codes] - logits.softmax(0).numpy()
            expected = logits.numpy() - (advantages[:, None] * slopes).mean(axis=0)
            assert s.parameters()[label].detach().numpy() == pytest.approx(expected, abs=1e-5)


def test_the_baseline_is_that_of_earlier_steps_and_outlives_a_restart() -> None:
    """Second implementation of a moving average, on worths that are known beforehand."""
    worths = iter([np.array([1.0, 3.0]), np.array([5.0, 9.0]), np.array([2.0, 4.0])])

    def rule() -> Any:
        return Setting(draws=by_score(2), dtype=torch.float64, baseline_momentum=0.25).rule

    first = rule()
    found = [first._advantages(torch.tensor(next(worths))).tolist() for _ in range(2)]
    assert found[0] == [-1.0, 1.0], "in the first step the step's own mean"
    assert found[1] == [3.0, 7.0], "then the mean before: 2"
    assert first.baseline == 0.25 * 2.0 + 0.75 * 7.0
    second = rule()
    second.load_state_dict(first.state_dict())
    assert second._advantages(torch.tensor(next(worths))).tolist() == [2.0 - 5.75, 4.0 - 5.75]
    assert second.baseline == pytest.approx(0.25 * 5.75 + 0.75 * 3.0)


def test_a_moving_average_that_cannot_be_is_refused() -> None:
    with pytest.raises(RecipeError, match="baseline_momentum is 1.0; expected a share from 0, below 1"):
        Setting(draws=by_score(2), baseline_momentum=1.0)
