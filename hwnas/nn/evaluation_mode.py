"""Whether a model answers the same for an image whenever, and beside whatever, it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hwnas.core import Architecture, SpaceError
from hwnas.core.own_file import own_line
from hwnas.nn.model_space import ModelSpace
from hwnas.space import Space

_MOST_NETWORKS = 8
_IMAGES = 2


def check_evaluation(model: ModelSpace) -> None:
    """Refuse a model whose networks, in evaluation mode, are no function of the image alone.

    Their accuracy would be another each time, and no ONNX file could agree with them. A few networks that together hold
    every option are run twice on the same images.

    Args:
        model: Left as it is.

    Raises:
        SpaceError: If a batch norm keeps no statistics, or a module answers differently the second time; names it.

    Example:
        >>> class Net(ModelSpace):
        ...     def __init__(self):
        ...         super().__init__(resolutions=(4,), channels=1)
        ...         self.head = nn.Linear(16, 2)
        ...
        ...     def forward(self, x):
        ...         return self.head(nn.functional.dropout(x.flatten(1)))
        >>> try:
        ...     check_evaluation(Net())
        ... except SpaceError as error:
        ...     error.hint
        'dropout: nn.Dropout, or nn.functional.dropout(x, p, training=self.training); random numbers: if self.training'
    """
    for name, part in model.named_modules():
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise SpaceError(
                f"{name}: a {type(part).__name__} that keeps no statistics (track_running_stats=False), so the answer "
                "for an image depends on the others in its batch",
                hint="leave track_running_stats out, or take nn.GroupNorm or nn.InstanceNorm2d",
            )
    side = model.resolutions[0]
    with torch.random.fork_rng(devices=[]):
        images = torch.randn(_IMAGES, model.channels, side, side)
        for architecture in _covering(model.space):
            network = model.extract(architecture).eval()
            try:
                first, second = _outputs(network, images), _outputs(network, images)
            except Exception as error:  # it is the user's code, which may raise anything
                raise SpaceError(
                    f"its forward pass fails as {architecture}: {type(error).__name__}: {error}{own_line(error)}"
                ) from error
            for (name, given, found), (_, given_again, found_again) in zip(first, second, strict=False):
                if _equal(given, given_again) and not _equal(found, found_again):
                    raise SpaceError(
                        f"{name or type(model).__name__}: gives another answer for the same images each time, in "
                        f"evaluation mode (in {architecture}); dropout that stays on does that, and so do "
                        "random numbers drawn in forward",
                        hint="dropout: nn.Dropout, or nn.functional.dropout(x, p, training=self.training); random "
                        "numbers: if self.training",
                    )


def _covering(space: Space) -> Iterator[Architecture]:
    """A few networks in which every option of every decision comes once, as far as a few suffice."""
    most = max((len(decision.options) for decision in space.decisions), default=1)
    seen = set()
    for k in range(min(most, _MOST_NETWORKS)):
        options = {d.label: d.options[k % len(d.options)] for d in space.decisions if d.label != "resolution"}
        architecture = space.canonical({**options, "resolution": space["resolution"].options[0]})
        if architecture not in seen:
            seen.add(architecture)
            yield architecture


_Step = tuple[str, list[Tensor], list[Tensor]]


def _outputs(network: nn.Module, images: Tensor) -> list[_Step]:
    """What each module was given and what it gave, inner ones first."""
    steps: list[_Step] = []
    hooks = [
        module.register_forward_hook(partial(_note, steps, name), with_kwargs=True)
        for name, module in network.named_modules()
    ]
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return steps


def _note(steps: list[_Step], name: str, *seen: Any) -> None:
    _, inputs, named, output = seen  # the module, what it was given, and what it gave
    steps.append((name, _tensors([*inputs, *named.values()]), _tensors([output])))


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value.clone())  # or a layer in place would change what was noted
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )
