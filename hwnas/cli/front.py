"""`hwnas front`: what a run found, predicted beside measured, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwnas.cli.options import AsJson, Run, run_folder
from hwnas.cli.search import show_tabular
from hwnas.cli.terminal import show, show_json, show_table
from hwnas.core import SHARES, Evaluation, Metric, Objective, counted, refusal
from hwnas.job import EARLIER, Front, Member, SoFar, examined
from hwnas.report import Axis, Dot, drawn_axes, front_in_letters, front_picture

_ARCHITECTURE = 40
"""Letters of an architecture up to which a table shows it."""


def front(run: Run, as_json: AsJson = False) -> None:
    """Show the measured front of a run and draw its picture; what there is so far if it is not finished."""
    folder = run_folder(run)
    if not (folder / "front.json").is_file() and _shown_unmeasured(folder, as_json=as_json):
        return
    found = examined(Front.load(folder))
    picture = draw(found)
    if as_json:
        row = found.to_json()
        states = [{"file_state": member.file, "fault": member.fault or None} for member in found.members]
        row["members"] = [{**member, **state} for member, state in zip(row["members"], states, strict=True)]
        show_json(row)
        return
    show_front(found)
    for line in search_in_words(found.facts["search"]):
        show(line)
    for line in found.latency_notes:
        show(f"note: {line}")
    show(f"\n{picture}")


def _shown_unmeasured(folder: Path, *, as_json: bool) -> bool:
    """Show the front of a published table, or what a search has found so far; whether there is either."""
    if (folder / "tabular.json").is_file():
        from hwnas.job import TabularFront

        table = TabularFront.load(folder)
        if as_json:
            show_json(table.to_json())
        else:
            show_tabular(table)
        return True
    so_far = SoFar.load(folder)
    if so_far is None:
        return False
    if as_json:
        show_json(so_far.to_json())
    else:
        show_so_far(so_far)
    return True


def search_in_words(facts: Mapping[str, Any]) -> list[str]:
    """What the search asked for, at which fidelity and with which weights; nothing for runs of earlier versions.

    Example:
        >>> row = {"fidelity": "full", "ok": 27, "failed": 1, "infeasible": 0}
        >>> counts = [{**row, "weights": "supernet@2"}, {**row, "weights": "supernet@4"}]
        >>> facts = {"networks": 28, "evaluations": 56, "repeated": 3, "counts": counts, "weights": "supernet@4"}
        >>> search_in_words(facts)[0]
        'searched: 28 networks in 56 evaluations (28 with supernet@2, 1 failed; 28 with supernet@4, 1 failed)'
        >>> search_in_words(facts)[1:]
        ['3 repeated requests were answered without an evaluation', 'members began with the weights supernet@4']
    """
    if "counts" not in facts:
        return []
    parts = []
    ruled_out = 0
    for row in facts["counts"]:
        ruled_out += row["infeasible"]
        if row["ok"] + row["failed"]:
            what = "" if row["fidelity"] == "full" else f" at fidelity {row['fidelity']}"
            weights = f" with {row['weights']}" if row["weights"] else ""
            failed = f", {row['failed']} failed" if row["failed"] else ""
            parts.append(f"{row['ok'] + row['failed']}{what}{weights}{failed}")
    lines = [
        f"searched: {counted(facts['networks'], 'network')} in {counted(facts['evaluations'], 'evaluation')} "
        f"({'; '.join(parts)})"
    ]
    if ruled_out:
        lines.append(f"{counted(ruled_out, 'network')} outside the limits")
    if facts.get("repeated"):
        lines.append(f"{counted(facts['repeated'], 'repeated request')} were answered without an evaluation")
    if facts.get("weights"):
        lines.append(f"members began with the weights {facts['weights']}")
    return lines


def show_so_far(found: SoFar) -> None:
    """A run without a front: who works on it, what it has found, how it goes on."""
    show(f"{found.folder}: {_state_in_words(found)}")
    phases: dict[str, list[int]] = {}
    for name, epochs in found.epochs.items():
        phases.setdefault(name.partition("-")[0], []).append(epochs)
    for name, several in phases.items():
        of = f" of {len(several)} networks" if len(several) > 1 else ""
        show(f"  {name}: {counted(sum(several), 'epoch')}{of} trained")
    done = f"{found.evaluations} of {counted(found.budget, 'network')}" if found.budget else ""
    failed = f", {found.failed} of them failed" if found.failed else ""
    done = done or counted(found.evaluations, "network")
    show(f"  evaluated: {done}{failed}" + (f"; {found.reason}" if found.reason else ""))
    if found.best:
        show("")
        options = _options(found.best)
        show_table(
            f"the best so far: {counted(len(found.best), 'network')}",
            ["network", *(f"{o.name}{_unit(o)}" for o in found.objectives), *(["architecture"] if options else [])],
            [
                [
                    evaluation.architecture.digest,
                    *(
                        f"{evaluation[objective.name]:.2%}"
                        if objective.unit == "share"
                        else f"{evaluation[objective.name]:.4g}"
                        for objective in found.objectives
                    ),
                    *options[n : n + 1],
                ]
                for n, evaluation in enumerate(found.best)
            ],
            note="as the search sees them: predicted costs, accuracies before the final training",
        )
    if found.state == "stopped":
        show("")
        show(f"to go on: {found.goes_on}" if found.goes_on else "to go on: run the program that began it again")
        if found.goes_on and found.recipe is None:
            kept = found.folder / "recipe.toml"
            show(f"  RECIPE: the file that the run began with; none in search/ has its name and equals {kept}")
    elif found.state == "on another machine" and found.holder is not None:
        show(f"\nif that process is gone, delete {found.folder / 'lock'}")


def _options(found: Sequence[Evaluation]) -> list[str]:
    """What each network is, if all fit beside their numbers in 80 columns; else nothing: a table of some would mislead.

    Example:
        >>> from hwnas.core import Architecture
        >>> _options([Evaluation(Architecture({"layers": 2, "width": 16}))])
        ['layers=2 width=16']
    """
    texts = [" ".join(f"{label}={option}" for label, option in one.architecture.items()) for one in found]
    return texts if max(map(len, texts)) <= _ARCHITECTURE else []


def _state_in_words(found: SoFar) -> str:
    who = "" if found.holder is None else f"process {found.holder.pid} on {found.holder.host}"
    match found.state:
        case "working":
            return f"{who} works on it"
        case "on another machine":
            return f"{who} holds it; whether it still works cannot be told from here"
        case "searched":
            return "the search of a study is finished; its networks were not trained further, exported or measured"
    return "stopped before it was finished"


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


def draw(front: Front) -> str:
    """Draw the picture of a front into its run's folder: its first two objectives, a third as colour.

    Networks whose file is not theirs are not drawn, see `Member.fault`.

    Returns:
        Where it lies, or why it could not be written: a run that can only be read is shown all the same.
    """
    try:
        if all(member.fault for member in front.members):
            picture_path(front).unlink(missing_ok=True)  # it shows what no file has any more
            return "no picture: no network's file is as it was exported"
        _draw(front)
    except OSError as error:
        return f"no picture: {refusal(error).message}"
    return str(picture_path(front))


def _draw(front: Front) -> None:
    device = front.facts["device"]
    (x, y), third = drawn_axes(front.objectives), _third(front)
    conditions = (
        f"{device['runtime']}, {counted(device['threads'], 'thread')}"
        if front.timed
        else "estimated from its data sheet"
    )
    further = [objective.name for objective in front.objectives if objective not in (x, y)]
    undrawn = f"; not drawn: {', '.join(further[1:])}" if further[1:] else ""
    front_picture(
        picture_path(front),
        dots=_dots(front),
        x=_axis(front, x),
        y=_axis(front, y),
        shade=None if third is None else _axis(front, third),
        title=f"{front.facts['run']}: {counted(len(front.on_front), 'network')} on the {_word(front)} front of "
        f"{device['name']}",
        caption=f"{front.facts['data']['source']}; {front.facts['space']['name']}; {conditions}, "
        f"batch {device['batch']}{undrawn}",
        limit_x=next((limit.at_most for limit in front.limits if limit.name == x.name), None),
        word=_word(front) if x.name == "latency_ms" else "measured",
    )


def _third(front: Front) -> Objective | None:
    """The objective that is drawn as colour."""
    drawn = drawn_axes(front.objectives)
    return next((objective for objective in front.objectives if objective not in drawn), None)


def _axis(front: Front, objective: Objective) -> Axis:
    """An axis with what its values are: on which images, or how they came about."""
    if objective.name in SHARES:
        return Axis.of(objective, "validation images")
    origins = dict.fromkeys(member.metrics[objective.name].origin for member in front.members)
    return Axis.of(objective, "" if list(origins) == ["computed"] else " or ".join(origins))


def _dots(front: Front) -> list[Dot]:
    """All that was measured, in what is drawn, with their letters."""
    (x, y), third = drawn_axes(front.objectives), _third(front)
    found = []
    for member in (one for one in front.members if not one.fault):
        across, upright = member.metrics[x.name], member.metrics[y.name]
        believed = member.predicted.get(x.name) if across.origin == "measured" else None
        band = None if across.low is None or across.high is None else (across.low, across.high)
        found.append(
            Dot(
                across.value,
                upright.value,
                name=front.letter(member),
                on_front=member.on_front,
                searched=member.role == "member",
                predicted_x=None if believed is None else believed.value,
                band=band,
                error=upright.standard_error,
                shade=None if third is None else member.metrics[third.name].value,
            )
        )
    return found


def _word(front: Front) -> str:
    """How latencies came about."""
    return "measured" if front.timed else str(front.members[0].metrics["latency_ms"].origin)


def show_front(front: Front) -> None:
    """The front as a table: predicted beside measured, or estimates with their band."""
    timed = front.timed
    rows = []
    shown = {front.share, "latency_ms", "macs", "parameters"}
    further = [objective for objective in front.objectives if objective.name not in shown]
    beyond = [member for member in front.members if member.predicted["latency_ms"].extrapolated]
    for member in front.members:
        predicted, latency = member.predicted["latency_ms"].value, member.metrics["latency_ms"]
        rows.append([
            f"{front.letter(member)} {member.architecture.digest}",
            in_percent(member.metrics[front.share]),
            f"{member.test_values[front.share]:.2%}" if front.share in member.test_values else "",
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
            front.standing(member) + ("" if member.role == "member" else f", {member.role}"),
        ])
    limits = "; ".join(map(str, front.limits)) or "none"
    show_table(
        f"{front.facts['run']}: {counted(len(front.on_front), 'network')} on the {_word(front)} front "
        f"(limits: {limits}); {front.share.replace('_', ' ')}",
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
        spare=("ONNX diff", "trained s", "k params", "M MACs", "error"),
    )
    for line in remarks(front):
        show(line)
    show("")
    x, y = (_axis(front, objective) for objective in drawn_axes(front.objectives))
    for line in front_in_letters(_dots(front), x=x, y=y):
        show(line)


def in_percent(metric: Metric) -> str:
    """A share of images with its standard error, where that is known."""
    error = "" if metric.standard_error is None else f" +- {100 * metric.standard_error:.1f}"
    return f"{100 * metric.value:.2f}{error} %"


def remarks(front: Front) -> list[str]:
    """What a reader of the accuracies should know: ties, guessers, and parts of the images that differ."""
    found = [
        *file_remarks(front),
        *(
            f"left out: the {one['role']} network {one['digest']}: {one['reason']}; to ask again, with more "
            f"[evaluation] seconds for example, delete {front.folder / 'front.json'} and run the search again"
            for one in front.facts.get("finished", {}).get("left_out", [])
        ),
    ]
    standings = {front.letter(member): front.standing(member) for member in front.members}
    if any(standing.startswith("no gain") for standing in standings.values()):
        found.append(
            "no gain: the accuracy is within one standard error of a cheaper network's, on the same validation images"
        )
    for reference in (one for one in front.on_front if one.role != "member"):
        others = [
            one for one in front.members if one.role == "member" and not one.fault and front.beats(reference, one)
        ]
        if others:
            found.append(
                f"{front.letter(reference)} is the {reference.role} network, trained alone without a search; it is "
                f"better in every objective than {', '.join(front.letter(one) for one in others)}"
            )
    guessing = [letter for letter, standing in standings.items() if standing == "at chance"]
    if guessing:
        found.append(
            f"at chance: {', '.join(guessing)}, no better than guessing ({front.chance().value:.1%}) on so many "
            "validation images; hwnas pick takes none of them but by name"
        )
    return [*found, *gap_remarks(front, [member for member in front.members if not member.fault])]


def file_remarks(front: Front) -> list[str]:
    """Which networks are not on a front because of their files, one line for each fault, with the way out."""
    by_fault: dict[str, list[str]] = {}
    for member in front.members:
        if member.fault:
            by_fault.setdefault(member.fault, []).append(front.letter(member))
    found = [
        f"left out, {fault}: {', '.join(letters)}; hwnas search with the run's recipe writes "
        f"{'it' if len(letters) == 1 else 'them'} again"
        for fault, letters in by_fault.items()
    ]
    unknown = [front.letter(member) for member in front.members if member.file == "unknown"]
    if unknown and not front.keeps_digests:
        found.append(EARLIER)
    elif unknown:
        found.append(
            f"whether the {'file' if len(unknown) == 1 else 'files'} of {', '.join(unknown)} changed since the export "
            "cannot be told: neither front.json nor the file holds a digest"
        )
    return found


def gap_remarks(front: Front, members: Sequence[Member]) -> list[str]:
    """Which networks are better or worse on the test images than chance explains, and what may be the cause."""
    gaps = {front.letter(member): gap for member in members if (gap := front.test_gap(member)) and gap.sure}
    if not gaps:
        return []
    letter, widest = max(gaps.items(), key=lambda item: abs(item[1].value))
    which = letter if len(gaps) == 1 else f"{', '.join(gaps)} (widest: {letter})"
    better = (widest.value > 0) != (front.share == "error")
    causes = "or the choice by validation; expect the test value" if better else "and the test images are easier"
    return [
        f"validation is {'better' if better else 'worse'} than test by more than chance explains: {which}, {widest}; "
        f"likely causes: the parts are of another origin (other people, cameras, days), {causes}"
    ]


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
