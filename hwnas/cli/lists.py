"""`hwnas spaces`, `hwnas methods`, `hwnas devices`: what there is to choose from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hwnas.cli.options import AsJson
from hwnas.cli.terminal import show, show_json, show_table
from hwnas.device import Device
from hwnas.space import Space
from hwnas.strategies import STRATEGIES
from hwnas.zoo import FAMILIES


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
    """What the decisions are about, each kind once: the last part of their labels with the largest set of options."""
    kinds: dict[str, tuple[object, ...]] = {}
    for decision in space.decisions:
        kind = decision.label.rpartition(".")[2]
        if kind != "resolution":
            kinds[kind] = max(kinds.get(kind, ()), decision.options, key=len)
    if len(set(kinds.values())) == 1 < len(kinds):  # the edges of a cell
        return f"{', '.join(map(str, next(iter(kinds.values()))))} on each of {len(space.decisions) - 1} edges"
    return "; ".join(f"{kind} {', '.join(map(str, options))}" for kind, options in kinds.items())


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
    """List the devices in devices/."""
    found = [Device.load(path) for path in sorted(Path("devices").glob("*.toml"))]
    if as_json:
        show_json([device.model_dump(mode="json") for device in found])
        return
    show_table(
        "devices",
        ["name", "reach", "runtime", "threads", "precision", "batch"],
        [[d.name, d.host or d.reach, d.runtime, str(d.threads), d.precision, str(d.batch)] for d in found],
    )
