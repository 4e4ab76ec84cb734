"""Sections of a supernet trained apart from one another, each on what a trained network's section reads and answers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from hwnas.core import Architecture, SpaceError
from hwnas.data import MiniBatch
from hwnas.nn import Sectioned
from hwnas.space import Space
from hwnas.training.drawing import Draw
from hwnas.training.rules import images_of


def at_any_resolution(space: Space, architecture: Architecture) -> Draw:
    """Draws one network at a random resolution of the space: what a network is trained by that shall teach at each.

    Example:
        >>> from hwnas.zoo import FAMILIES
        >>> space = FAMILIES["toy"].space
        >>> drawn = at_any_resolution(space, space.sample(1, np.random.default_rng(0))[0])(1, np.random.default_rng(1))
        >>> len(drawn), drawn[0]["resolution"] in space["resolution"].options
        (1, True)
    """
    resolutions = space["resolution"].options

    def draw(n: int, rng: np.random.Generator) -> list[Architecture]:
        return [_resized(space, architecture, resolutions[code]) for code in rng.integers(len(resolutions), size=n)]

    return draw


def _resized(space: Space, architecture: Architecture, resolution: object) -> Architecture:
    return space.canonical({**architecture, "resolution": resolution})  # type: ignore[dict-item]


class BlockWise:
    """Every section of random networks learns to answer as the teacher's section does, from the teacher's features.

    What a section learns hangs on its own options alone, not on those of the sections before it. The first and the last
    section, which leave nothing to choose, stay as they are. The loss of a section is the mean squared difference,
    divided by the variance of what the teacher answers.
    Source: Li et al. 2020 (arXiv 1911.13053), with one network as the teacher that the supernet itself holds.

    Args:
        supernet: Trained; its first and last sections hold the teacher's weights already.
        teacher: Another instance that holds the teacher's weights; it runs as in training, without gradient.
        taught: The teacher: an architecture, usually the largest, at any resolution.
        random: Networks per step, each on the whole batch.
        draw: Which; None for uniform over options.

    Raises:
        SpaceError: If the networks have no section between the first and the last.
    """

    def __init__(
        self,
        supernet: Sectioned,
        *,
        teacher: Sectioned,
        taught: Architecture,
        random: int = 1,
        draw: Draw | None = None,
    ) -> None:
        if len(supernet.sections(taught)) < 3:
            raise SpaceError(f"space {supernet.space.name}: no section between the first and the last to be trained")
        self.supernet, self.teacher, self.taught = supernet, teacher, taught
        self.random, self.draw = random, draw
        for parameter in teacher.parameters():
            parameter.requires_grad_(requires_grad=False)

    def __call__(self, batch: MiniBatch, rng: np.random.Generator) -> float:
        """A pass of the teacher, and a forward and a backward pass of each network; returns the mean section's loss."""
        space = self.supernet.space
        total = 0.0
        for architecture in (self.draw or space.sample)(self.random, rng):
            taught = _resized(space, self.taught, architecture["resolution"])
            with torch.no_grad():
                features = [images_of(batch, architecture)]
                for section in self.teacher.sections(taught)[:-1]:
                    features.append(section(features[-1]))
            inner = self.supernet.sections(architecture)[1:-1]
            for section, given, wanted in zip(inner, features[1:-1], features[2:], strict=True):
                loss = F.mse_loss(section(given), wanted) / wanted.var().clamp_min(1e-8)
                loss = loss / (len(inner) * self.random)
                if loss.requires_grad:  # a cell of skips alone has no weights
                    loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        return total
