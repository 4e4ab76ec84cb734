"""Figures of what a run found."""

from hwnas.report.axis import Axis, Dot, drawn_axes, front_line
from hwnas.report.front_picture import front_picture, fronts_picture
from hwnas.report.letters import front_in_letters

__all__ = ["Axis", "Dot", "drawn_axes", "front_in_letters", "front_line", "front_picture", "fronts_picture"]
