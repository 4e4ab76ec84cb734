"""`hwnas pick`: one network of a front, and how to use it."""

from __future__ import annotations

from typing import Any

from hwnas.cli.front import latency_words
from hwnas.cli.options import AsJson, AtLeast, AtMost, By, Run, limits, numbers, run_folder
from hwnas.cli.terminal import show, show_json
from hwnas.job import Front, Member
from hwnas.pareto import RULES


def pick(
    run: Run,
    by: By = "knee",
    at_most: AtMost = [],
    at_least: AtLeast = [],
    as_json: AsJson = False,
) -> None:
    """Pick one network of a run's measured front and print how to use it."""
    front = Front.load(run_folder(run))
    member = chosen(front, by, at_most, at_least)
    if as_json:
        show_json(summary(front, member))
        return
    for line in usage(front, member, by):
        show(line)


def chosen(front: Front, by: str, at_most: list[str], at_least: list[str]) -> Member:
    """The member that the options mean.

    Raises:
        PickError: If nothing fits.
        RecipeError: If an option is malformed.
    """
    kept = limits(at_most, at_least)
    for rule in RULES:
        if by == rule:
            return front.pick(rule, limits=kept)
    if "=" in by:
        return front.pick(numbers("--by", by.split(",")), limits=kept)
    return front.member(by)


def summary(front: Front, member: Member) -> dict[str, Any]:
    """A member as JSON, with the path of its file."""
    return {**member.to_json(), "file": str(front.onnx_path(member))}


def usage(front: Front, member: Member, by: str) -> list[str]:
    """What a person needs to use the network."""
    path = front.onnx_path(member)
    side = member.architecture["resolution"]
    channels = front.facts["data"]["channels"]
    return [
        f"{by}: {member.architecture.digest}   validation {member.metrics['accuracy'].value:.2%}, test "
        f"{member.test['accuracy']:.2%}, {latency_words(front, member)}",
        f"  {path}",
        "",
        "use it:",
        "  import numpy as np, onnxruntime",
        f'  session = onnxruntime.InferenceSession("{path}")',
        f"  images = np.zeros((1, {channels}, {side}, {side}), np.float32)   # prepared as the file's metadata says",
        '  logits = session.run(None, {"image": images})[0]',
        "",
        f"keep it:   hwnas export {front.folder.name} --by {member.architecture.digest} --to model.onnx",
        f"check it:  hwnas check {path}",
    ]
