"""Six strategies on one space, one device and the same images: measured fronts of trained networks, side by side.

Each part runs its recipe, or takes the run that is there; `together` stands those that are finished side by side, and
draws them into one picture. A search takes some ten minutes on two cores, and may take thirty.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hwnas.cli.compare import draw_together
from hwnas.job import Front, assemble, compare, profile
from hwnas.job import search as run_search
from tests.bench.figures import ROOT, Bench, Measured, MissingDataError, Row, need

STRATEGIES = ("random", "nat", "spos", "dpp_net", "proxyless_nas", "fbnet")
PICTURE = ROOT / "tests" / "bench" / "results" / "real_weights.png"


def found(data: Path, *, recipe: Path, root: Path = ROOT) -> Measured:
    """One search: its time, its front, and how well its latencies were predicted.

    Args:
        data: With cifar10_jpeg/.
        recipe: Of the run.
        root: The workspace.
    """
    assembly = assemble(recipe, root=root)
    if not assembly.table_path.is_file():
        profile(recipe, root=root)
    front = run_search(recipe, root=root)
    return Measured(rows_of(front), {"recipe": recipe.name, "seed": assembly.recipe.seed, **_conditions(front)})


def rows_of(front: Front) -> list[Row]:
    """The figures of one run."""
    name = front.facts["run"]
    latencies = [member.values["latency_ms"] for member in front.on_front]
    minutes = float(front.facts["seconds_of_this_process"]) / 60
    return [
        Row(f"{name}: whole run", minutes, "minutes", 30, 10, "lower"),
        Row(f"{name}: networks on its front", len(front.on_front), "networks", 1),
        Row(f"{name}: most accurate, test", max(m.test["accuracy"] for m in front.on_front), "share"),
        Row(f"{name}: fastest", min(latencies), "ms", None, None, "lower"),
        Row(f"{name}: slowest over fastest", max(latencies) / min(latencies), "ratio"),
        Row(
            f"{name}: predicted against measured latency, mean error",
            front.facts["prediction_error"]["mape"],
            "share",
            0.05,
            0.02,
            "lower",
        ),
    ]


def together(
    data: Path, *, strategies: Sequence[str] = STRATEGIES, root: Path = ROOT, picture: Path = PICTURE
) -> Measured:
    """The share of the joint front's volume that each run has: test accuracy and measured latency.

    Args:
        data: Not used.
        strategies: Of the runs.
        root: The workspace, with the finished runs.
        picture: Gets all fronts.

    Raises:
        MissingDataError: If a run is not finished.
    """
    folders = [root / "runs" / f"cifar10_{strategy}" for strategy in strategies]
    for folder in folders:
        if not (folder / "front.json").is_file():
            raise MissingDataError(f"{folder} has no front yet: python -m tests.bench real_weights {folder.name[8:]}")
    fronts = [Front.load(folder) for folder in folders]
    draw_together(fronts, picture)
    rows = []
    for standing in compare(fronts):
        rows += [
            Row(f"{standing.run}: share of the joint front's volume", standing.volume, "share"),
            Row(f"{standing.run}: its networks on the joint front", standing.joint, "networks"),
        ]
    return Measured(rows, {"picture": picture.name, **_conditions(fronts[0])})


def _conditions(front: Front) -> dict[str, object]:
    return {"device": front.facts["device"]["name"], "images": front.facts["data"]["counts"]}


def _part(data: Path, *, strategy: str) -> Measured:
    need(data / "cifar10_jpeg")
    return found(data, recipe=ROOT / "search" / f"cifar10_{strategy}.toml")


REAL_WEIGHTS: Bench = {
    **{strategy: partial(_part, strategy=strategy) for strategy in STRATEGIES},
    "together": together,
}
"""The parts of `python -m tests.bench real_weights`."""
