"""The study: evaluations, training and proposals that are computed once, within a budget, and replayed after a kill."""

from hwnas.study.generations import FAR, Survive, evolve
from hwnas.study.outcome import Event, Outcome
from hwnas.study.strategy import JSON, Concluding, Epoch, Phase, State, Stateful, Strategy, Training
from hwnas.study.study import FULL, Study

__all__ = [
    "FAR",
    "FULL",
    "JSON",
    "Concluding",
    "Epoch",
    "Event",
    "Outcome",
    "Phase",
    "State",
    "Stateful",
    "Strategy",
    "Study",
    "Survive",
    "Training",
    "evolve",
]
