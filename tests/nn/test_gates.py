"""Gates that stand for one network, and those that cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.core import SpaceError
from hwnas.nn import Gate, one_hot_gates
from hwnas.nn.gates import only_choices
from hwnas.space import Condition, Decision, Space

SPACE = Space(
    "tiny",
    (Decision("depth", (1, 2)), Decision("kernel", (3, 5), ((Condition("depth", (2,)),),)), Decision("width", (8, 16))),
)


def test_one_hot_gates_are_the_network_they_were_made_of() -> None:
    for a in SPACE.sample(10, np.random.default_rng(0)):
        assert only_choices(SPACE, a) == a
        assert only_choices(SPACE, one_hot_gates(SPACE, a)) == a


def test_mixtures_and_gradients_are_refused() -> None:
    gates = one_hot_gates(SPACE, SPACE.sample(1, np.random.default_rng(0))[0])
    with pytest.raises(SpaceError, match="the gate of 'width' supports 2 options; the supernet of tiny takes choices"):
        only_choices(SPACE, {**gates, "width": Gate(torch.ones(2) / 2, (0, 1))})
    with pytest.raises(SpaceError, match="the gate of 'width' has a gradient"):
        only_choices(SPACE, {**gates, "width": Gate(torch.tensor([0.0, 1.0], requires_grad=True), (1,))})
