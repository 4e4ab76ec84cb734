"""Functions of the user's own as metrics: found by name, called with architecture and network, or refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from torch import nn

from hwnas.core import Architecture, CostError, Metric, RecipeError
from hwnas.evaluation import FromFunction, Job, answer
from hwnas.evaluation.own_metrics import OwnMetric, OwnMetrics, WithOwnMetrics

CODE = """
import torch

def convolutions(architecture, network):
    return sum(isinstance(part, torch.nn.Conv2d) for part in network.modules()) + architecture["kernel"]

def one(architecture):
    return 1.0

def nothing(architecture, network):
    return None

def fails(architecture, network):
    raise ValueError("no price")
"""
KERNEL = Architecture({"kernel": 3})


def build(_: Architecture) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "costs.py"
    path.write_text(CODE)
    return path


def test_a_function_sees_the_architecture_and_the_network(file: Path) -> None:
    metric = OwnMetric.load("convs", f"{file}:convolutions", unit="layers")
    evaluate = WithOwnMetrics(FromFunction(lambda _: {"accuracy": 0.5}), OwnMetrics((metric,), build))
    found = evaluate(KERNEL, fidelity="full", weights=None, seed=0)
    assert found == {"accuracy": 0.5, "convs": Metric(5.0, "layers", "computed")}
    assert evaluate.own(KERNEL, fidelity="full", weights=None, seed=0) == {"convs": Metric(5.0, "layers", "computed")}
    assert pickle.loads(pickle.dumps(metric))(KERNEL, build(KERNEL)).value == 5.0, "as workers get it"  # noqa: S301


def test_another_text_is_another_metric(file: Path) -> None:
    metric = OwnMetric.load("convs", f"{file}:convolutions", unit="layers")
    before = metric.digest
    file.write_text(CODE.replace('+ architecture["kernel"]', ""))
    assert metric.digest != before
    assert metric(KERNEL, build(KERNEL)).value == 2.0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("convolutions", 'function is "convolutions"; expected "file.py:function"'),
        ("nowhere.py:f", "there is no file .*nowhere.py"),
        ("{file}:convolution", 'has no function "convolution"; did you mean "convolutions"'),
        ("{file}:one", "one does not take two arguments"),
    ],
)
def test_what_is_not_there_is_named(file: Path, source: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        OwnMetric.load("mine", source.format(file=file), unit="")


def test_a_file_that_cannot_be_run_says_why(file: Path) -> None:
    file.write_text("import nowhere_at_all")
    with pytest.raises(RecipeError, match="cannot be run: ModuleNotFoundError: No module named 'nowhere_at_all'"):
        OwnMetric.load("mine", f"{file}:f", unit="")


def test_no_number_is_never_zero(file: Path) -> None:
    metric = OwnMetric.load("mine", f"{file}:nothing", unit="")
    with pytest.raises(CostError, match="nothing returned None; expected a finite number"):
        metric(KERNEL, build(KERNEL))
    with pytest.raises(ValueError, match="no price"):
        OwnMetric.load("mine", f"{file}:fails", unit="")(KERNEL, build(KERNEL))


def test_a_fault_in_a_metric_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "costs.py"
    path.write_text("def price(architecture, network):\n    return {}['no such key']\n")
    metric = OwnMetric.load("price", f"{path}:price", unit="EUR")
    evaluate = OwnMetrics([metric], lambda a: nn.Identity())
    found = answer(evaluate, Job(Architecture({"k": 3}), "full", None, 0))
    assert found.failure == "KeyError: 'no such key' (costs.py, line 2)"
