"""What whoever asks for a measurement may choose; for the command line, which knows it before anything is loaded."""

from __future__ import annotations

from typing import Literal

OnNoise = Literal["strict", "default", "mark"]
"""What to do on a noisy machine; see `hwnas.profiling.measure_models`."""

LIMIT_S = 300.0
"""Seconds of timing, by default: some thousand small models; fewer runs and rounds for what takes longer."""
