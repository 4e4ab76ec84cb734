"""An extracted network as one safetensors file: its weights, and what is needed to build it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from hwnas.core import Architecture, StoreError, write_atomically
from hwnas.nn.blocks import build_block
from hwnas.nn.memory_banks import BankNetwork
from hwnas.nn.model_space import ModelSpace
from hwnas.nn.skip_layers import SkipNetwork
from hwnas.nn.summed_skips import SummedNetwork
from hwnas.nn.two_input_cells import TwoInputNetwork
from hwnas.space import Block

WHOLE = (BankNetwork, SkipNetwork, SummedNetwork, TwoInputNetwork)
"""Networks that are no chain and say themselves, as one block, what they are."""


def save_network(path: Path, network: nn.Module, *, blocks: Sequence[Block] | None, architecture: Architecture) -> None:
    """Write a network with its weights, in one step.

    Args:
        path: Of the file; the usual ending is ".safetensors".
        network: A chain, one child per block, in order; or one of `WHOLE`, which says itself what it is, and is the
            only child of a chain when it is loaded; or one extracted from a `ModelSpace`.
        blocks: What each child of a chain is; None for a model of the user's own, which only its class can build.
        architecture: What was chosen.

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
    if isinstance(network, WHOLE):
        blocks = [network.block]
        network = nn.Sequential(network)
    rows = [{k: v for k, v in asdict(block).items() if k != "key"} for block in blocks or ()]
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    facts = {"architecture": architecture.to_json()} | ({} if blocks is None else {"blocks": json.dumps(rows)})
    write_atomically(path, save(weights, metadata=facts))


def load_network(path: Path, *, model: ModelSpace | None = None) -> nn.Module:
    """The network that `save_network` wrote, in evaluation mode.

    Args:
        path: Of the file.
        model: That the network was extracted from, or another instance of its class; a chain needs none.

    Raises:
        StoreError: If there is no such file, it was not written by `save_network`, or it needs a model.
    """
    if model is None and not is_chain(path):
        raise StoreError(
            f"{path}: holds a network of a model space, which only its class can build",
            hint="load_network(path, model=...) with an instance of the class",
        )
    try:
        with safe_open(str(path), framework="pt") as opened:
            facts = opened.metadata() or {}
        if "blocks" in facts:
            network: nn.Module = nn.Sequential(*(build_block(_block(row)) for row in json.loads(facts["blocks"])))
        else:
            network = cast(ModelSpace, model).extract(Architecture.from_json(facts["architecture"]))
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise StoreError(f"{path}: no network that hwnas wrote: {type(error).__name__}: {text}") from error
    return network.eval()


def is_chain(path: Path) -> bool:
    """Whether a file says what its network is built of, so that `load_network` needs no model.

    Raises:
        StoreError: If it is no such file.
    """
    try:
        with safe_open(str(path), framework="pt") as opened:
            facts = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path}: no network that hwnas wrote: {error}") from error
    if "architecture" not in facts:
        raise StoreError(f"{path}: no network that hwnas wrote: it does not say its architecture")
    return "blocks" in facts


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
