"""`hwnas spaces`, `hwnas devices`: what there is to choose from; `hwnas methods` is in `methods.py`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from string import digits
from typing import Annotated, Any

import typer

from hwnas.cli.check import gpu_in_words, kinds_in_words, quota_in_words
from hwnas.cli.options import AsJson
from hwnas.cli.terminal import show, show_json, show_table, wrapped
from hwnas.core import DeviceError, SpaceError, counted
from hwnas.core.errors import did_you_mean
from hwnas.device import Device, allowed_cores, cgroup_quota, fingerprint, nvidia_state, quota_unread
from hwnas.profiling import RuntimeState, try_runtimes
from hwnas.space import Space
from hwnas.zoo import FAMILIES

_UNTRIED = {"none": "estimate only"}
"""What stands in the place of "not tried", by reach."""

MOST_SHOWN = 16
"""Options of a decision up to which a table shows all of them."""


def spaces(
    name: Annotated[str | None, typer.Argument(help="One space: what its networks choose, and its fields.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the ready spaces, which have a supernet, and the fields a recipe's [space] may set."""
    if name is not None and name not in FAMILIES:
        raise SpaceError(f'space "{name}" is unknown; {did_you_mean(name, FAMILIES)}', hint="hwnas spaces lists them")
    rows = [_facts(one) for one in ([*FAMILIES] if name is None else [name])]
    if as_json:
        show_json(rows)
    elif name is None:
        show_table(
            "spaces",
            ["name", "networks", "decisions", "supernet", "resolutions"],
            [
                [
                    row["name"],
                    f"{row['networks']:.1e}",
                    str(row["decisions"]),
                    "yes" if row["supernet"] else "no",
                    _sides(FAMILIES[row["name"]].resolutions),
                ]
                for row in rows
            ],
        )
        show("")
        show('without a supernet: [evaluation] weights = "scratch" trains each candidate')
        show("hwnas spaces NAME: what its networks choose, and what [space] may set")
    else:
        for line in _in_detail(rows[0]):
            show(line)


def _facts(name: str) -> dict[str, Any]:
    """Of a ready space, as JSON."""
    family = FAMILIES[name]
    fields = {k: v for k, v in dataclasses.asdict(family).items() if k not in ("name", "channels", "classes")}
    return {
        "name": name,
        "networks": family.space.size,
        "decisions": len(family.space.decisions),
        "supernet": family.has_supernet,
        "fields": fields,
    }


def _in_detail(row: dict[str, Any]) -> list[str]:
    """A space for people, in 80 columns."""
    supernet = "a supernet" if row["supernet"] else 'no supernet: [evaluation] weights = "scratch"'
    lines = [
        f"{row['name']}: {row['networks']:.3g} networks, {counted(row['decisions'], 'decision')}, {supernet}",
        "",
        "its networks choose, per place:",
        *(f"    {kind}" for kind in _chosen(FAMILIES[row["name"]].space).split("; ")),
        "",
        "[space] may set (channels and classes come from the data):",
        *(f"    {key} = {json.dumps(value)}" for key, value in row["fields"].items()),
    ]
    return [part for line in lines for part in wrapped(line)]


def _sides(resolutions: Sequence[int]) -> str:
    """The sides of images in a few letters.

    Example:
        >>> _sides([28]), _sides([24, 28, 32]), _sides(range(128, 228, 4))
        ('28', '24, 28, 32', '128 to 224 (25)')
    """
    if len(resolutions) <= 4:
        return ", ".join(map(str, resolutions))
    return f"{min(resolutions)} to {max(resolutions)} ({len(resolutions)})"


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
        ["name", "runtime", "threads", "batch", "state"],
        [
            [d.name, d.runtime, str(d.threads), str(d.batch), f"{row['state']}{_way(d)}"]
            for d, row in zip(found, rows, strict=True)
        ]
        + [[name, "", "", "", "damaged"] for name in bad],
    )
    show("float32 throughout: no other precision is measured or estimated")
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


def _way(device: Device) -> str:
    """How a device is reached that is not this machine.

    Example:
        >>> _way(Device(name="pi5", host="user@board")), _way(Device(name="a"))
        (', ssh user@board', '')
    """
    if device.host:
        return f", ssh {device.host}"
    return ", by kit" if device.reach == "kit" else ""


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
