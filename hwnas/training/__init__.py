"""The one training loop, its step rules and losses."""

from hwnas.training.accuracy import accuracies
from hwnas.training.loss import distillation
from hwnas.training.rules import Plain, Sandwich, StepRule
from hwnas.training.trainer import Schedule, Trainer

__all__ = ["Plain", "Sandwich", "Schedule", "StepRule", "Trainer", "accuracies", "distillation"]
