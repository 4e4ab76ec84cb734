"""Where an accuracy comes from, and the processes that compute it."""

from hwnas.evaluation.global_seeds import seed_globals
from hwnas.evaluation.protocol import Evaluator, FromFunction, Preparing
from hwnas.evaluation.workers import Answer, Job, Workers, answer

__all__ = ["Answer", "Evaluator", "FromFunction", "Job", "Preparing", "Workers", "answer", "seed_globals"]
