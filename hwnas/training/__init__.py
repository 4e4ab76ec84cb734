"""The one training loop, its step rules and losses."""

from hwnas.training.accuracy import accuracies
from hwnas.training.loss import distillation
from hwnas.training.rules import Adapting, Plain, Sandwich, SinglePath, StepRule
from hwnas.training.trainer import Schedule, Trainer

__all__ = [
    "Adapting",
    "Plain",
    "Sandwich",
    "Schedule",
    "SinglePath",
    "StepRule",
    "Trainer",
    "accuracies",
    "distillation",
]
