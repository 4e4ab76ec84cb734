"""What a run needs in memory, told before it is needed."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hwnas.core import Architecture, RecipeError, counted
from hwnas.data import Splits
from hwnas.job.recipe import Recipe
from hwnas.zoo import Family

_GIB = 2**30
_PROBED = 2  # images: batch norm refuses one
_SPARE = 0.9  # of what is free: the rest is for what nobody counts


@dataclass(frozen=True)
class Need:
    """What a run takes at least.

    Attributes:
        images: Held as pixels, all parts together.
        sides: At which each of them is held.
        image_bytes: Of one image at all sides.
        step_bytes: Of one training step, per image: what its backward pass needs of the forward pass. None: unknown.
        batch_size: Images of a step.
        side: Of the largest network's images.
        steps: Networks that are trained side by side.
    """

    images: int
    sides: tuple[int, ...]
    image_bytes: int
    step_bytes: int | None
    batch_size: int
    side: int
    steps: int = 1

    @property
    def held(self) -> int:
        """Bytes of the images."""
        return self.images * self.image_bytes

    @property
    def stepped(self) -> int | None:
        """Bytes of the steps; None where those of one are unknown."""
        return None if self.step_bytes is None else self.steps * self.batch_size * self.step_bytes

    def check(self, free: int | None, *, where: str) -> None:
        """Refuse what cannot fit.

        Args:
            free: Bytes; None where nobody knows, which refuses nothing.
            where: The recipe, for the message.

        Raises:
            RecipeError: With what is needed for what, what is free, and what would fit.
        """
        known = self.held if self.stepped is None else self.held + self.stepped
        if free is None or known <= free:
            return
        at = " and ".join(map(str, self.sides))
        beside = f"{self.steps} trainings side by side, each of " if self.steps > 1 else ""
        raise RecipeError(
            f"{where}: needs at least {_gib(known)} of memory, and {_gib(free)} are free: "
            f"{'an unknown part' if self.stepped is None else _gib(self.stepped)} for "
            f"{beside}{self.batch_size} images of {self.side} x {self.side} in a step, "
            f"{_gib(self.held)} for the pixels of {counted(self.images, 'image')} at {at}",
            hint=self._way_out(free),
        )

    def _way_out(self, free: int) -> str:
        left = _SPARE * free - self.held
        if self.step_bytes is None or left < 0.5 * _SPARE * free:
            images = int(0.5 * _SPARE * free / self.image_bytes)
            return f"lower resolutions in [space], or take fewer images: limit = {images} in [data]"
        fits = int(left / (self.steps * self.step_bytes))
        if fits >= _PROBED:
            return f"set batch_size = {min(fits, self.batch_size)}, or lower resolutions in [space]"
        side = int(self.side * math.sqrt(left / (self.steps * _PROBED * self.step_bytes)))
        return f"lower resolutions in [space] to {side} or less, with batch_size = {_PROBED}"


def need_of(recipe: Recipe, family: Family, splits: Splits, largest: Architecture) -> Need:
    """What the training of a recipe's supernet, or of its candidates, takes at least.

    Args:
        recipe: Says batch size and workers.
        family: Builds the network.
        splits: The images.
        largest: The network that takes most, at the largest side.
    """
    side = int(largest["resolution"])
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = family.build_network(largest)
    scratch = recipe.evaluation.weights == "scratch"
    return Need(
        images=sum(len(part) for part in splits.parts().values()),
        sides=family.resolutions,
        image_bytes=splits.channels * sum(each**2 for each in family.resolutions),
        step_bytes=step_bytes(network, (splits.channels, side, side)),
        batch_size=recipe.training.batch_size,
        side=side,
        steps=recipe.evaluation.workers if scratch else 1,
    )


def step_bytes(network: nn.Module, image_shape: Sequence[int]) -> int | None:
    """Bytes per image that a forward pass keeps for the backward pass; None if it cannot be told.

    The network runs without numbers (torch's meta device), and what autograd saves is added up.

    Args:
        network: Left as it is.
        image_shape: (channels, height, width).

    Example:
        >>> step_bytes(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), (1, 10, 10))  # the image, and what ReLU gives
        1424
    """
    shadow = copy.deepcopy(network).to("meta").train()
    its_own = {tensor.untyped_storage()._cdata for tensor in (*shadow.parameters(), *shadow.buffers())}
    kept: dict[int, Tensor] = {}  # of each memory one tensor, which also keeps its address from being used again

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    images = torch.zeros(_PROBED, *image_shape, device="meta")
    try:
        with warnings.catch_warnings(), torch.autograd.graph.saved_tensors_hooks(keep, _same):
            warnings.simplefilter("ignore")
            shadow(images)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None  # a model that needs numbers to run: refused, if it is to be, by who builds its space
    return sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in its_own) // _PROBED


def fitting(each: int | None, *, free: int | None, most: int) -> int:
    """How many things fit side by side, at least one.

    Args:
        each: Bytes of one; None where nobody knows.
        free: Bytes; None where nobody knows.
        most: However much is free.

    Example:
        >>> fitting(3, free=10, most=8), fitting(30, free=10, most=8), fitting(3, free=None, most=8)
        (3, 1, 8)
    """
    if free is None or each is None:
        return most
    return max(1, min(most, int(_SPARE * free / each)))


def _same(tensor: Tensor) -> Tensor:
    return tensor


def free_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Memory that may still be taken: of a GPU, or of the machine within the limits of its control group.

    Args:
        device: Where networks are trained.
        root: Of the file system.

    Returns:
        None where the system does not say it.

    Example:
        >>> free_bytes(torch.device("cpu"), Path("/nowhere")) is None
        True
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    facts = _facts(root / "proc" / "meminfo")
    free = facts.get("MemAvailable")
    if free is None:
        return None
    group = root / "sys" / "fs" / "cgroup"
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is None or used is None:
        return free
    files = _facts(group / "memory.stat").get("inactive_file", 0)  # which the system takes back
    return max(0, min(free, limit - used + files))


def _facts(path: Path) -> Mapping[str, int]:
    """Lines of a name and a number, "kB" multiplied out."""
    found: dict[str, int] = {}
    for line in _text(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdigit():
            found[words[0]] = int(words[1]) * (1024 if words[2:] == ["kB"] else 1)
    return found


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _gib(number: float) -> str:
    return f"{number / _GIB:.1f} GiB"
