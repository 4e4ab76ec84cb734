"""An architecture: which option each decision of a space takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import ItemsView, Iterator, Mapping

from hwnas.core.errors import SpaceError

Option = int | float | str | bool


class Architecture(Mapping[str, Option]):
    """A frozen map from a decision's label to the option taken.

    Canonical by construction of the space: decisions that change nothing are absent, so two encodings of one network
    are equal, hash alike and share a digest.

    Args:
        options: Label to option. The order does not matter.

    Raises:
        SpaceError: If an option is not a number, a string or a truth value.

    Example:
        >>> a = Architecture({"kernel": 5, "depth": 2})
        >>> a["depth"], a == Architecture({"depth": 2, "kernel": 5}), a.digest
        (2, True, 'a0a45cbc19ae')
    """

    __slots__ = ("_options", "_text", "digest")

    def __init__(self, options: Mapping[str, Option]) -> None:
        for label, option in options.items():
            if not isinstance(label, str) or not isinstance(option, int | float | str | bool):
                raise SpaceError(
                    f"architecture: {label!r} is {option!r}; labels are strings, options numbers or strings"
                )
        self._options = {label: options[label] for label in sorted(options)}
        self._text = json.dumps(self._options, separators=(",", ":"), allow_nan=False)
        self.digest = hashlib.sha256(self._text.encode()).hexdigest()[:12]

    def __getitem__(self, label: str) -> Option:
        return self._options[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def items(self) -> ItemsView[str, Option]:
        """Labels with options, sorted by label; read-only, and three times as fast as `Mapping`'s own."""
        return self._options.items()

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._text == other._text

    def __repr__(self) -> str:
        return f"Architecture({self._options!r})"

    def __str__(self) -> str:
        """For people: the digest, and every decision.

        Example:
            >>> print(Architecture({"kernel": 5, "depth": 2}))
            a0a45cbc19ae (depth=2 kernel=5)
        """
        return f"{self.digest} ({' '.join(f'{label}={option}' for label, option in self._options.items())})"

    def to_json(self) -> str:
        """The canonical JSON text: sorted labels, no spaces.

        Example:
            >>> Architecture({"b": 1, "a": "x"}).to_json()
            '{"a":"x","b":1}'
        """
        return self._text

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """The architecture that `to_json` wrote.

        Raises:
            SpaceError: If the text is not a JSON object of options.

        Example:
            >>> Architecture.from_json('{"depth":2}')["depth"]
            2
        """
        try:
            options = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpaceError(f"architecture: {text[:60]!r} is not JSON: {error}") from error
        if not isinstance(options, dict):
            raise SpaceError(f"architecture: {text[:60]!r} is not a JSON object of label to option")
        return cls(options)
