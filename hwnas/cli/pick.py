"""`hwnas pick`: one network of a front, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.cli.front import file_remarks, gap_remarks, in_percent, latency_words
from hwnas.cli.options import AsJson, AtLeast, AtMost, By, Run, limits, numbers, run_folder, run_words
from hwnas.cli.terminal import show, show_json
from hwnas.cli.use_it import python_lines
from hwnas.core import SHARES, Gap
from hwnas.core.escaping import command_line
from hwnas.device.measure import PROVIDERS
from hwnas.job import EARLIER, Front, Member, check_member_file, examined
from hwnas.pareto import RULES, Exchange, Rule, exchanges, reason, violations_of

if TYPE_CHECKING:
    from hwnas.export import Described


def pick(
    run: Run,
    by: By = "knee",
    at_most: AtMost = [],
    at_least: AtLeast = [],
    as_json: AsJson = False,
) -> None:
    """Pick one network of a run's measured front and print how to use it."""
    front, member, file = handed_over(run_folder(run), by, at_most, at_least)
    why = _why(front, member, by, at_most, at_least)
    if as_json:
        show_json({**summary(front, member, why), "file_state": file.state, "latency_notes": front.latency_notes})
        return
    for line in about(front, member, by, why):
        show(line)
    told = [] if file.remark in ("", EARLIER) else [file.remark]  # the latter is among the remarks on the front
    for note in [*told, *front.latency_notes]:
        show(f"note: {note}")
    for line in usage(front, member, file.metadata):
        show(line)


def handed_over(folder: Path, by: str, at_most: list[str], at_least: list[str]) -> tuple[Front, Member, Described]:
    """The front of a run as its files are now, the member that the options mean, and its file.

    It is chosen from the front as it was measured: where the best network's file was changed, no other is handed over
    in its place.

    Raises:
        PickError: If nothing fits.
        RecipeError: If an option is malformed.
        ExportError: If the member's file is not the one that was measured.
    """
    measured = Front.load(folder)
    member = chosen(measured, by, at_most, at_least)
    file = check_member_file(measured, member)
    front = examined(measured)
    return front, next(one for one in front.members if one.onnx == member.onnx), file


def chosen(front: Front, by: str, at_most: list[str], at_least: list[str]) -> Member:
    """The member that the options mean.

    Raises:
        PickError: If nothing fits.
        RecipeError: If an option is malformed.
    """
    rule = _rule(by)
    return front.member(by) if rule is None else front.pick(rule, limits=limits(at_most, at_least))


def _rule(by: str) -> Rule | dict[str, float] | None:
    """What `--by` says: a rule or weights; None for the digest of a member.

    Raises:
        RecipeError: If weights are malformed.
    """
    for rule in RULES:
        if by == rule:
            return rule
    return numbers("--by", by.split(",")) if "=" in by else None


def _why(front: Front, member: Member, by: str, at_most: list[str], at_least: list[str]) -> str:
    """Why the rule picks it, among those that meet the limits; empty where it was asked for by name."""
    rule = _rule(by)
    if rule is None:
        return ""
    kept = limits(at_most, at_least)
    among = [one for one in front.on_front if not violations_of([one.values], kept)[0] and not front.at_chance(one)]
    if member not in among:
        return ""  # it was on the front as it was measured; files of others are gone or changed since
    words = reason([one.values for one in among], front.objectives, among.index(member), by=rule)
    if not kept:
        return words
    return f"{words} (among the {len(among)} of {len(front.on_front)} within {' and '.join(map(str, kept))})"


def _steps(front: Front, member: Member) -> list[Exchange]:
    """From a member of the front to its neighbours; none from one that is not on it."""
    points = front.on_front
    if member not in points:
        return []
    return exchanges([one.values for one in points], front.objectives, points.index(member))


def summary(front: Front, member: Member, why: str) -> dict[str, Any]:
    """A member as JSON, with the path of its file, why it was picked, and the steps to its neighbours."""
    steps = [
        {"better": step.better, "digest": front.on_front[step.to].architecture.digest, "changes": dict(step.changes)}
        for step in _steps(front, member)
    ]
    return {
        **member.to_json(),
        "letter": front.letter(member),
        "file": str(front.onnx_path(member)),
        "reason": why or None,
        "exchanges": steps,
        "at_chance": front.at_chance(member),
        "against_the_next_cheaper": _gap_json(front, member),
        "validation_minus_test": _as_json(front.test_gap(member)),
    }


def _gap_json(front: Front, member: Member) -> dict[str, Any] | None:
    cheaper = front.next_cheaper(member)
    if cheaper is None:
        return None
    return {"digest": cheaper.architecture.digest, "metric": front.share, **_as_json(front.gap(member, cheaper))}


def _as_json(gap: Gap | None) -> dict[str, float]:
    return {} if gap is None else {"value": gap.value, "standard_error": gap.standard_error}


def _change(front: Front, name: str, change: float, value: float, gap: Gap | None = None) -> str:
    """A difference for people: shares in points with their standard error, other units relative to the value.

    Example:
        >>> from pathlib import Path
        >>> from hwnas.core import Objective
        >>> front = Front(Path(), (Objective.named("accuracy"), Objective.named("latency_ms")), (), (), {})
        >>> _change(front, "accuracy", 0.0125, 0.9), _change(front, "latency_ms", -0.5, 2.0)
        ('+1.25 points of accuracy', '-25 % latency_ms')
    """
    if gap is not None:
        return f"{gap} of {name}"
    unit = next(objective.unit for objective in front.objectives if objective.name == name)
    if unit == "share":
        return f"{100 * change:+.2f} points of {name}"
    return f"{100 * change / value:+.0f} % {name}" if value else f"{change:+.4g} {unit} {name}"


def _step_in_words(front: Front, member: Member, step: Exchange) -> str:
    other = front.on_front[step.to]
    changes = [
        _change(front, name, change, member.values[name], front.gap(other, member, name) if name in SHARES else None)
        for name, change in step.changes.items()
    ]
    return f"{', '.join(changes)}:  --by {front.letter(other)} ({other.architecture.digest})"


def remarks_on(front: Front, member: Member, by: str) -> list[str]:
    """How sure its accuracy is, and what speaks against it; one line each."""
    found = []
    cheaper = front.next_cheaper(member)
    if cheaper is not None:
        gap = front.gap(member, cheaper)
        found.append(f"{gap} of {front.share} against the next cheaper, {front.letter(cheaper)}")
    standing = front.standing(member)
    if standing == "at chance":
        found.append(f"no better than guessing, which gives {front.chance().value:.1%} {front.share}")
    elif standing != "front":
        found.append(f"not on the front: {standing}")
    found += file_remarks(front)
    guessing = [one for one in front.members if front.at_chance(one) and not one.fault]
    if _rule(by) is not None and guessing:
        texts = ", ".join(f"{front.letter(one)} ({one.values[front.share]:.1%})" for one in guessing)
        found.append(
            f"left out, no better than guessing ({front.chance().value:.1%}): {texts}; "
            f"--by {front.letter(guessing[0])} takes it all the same"
        )
    return [*found, *gap_remarks(front, [member])]


def _test(front: Front, member: Member) -> str:
    return f", test {member.test_values[front.share]:.2%}" if front.share in member.test_values else ""


def session_of(front: Front, facts: Mapping[str, Any]) -> tuple[int, str | None]:
    """With how many threads and on which provider of onnxruntime a file was measured; None: on another runtime."""
    device = front.facts["device"]
    conditions = facts.get("latency_measured", {}).get("conditions", {})
    return int(conditions.get("threads", device["threads"])), PROVIDERS.get(device["runtime"])


def about(front: Front, member: Member, by: str, why: str) -> list[str]:
    """What a person needs to know of the network."""
    steps = [f"  {_step_in_words(front, member, step)}" for step in _steps(front, member)]
    return [
        f"{by}: {front.letter(member)} {member.architecture.digest}   {front.share.replace('_', ' ')}: validation "
        f"{in_percent(member.metrics[front.share])}{_test(front, member)}, {latency_words(front, member)}",
        f"  {front.onnx_path(member)}",
        *([f"  {why}"] if why else []),
        *(f"  {line}" for line in remarks_on(front, member, by)),
        *(["", "a step away on the front:", *steps] if steps else []),
    ]


def usage(front: Front, member: Member, facts: Mapping[str, Any]) -> list[str]:
    """How to use it; `facts` is its file's metadata. The program comes last, so that it can be copied to the end."""
    path, digest = front.onnx_path(member), member.architecture.digest
    threads, provider = session_of(front, facts)
    return [
        "",
        f"keep it:   {command_line('hwnas', 'export', run_words(front.folder), '--by', digest, '--to', 'model.onnx')}",
        f"check it:  {command_line('hwnas', 'check', path)}",
        "",
        "use it, in Python:",
        *python_lines(path, facts, threads=threads, provider=provider),
    ]
