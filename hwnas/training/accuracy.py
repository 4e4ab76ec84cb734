"""How often a network is right."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hwnas.core import NonFiniteLossError


def accuracies(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Plain and balanced accuracy, both in 0..1; the network is left in the mode it was in.

    Args:
        network: Images [n, c, h, w] to logits [n, classes].
        batches: Pairs of images and labels [n].

    Returns:
        The share of images named rightly, and the mean over classes of that share, which a rare class cannot hide from.

    Raises:
        ValueError: If there is no image.
        NonFiniteLossError: If a logit is NaN or infinite.

    Example:
        >>> network = nn.Flatten()
        >>> images = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
        >>> accuracies(network, [(images, torch.tensor([0, 0, 1, 1]))])
        (0.75, 0.75)
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
    right = (torch.cat(found) == torch.cat(expected)).double()
    labels = torch.cat(expected)
    per_class = [
        float(right[labels == label].mean()) for label in range(int(labels.max()) + 1) if bool((labels == label).any())
    ]
    return float(right.mean()), sum(per_class) / len(per_class)
