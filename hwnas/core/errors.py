"""Every error hwnas raises on purpose.

    BaseException
        BudgetSpent                 ends a strategy's program; only the driver catches it
    Exception
        HwnasError                  message (what, where, expected) and hint (the way out)
            SpaceError              a space, a decision or an architecture that is not in the space
            RecipeError             search/*.toml
            LimitError              a limit that no network of the space can meet
            NoFeasibleError         a search that ended without one feasible network
            DataError               images, labels, splits
            DeviceError             devices/*.toml, cores, runtime
            TableError              latency_tables/*.jsonl
            CostError               a cost that cannot be predicted
            MeasureError            the measuring program failed or was too noisy
            NonFiniteLossError      training diverged
            StoreError              runs/<name>/: the store, its checkpoints
                ReplayError         a resumed program asked for something else than the stored run did
            PickError               nothing on a front fits
            ExportError             ONNX export or its parity check

The command line prints `message`, then `hint` on the next line, and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HwnasError(Exception):
    """Something a user can put right.

    Args:
        message: What was found, where, and what was expected; one line.
        hint: The way out; one line, may be empty.

    Example:
        >>> str(HwnasError("search/a.toml: [budget] evaluations is -5; it must be above 0"))
        'search/a.toml: [budget] evaluations is -5; it must be above 0'
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class SpaceError(HwnasError, ValueError):
    """A decision, an option or an architecture that does not fit the space."""


class RecipeError(HwnasError, ValueError):
    """A recipe that cannot be read or does not say what it must."""


class LimitError(HwnasError, ValueError):
    """A limit that no network of the space can meet."""


class NoFeasibleError(HwnasError):
    """A search that ended without one feasible network."""


class DataError(HwnasError, ValueError):
    """Images or labels that cannot be used."""


class DeviceError(HwnasError, ValueError):
    """A device that is unknown or not as its file says."""


class TableError(HwnasError, ValueError):
    """A latency table that is missing, damaged, incomplete or made under other conditions."""


class CostError(HwnasError, ValueError):
    """A cost that cannot be computed."""


class MeasureError(HwnasError, RuntimeError):
    """The measuring program failed, or the machine was too noisy to be measured."""


class NonFiniteLossError(HwnasError, ArithmeticError):
    """Training produced a loss that is not a finite number."""


class StoreError(HwnasError, RuntimeError):
    """A run's folder that cannot be opened or written."""


class ReplayError(StoreError):
    """A resumed program that does not repeat what the stored run did."""


class PickError(HwnasError, ValueError):
    """A pick from a front that holds nothing suitable."""


class ExportError(HwnasError, RuntimeError):
    """An ONNX file that could not be written or does not agree with its source."""


UPGRADE = "upgrade hwnas: pip install --upgrade hwnas"
"""The way out where a file is of a later version than this one."""


class BudgetSpent(BaseException):
    """Ends a strategy's program. Only the driver catches it; each later call of a study raises it again.

    Args:
        reason: Which part of the budget is spent, or that nothing new is being asked for.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def did_you_mean(word: str, known: Iterable[str], *, ending: str = "") -> str:
    """The part of an error that names the nearest known word, or lists all of them.

    Args:
        word: That was found.
        known: Words that were expected.
        ending: What followed the word and may stay, such as "@pi4".

    Example:
        >>> did_you_mean("drats", ["darts", "nat"])
        'did you mean "darts"?'
        >>> did_you_mean("xyz", ["darts", "nat"])
        'known: darts, nat'
    """
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}{ending}"?' if near else f"known: {', '.join(known)}"
