"""The study: evaluations, training and proposals that are computed once, within a budget, and replayed after a kill."""

from hwnas.study.generations import FAR, Survive, evolve
from hwnas.study.outcome import FULL, Event, Outcome
from hwnas.study.strategy import JSON, Adapt, Concluding, Epoch, Phase, State, Stateful, Strategy, Training
from hwnas.study.study import Study

__all__ = [
    "FAR",
    "FULL",
    "JSON",
    "Adapt",
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
