"""Spaces without a framework: decisions, canonical architectures, encodings, variation, and the blocks of a network."""

from hwnas.space.block import FEATURES, Block, Unit
from hwnas.space.decision import Condition, Decision
from hwnas.space.space import Codes, Space

__all__ = ["FEATURES", "Block", "Codes", "Condition", "Decision", "Space", "Unit"]
