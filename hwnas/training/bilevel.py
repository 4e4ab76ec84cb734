"""Bilevel search: weights learn on training images, architecture parameters on validation images, step by step.

Source: Liu et al. 2019 (DARTS, arXiv 1806.09055), algorithm 1 and section 2.3. With other gate makers the same rule is
FBNet's, GDAS's and ProxylessNAS's alternation.

    alpha <- alpha - step of grad_alpha L_va(w', alpha)      on a validation batch
    w     <- w     - step of grad_w     L_tr(w, alpha)       on a training batch

In the first order w' is w. In the second order w' is where the next step would take the weights, and alpha is given
credit for having sent them there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.core import NonFiniteLossError, RecipeError
from hwnas.data import MiniBatch
from hwnas.nn import Supernet
from hwnas.nn.gates import Gate
from hwnas.nn.relaxation import ArchitectureParameters, GateMaker

# -------------------------------------------------------------------------------------------------- the mathematics


@dataclass(frozen=True)
class LookAhead:
    """Where a step of the optimizer would take one weight tensor: w' = w - rate x gradient - drift.

    Attributes:
        rate: xi of the paper, above 0.
        drift: The part that the gradient does not change, like the weight: momentum and weight decay.
    """

    rate: float
    drift: Tensor


def sgd_look_ahead(optimizer: torch.optim.Optimizer, weights: Sequence[Tensor]) -> list[LookAhead]:
    """The next step of an SGD optimizer, exactly: momentum, Nesterov's too, and weight decay. Nothing is changed.

    Clipping of the gradient is not looked ahead to; neither does the paper.

    Args:
        optimizer: Holds the weights.
        weights: Any order.

    Raises:
        RecipeError: If the optimizer is no SGD, uses dampening, or lacks a weight.

    Example:
        >>> w = torch.tensor([2.0], requires_grad=True)
        >>> sgd_look_ahead(torch.optim.SGD([w], lr=0.1, weight_decay=0.5), [w])
        [LookAhead(rate=0.1, drift=tensor([0.1000]))]
    """
    if not isinstance(optimizer, torch.optim.SGD):
        raise RecipeError(
            f"second-order search looks one step of SGD ahead; the weights' optimizer is {type(optimizer).__name__}",
            hint="take SGD for the weights, or search in the first order",
        )
    groups = {weight: group for group in optimizer.param_groups for weight in group["params"]}
    ahead = []
    for weight in weights:
        if weight not in groups:
            raise RecipeError(f"the weights' optimizer lacks a weight of shape {tuple(weight.shape)}")
        group = groups[weight]
        if group["dampening"] != 0:
            raise RecipeError(f"dampening of the weights' optimizer is {group['dampening']}; expected 0")
        rate, momentum = float(group["lr"]), float(group["momentum"])
        velocity = optimizer.state[weight].get("momentum_buffer") if weight in optimizer.state else None
        decay = group["weight_decay"] * weight.detach()
        pushed = torch.zeros_like(decay) if velocity is None else momentum * velocity
        if group["nesterov"]:
            # The step is g + momentum x (momentum x v + g), where g holds the decay.
            ahead.append(LookAhead(rate * (1 + momentum), rate * ((1 + momentum) * decay + momentum * pushed)))
        else:
            ahead.append(LookAhead(rate, rate * (decay + pushed)))
    return ahead


Gradients = tuple[Tensor | None, ...]
"""One per parameter; None where it has no part in the loss."""


def first_order_gradient(
    parameters: Sequence[Tensor], *, validation_loss: Callable[[], Tensor]
) -> tuple[Tensor, Gradients]:
    """The validation loss at the weights as they are, and its gradient to the architecture parameters.

    Source: Liu et al. 2019 (DARTS, arXiv 1806.09055), section 2.3, xi = 0.

    Args:
        parameters: alpha, tensors that require a gradient. Nothing is left in their `grad`, nor in the weights'.
        validation_loss: L_va(w, alpha) [], evaluated where the tensors stand.

    Returns:
        The loss [], detached, and the gradients.

    Example:
        >>> alpha = torch.tensor([3.0], requires_grad=True)
        >>> first_order_gradient([alpha], validation_loss=lambda: alpha.square().sum())
        (tensor(9.), (tensor([6.]),))
    """
    loss = validation_loss()
    return loss.detach(), torch.autograd.grad(loss, list(parameters), allow_unused=True)


def second_order_gradient(
    weights: Sequence[Tensor],
    parameters: Sequence[Tensor],
    *,
    training_loss: Callable[[], Tensor],
    validation_loss: Callable[[], Tensor],
    ahead: Sequence[LookAhead],
    radius: float = 0.01,
) -> tuple[Tensor, Gradients]:
    """The validation loss after the weights' next step, and its gradient to the architecture parameters.

    With w' = w - xi grad_w L_tr(w, alpha) - drift it is

        grad_alpha L_va(w', alpha) - xi (grad_alpha L_tr(w+, alpha) - grad_alpha L_tr(w-, alpha)) / (2 epsilon),
        w+- = w +- epsilon grad_w' L_va(w', alpha),

    where the difference stands for the product of the mixed second derivative with a vector, at two passes instead of a
    matrix. The weights are moved in place and put back to the bit, even if a loss raises. Source: Liu et al. 2019
    (DARTS, arXiv 1806.09055), equations 7 and 8.

    Args:
        weights: w.
        parameters: alpha. Nothing is left in any `grad`.
        training_loss: L_tr(w, alpha) [], evaluated where the tensors stand: the same draws at each call.
        validation_loss: L_va(w, alpha) [], likewise.
        ahead: Per weight, of the step that is looked ahead to.
        radius: Length of the vector by which the weights are moved for the difference, above 0; 0.01 in the paper.

    Returns:
        The validation loss [] at w', detached, and the gradients.

    Example:
        With L_tr = (w - alpha)^2 / 2 and L_va = w^2 / 2 the gradient is xi w':

        >>> w, alpha = torch.tensor([2.0], requires_grad=True), torch.tensor([0.0], requires_grad=True)
        >>> loss, (gradient,) = second_order_gradient(
        ...     [w],
        ...     [alpha],
        ...     training_loss=lambda: (w - alpha).square().sum() / 2,
        ...     validation_loss=lambda: w.square().sum() / 2,
        ...     ahead=[LookAhead(0.5, torch.zeros(1))],
        ... )
        >>> round(float(gradient), 4), w.tolist()
        (0.5, [2.0])
    """
    # Weights without a part in a loss have no gradient: an optimizer leaves them alone, and so does this.
    slopes = torch.autograd.grad(training_loss(), list(weights), allow_unused=True)
    with _put_back(weights):
        with torch.no_grad():
            for weight, slope, step in zip(weights, slopes, ahead, strict=True):
                if slope is not None:
                    weight -= step.rate * slope + step.drift
        loss = validation_loss()
        gradients = torch.autograd.grad(loss, [*parameters, *weights], allow_unused=True)
    direct, pulls = gradients[: len(parameters)], gradients[len(parameters) :]
    # Each weight's own rate goes into the vector, since parameter groups may differ in it.
    vector = [
        None if pull is None or slope is None else step.rate * pull
        for pull, slope, step in zip(pulls, slopes, ahead, strict=True)
    ]
    length = math.sqrt(sum(float(part.double().square().sum()) for part in vector if part is not None))
    if not 0 < length < math.inf:
        return loss.detach(), direct  # at 0 no step of the weights matters; what is not finite the caller refuses
    epsilon = radius / length
    sides = []
    for sign in (1.0, -1.0):
        with _put_back(weights):
            with torch.no_grad():
                for weight, part in zip(weights, vector, strict=True):
                    if part is not None:
                        weight += sign * epsilon * part
            sides.append(torch.autograd.grad(training_loss(), list(parameters), allow_unused=True))
    return loss.detach(), tuple(
        _less(straight, plus, minus, 2 * epsilon) for straight, plus, minus in zip(direct, *sides, strict=True)
    )


def _less(straight: Tensor | None, plus: Tensor | None, minus: Tensor | None, width: float) -> Tensor | None:
    if plus is None or minus is None:
        return straight
    indirect = (plus - minus) / width
    return -indirect if straight is None else straight - indirect


@contextmanager
def _put_back(tensors: Sequence[Tensor]) -> Iterator[None]:
    kept = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)


# --------------------------------------------------------------------------------------------------------- the rule

Objective = Callable[[Tensor, Mapping[str, Gate]], Tensor]
"""From a validation loss [] and the gates it was computed with to what the architecture parameters minimise []."""

AfterStep = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Gate]], None]
"""Called with the logits, which it may change, their values before the step, and the gates of the step."""


Draws = Callable[[Mapping[str, Tensor], np.random.Generator], list[tuple[dict[str, Gate], Tensor]]]
"""From logits to some networks that they drew: hard gates, and the logarithm of its probability [] with a gradient."""


def _loss_alone(loss: Tensor, gates: Mapping[str, Gate]) -> Tensor:  # noqa: ARG001 - the type's
    return loss


class Bilevel:
    """A step rule: an architecture step by its own optimizer, then the gradients of a weight step for the loop.

    It fits `Trainer`, whose optimizer holds the weights and nothing else: a weight step leaves the architecture
    parameters as they are to the bit, an architecture step the weights and the norms' statistics. What outlives a step
    is in `state_dict`: put the rule beside `Trainer.state`. A validation batch is drawn for each step, so that no
    iterator has to survive an interruption.

    The supernet must take the gates that are made: one whose resolution is a choice needs a hard gate for it.

    Args:
        supernet: Its parameters are the weights.
        parameters: alpha, a module of its own.
        optimizer: Of alpha and of nothing else; Adam with betas (0.5, 0.999) in the paper.
        validation: Draws a batch of the validation part.
        resolution: Side of the images.
        gates: Of architecture steps.
        weight_gates: Of weight steps; None for those of architecture steps. `HardSample` runs one option.
        objective: Joins a cost to the validation loss, see `hwnas.training.objective`; called once per architecture
            step, so it may move the price of a `Lagrangian`.
        look_ahead: The weights' optimizer for the second order, asked for at each step since the trainer that owns it
            is made after its rule: `lambda: trainer.optimizer`. None for the first order.
        every: Weight steps to an architecture step, from 1; 5 in ProxylessNAS.
        warmup: Weight steps before the first architecture step, 0 or above.
        after_step: Called after each architecture step; `hwnas.nn.rescale_pairs` for `TwoPath`.
        label_smoothing: In the training loss alone.
        loss: From outputs and labels to a number [], on both parts; None for cross-entropy.
        draws: Where architecture steps follow the score function instead of a gradient through gates: networks are
            drawn, each gives its error (1 less its accuracy) on one validation batch, and `objective` joins its own
            gates' cost. Nothing has to be differentiable then, and one network at a time is in memory. None for
            `gates`.
        baseline_momentum: How the score function's baseline is found. With a share 0..1 it is a moving average of what
            the networks of earlier steps were worth, which keeps that share of itself when a step's mean enters it. In
            the first step it is this step's mean. With None it is always this step's mean, and the spread is the unit:
            for an objective whose price moves, so that worths of two steps cannot be compared.

    Raises:
        RecipeError: If alpha is among the weights, the optimizer does not hold exactly alpha, or `every` or `warmup` is
            impossible.

    Example:
        >>> from hwnas.nn.relaxation import Softmax
        >>> from hwnas.zoo import family
        >>> supernet = family("toy", {"resolutions": [32]}, channels=1, classes=3).supernet()
        >>> parameters = ArchitectureParameters(supernet.space)
        >>> adam = torch.optim.Adam(parameters.parameters(), lr=3e-4, betas=(0.5, 0.999))
        >>> def validation(rng):
        ...     return next(batches(validation_images, batch_size=64, generator=rng))
        >>> rule = Bilevel(supernet, parameters, adam, validation, resolution=32, gates=Softmax())
        >>> rule.state_dict()["steps"]
        0
    """

    def __init__(
        self,
        supernet: Supernet,
        parameters: ArchitectureParameters,
        optimizer: torch.optim.Optimizer,
        validation: Callable[[np.random.Generator], MiniBatch],
        *,
        resolution: int,
        gates: GateMaker,
        weight_gates: GateMaker | None = None,
        objective: Objective = _loss_alone,
        look_ahead: Callable[[], torch.optim.Optimizer] | None = None,
        every: int = 1,
        warmup: int = 0,
        after_step: AfterStep | None = None,
        label_smoothing: float = 0.0,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        draws: Draws | None = None,
        baseline_momentum: float | None = None,
    ) -> None:
        if every < 1 or warmup < 0:
            raise RecipeError(f"every is {every} and warmup {warmup} steps; expected 1 or more, and 0 or more")
        if baseline_momentum is not None and not 0 <= baseline_momentum < 1:
            raise RecipeError(f"baseline_momentum is {baseline_momentum}; expected a share from 0, below 1")
        self._alphas: list[Tensor] = list(parameters.parameters())
        self._weights: list[Tensor] = list(supernet.parameters())
        _check_apart(self._weights, self._alphas, optimizer)
        self.supernet = supernet
        self.parameters = parameters
        self.optimizer = optimizer
        self.validation = validation
        self.resolution = resolution
        self.gates = gates
        self.weight_gates = gates if weight_gates is None else weight_gates
        self.objective = objective
        self.look_ahead = look_ahead
        self.every = every
        self.warmup = warmup
        self.after_step = after_step
        self.label_smoothing = label_smoothing
        self.loss = loss
        self.draws = draws
        self.baseline_momentum = baseline_momentum
        self.baseline: float | None = None
        self.steps = 0

    def __call__(self, batch: MiniBatch, rng: np.random.Generator) -> float:
        """An architecture step where one is due, and the weights' gradients; returns the training loss.

        Raises:
            NonFiniteLossError: If the architecture step meets a number that is not finite; nothing was moved then.
        """
        if self.steps >= self.warmup and (self.steps - self.warmup) % self.every == 0:
            self.architecture_step(batch, self.validation(rng), rng)
        self.steps += 1
        return self.weight_gradients(batch, rng)

    def weight_gradients(self, batch: MiniBatch, rng: np.random.Generator) -> float:
        """Add the gradients of the training loss to the weights; the architecture parameters get none."""
        fixed = {label: values.detach() for label, values in self.parameters().items()}
        loss = self._loss(batch, self.weight_gates(fixed, rng))
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def architecture_step(self, batch: MiniBatch, validation: MiniBatch, rng: np.random.Generator) -> float:
        """Move the architecture parameters once; returns what they minimise.

        Args:
            batch: Of training images, for the second order.
            validation: Of validation images.
            rng: Draws the gates.

        Raises:
            NonFiniteLossError: If the objective or a gradient is not finite; nothing was moved then.
        """
        # One seed per loss: the second order compares values of one function, so each call must draw the same gates.
        on_training, on_validation = (int(seed) for seed in rng.integers(2**62, size=2))
        gates: dict[str, Gate] = {}

        def training_loss() -> Tensor:
            return self._loss(batch, self.gates(self.parameters(), np.random.default_rng(on_training)))

        def validation_loss() -> Tensor:
            gates.update(self.gates(self.parameters(), np.random.default_rng(on_validation)))
            loss = self._distance(self._logits(validation, gates), validation.labels)
            return self.objective(loss, gates)

        with _put_back(self._buffers()):
            if self.draws is not None:
                loss, gradients = self._score_gradient(self.draws, validation, np.random.default_rng(on_validation))
            elif self.look_ahead is None:
                loss, gradients = first_order_gradient(self._alphas, validation_loss=validation_loss)
            else:
                loss, gradients = second_order_gradient(
                    self._weights,
                    self._alphas,
                    training_loss=training_loss,
                    validation_loss=validation_loss,
                    ahead=sgd_look_ahead(self.look_ahead(), self._weights),
                )
        if not all(bool(part.isfinite().all()) for part in (loss, *gradients) if part is not None):
            raise NonFiniteLossError(
                f"the architecture step after {self.steps} weight steps has the objective {float(loss)} "
                "and gradients that are not all finite",
                hint="the last checkpoint is good; lower the learning rates and run again",
            )
        before = {label: values.detach().clone() for label, values in self.parameters().items()}
        for alpha, gradient in zip(self._alphas, gradients, strict=True):
            alpha.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.after_step is not None:
            self.after_step(self.parameters(), before, gates)
        return float(loss)

    def _score_gradient(
        self, draws: Draws, validation: MiniBatch, rng: np.random.Generator
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """The mean of what drawn networks are worth, and the score function's estimate of its gradient."""
        drawn = draws(self.parameters(), rng)
        with torch.no_grad():
            errors = [self._error(validation, gates) for gates, _ in drawn]
            values = torch.stack([
                self.objective(error, gates) for error, (gates, _) in zip(errors, drawn, strict=True)
            ])
        advantages = self._advantages(values)
        surrogate = (advantages * torch.stack([log_prob for _, log_prob in drawn])).mean()
        return values.mean(), torch.autograd.grad(surrogate, self._alphas, allow_unused=True)

    def _error(self, validation: MiniBatch, gates: Mapping[str, Gate]) -> Tensor:
        logits = self._logits(validation, gates)
        if not bool(logits.isfinite().all()):  # of which argmax would still name a class
            return logits.new_tensor(math.nan)
        return 1.0 - (logits.argmax(1) == validation.labels).float().mean()

    def _advantages(self, values: Tensor) -> Tensor:
        if self.baseline_momentum is None:
            # What all networks of a step have in common says nothing about any of them.
            return (values - values.mean()) / (values.std() + 1e-8) if len(values) > 1 else values
        mean = float(values.mean())
        # The baseline of earlier steps: one that the networks of this step had entered would bias the gradient.
        before = mean if self.baseline is None else self.baseline
        if math.isfinite(mean):
            self.baseline = self.baseline_momentum * before + (1 - self.baseline_momentum) * mean
        return values - before

    def state_dict(self) -> dict[str, Any]:
        """Architecture parameters, their optimizer, the number of steps and the score function's baseline."""
        return {
            "parameters": self.parameters.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "baseline": self.baseline,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put a state back."""
        self.parameters.load_state_dict(state_dict["parameters"])
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.steps = int(state_dict["steps"])
        self.baseline = state_dict.get("baseline")  # absent in checkpoints from before there was one

    def _logits(self, batch: MiniBatch, gates: Mapping[str, Gate]) -> Tensor:
        # Depthwise convolutions on a CPU run about twice as fast in this layout.
        return self.supernet(batch.images(self.resolution).to(memory_format=torch.channels_last), gates)

    def _loss(self, batch: MiniBatch, gates: Mapping[str, Gate]) -> Tensor:
        return self._distance(self._logits(batch, gates), batch.labels, label_smoothing=self.label_smoothing)

    def _distance(self, outputs: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        if self.loss is not None:
            return self.loss(outputs, labels)
        return F.cross_entropy(outputs, labels, label_smoothing=label_smoothing)

    def _buffers(self) -> list[Tensor]:
        return [buffer for part in self.supernet.modules() for buffer in part.buffers(recurse=False)]


def _check_apart(weights: Sequence[Tensor], alphas: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
    own, held = set(alphas), {tensor for group in optimizer.param_groups for tensor in group["params"]}
    if own & set(weights):
        raise RecipeError(
            f"{len(own & set(weights))} architecture parameters are among the supernet's weights; the weights' "
            "optimizer would move them",
            hint="keep ArchitectureParameters outside the supernet",
        )
    if held != own:
        raise RecipeError(
            f"the optimizer of the architecture holds {len(held - own)} other tensors and lacks {len(own - held)} of "
            f"{len(own)} architecture parameters; expected these and no others"
        )
