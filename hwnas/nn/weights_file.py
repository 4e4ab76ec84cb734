"""An extracted network as one safetensors file: its weights, and what is needed to build it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from hwnas.core import Architecture, StoreError, write_atomically
from hwnas.nn.blocks import build_block
from hwnas.space import Block


def save_network(path: Path, network: nn.Module, *, blocks: Sequence[Block], architecture: Architecture) -> None:
    """Write a chain of blocks with its weights, in one step.

    Args:
        path: Of the file; the usual ending is ".safetensors".
        network: The chain: one child per block, in order.
        blocks: What each child is.
        architecture: Kept in the file for people.

    Raises:
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from hwnas.nn.blocks import describe_head
        >>> head = describe_head(8, 16, 10, 4, activation_name="relu")
        >>> path = Path(tempfile.mkdtemp()) / "net.safetensors"
        >>> save_network(path, nn.Sequential(build_block(head)), blocks=[head], architecture=Architecture({}))
        >>> load_network(path)[0].classifier.out_features
        10
    """
    rows = [{k: v for k, v in asdict(block).items() if k != "key"} for block in blocks]
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    facts = {"architecture": architecture.to_json(), "blocks": json.dumps(rows)}
    write_atomically(path, save(weights, metadata=facts))


def load_network(path: Path) -> nn.Sequential:
    """The network that `save_network` wrote, in evaluation mode.

    Raises:
        StoreError: If there is no such file, or it was not written by `save_network`.
    """
    try:
        with safe_open(str(path), framework="pt") as opened:
            facts = opened.metadata() or {}
        rows = json.loads(facts["blocks"])
        network = nn.Sequential(*(build_block(_block(row)) for row in rows))
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise StoreError(f"{path}: no network that hwnas wrote: {type(error).__name__}: {text}") from error
    return network.eval()


def _block(row: dict[str, object]) -> Block:
    known = {field.name for field in fields(Block) if field.init}
    if set(row) != known:
        raise ValueError(f"a block has the fields {sorted(row)}; expected {sorted(known)}")
    settings, into, out = row["settings"], row["input_shape"], row["output_shape"]
    if not (isinstance(settings, list) and isinstance(into, list) and isinstance(out, list)):
        raise ValueError("a block's settings and shapes must be lists")
    return Block(
        kind=str(row["kind"]),
        settings=tuple((name, value) for name, value in settings),
        input_shape=tuple(into),
        output_shape=tuple(out),
        macs=int(str(row["macs"])),
        parameters=int(str(row["parameters"])),
        se=bool(row["se"]),
        residual=bool(row["residual"]),
    )
