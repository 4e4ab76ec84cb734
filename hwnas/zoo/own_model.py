"""A model space of the user's own, in a Python file, as a family: `name = "nets.py:Net"` in a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from hwnas.core import Architecture, RecipeError, SpaceError
from hwnas.core.errors import did_you_mean
from hwnas.core.own_file import module_of, own_line
from hwnas.nn import ModelSpace, PricedSpace, check_evaluation, redraw, with_units
from hwnas.space import Block, Space

GIVEN = ("channels", "classes")
"""Arguments that come from the data."""


@dataclass(frozen=True)
class OwnModel:
    """A class of the user's own, with the arguments that a recipe gives it.

    Attributes:
        name: Of the space; part of the latency table's file name.
        path: The Python file, absolute, so that workers find it from anywhere.
        class_name: In it; a `hwnas.nn.ModelSpace` whose `__init__` takes `channels` and `classes`.
        channels: Of the images; comes from the data.
        classes: Comes from the data.
        arguments: Further arguments by name.

    Raises:
        SpaceError: When its space is first asked for, if the file, the class or the model is wrong.
    """

    name: str
    path: Path
    class_name: str
    channels: int
    classes: int
    arguments: tuple[tuple[str, object], ...] = ()

    @classmethod
    def load(cls, source: str, arguments: Mapping[str, object], *, channels: int, classes: int) -> OwnModel:
        """The family of a recipe's `name = "file.py:Class"`.

        Args:
            source: A path, from the current folder, and the name of a class.
            arguments: The recipe's other keys; lists become tuples.
            channels: Of the images.
            classes: Of the labels.

        Raises:
            SpaceError: If there is no such file or class, or the class does not take an argument; names it.
        """
        file, _, class_name = source.rpartition(":")
        path = Path(file).resolve()
        if not path.is_file():
            raise SpaceError(f'name is "{source}"; there is no file {path}')
        found = cls(class_name, path, class_name, channels, classes)
        known = [
            name for name in inspect.signature(found.model_class.__init__).parameters if name not in ("self", *GIVEN)
        ]
        for key, value in arguments.items():
            if key not in known:
                raise SpaceError(f'unknown key "{key}" = {value!r}; {did_you_mean(key, known)}')
        given = tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in arguments.items())
        found = replace(found, arguments=given)
        return replace(found, name=f"{class_name.lower()}-{found.space.entries_digest[:6]}")

    @property
    def model_class(self) -> type[ModelSpace]:
        """The class.

        Raises:
            SpaceError: If the file cannot be run, or has no such class.
        """
        try:
            module = module_of(self.path)
        except RecipeError as error:
            raise SpaceError(error.message) from error
        found = getattr(module, self.class_name, None)
        if not (inspect.isclass(found) and issubclass(found, ModelSpace)):
            classes = [
                name
                for name, value in vars(module).items()
                if inspect.isclass(value) and issubclass(value, ModelSpace) and value is not ModelSpace
            ]
            raise SpaceError(
                f'{self.path}: has no model space "{self.class_name}"; {did_you_mean(self.class_name, classes)}',
                hint="a space is a class that extends hwnas.nn.ModelSpace",
            )
        missing = [name for name in GIVEN if name not in inspect.signature(found.__init__).parameters]
        if missing:
            raise SpaceError(
                f"{self.path}: {self.class_name}.__init__ does not take {' and '.join(missing)}: the data decide them",
                hint="def __init__(self, channels, classes): ...",
            )
        return found

    def supernet(self) -> ModelSpace:
        """The model, freshly initialised from torch's global generator.

        Raises:
            SpaceError: If its `__init__` fails.
        """
        arguments = {"channels": self.channels, "classes": self.classes, **dict(self.arguments)}
        make: Callable[..., ModelSpace] = self.model_class
        try:
            model = make(**arguments)
        except SpaceError:
            raise
        except Exception as error:  # it is the user's code, which may raise anything
            raise SpaceError(
                f"{self.path}: {self.class_name} cannot be built: {type(error).__name__}: {error}{own_line(error)}"
            ) from error
        if model.channels != self.channels:
            raise SpaceError(
                f"{self.path}: {self.class_name} has images of {model.channels} channels, the data {self.channels}",
                hint="super().__init__(channels=channels, resolutions=...)",
            )
        return model

    @cached_property
    def _priced(self) -> PricedSpace:
        with torch.random.fork_rng(devices=[]):  # asking for the space must not move anybody's generator
            model = self.supernet()
            priced = with_units(model)
            try:
                check_evaluation(model)
            except SpaceError as error:
                raise SpaceError(f"{self.path}: {error.message}", hint=error.hint) from error
            return priced

    @property
    def space(self) -> Space:
        """The decisions, and the blocks they choose."""
        return replace(self._priced.space, name=self.name)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the images."""
        return tuple(int(option) for option in self._priced.space["resolution"].options)

    @property
    def has_supernet(self) -> bool:
        """Whether all networks can be trained in one set of weights: yes."""
        return True

    def default(self) -> Architecture:
        """The network one would take without a search: the author's `default()`."""
        return self.supernet().default()

    def build_block(self, block: Block) -> nn.Module:
        """The plain module of an entry of the latency table, with fresh random weights.

        Raises:
            SpaceError: If no unit of the space has it.
        """
        return self._priced.build_block(block)

    def build_network(self, architecture: Architecture) -> nn.Module:
        """The plain network of an architecture, with fresh random weights.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        network = self.supernet().extract(architecture)
        redraw(network)
        return network
