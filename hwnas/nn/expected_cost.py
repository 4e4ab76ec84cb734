"""The expected cost of a distribution over networks, as a torch number with a gradient.

It lives beside the gates, as `hwnas.cost` is free of torch. Every term of a calibrated latency is a sum over blocks, so
the mean over independent choices is exact: each dense tensor of the cost is contracted with the probabilities of its
decisions, each of which stands in it once (a depth that makes several blocks present is one axis).

Source: Cai et al. 2019 (arXiv 1812.00332), equation 2, for a chain of independent choices; contracted over the joint
tensors here, so that kernel, expansion and depth of one block need no approximation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.core import CostError
from hwnas.cost import UnitSumCost
from hwnas.nn.gates import Gate


class ExpectedCost:
    """A cost model as a function of probabilities.

    Args:
        cost: Calibrated latency, multiply-adds or parameters.
        device: Where the tensors go.
        dtype: Of the tensors and of the result.

    Example:
        >>> import numpy as np
        >>> from hwnas.space import Block, Decision, Space, Unit
        >>> a, b = (Block("conv", (("kernel", k),), (8, 4, 4), (8, 4, 4), k * k * 128, k * k * 8) for k in (3, 5))
        >>> space = Space("tiny", (Decision("kernel", (3, 5)),), (Unit("u", ("kernel",), (a, b)),))
        >>> expected = ExpectedCost(UnitSumCost.count(space, "macs"), dtype=torch.float64)
        >>> logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        >>> mean = expected({"kernel": logits.softmax(0)})
        >>> mean.backward()
        >>> mean.item(), logits.grad.tolist()
        (2176.0, [-512.0, 512.0])
    """

    def __init__(
        self, cost: UnitSumCost, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.name, self.unit, self.space = cost.name, cost.unit, cost.space
        self._constant = torch.tensor(cost.constant, device=device, dtype=dtype)
        self._tensors = [(labels, torch.tensor(tensor, device=device, dtype=dtype)) for labels, tensor in cost.tensors]

    def __call__(self, gates: Mapping[str, Gate | Tensor]) -> Tensor:
        """The mean cost [], in the cost's unit, when each decision is drawn on its own.

        Decisions that are inactive in some networks need probabilities, too: no cost depends on them there.

        Args:
            gates: Per label the probability of each option [options], or a gate with those values.

        Raises:
            CostError: If a label is missing, or its probabilities are of another number of options.
        """
        total = self._constant
        for labels, tensor in self._tensors:
            part = tensor
            for label in labels:
                part = torch.tensordot(self._probabilities(gates, label), part, dims=1)
            total = total + part
        return total

    def _probabilities(self, gates: Mapping[str, Gate | Tensor], label: str) -> Tensor:
        options = len(self.space[label].options)
        if label not in gates:
            raise CostError(f"expected {self.name} in space {self.space.name}: no probabilities for {label!r}")
        gate = gates[label]
        values = gate.values if isinstance(gate, Gate) else gate
        if values.shape != (options,):
            raise CostError(
                f"expected {self.name} in space {self.space.name}: {label!r} has probabilities of shape "
                f"{tuple(values.shape)}; expected [{options}]"
            )
        return values.to(self._constant)


def excess(expected: Tensor, *, target: float) -> Tensor:
    """How far a cost lies above its target, as a share of the target; 0 below it.

    A ratio, because a logarithm of milliseconds changes its meaning with the unit and is negative below 1 ms. Added to
    the loss with a weight that is raised until the target is kept.

    Args:
        expected: The cost [].
        target: In the same unit, above 0.

    Raises:
        CostError: If the target is not above 0.

    Example:
        >>> excess(torch.tensor(3.0), target=2.0), excess(torch.tensor(1.0), target=2.0)
        (tensor(0.5000), tensor(0.))
    """
    if not target > 0:
        raise CostError(f"target is {target}; it must be above 0")
    return F.relu(expected / target - 1)
