"""The state of a training phase in a file, and back."""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

from hwnas.core import StoreError
from hwnas.study.strategy import State


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
        torch.save(states, path)
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
        StoreError: If the file is damaged or lacks one of the objects.
    """
    states = read_state(path)
    for name in sorted(state):
        if name not in states:
            raise StoreError(f"{path}: it holds no {name!r}, only {', '.join(sorted(states))}")
        state[name].load_state_dict(states[name])


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
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        problem = str(error).partition("\n")[0] or type(error).__name__
    if problem:
        raise StoreError(
            f"{path}: the checkpoint is damaged: {problem}", hint="start over with --fresh, or take another name"
        )
    loaded: dict[str, Any] = states
    return loaded
