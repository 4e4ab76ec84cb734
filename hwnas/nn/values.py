"""Numbers that a space decides: what an elastic layer takes where a plain one takes an integer.

Passed to the layer that makes a width and to the layers that read it, a value says which decisions the shape between
them hangs on, so that the cost of every layer is tabulated over exactly those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwnas.core import Option, SpaceError


@dataclass(frozen=True)
class ValueChoice:
    """One of some whole numbers: a kernel, a width, a number of heads.

    Attributes:
        options: Ascending, above 0, each once.
        label: Of the decision; values with one label are one decision.

    Raises:
        SpaceError: If the options or the label cannot be a decision's.

    Example:
        >>> width = ValueChoice((16, 24, 32), label="width")
        >>> width.largest, (4 * width).at({"width": 24})
        (32, 96)
    """

    options: tuple[int, ...]
    label: str

    def __post_init__(self) -> None:
        if not self.label:
            raise SpaceError(f"ValueChoice({self.options}): the label is empty; give it the name of what it decides")
        wrong = any(isinstance(option, bool) or not isinstance(option, int) or option < 1 for option in self.options)
        if wrong or not self.options or list(self.options) != sorted(set(self.options)):
            raise SpaceError(
                f"ValueChoice {self.label!r} has options {list(self.options)}; expected ascending whole numbers above "
                "0, each once"
            )

    @property
    def choices(self) -> tuple[ValueChoice, ...]:
        """What it is made of."""
        return (self,)

    @property
    def largest(self) -> int:
        """The largest value."""
        return self.options[-1]

    def at(self, options: Mapping[str, Option]) -> int:
        """The value where decisions take these options.

        Raises:
            SpaceError: If they do not say, or say another number than one of its options.
        """
        found = options.get(self.label)
        if found not in self.options:
            raise SpaceError(f"decision {self.label!r} is {found!r}; expected one of {list(self.options)}")
        return int(found)

    def __mul__(self, other: int | Value) -> Product:
        return Product((self,)) * other

    __rmul__ = __mul__


@dataclass(frozen=True)
class Product:
    """Values and a constant multiplied, as the hidden width of a block that both its input and its expansion decide.

    Attributes:
        choices: Factors that are decided.
        factor: The constant.

    Example:
        >>> hidden = ValueChoice((8, 16), label="width") * ValueChoice((3, 6), label="expansion")
        >>> hidden.largest, hidden.at({"width": 16, "expansion": 3})
        (96, 48)
    """

    choices: tuple[ValueChoice, ...]
    factor: int = 1

    @property
    def largest(self) -> int:
        """The largest value."""
        value = self.factor
        for choice in self.choices:
            value *= choice.largest
        return value

    def at(self, options: Mapping[str, Option]) -> int:
        """The value where decisions take these options.

        Raises:
            SpaceError: If they do not say one of the factors.
        """
        value = self.factor
        for choice in self.choices:
            value *= choice.at(options)
        return value

    def __mul__(self, other: int | Value) -> Product:
        if isinstance(other, int):
            return Product(self.choices, self.factor * other)
        other = Product(other.choices) if isinstance(other, ValueChoice) else other
        return Product(self.choices + other.choices, self.factor * other.factor)

    __rmul__ = __mul__


Value = ValueChoice | Product
"""A number that decisions make."""


def choices_of(value: int | Value) -> tuple[ValueChoice, ...]:
    """The decisions in a number, none in a plain one.

    Example:
        >>> choices_of(3), choices_of(2 * ValueChoice((1, 2), label="w"))
        ((), (ValueChoice(options=(1, 2), label='w'),))
    """
    return () if isinstance(value, int) else value.choices


def largest_of(value: int | Value) -> int:
    """The largest that a number can be.

    Example:
        >>> largest_of(3), largest_of(ValueChoice((1, 2), label="w"))
        (3, 2)
    """
    return value if isinstance(value, int) else value.largest


def value_at(value: int | Value, options: Mapping[str, Option]) -> int:
    """A number where decisions take these options.

    Raises:
        SpaceError: If the number is decided and they do not say how.

    Example:
        >>> value_at(3, {}), value_at(ValueChoice((1, 2), label="w"), {"w": 1})
        (3, 1)
    """
    return value if isinstance(value, int) else value.at(options)
