"""How often a network is right."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hwnas.core import SHARES, Answers, Metric, NonFiniteLossError


def answers(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Answers:
    """Which images a network names rightly; the network is left in the mode it was in.

    Args:
        network: Images [n, c, h, w] to logits [n, classes].
        batches: Pairs of images and labels [n].

    Raises:
        ValueError: If there is no image.
        NonFiniteLossError: If a logit is NaN or infinite.

    Example:
        >>> network = nn.Flatten()
        >>> images = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
        >>> answers(network, [(images, torch.tensor([0, 0, 1, 1]))]).right.tolist()
        [True, True, True, False]
    """
    training = network.training
    network.eval()
    found: list[Tensor] = []
    expected: list[Tensor] = []
    try:
        with torch.inference_mode():
            for images, labels in batches:
                logits = network(images)
                if not bool(logits.isfinite().all()):  # argmax would name a class all the same
                    raise NonFiniteLossError(
                        f"{int((~logits.isfinite()).any(1).sum())} of {len(logits)} images get logits that are not "
                        "finite numbers, so there is no accuracy",
                        hint="the weights have overflowed: train with a lower learning rate",
                    )
                found.append(logits.argmax(1))
                expected.append(labels)
    finally:
        network.train(training)
    if not expected:
        raise ValueError("accuracy of no images is unknown")
    return Answers.of(torch.cat(found).cpu().numpy(), torch.cat(expected).cpu().numpy())


def accuracies(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Plain and balanced accuracy of a network's `answers`, both in 0..1.

    Args:
        network: See `answers`.
        batches: See `answers`.

    Returns:
        The share of images named rightly, and the mean over classes of that share, which a rare class cannot hide from.

    Example:
        >>> rare = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
        >>> accuracies(nn.Flatten(), [rare])
        (0.75, 0.5)
    """
    found = answers(network, batches)
    return found.accuracy, found.balanced_accuracy


def accuracy_metrics(found: Answers) -> dict[str, Metric]:
    """Plain and balanced accuracy and the error, as metrics with their standard errors.

    Example:
        >>> import numpy as np
        >>> {name: metric.value for name, metric in accuracy_metrics(Answers((2, 2), np.arange(4) < 3)).items()}
        {'accuracy': 0.75, 'balanced_accuracy': 0.75, 'error': 0.25}
    """
    return {
        name: Metric(found.value(name), "share", "measured", standard_error=found.standard_error(name))
        for name in SHARES
    }
