"""Modules to files that a runtime loads, many in a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from hwnas.core import Architecture, counted
from hwnas.device import Runtime
from hwnas.nn import write_onnx, write_pt2
from hwnas.profiling.journal import Journal
from hwnas.profiling.networks import build_seeded
from hwnas.profiling.program import Progress, ProgressCall
from hwnas.profiling.runtimes import suffix_of
from hwnas.space import Block, Space

_TELLING = 12
"""Blocks written until their pace is known."""
_WORTH_A_NOTE_S = 5.0


@dataclass(frozen=True)
class Source:
    """What a file is made from.

    Attributes:
        name: Seeds the weights.
        build: Makes the module.
        input_shape: (channels, height, width) of one image.
        blocks: That it is made of: tracing takes the longer the more there are, whatever their size.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    blocks: int = 1


def block_source(block: Block, build: Callable[[Block], nn.Module]) -> Source:
    """A block on its own."""
    return Source(block.key, lambda: build(block), block.input_shape)


def network_source(
    space: Space, architecture: Architecture, build_network: Callable[[Architecture], nn.Module]
) -> Source:
    """A whole network; its input is that of its first block.

    Raises:
        SpaceError: If the architecture is not one of the space.
    """
    blocks = space.blocks_of(architecture)
    return Source(architecture.digest, lambda: build_network(architecture), blocks[0].input_shape, len(blocks))


def export_all(
    sources: Mapping[str, Source],
    folder: Path,
    *,
    seed: int,
    runtime: Runtime = "onnxruntime-cpu",
    batch: int = 1,
    journal: Journal | None = None,
    progress: ProgressCall | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write one file per source; what cannot be built or exported is named and left out.

    Once the first blocks have shown how long one takes here, a note says how long all of them will.

    Args:
        sources: By any key.
        folder: Where the files go.
        seed: Of the weights.
        runtime: That is to load them.
        batch: Images per run; files for torch hold for one number only.
        journal: Of this folder: what it has is not written again, what is written is added.
        progress: Called after each file, with the blocks that are done of all.
        clock: Seconds.

    Returns:
        Files by key, and reasons by key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left = sum(source.blocks for key, source in sources.items() if journal is None or journal.finished(key) is None)
    total = sum(source.blocks for source in sources.values())
    over, written, began, noted = 0, 0, clock(), False
    files: dict[str, Path] = {}
    failures: dict[str, str] = {}
    with _one_thread():
        for done, (key, source) in enumerate(sources.items(), start=1):
            path = folder / f"{done}{suffix_of(runtime)}"
            there = journal.finished(key) if journal is not None else None
            try:
                if there is None:
                    module = build_seeded(source.build, seed=seed, name=source.name)
                    if path.suffix == ".pt2":
                        write_pt2(module, path, input_shape=source.input_shape, batch=batch)
                    else:
                        write_onnx(module, path, input_shape=source.input_shape)
            except Exception as error:  # noqa: BLE001 - an operator of a user's own may raise anything; the rest is kept
                lines = str(error).strip().splitlines()
                failures[key] = lines[0] if lines else type(error).__name__
            else:
                files[key] = there or path
                if journal is not None and there is None:
                    journal.add(key, path)
            over += source.blocks
            written += source.blocks if there is None else 0
            note = ""
            if written >= _TELLING and not noted:
                noted = True
                note = _export_note(len(sources), (clock() - began) * (left - written) / written)
            if progress is not None:
                progress(Progress("export", over, total, note))
    return files, failures


def _export_note(models: int, seconds: float) -> str:
    """How long the export will take; empty where it is nearly done."""
    if seconds < _WORTH_A_NOTE_S:
        return ""
    return f"exporting {counted(models, 'model')}, about {seconds:.0f} s more; then they are timed"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch on one thread.

    Tracing runs tiny layers; waking a second thread for each took 1.4 s a network on a busy machine, instead of 0.1 s.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
