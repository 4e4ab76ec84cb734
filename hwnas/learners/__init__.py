"""Learners: models that stand in for an evaluation while a search looks for candidates."""

from hwnas.learners.gp import GaussianProcess
from hwnas.learners.mlp import Mlp
from hwnas.learners.rbf import Rbf
from hwnas.learners.relevance_gp import Belief, RelevanceGp, RelevanceModel
from hwnas.learners.rnn import Rnn, RnnModel
from hwnas.learners.surrogate import Model, Surrogate
from hwnas.learners.switching import SURROGATES, Switching, SwitchingModel
from hwnas.learners.trees import Trees

__all__ = [
    "SURROGATES",
    "Belief",
    "GaussianProcess",
    "Mlp",
    "Model",
    "Rbf",
    "RelevanceGp",
    "RelevanceModel",
    "Rnn",
    "RnnModel",
    "Surrogate",
    "Switching",
    "SwitchingModel",
    "Trees",
]
