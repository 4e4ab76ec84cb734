"""The study: evaluations, training and proposals that are computed once, within a budget, and replayed after a kill.

`hwnas.study.relaxed`, which searches by gradient, is not loaded with it: a study of tables need not wait for torch.
"""

from hwnas.evaluation.state_file import State, Stateful
from hwnas.study.generations import FAR, Survive, best_so_far, evolve, first_archive, survival_of
from hwnas.study.identity import Differences, identity_differences, shortened
from hwnas.study.in_sequence import InSequence
from hwnas.study.one_shot import OneShot
from hwnas.study.outcome import FULL, Event, Outcome, counts, evaluated, volumes
from hwnas.study.strategy import JSON, Adapt, Concluding, Epoch, Phase, Strategy, Training, in_words
from hwnas.study.study import Study, check_strategy

__all__ = [
    "FAR",
    "FULL",
    "JSON",
    "Adapt",
    "Concluding",
    "Differences",
    "Epoch",
    "Event",
    "InSequence",
    "OneShot",
    "Outcome",
    "Phase",
    "State",
    "Stateful",
    "Strategy",
    "Study",
    "Survive",
    "Training",
    "best_so_far",
    "check_strategy",
    "counts",
    "evaluated",
    "evolve",
    "first_archive",
    "identity_differences",
    "in_words",
    "shortened",
    "survival_of",
    "volumes",
]
