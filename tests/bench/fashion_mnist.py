"""The main job on real images, against the network one would take without it.

`found` runs `search/fashion_mnist.toml`, or takes the run that is there; `alone` trains the space's default network for
as long as the whole run took, and times everything together once more: each takes 20 minutes to an hour, by the
processor. `matched` runs it with three seeds, and trains the default network, in its own and in other widths, as long
as members were trained: three to four hours. All rivals get the members' schedule.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hwnas.core import Architecture, Objective, generator
from hwnas.data import batches
from hwnas.evaluation.shared_weights import calibrate_batch_norm, served
from hwnas.export import export_onnx
from hwnas.job import Assembly, Front, Member, Silent, assemble, profile
from hwnas.job import search as run_search
from hwnas.nn import build_network
from hwnas.profiling import remeasure
from hwnas.report import Axis, Dot, front_picture
from hwnas.training import Plain, Trainer, accuracies
from hwnas.zoo import Family, MobileNetV3
from tests.bench.figures import ROOT, TIME, Bench, Measured, MissingDataError, Null, Row, mean_of
from tests.bench.recipes import whole_seconds, with_value, written

SEEDS = (0, 1, 2)
ONE_RUN = "one run of the recipe, as a user has it; part matched compares with three"
LEVELS = (0.5, 1.0, 2.0)
FACTORS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 1.75, 2.0)
GIVEN = "a latency table of the device; the default network gets the members' schedule"
RECIPE = ROOT / "search" / "fashion_mnist.toml"
PICTURE = ROOT / "tests" / "bench" / "results" / "fashion_mnist.png"


def found(data: Path, *, recipe: Path = RECIPE, root: Path = ROOT, picture: Path = PICTURE) -> Measured:
    """Accuracy and latency of the front and of the default network beside it, and the time all of it took.

    Args:
        data: Not used.
        recipe: Of the run.
        root: The workspace.
        picture: Gets the README's picture.
    """
    assembly = assemble(recipe, root=root)
    if not assembly.table_path.is_file():
        profile(recipe, root=root)
    front = run_search(recipe, root=root)
    _draw(front, picture, [_beside(front)])
    return Measured(
        _rows_of_the_run(front),
        {
            "recipe": recipe.name,
            "seed": assembly.recipe.seed,
            "device": assembly.device.name,
            "measurement": front.facts["measurement"]["verdict"],
            "session_factor": front.facts["measurement"]["session_factor"],
        },
        given=GIVEN,
        seeds=1,
        threads=torch.get_num_threads(),
        inputs=_inputs(recipe),
        few=ONE_RUN,
    )


def alone(data: Path, *, recipe: Path = RECIPE, root: Path = ROOT, picture: Path = PICTURE) -> Measured:
    """The default network trained alone for as long as the whole run took, timed together with the run's members.

    Args:
        data: Not used.
        recipe: Of a run that is finished, or is made now.
        root: The workspace.
        picture: Gets the README's picture, with this network in it.
    """
    assembly = assemble(recipe, root=root)
    front = run_search(recipe, root=root)
    rows, dot = _against_the_long_rival(assembly, front)
    _draw(front, picture, [_beside(front), dot])
    return Measured(
        rows,
        {"recipe": recipe.name, "seed": assembly.recipe.seed, "device": assembly.device.name},
        given=GIVEN,
        seeds=1,
        threads=torch.get_num_threads(),
        inputs=_inputs(recipe),
        few=ONE_RUN,
    )


@dataclass(frozen=True)
class Pairing:
    """A member and what is trained beside it with one seed.

    Attributes:
        member: The most accurate of the front by validation, within a latency.
        plain: The default network's test accuracy, trained as long as the member.
        scaled: That of the default network in another width: as slow as the member or a little slower.
        factor: Of its width.
        latency_ms: Of the scaled one, measured in one session with the member.
    """

    member: Member
    plain: float
    scaled: float
    factor: float
    latency_ms: float


def matched(
    data: Path,
    *,
    recipe: Path = RECIPE,
    root: Path = ROOT,
    seeds: Sequence[int] = SEEDS,
    levels: Sequence[float] = LEVELS,
    factors: Sequence[float] = FACTORS,
) -> Measured:
    """Members of the front against the default network and against that in other widths, at some latencies.

    For each seed a run of its own. At each latency takes part the member that is most accurate by validation among
    those of the front within it. Its rivals are trained as long as it was, in whole epochs, rounded up, by the members'
    schedule: the default network, and the default network scaled in width until it is as slow as the member.

    Args:
        data: Not used.
        recipe: Gives everything but the seed.
        root: The workspace; gets a run for each seed.
        seeds: Of the runs.
        levels: Latencies, as multiples of the default network's.
        factors: Widths that are tried, as multiples of the default's.
    """
    pairings: dict[float, list[Pairing]] = {level: [] for level in levels}
    for seed in seeds:
        text = with_value(recipe.read_text(encoding="utf-8"), "", "seed", seed)
        own = written(text, f"{recipe.stem}_seed{seed}", root)
        assembly = assemble(own, root=root)
        if not assembly.table_path.is_file():
            profile(own, root=root)
        for level, pairing in _pairings(assembly, run_search(own, root=root), levels, factors).items():
            pairings[level].append(pairing)
    rows: list[Row] = []
    better = 0
    for level, found in pairings.items():
        if len(found) < len(seeds):
            continue  # some front has nothing that is so fast
        of = f"within {level:g} times the default network's latency"
        scaled = [p.member.test["accuracy"] - p.scaled for p in found]
        plain = [p.member.test["accuracy"] - p.plain for p in found]
        slower = [p.latency_ms / p.member.values["latency_ms"] for p in found]
        row = mean_of(f"{of}: member minus default scaled in width, test accuracy", scaled, "share")
        better += row.error is not None and row.value - 2 * row.error > 0
        rows += [
            row,
            mean_of(f"{of}: member minus default network, test accuracy", plain, "share"),
            mean_of(f"{of}: member, test accuracy", [p.member.test["accuracy"] for p in found], "share"),
            mean_of(f"{of}: latency of the scaled default over the member's", slower, "ratio"),
            mean_of(f"{of}: width of the scaled default", [p.factor for p in found], "ratio"),
        ]
    judged = Row(
        f"latencies of {len(levels)} at which members beat the default scaled in width by two standard errors",
        better,
        "latencies",
        1,
        len(levels),
        null=Null("the scaled default against itself", 0),
    )
    conditions = {"recipe": recipe.name, "levels": list(levels), "widths": list(factors), "schedule": "[members]"}
    return Measured(
        [judged, *rows],
        conditions,
        given="a latency table; both sides the same schedule and time",
        seeds=len(seeds),
        threads=1,
        inputs=_inputs(recipe),
    )


def _inputs(recipe: Path) -> tuple[Path, ...]:
    return (recipe,) if recipe.is_relative_to(ROOT) else ()


def _pairings(
    assembly: Assembly, front: Front, levels: Sequence[float], factors: Sequence[float]
) -> dict[float, Pairing]:
    """By level, where the front has a member within it."""
    default = _default(front)
    base = default.values["latency_ms"]
    chosen: dict[float, Member] = {}
    for level in levels:
        within = [m for m in _on_front(front) if m.values["latency_ms"] <= level * base]
        if within:
            chosen[level] = max(within, key=lambda m: m.values["accuracy"])
    widths = {factor: scaled(assembly.family, factor) for factor in factors}
    latency = _together(assembly, front, default.architecture, widths)
    tasks: dict[tuple[float, str], tuple[Family, int]] = {}
    factor_of: dict[float, float] = {}
    for level, member in chosen.items():
        slow = [f for f in factors if latency[f"width {f:g}"] >= latency[member.architecture.digest]]
        factor_of[level] = min(slow, key=lambda f: latency[f"width {f:g}"]) if slow else max(factors)
        for what, family in (("plain", assembly.family), ("scaled", widths[factor_of[level]])):
            _, epoch, _ = _alone(assembly, family, default.architecture, 1)
            tasks[level, what] = family, max(1, math.ceil(member.training_seconds / epoch))
    # Under the members' conditions: two at a time, each on one core.
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = {
            key: pool.submit(_alone, assembly, family, default.architecture, n) for key, (family, n) in tasks.items()
        }
        test = {key: task.result()[2][1] for key, task in running.items()}
    torch.set_num_threads(threads)
    return {
        level: Pairing(
            member,
            test[level, "plain"],
            test[level, "scaled"],
            factor_of[level],
            latency[f"width {factor_of[level]:g}"] / latency[member.architecture.digest] * member.values["latency_ms"],
        )
        for level, member in chosen.items()
    }


def scaled(family: Family, factor: float) -> Family:
    """A MobileNetV3 space with all widths times a factor, in steps of 4 channels.

    Raises:
        MissingDataError: If the family is another: what its width is, nobody knows.
    """
    if not isinstance(family, MobileNetV3):
        raise MissingDataError(f"space {family.name}: only mobilenet_v3 can be scaled in width here")

    def width(channels: int) -> int:
        return max(4, 4 * round(channels * factor / 4))

    return replace(
        family,
        stem_width=width(family.stem_width),
        widths=tuple(width(channels) for channels in family.widths),
        head_width=width(family.head_width),
    )


def _together(
    assembly: Assembly, front: Front, architecture: Architecture, widths: Mapping[float, Family]
) -> dict[str, float]:
    """Milliseconds of the members and of the default network in some widths, timed in one session."""
    with tempfile.TemporaryDirectory() as folder:
        files = {m.architecture.digest: front.onnx_path(m) for m in _members(front)}
        for factor, family in widths.items():
            path = Path(folder) / f"{factor:g}.onnx"
            network = family.build_network(architecture).eval()
            side = int(architecture["resolution"])
            export_onnx(network, path, input_shape=(assembly.splits.channels, side, side), metadata={"role": "width"})
            files[f"width {factor:g}"] = path
        again = remeasure(
            files,
            table=assembly.load_table(Silent(), recheck=False),
            device=assembly.device,
            space=assembly.family.space,
            build_network=assembly.build_network,
        )
    return dict(again.latency_ms)


FASHION_MNIST: Bench = {"found": found, "matched": matched, "alone": alone}
"""The parts of `python -m tests.bench fashion_mnist`."""


def _beside(front: Front) -> Dot:
    default = _default(front)
    return _rival(default.values["latency_ms"], default.test["accuracy"], "default network, a member's time")


def _rival(latency_ms: float, accuracy: float, name: str) -> Dot:
    return Dot(latency_ms, accuracy, name=name, on_front=False, searched=False)


def _on_front(front: Front) -> list[Member]:
    """Those that the search found; all of them where the default network beats each."""
    return [member for member in front.on_front if member.role == "member"] or _members(front)


def _default(front: Front) -> Member:
    return next(member for member in front.members if member.role == "default")


def _best(front: Front) -> Member:
    """Nothing is chosen by test accuracy."""
    return max(_on_front(front), key=lambda m: m.values["accuracy"])


def _members(front: Front) -> list[Member]:
    return [member for member in front.members if member.role == "member"]


def _rows_of_the_run(front: Front) -> list[Row]:
    default = _default(front)
    best = _best(front)
    latencies = [m.values["latency_ms"] for m in _on_front(front)]
    error = front.facts["prediction_error"]["mape"]
    one_for_all = float(np.abs(np.mean(latencies) / np.array(latencies) - 1).mean())
    minutes = whole_seconds(front) / 60
    rows = [
        Row(
            "most accurate member by validation, test accuracy",
            best.test["accuracy"],
            "share",
            0.92,
            0.925,
            null=Null("the default network without a search", default.test["accuracy"]),
        ),
        Row(
            "front, slowest over fastest latency",
            max(latencies) / min(latencies),
            "ratio",
            3.0,
            null=Null("the default network alone", 1.0),
        ),
        Row(
            "predicted against measured latency, mean error",
            error,
            "share",
            0.05,
            0.02,
            "lower",
            null=Null("one latency for all", one_for_all),
        ),
        Row("whole run: supernet, search, members, rival, measuring", minutes, "minutes", 60, 40, "lower", null=TIME),
        Row("default network beside the members, training", default.training_seconds, "s"),
        Row("default network beside the members, test accuracy", default.test["accuracy"], "share"),
        Row("default network beside the members, latency", default.values["latency_ms"], "ms", better="lower"),
    ]
    for member in front.members:
        if member.role == "member":
            name = f"{'front' if member.on_front else 'beaten'} {member.architecture.digest}"
            rows += [
                Row(f"{name}, test accuracy", member.test["accuracy"], "share"),
                Row(f"{name}, latency", member.values["latency_ms"], "ms", better="lower"),
                Row(f"{name}, final training", member.training_seconds, "s", better="lower"),
            ]
    return rows


def _against_the_long_rival(assembly: Assembly, front: Front) -> tuple[list[Row], Dot]:
    """The default network trained alone for the whole run's time, timed in one session with the members."""
    default, members = _default(front), _members(front)
    # One epoch for its time: alone it has both cores, which the default network of the run shared with a member.
    _, epoch, _ = _alone(assembly, assembly.family, default.architecture, 1)
    epochs = max(1, round(whole_seconds(front) / epoch))
    network, seconds, (validation, test) = _alone(assembly, assembly.family, default.architecture, epochs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "alone.onnx"
        shape = (assembly.splits.channels, *[int(default.architecture["resolution"])] * 2)
        export_onnx(network, path, input_shape=shape, metadata={"role": "trained alone for the whole run's time"})
        again = remeasure(
            {m.architecture.digest: front.onnx_path(m) for m in members} | {"alone": path},
            table=assembly.load_table(Silent(), recheck=False),
            device=assembly.device,
            space=assembly.family.space,
            build_network=assembly.build_network,
        )
    best = _best(front)
    rows = [
        Row("(b) default network alone for the whole run's time, epochs", epochs, "epochs"),
        Row("(b) training", seconds / 60, "minutes"),
        Row("(b) validation accuracy", validation, "share"),
        Row("(b) test accuracy", test, "share"),
        Row("(b) latency", again.latency_ms["alone"], "ms", better="lower"),
        Row("most accurate member by validation minus (b), test accuracy", best.test["accuracy"] - test, "share"),
        *(
            Row(f"{name}, latency measured once more", ms, "ms", better="lower")
            for name, ms in sorted(again.latency_ms.items())
            if name != "alone"
        ),
    ]
    return rows, _rival(again.latency_ms["alone"], test, "default network, the whole run's time")


def _alone(
    assembly: Assembly, family: Family, architecture: Architecture, epochs: int
) -> tuple[torch.nn.Module, float, tuple[float, float]]:
    """A network from scratch, by the members' schedule but for so many epochs; its seconds; validation and test."""
    recipe, images = assembly.recipe, assembly.images
    side = int(architecture["resolution"])
    schedule = recipe.member_schedule() or recipe.supernet_schedule()
    torch.manual_seed(recipe.seed)
    network = build_network(family.space, architecture)
    size = recipe.members.batch_size
    trainer = Trainer(
        network,
        Plain(network, side, label_smoothing=recipe.members.label_smoothing),
        batches=lambda rng: batches(
            images["train"], batch_size=size, generator=rng, augment=recipe.augmentation(), drop_last=True
        ),
        steps=max(1, len(images["train"]) // size),
        schedule=replace(schedule, epochs=epochs),
        placement=assembly.placement,
        compiled=recipe.members.compiled,
    )
    started = time.perf_counter()
    for k in range(epochs):
        trainer.epoch(k, generator(recipe.seed, "alone", k))
    seconds = time.perf_counter() - started
    network.eval()
    calibrate_batch_norm(network, side, images["train"], images=recipe.evaluation.batch_norm_images, seed=recipe.seed)
    found = [accuracies(network, served(images[part], side))[0] for part in ("validation", "test")]
    return network, seconds, (found[0], found[1])


def _draw(front: Front, path: Path, rivals: Sequence[Dot]) -> None:
    """The README's picture: test accuracy, which nothing was chosen by."""
    device = front.facts["device"]
    front_picture(
        path,
        dots=[
            *(
                Dot(
                    m.values["latency_ms"],
                    m.test["accuracy"],
                    name=front.letter(m),
                    on_front=m.on_front,
                    predicted_x=m.predicted["latency_ms"].value,
                )
                for m in _members(front)
            ),
            *rivals,
        ],
        x=Axis.of(Objective.named("latency_ms"), "measured"),
        y=Axis.of(Objective.named("accuracy"), "test images"),
        title="Fashion-MNIST, 60,000 images: one run on two CPU cores",
        caption=f"space {front.facts['space']['name']}; {device['runtime']}, {device['threads']} thread, "
        f"batch {device['batch']}; latency measured; networks chosen by validation, drawn by test",
    )
