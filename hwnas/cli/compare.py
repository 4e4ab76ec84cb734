"""`hwnas compare`: the fronts of several runs on one device, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.front import file_remarks
from hwnas.cli.options import AsJson, run_folder
from hwnas.cli.terminal import show, show_json, show_table
from hwnas.core import SHARES, Objective, counted
from hwnas.job import Front, Standing, compare, examined, joint_front, names_of, values_of
from hwnas.report import Axis, Dot, drawn_axes, fronts_picture


def compare_runs(
    runs: Annotated[list[str], typer.Argument(help="Names of runs under runs/, or their folders; two or more.")],
    picture: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("runs/compared.png"),
    as_json: AsJson = False,
) -> None:
    """Stand the measured fronts of several runs side by side: test accuracy, latency, and the volume of each."""
    fronts = [examined(Front.load(run_folder(run))) for run in runs]
    standings = compare(fronts)
    draw_together(fronts, picture)
    if as_json:
        show_json({"picture": str(picture), "runs": [standing.to_json() for standing in standings]})
        return
    show_standings(standings, fronts[0].objectives)
    for front, standing in zip(fronts, standings, strict=True):
        for line in [*file_remarks(front), *standing.latency_notes]:
            show(f"note: {standing.run}: {line}")
    show(f"\n{picture}")


def show_standings(standings: Sequence[Standing], objectives: Sequence[Objective]) -> None:
    """The runs as a table, the largest volume first."""
    rows = [
        [
            standing.run,
            standing.strategy,
            str(standing.networks),
            str(standing.joint),
            f"{standing.volume:.3f}",
            *(_in_words(objective, value) for objective, value in zip(objectives, standing.best, strict=False)),
            *[""] * (len(objectives) - len(standing.best)),
            f"{standing.minutes:.1f}",
        ]
        for standing in sorted(standings, key=lambda standing: -standing.volume)
    ]
    best = [f"best {objective.name}" for objective in objectives]
    show_table(
        f"{len(standings)} runs",
        ["run", "strategy", "front", "of the joint front", "volume", *best, "minutes"],
        rows,
        note="accuracy on the test images, which nothing was chosen by; of the joint front: a gain within one standard "
        "error is a tie, and of ties the cheaper is on it, equal ones all are; volume: 1 is that of the joint front; "
        "minutes: of search and training, all processes together",
    )


def _in_words(objective: Objective, value: float) -> str:
    return f"{value:.2%}" if objective.name in SHARES else f"{value:.4g}"


def draw_together(fronts: Sequence[Front], path: Path) -> None:
    """Draw the fronts of runs that can be compared: their first two objectives, accuracies on the test images."""
    rows = [(n, values_of(member)) for n, front in enumerate(fronts) for member in front.on_front]
    kept = set(joint_front(fronts))
    x, y = drawn_axes(fronts[0].objectives)
    dots = [(n, Dot(v[x.name], v[y.name], on_front=k in kept)) for k, (n, v) in enumerate(rows)]
    device = fronts[0].facts["device"]
    fronts_picture(
        path,
        fronts={name: [dot for owner, dot in dots if owner == n] for n, name in enumerate(names_of(fronts))},
        x=Axis.of(x, "test images" if x.name in SHARES else ""),
        y=Axis.of(y, "test images" if y.name in SHARES else ""),
        title=f"{len(fronts)} runs on {device['name']}",
        caption=f"{fronts[0].facts['data']['source']}; {spaces_in_words(fronts)}; {device['runtime']}, "
        f"{counted(device['threads'], 'thread')}, batch {device['batch']}; chosen by validation, drawn by test",
    )


def spaces_in_words(fronts: Sequence[Front]) -> str:
    """The spaces that the runs searched: one name if all searched the same, else each run with its own."""
    spaces = [str(front.facts["space"]["name"]) for front in fronts]
    if len(set(spaces)) == 1:
        return spaces[0]
    return ", ".join(f"{run} in {space}" for run, space in zip(names_of(fronts), spaces, strict=True))
