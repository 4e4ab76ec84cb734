"""Many files in a row: what fails is named, the rest is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hwnas.core import Architecture
from hwnas.profiling import Progress
from hwnas.profiling.exporting import Source, block_source, export_all, network_source
from tests.profiling.chain import STEM, build, build_network, chain

ARCHITECTURE = Architecture({"depth": 1, "kernel1": 3})


class Unwilling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError("no kernel\nfor this")


def test_a_failing_module_is_named_with_the_first_line_and_the_rest_is_written(tmp_path: Path) -> None:
    def refuse() -> nn.Module:
        raise KeyError

    sources = {
        "stem": block_source(STEM, build),
        "unwilling": Source("unwilling", Unwilling, (1, 12, 12)),
        "never built": Source("never built", refuse, (1, 12, 12)),
        "net": network_source(chain(), ARCHITECTURE, build_network),
    }
    steps: list[Progress] = []
    files, failures = export_all(sources, tmp_path / "new", seed=0, progress=steps.append)
    assert sorted(files) == ["net", "stem"]
    assert all(path.stat().st_size > 0 for path in files.values())
    assert "no kernel" in failures["unwilling"]
    assert "\n" not in failures["unwilling"]
    assert failures["never built"] == "KeyError"
    blocks = len(chain().blocks_of(ARCHITECTURE))
    done = [1, 2, 3, 3 + blocks]
    assert [(step.stage, step.done, step.total) for step in steps] == [("export", n, 3 + blocks) for n in done]


@pytest.mark.parametrize(
    ("block_s", "said"),
    [(0.5, "exporting 40 models, about 44 s more; then they are timed"), (0.01, None)],
    ids=["slow", "soon done"],
)
def test_how_long_the_export_takes_is_told_by_the_blocks_in_the_models(
    tmp_path: Path, block_s: float, said: str | None
) -> None:
    """20 blocks and 20 networks of 4 blocks: after 12 files of one block each, 88 of 100 blocks are left."""
    monotonic = [0.0]

    def build_in(seconds: float) -> nn.Module:
        monotonic[0] += seconds
        return nn.Flatten()

    def source(name: str, blocks: int) -> Source:
        return Source(name, lambda: build_in(blocks * block_s), (1, 2, 2), blocks)

    sources = {f"block {n}": source(f"block {n}", 1) for n in range(20)}
    sources |= {f"network {n}": source(f"network {n}", 4) for n in range(20)}
    steps: list[Progress] = []
    export_all(sources, tmp_path, seed=0, progress=steps.append, clock=lambda: monotonic[0])
    assert [step.note for step in steps if step.note] == ([] if said is None else [said])
    assert [step.done for step in steps if step.note] == ([] if said is None else [12])
    assert (steps[-1].done, steps[-1].total) == (100, 100)
    assert monotonic[0] == pytest.approx(100 * block_s)


def test_the_input_of_a_network_is_that_of_its_first_block() -> None:
    assert network_source(chain(), ARCHITECTURE, build_network).input_shape == STEM.input_shape


def test_equal_seeds_write_equal_files(tmp_path: Path) -> None:
    sources = {"net": network_source(chain(), ARCHITECTURE, build_network)}
    contents = [
        export_all(sources, tmp_path / str(n), seed=seed)[0]["net"].read_bytes() for n, seed in enumerate((0, 0, 1))
    ]
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("threads", [1, 2])
def test_torchs_threads_are_as_before(tmp_path: Path, threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        export_all({"stem": block_source(STEM, build)}, tmp_path, seed=0)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
