"""The one training loop, its step rules and losses."""

from hwnas.training.accuracy import accuracies, accuracy_metrics, answers
from hwnas.training.bilevel import (
    Bilevel,
    LookAhead,
    first_order_gradient,
    second_order_gradient,
    sgd_look_ahead,
)
from hwnas.training.block_wise import BlockWise, at_any_resolution
from hwnas.training.darts_trainer import DartsTrainer, PairBatch
from hwnas.training.distributed import Averaged, same_start
from hwnas.training.drawing import Draw, Opening, binned_draw, check_kinds, fair_draw
from hwnas.training.loss import alpha_divergence, distillation
from hwnas.training.objective import (
    Lagrangian,
    target_absolute_loss,
    target_absolute_reward,
    target_hinge_loss,
    target_hinge_reward,
    target_two_regime_reward,
    trade_off_linear_loss,
    trade_off_log_loss,
    trade_off_log_ratio_loss,
    trade_off_mean_log_loss,
    trade_off_product_reward,
)
from hwnas.training.placement import Placement
from hwnas.training.rules import Adapting, Plain, Sandwich, SinglePath, StepRule
from hwnas.training.trainer import Schedule, Trainer

__all__ = [
    "Adapting",
    "Averaged",
    "Bilevel",
    "BlockWise",
    "DartsTrainer",
    "Draw",
    "Lagrangian",
    "LookAhead",
    "Opening",
    "PairBatch",
    "Placement",
    "Plain",
    "Sandwich",
    "Schedule",
    "SinglePath",
    "StepRule",
    "Trainer",
    "accuracies",
    "accuracy_metrics",
    "alpha_divergence",
    "answers",
    "at_any_resolution",
    "binned_draw",
    "check_kinds",
    "distillation",
    "fair_draw",
    "first_order_gradient",
    "same_start",
    "second_order_gradient",
    "sgd_look_ahead",
    "target_absolute_loss",
    "target_absolute_reward",
    "target_hinge_loss",
    "target_hinge_reward",
    "target_two_regime_reward",
    "trade_off_linear_loss",
    "trade_off_log_loss",
    "trade_off_log_ratio_loss",
    "trade_off_mean_log_loss",
    "trade_off_product_reward",
]
