"""`hwnas profile`: measure this device for the space of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.options import QUICKSTART, AsJson, RecipeFile
from hwnas.cli.stops import importing
from hwnas.cli.terminal import Terminal, show, show_json
from hwnas.cli.verdict import incomplete, verdict
from hwnas.core import RecipeError, counted
from hwnas.device import LIMIT_S, OnNoise

if TYPE_CHECKING:
    from hwnas.profiling import ProfileReport

_KINDS = {"blocks": "each block measured as a whole", "kernels": "sums of the kernels of their cells"}


def profile(
    recipe: RecipeFile = QUICKSTART,
    missing: Annotated[bool, typer.Option("--missing", help="Measure only what the table lacks.")] = False,
    on_noise: Annotated[
        OnNoise,
        typer.Option(
            help="On a noisy machine: refuse early (strict), refuse useless numbers (default), only mark them."
        ),
    ] = "default",
    results: Annotated[
        Path | None, typer.Option("--from", help="The results file that a kit's measure.py wrote on the device.")
    ] = None,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Measure again in a fresh process, and say how far the times differ.")
    ] = False,
    drop_disturbed: Annotated[
        bool, typer.Option("--drop-disturbed", help="Leave out bursts in which the machine was disturbed; counted.")
    ] = False,
    limit_s: Annotated[
        float | None,
        typer.Option(
            "--limit-s",
            min=1.0,
            help="Seconds that the timing may take: slow models get fewer runs, and what does not fit is refused. "
            f"Without it about {LIMIT_S:.0f}, and longer where models are slow.",
        ),
    ] = None,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Measure nothing: predict with the calibration that the recipe's run ended in."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure every block of a recipe's space in the deployment runtime, and write its latency table.

    A profile that was cut off goes on where it was when the same command is given again.
    """
    with importing():
        from hwnas.job import profile as run_profile
        from hwnas.job import take_in

    if refit:
        _use_refit(recipe, as_json=as_json)
        return
    with Terminal() as terminal:
        if results is None:
            report = run_profile(
                recipe,
                missing=missing,
                on_noise=on_noise,
                repeat=repeat,
                drop_disturbed=drop_disturbed,
                limit_s=limit_s,
                teller=terminal,
            )
        elif missing or repeat:
            raise RecipeError("--from takes in what a kit has measured: --missing and --repeat do not go with it")
        else:
            report = take_in(recipe, results, teller=terminal)
    if as_json:
        show_json(summary(report))
    else:
        for line in in_words(report):
            show(line)
    if report.failed_blocks:
        raise typer.Exit(2)


def _use_refit(recipe: Path, *, as_json: bool) -> None:
    from hwnas.job import use_refit

    path, calibration = use_refit(recipe)
    if as_json:
        show_json({"refit": str(path), "networks": calibration.n, "loo_mape": calibration.loo_mape})
        return
    assert calibration.loo_mape is not None  # for the type checker: only a fit is fitted again
    show(
        f"{path}: {counted(calibration.n, 'network')}, leave-one-out error {calibration.loo_mape:.2%}; searches "
        "predict with it until the table is measured again"
    )


def summary(report: ProfileReport) -> dict[str, Any]:
    """What was measured and how well it predicts, as JSON."""
    header = report.table.header
    calibration = header.calibration
    return {
        "table": str(report.path),
        "blocks": len(report.table.rows),
        "measured_now": report.measured,
        "seconds": round(report.seconds, 1),
        "repeat": header.protocol.repeat.model_dump() if header.protocol.repeat else None,
        "dropped_visits": header.protocol.dropped_visits,
        "noise": header.noise.model_dump() if header.noise else None,
        "verdict": verdict(header, report.doubtful),
        "calibration": calibration.model_dump(mode="json") if calibration else None,
        "failures": dict(report.failures),
        "warnings": report.warnings,
    }


def in_words(report: ProfileReport) -> list[str]:
    """The same for people."""
    header = report.table.header
    lines = [
        f"{report.path}: {counted(len(report.table.rows), 'block')}, {report.seconds:.0f} s",
        f"  {verdict(header, report.doubtful)}",
        *incomplete(report.failed_blocks),
    ]
    if header.noise:
        lines.append(
            f"  repeatability: two halves of the measurement differ by {header.noise.median:.2%} at the median; rank "
            f"correlation {header.noise.tau:.3f}"
        )
    protocol = header.protocol
    if protocol.drop_disturbed:
        bursts = counted(protocol.visits or 0, "burst")
        lines.append(f"  left out: {protocol.dropped_visits} of {bursts}, in which the machine was disturbed")
    if protocol.repeat:
        lines.append(
            f"  repeated in a fresh process: everything took {protocol.repeat.factor:.3f} times as long; after that "
            f"factor {counted(protocol.repeat.n, 'model')} differ by {protocol.repeat.median:.2%} at the median, "
            f"{protocol.repeat.p95:.2%} at the 95th percentile"
        )
    calibration = header.calibration
    if calibration and calibration.loo_mape is not None:
        lines.append(
            f"  calibrated on {counted(calibration.n, 'whole network')}, {_KINDS[calibration.kind]}, with "
            f"{' + '.join(calibration.terms)}: error of a network left out of the fit "
            f"{calibration.loo_mape:.2%}, 90 % band +-{calibration.band:.1%}"
        )
        held = calibration.holdout
        if held:
            order = "" if held.tau is None else f", rank correlation {held.tau:.3f}"
            lines.append(
                f"  checked on {counted(held.n, 'network')} never fitted: mean error {held.mape:.2%}, bias "
                f"{held.bias:+.2%}, {held.within_5:.0%} within 5 %, {held.within_10:.0%} within 10 %{order}"
            )
    elif calibration:
        lines.append(
            f"  {counted(calibration.n, 'whole network')} measured, which are all of the space: each is predicted by "
            f"its own time, +-{calibration.band:.1%} (two halves of the measurement, 95th percentile)"
        )
    return lines
