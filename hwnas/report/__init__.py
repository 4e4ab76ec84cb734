"""Figures of what a run found."""

from hwnas.report.front_picture import Dot, front_picture

__all__ = ["Dot", "front_picture"]
