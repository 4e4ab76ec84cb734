"""The study: evaluations, training and proposals that are computed once, within a budget, and replayed after a kill."""

from hwnas.study.generations import FAR, Survive, evolve
from hwnas.study.one_shot import OneShot
from hwnas.study.outcome import FULL, Event, Outcome
from hwnas.study.relaxed import (
    DAMPING,
    Alphas,
    Distribution,
    Pull,
    derive,
    differentiable_cost,
    spread_targets,
    train_distributions,
)
from hwnas.study.strategy import JSON, Adapt, Concluding, Epoch, Phase, State, Stateful, Strategy, Training
from hwnas.study.study import Study

__all__ = [
    "DAMPING",
    "FAR",
    "FULL",
    "JSON",
    "Adapt",
    "Alphas",
    "Concluding",
    "Distribution",
    "Epoch",
    "Event",
    "OneShot",
    "Outcome",
    "Phase",
    "Pull",
    "State",
    "Stateful",
    "Strategy",
    "Study",
    "Survive",
    "Training",
    "derive",
    "differentiable_cost",
    "evolve",
    "spread_targets",
    "train_distributions",
]
