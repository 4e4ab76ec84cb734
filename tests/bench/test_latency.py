"""The pure parts of the latency bench, with timings made up so that the answer is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.core import Architecture
from hwnas.cost import LatencyTable, Timing, blocks_of
from hwnas.nn import build_block
from hwnas.profiling import Measurement, ModelFile
from hwnas.profiling.exporting import Source
from hwnas.space import Space
from hwnas.zoo import FAMILIES, MobileNetV3, ProxylessNAS
from tests.bench.few_shot import middle
from tests.bench.figures import MissingDataError
from tests.bench.latency import TABLE, cost, measured_chain
from tests.bench.pieces import kernels, operators

ROOT = Path(__file__).parents[2]


CHAIN_BLOCKS = [
    *blocks_of(FAMILIES["toy"].space).values(),
    *blocks_of(ProxylessNAS(resolutions=(32,), widths=(24, 32), depths=(2, 1), strides=(2, 1)).space).values(),
]
"""Of every kind that the chain spaces of the bench have."""


def timing(p25_us: float) -> Timing:
    return Timing(p25_us, p25_us, p25_us, p25_us, 0.01, 100, 10)


def test_cost_per_network_is_the_best_time_over_their_number() -> None:
    ticks: Iterator[int] = count(0, 2)
    measured = cost(Path(), batch=100, single=10, clock=lambda: float(next(ticks)))
    assert [(row.value, row.must) for row in measured.rows] == [(2e5, 39.0), (2e4, 1.0)]  # two seconds each
    assert not any(row.ok for row in measured.rows)


def test_the_middle_leaves_out_a_tenth_on_either_side() -> None:
    truth = np.arange(100.0)[::-1].copy()
    assert sorted(middle(truth, np.arange(0, 100, 5)).tolist()) == list(range(10, 90, 5))


# ----------------------------------------------------------------------------------------------------------- pieces


def test_pieces_put_together_compute_what_the_block_computes() -> None:
    """Shapes only for the whole, numbers for a block without choices: the same weights in one and in the other."""
    for block in CHAIN_BLOCKS:
        for split in (operators, kernels):
            x = torch.zeros(1, *block.input_shape)
            shapes = {piece.key: piece.input_shape for piece in split(block)}
            first = split(block)[0]
            assert first.input_shape == block.input_shape
            last = split(block)[-1]
            assert tuple(last.build()(torch.zeros(1, *last.input_shape)).shape[1:]) == block.output_shape
            assert tuple(build_block(block).eval()(x).shape[1:]) == block.output_shape
            assert len(shapes) == len({*shapes})


def test_fusing_leaves_fewer_pieces_with_as_many_weights() -> None:
    def convolutions(modules: list[torch.nn.Module]) -> int:
        return sum(
            part.weight.numel()
            for m in modules
            for part in m.modules()
            if isinstance(part, torch.nn.Conv2d | torch.nn.Linear)
        )

    for block in CHAIN_BLOCKS:
        apart, fused = operators(block), kernels(block)
        assert len(fused) < len(apart)
        weights = convolutions([piece.build() for piece in apart])
        assert weights == convolutions([piece.build() for piece in fused]) == convolutions([build_block(block)])


# ------------------------------------------------------------------------------------------------------ chain space


class Synthetic:
    """Times every model by a rule: a network is 20 us and 0.8 of its blocks, pieces cost what their block does not."""

    def __init__(self, space: Space, *, noise: float) -> None:
        self.space = space
        self.noise = noise
        self.models: Mapping[str, ModelFile] = {}
        self.calls = 0
        self.blocks = blocks_of(space)

    def block_us(self, key: str) -> float:
        block = self.blocks[key]
        return 2.0 + block.macs / 5e3 + 3.0 * math.sqrt(block.feature("boundary"))

    def network_us(self, architecture: Architecture) -> float:
        return 20 + 0.8 * math.fsum(self.block_us(block.key) for block in self.space.blocks_of(architecture))

    def __call__(self, models: Mapping[str, ModelFile]) -> Measurement:
        self.models = self.models or models
        self.calls += 1
        drift = 1.0 if self.calls == 1 else 1.25
        rng = np.random.default_rng(0)
        by_digest = {a.digest: a for a in self.space.enumerate()}
        times = {}
        for key in models:
            kind, _, name = key.partition(" ")
            if kind == "block":
                times[key] = timing(self.block_us(name))
            elif kind == "network":
                scatter = math.exp(self.noise * rng.standard_normal())
                times[key] = timing(self.network_us(by_digest[name]) * scatter * drift)
            else:
                times[key] = timing(1.0 + 0.05 * len(name))  # knows nothing of what the piece computes
        return Measurement(times, {}, None, "quiet", 3.0, {"onnxruntime": "test"})


def named(sources: Mapping[str, Source], folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """No files: nothing here opens them. Exports themselves are tested in tests/profiling."""
    return {key: folder / f"{n}.onnx" for n, key in enumerate(sources)}, {}


@pytest.fixture
def small() -> Space:
    return MobileNetV3(
        "toy",
        resolutions=(8, 12),
        kernels=(3, 5),
        expansions=(3, 6),
        depths=(1, 2),
        stem_width=8,
        widths=(8, 8),
        strides=(2, 2),
        se=(False, True),
        activations=("relu", "hswish"),
        head_width=32,
    ).space


def test_a_session_that_follows_the_model_is_predicted_exactly(small: Space, tmp_path: Path) -> None:
    measure = Synthetic(small, noise=0.0)
    rows, told = measured_chain(
        "toy", small, LatencyTable.load(ROOT / TABLE), measure, seed=0, folder=tmp_path, export=named
    )
    assert measure.calls == 2 and told["truth"]["factor"] == pytest.approx(1.25), "the truth is of another session"
    by_name = {row.figure.split(": ")[1]: row for row in rows}
    assert by_name["MAPE"].value < 0.01 and by_name["MAPE"].at_goal
    assert by_name["within 5 %"].value == 100 and by_name["Kendall tau"].value > 0.99
    assert by_name["MAPE of operator sum, affine"].value > 1 < by_name["MAPE of MACs, affine"].value
    assert by_name["MAPE over that of MACs, affine"].at_goal
    assert told["verdict"] == "quiet" and told["models"] == len(measure.models)
    assert all(row.ok for row in rows if "holds" not in row.figure)
    assert by_name["90 % band holds, distance to 90"].value == pytest.approx(abs(by_name["90 % band holds"].value - 90))
    assert {key.partition(" ")[0] for key in measure.models} == {"block", "piece", "network"}


def test_a_model_that_fails_ends_the_bench_with_its_name(small: Space, tmp_path: Path) -> None:
    def broken(models: Mapping[str, ModelFile]) -> Measurement:
        found = Synthetic(small, noise=0.0)(models)
        return Measurement(found.timings, {"piece x": "no such operator"}, None, "quiet", 3.0, {})

    with pytest.raises(MissingDataError, match="1 models could not be measured; the first: piece x: no such operator"):
        measured_chain("toy", small, LatencyTable.load(ROOT / TABLE), broken, seed=0, folder=tmp_path, export=named)
