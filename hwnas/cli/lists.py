"""`hwnas spaces`, `hwnas methods`, `hwnas devices`: what there is to choose from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from string import digits
from typing import Any

from hwnas.cli.check import gpu_in_words, kinds_in_words, quota_in_words
from hwnas.cli.options import AsJson
from hwnas.cli.terminal import show, show_json, show_table
from hwnas.core import DeviceError
from hwnas.device import Device, allowed_cores, cgroup_quota, fingerprint, nvidia_state, quota_unread
from hwnas.profiling import RuntimeState, try_runtimes
from hwnas.space import Space
from hwnas.strategies import STRATEGIES
from hwnas.zoo import FAMILIES

_UNTRIED = {"none": "estimate only"}
"""What stands in the place of "not tried", by reach."""

MOST_SHOWN = 16
"""Options of a decision up to which a table shows all of them."""


def spaces(as_json: AsJson = False) -> None:
    """List the ready spaces and the fields a recipe's [space] may set."""
    rows = [
        {
            "name": name,
            "networks": family.space.size,
            "decisions": len(family.space.decisions),
            "fields": {
                key: value
                for key, value in dataclasses.asdict(family).items()
                if key not in ("name", "channels", "classes")
            },
        }
        for name, family in FAMILIES.items()
    ]
    if as_json:
        show_json(rows)
        return
    show_table(
        "spaces",
        ["name", "networks", "decisions", "resolutions", "chosen per place"],
        [
            [
                str(row["name"]),
                f"{row['networks']:.2e}",
                str(row["decisions"]),
                str(list(FAMILIES[str(row["name"])].resolutions)),
                _chosen(FAMILIES[str(row["name"])].space),
            ]
            for row in rows
        ],
        note="channels and classes come from the data; hwnas spaces --json shows every field",
    )


def _chosen(space: Space) -> str:
    """What the decisions are about, each kind once: the last part of their labels with the largest set of options.

    Labels that only differ in a number at their end are one kind.
    """
    kinds: dict[str, tuple[object, ...]] = {}
    merged: dict[str, tuple[object, ...]] = {}
    for decision in space.decisions:
        kind = decision.label.rpartition(".")[2]
        if kind != "resolution":
            kinds[kind] = max(kinds.get(kind, ()), decision.options, key=len)
            merged[kind.rstrip(digits)] = max(merged.get(kind.rstrip(digits), ()), decision.options, key=len)
    if len(set(kinds.values())) == 1 < len(kinds):  # the edges of a cell
        return f"{', '.join(map(str, next(iter(kinds.values()))))} on each of {len(space.decisions) - 1} edges"
    return "; ".join(f"{kind} {_shortened(options)}" for kind, options in merged.items())


def _shortened(options: Sequence[object]) -> str:
    """All options, or the first ones and how many there are."""
    if len(options) <= MOST_SHOWN:
        return ", ".join(map(str, options))
    return f"{', '.join(map(str, options[:4]))}, ... ({len(options)} in all)"


def methods(as_json: AsJson = False) -> None:
    """List the strategies and the fields a recipe's [strategy] may set."""
    fields = {name: {f.name: f.default for f in dataclasses.fields(strategy)} for name, strategy in STRATEGIES.items()}
    summaries = {name: (strategy.__doc__ or "").strip().splitlines()[0] for name, strategy in STRATEGIES.items()}
    if as_json:
        show_json([{"name": name, "summary": summaries[name], "fields": fields[name]} for name in STRATEGIES])
        return
    for name in STRATEGIES:
        show(f"{name}: {summaries[name]}")
        show("    " + (", ".join(f"{key} = {value!r}" for key, value in fields[name].items()) or "no parameters"))


def devices(as_json: AsJson = False) -> None:
    """List the devices in devices/, whether they work here, and what this machine is."""
    found, bad = read_devices(Path("devices"))
    rows = [device.model_dump(mode="json") | state for device, state in zip(found, states_of(found), strict=True)]
    here, nvidia, cores, quota = fingerprint(), nvidia_state(), allowed_cores(), cgroup_quota()
    if as_json:
        machine = {"identity": here.to_json(), "nvidia": nvidia.to_json()}
        listed = [row | {"machine": machine if row["reach"] == "local" else None} for row in rows]
        damaged = [{"name": name, "state": "damaged", "missing": error.message} for name, error in bad.items()]
        show_json(listed + damaged)
        return
    show_table(
        "devices",
        ["name", "reach", "runtime", "threads", "precision", "batch", "state"],
        [
            [d.name, d.host or d.reach, d.runtime, str(d.threads), d.precision, str(d.batch), str(row["state"])]
            for d, row in zip(found, rows, strict=True)
        ]
        + [[name, "", "", "", "", "", "damaged"] for name in bad],
    )
    for name, error in bad.items():
        show(f"{name}: {error.message}")
        if error.hint:
            show(f"    {error.hint}")
    for row in rows:
        if row["missing"]:
            show(f"{row['name']}: {row['missing']}")
            show(f"    {row['mend']}")
    guest = "" if here.hypervisor in {None, "none"} else f", a virtual machine{_under(here.hypervisor)}"
    show(f"this machine: {here.cpu_model or 'processor unknown'}{guest}")
    allowed = "unknown" if cores is None else f"{len(cores)} ({', '.join(map(str, cores))})"
    show(f"  cores allowed: {allowed}; quota in cores: {quota_in_words(quota, quota_unread())}")
    if len(here.core_kinds or ()) > 1:
        show(f"  kinds of cores, the fastest first: {kinds_in_words(here.core_kinds)}")
    if nvidia.missing is not None:
        show(f"  NVIDIA: unknown: {nvidia.missing} ({nvidia.mend})")
    for line in [*nvidia.problems, *map(gpu_in_words, nvidia.gpus)]:
        show(f"  NVIDIA: {line}")


def _under(hypervisor: str | None) -> str:
    """The name of what a virtual machine runs under, where it says one.

    Example:
        >>> _under("QEMU"), _under("unnamed")
        (' under QEMU', '')
    """
    return "" if hypervisor in {None, "unnamed"} else f" under {hypervisor}"


def read_devices(folder: Path) -> tuple[list[Device], dict[str, DeviceError]]:
    """The devices of a folder, and by name what is wrong with the files that are none: one bad file hides no other."""
    found: list[Device] = []
    bad: dict[str, DeviceError] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            found.append(Device.load(path))
        except DeviceError as error:
            bad[path.stem] = error
    return found, bad


def states_of(found: Sequence[Device]) -> list[dict[str, Any]]:
    """Per device whether it works here: "state", and where it does not, "missing" and "mend".

    A device that is reached in another way than by being this machine is not tried.
    """
    local = [device for device in found if device.reach == "local"]
    by_gpu: dict[str | None, dict[str, RuntimeState]] = {}
    for gpu in dict.fromkeys(device.gpu for device in local):
        by_gpu[gpu] = try_runtimes(list(dict.fromkeys(d.runtime for d in local if d.gpu == gpu)), gpu=gpu)
    rows: list[dict[str, Any]] = []
    for device in found:
        row: dict[str, Any] = {
            "state": _UNTRIED.get(device.reach, "not tried"),
            "missing": None,
            "mend": None,
            "live": None,
        }
        if device in local:
            tried = by_gpu[device.gpu][device.runtime]
            row = {"state": "works", "missing": tried.missing, "mend": tried.mend, "live": tried.identity}
            try:
                device.check_cores()
            except DeviceError as error:
                row |= {"missing": error.message, "mend": error.hint}
            if row["missing"]:
                row["state"] = "missing"
        rows.append(row)
    return rows
