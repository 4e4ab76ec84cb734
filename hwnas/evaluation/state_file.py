"""The state of a training phase in a file, and back."""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hwnas.core import StoreError, refusal


class Stateful(Protocol):
    """An object whose whole state can be taken out and put back: a module, an optimizer, a baseline."""

    def state_dict(self) -> Mapping[str, Any]:
        """The state: tensors, or JSON values in a search without torch."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Put a state back."""
        ...


State = Mapping[str, Stateful]
"""All that an epoch changes, by name."""


def save_state(state: State, path: Path) -> None:
    """Write the state of every object.

    Torch's own format once torch is imported, JSON before: nothing in the state can hold a tensor then, and a study of
    tables need not wait for the import.

    Raises:
        StoreError: If a state is neither tensors nor JSON.
    """
    states = {name: state[name].state_dict() for name in sorted(state)}
    torch = sys.modules.get("torch")
    if torch is not None:
        try:
            torch.save(states, path)
        except RuntimeError as error:  # what its writer makes of a full disk
            raise StoreError(
                f"{path}: the state could not be written, as on a full disk ({_first_line(error)})",
                hint="free some space, then run the same command again",
            ) from error
        return
    try:
        text = json.dumps(states, allow_nan=False)
        problem = "" if json.loads(text) == states else "a value changes its type in JSON"
    except (TypeError, ValueError) as error:
        problem = str(error)
    if problem:
        raise StoreError(
            f"the state of {', '.join(states)} is neither tensors nor JSON: {problem}",
            hint="state_dict must return tensors, numbers, strings, lists and maps of strings to them",
        )
    path.write_text(text)


def load_state(state: State, path: Path) -> None:
    """Put the saved state into every object of `state`; the file may hold more.

    Raises:
        StoreError: If the file is damaged, lacks one of the objects, or holds the state of another kind of object.
    """
    states = read_state(path)
    for name in sorted(state):
        if name not in states:
            raise StoreError(
                f"{path}: it holds no {name!r}, only {', '.join(sorted(states))}", hint=_way_out(path, "foreign")
            )
        try:
            state[name].load_state_dict(states[name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise StoreError(
                f"{path}: it holds another {name} than this run's: {_misfit(state[name], states[name], error)}",
                hint=_way_out(path, "foreign"),
            ) from error


def read_state(path: Path) -> dict[str, Any]:
    """The saved states, by name.

    Raises:
        StoreError: If the file is damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            import torch  # only searches that train with torch need it

            # weights_only: a checkpoint is data; nothing in it is run.
            states = torch.load(path, map_location="cpu", weights_only=True)
        else:
            states = json.loads(path.read_bytes())
        problem = "" if isinstance(states, dict) else "it is not a map of states"
    except pickle.UnpicklingError:  # the library's own text advises to let the file run code
        problem = "it holds other things than tensors, numbers and texts, which hwnas never loads"
    except OSError as error:
        problem = refusal(error).message.removeprefix(f"{path}: ")
    except (ValueError, RuntimeError, EOFError, KeyError):  # what libraries say of it names neither cause nor way out
        problem = (
            f"its {path.stat().st_size:,} bytes are no state that hwnas wrote: they were changed, or are not all there"
        )
    if problem:
        raise StoreError(f"{path}: the checkpoint is damaged: {problem}", hint=_way_out(path, "damaged"))
    loaded: dict[str, Any] = states
    return loaded


def _way_out(path: Path, what: str) -> str:
    return (
        f"put the file back from a copy; or delete the {what} one and run the same command again: what {path.stem} "
        "stands for is then trained anew, and all else is kept"
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _misfit(thing: Stateful, saved: object, error: Exception) -> str:
    """What of a saved state does not fit an object, in a line: names and shapes, where it is made of tensors."""
    if not isinstance(saved, dict):
        return f"a state of type {type(saved).__name__}"
    own = thing.state_dict()
    for name in own:
        if name not in saved:
            return f"{name} is missing"
        shapes = [
            tuple(shape) if (shape := getattr(v, "shape", None)) is not None else None for v in (own[name], saved[name])
        ]
        if shapes[0] != shapes[1]:
            return f"{name} has the shape {shapes[1]}, expected {shapes[0]}"
    unknown = next((name for name in saved if name not in own), None)
    return f"{unknown} is unknown" if unknown is not None else _first_line(error)
