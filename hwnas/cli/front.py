"""`hwnas front`: what a run found, predicted beside measured, and its picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas.cli.options import AsJson, Run, run_folder
from hwnas.cli.terminal import show, show_json, show_table
from hwnas.core import Objective, counted
from hwnas.job import Front, Member
from hwnas.report import Dot, front_in_letters, front_picture


def front(run: Run, as_json: AsJson = False) -> None:
    """Show the measured front of a finished run and draw its picture."""
    found = Front.load(run_folder(run))
    draw(found)
    if as_json:
        show_json(found.to_json())
        return
    show_front(found)
    for line in found.latency_notes:
        show(f"note: {line}")
    show(f"\n{picture_path(found)}")


def picture_path(front: Front) -> Path:
    """Where the picture of a front lies."""
    return front.folder / "front.png"


def latency_words(front: Front, member: Member) -> str:
    """A member's latency for people: how it was found, beside what was predicted or its band."""
    latency, device = member.metrics["latency_ms"], front.facts["device"]["name"]
    if member.timed:
        predicted = member.predicted["latency_ms"].value
        return f"{latency.value:.4f} ms measured on {device} (predicted {predicted:.4f})"
    return f"{latency.value:.4g} ms {latency.origin} on {device} ({latency.low:.4g} to {latency.high:.4g})"


def draw(front: Front) -> None:
    """Draw the picture of a front into its run's folder."""
    limit = next((limit.at_most for limit in front.limits if limit.name == "latency_ms"), None)
    device = front.facts["device"]
    conditions = (
        f"{device['runtime']}, {counted(device['threads'], 'thread')}"
        if front.timed
        else "estimated from its data sheet"
    )
    front_picture(
        picture_path(front),
        dots=_dots(front, rivals=False),
        rivals=_dots(front, rivals=True),
        title=f"{front.facts['run']}: {counted(len(front.on_front), 'network')} {_word(front)} on {device['name']}",
        caption=f"{front.facts['data']['source']}; {front.facts['space']['name']}; {conditions}, "
        f"batch {device['batch']}",
        accuracy_label="validation accuracy",
        limit_ms=limit,
        latency_word=_word(front),
    )


def _dots(front: Front, *, rivals: bool) -> list[Dot]:
    """Members, or what stands beside them for comparison."""
    return [
        Dot(
            member.metrics["latency_ms"].value,
            member.metrics["accuracy"].value,
            member.predicted["latency_ms"].value if member.timed else None,
            member.on_front,
            label="default network, trained alone" if rivals else "",
        )
        for member in front.members
        if (member.role != "member") == rivals
    ]


def _word(front: Front) -> str:
    """How latencies came about."""
    return "measured" if front.timed else str(front.members[0].metrics["latency_ms"].origin)


def show_front(front: Front) -> None:
    """The front as a table: predicted beside measured, or estimates with their band."""
    timed = front.timed
    rows = []
    shown = {"accuracy", "latency_ms", "macs", "parameters"}
    further = [objective for objective in front.objectives if objective.name not in shown]
    beyond = [member for member in front.members if member.predicted["latency_ms"].extrapolated]
    for member in front.members:
        predicted, latency = member.predicted["latency_ms"].value, member.metrics["latency_ms"]
        rows.append([
            member.architecture.digest,
            f"{member.metrics['accuracy'].value:.2%}",
            f"{member.test['accuracy']:.2%}",
            *(
                [
                    f"{latency.value:.4f}",
                    f"{predicted:.4f}" + ("*" if member in beyond else ""),
                    f"{predicted / latency.value - 1:+.1%}",
                ]
                if timed
                else [f"{latency.value:.4g}", f"{latency.low:.4g} to {latency.high:.4g}"]
            ),
            *(f"{member.metrics[objective.name].value:.4g}" for objective in further),
            f"{member.metrics['macs'].value / 1e6:.2f}",
            f"{member.metrics['parameters'].value / 1e3:.0f}",
            f"{member.parity['largest_difference']:.0e}",
            f"{member.training_seconds:.0f}",
            {True: "front", False: "beaten"}[member.on_front] if member.role == "member" else member.role,
        ])
    limits = "; ".join(map(str, front.limits)) or "none"
    show_table(
        f"{front.facts['run']}: {counted(len(front.on_front), 'network')} on the {_word(front)} front "
        f"(limits: {limits})",
        [
            "network",
            "validation",
            "test",
            *(["measured ms", "predicted ms", "error"] if timed else [f"{_word(front)} ms", "band"]),
            *(f"{objective.name}{_unit(objective)}" for objective in further),
            "M MACs",
            "k params",
            "ONNX diff",
            "trained s",
            "",
        ],
        rows,
        note=_errors(front, extrapolated=bool(beyond)) if timed else _no_errors(front),
    )
    show("")
    for line in front_in_letters(_dots(front, rivals=False), rivals=_dots(front, rivals=True)):
        show(line)


def _unit(objective: Objective) -> str:
    """In parentheses, where the name does not end in it."""
    said = not objective.unit or objective.unit == "share" or objective.unit in objective.name
    return "" if said else f" ({objective.unit})"


def _errors(front: Front, *, extrapolated: bool) -> str:
    error = front.facts["prediction_error"]
    return (
        f"predicted against measured latency: {error['mape']:.1%} on average, {error['worst']:.1%} at worst, bias "
        f"{error['bias']:+.1%}"
        + _after_refit(front.facts.get("refit", {}))
        + ("; * extrapolated: outside of what the prediction was fitted on" if extrapolated else "")
    )


def _no_errors(front: Front) -> str:
    device, of = front.facts["device"]["name"], front.facts["estimate"]["measured_networks"]
    rests = f"scaled by {of} networks measured on it" if of else "which no measurement has confirmed"
    return (
        f"no latency was measured: {device} cannot be reached, and these come from its data sheet, {rests}; "
        "time a file where you have one: hwnas bench model.onnx"
    )


def _after_refit(facts: Mapping[str, Any]) -> str:
    """What the members changed in the table's calibration, if the run says so."""
    if "after" in facts:
        return (
            f"; with {facts['networks']} of them in the table's calibration {facts['after']['mape']:.1%} (each left "
            "out of its own fit): hwnas profile RECIPE --refit"
        )
    return f"; the table was not fitted again: {facts['skipped']}" if "skipped" in facts else ""
