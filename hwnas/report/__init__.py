"""Figures of what a run found."""

from hwnas.report.front_picture import Dot, front_picture, fronts_picture
from hwnas.report.letters import front_in_letters

__all__ = ["Dot", "front_in_letters", "front_picture", "fronts_picture"]
