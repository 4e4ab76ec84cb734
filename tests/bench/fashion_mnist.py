"""The main job on real images, against the network one would take without it.

`found` runs `search/fashion_mnist.toml`, or takes the run that is there; `matched` trains the space's default network
as long as each faster member of the front was trained; `alone` trains it for as long as the whole run took, and times
everything together once more. `found` and `alone` take as long as each other: 20 minutes to an hour, by the processor.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from hwnas.core import Objective, generator
from hwnas.data import batches
from hwnas.evaluation.shared_weights import calibrate_batch_norm, served
from hwnas.export import export_onnx
from hwnas.job import Assembly, Front, Member, Silent, assemble, profile
from hwnas.job import search as run_search
from hwnas.nn import build_network
from hwnas.profiling import remeasure
from hwnas.report import Axis, Dot, front_picture
from hwnas.training import Plain, Trainer, accuracies
from tests.bench.figures import ROOT, Bench, Measured, Row

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
    return Measured(rows, {"recipe": recipe.name, "seed": assembly.recipe.seed, "device": assembly.device.name})


def matched(data: Path, *, recipe: Path = RECIPE, root: Path = ROOT) -> Measured:
    """The default network trained alone for as long as the final training of each front member that is faster.

    Under the members' conditions: two at a time, each on one core. Epochs are whole ones, rounded up, so that the
    default network never gets less time.

    Args:
        data: Not used.
        recipe: Of a run that is finished, or is made now.
        root: The workspace.
    """
    assembly = assemble(recipe, root=root)
    front = run_search(recipe, root=root)
    default = _default(front)
    faster = [m for m in _on_front(front) if m.values["latency_ms"] < default.values["latency_ms"]]
    epoch = default.training_seconds / assembly.recipe.members.default_epochs
    epochs = {m.architecture.digest: max(1, math.ceil(m.training_seconds / epoch)) for m in faster}
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        tasks = {n: pool.submit(_alone, assembly, default, n) for n in sorted(set(epochs.values()), reverse=True)}
        trained = {n: task.result() for n, task in tasks.items()}
    torch.set_num_threads(threads)
    rows, winners = [], 0
    for member in faster:
        name, n = member.architecture.digest, epochs[member.architecture.digest]
        _, seconds, (_, accuracy) = trained[n]
        winners += member.test["accuracy"] >= accuracy
        rows += [
            Row(f"(a) default network, {n} epochs, as long as {name}: training", seconds, "s"),
            Row(f"(a) default network, {n} epochs, as long as {name}: test accuracy", accuracy, "share"),
            Row(f"{name} minus (a)", member.test["accuracy"] - accuracy, "share"),
        ]
    what = "front members faster than (a) and at least as accurate, (a) trained as long as they"
    return Measured([Row(what, winners, "networks", 1), *rows], {"recipe": recipe.name, "seed": assembly.recipe.seed})


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


def _members(front: Front) -> list[Member]:
    return [member for member in front.members if member.role == "member"]


def _whole_seconds(front: Front) -> float:
    """Of everything from the first epoch to the written front, the rival's own training included.

    A run that was resumed knows only its last sitting's clock; its stored parts are then the better lower bound. As
    many networks train at a time as there are torch threads.
    """
    trained = sum(member.training_seconds for member in front.members) / torch.get_num_threads()
    return max(float(front.facts["seconds_of_this_process"]), float(front.facts["search"]["seconds"]) + trained)


def _rows_of_the_run(front: Front) -> list[Row]:
    default = _default(front)
    best = max(_on_front(front), key=lambda m: m.test["accuracy"])
    latencies = [m.values["latency_ms"] for m in _on_front(front)]
    error = front.facts["prediction_error"]["mape"]
    minutes = _whole_seconds(front) / 60
    rows = [
        Row("best member, test accuracy", best.test["accuracy"], "share", 0.92, 0.925),
        Row("front, slowest over fastest latency", max(latencies) / min(latencies), "ratio", 3.0),
        Row("predicted against measured latency, mean error", error, "share", 0.05, 0.02, "lower"),
        Row("whole run: supernet, search, members, rival, measuring", minutes, "minutes", 60, 40, "lower"),
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
    _, epoch, _ = _alone(assembly, default, 1)
    epochs = max(1, round(_whole_seconds(front) / epoch))
    network, seconds, (validation, test) = _alone(assembly, default, epochs)
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
    best = max(_on_front(front), key=lambda m: m.test["accuracy"])
    rows = [
        Row("(b) default network alone for the whole run's time, epochs", epochs, "epochs"),
        Row("(b) training", seconds / 60, "minutes"),
        Row("(b) validation accuracy", validation, "share"),
        Row("(b) test accuracy", test, "share"),
        Row("(b) latency", again.latency_ms["alone"], "ms", better="lower"),
        Row("best member minus (b), test accuracy", best.test["accuracy"] - test, "share"),
        *(
            Row(f"{name}, latency measured once more", ms, "ms", better="lower")
            for name, ms in sorted(again.latency_ms.items())
            if name != "alone"
        ),
    ]
    return rows, _rival(again.latency_ms["alone"], test, "default network, the whole run's time")


def _alone(assembly: Assembly, default: Member, epochs: int) -> tuple[torch.nn.Module, float, tuple[float, float]]:
    """The default network from scratch, as the run's own comparison trains it but for so many epochs."""
    recipe, images = assembly.recipe, assembly.images
    side = int(default.architecture["resolution"])
    torch.manual_seed(recipe.seed)
    network = build_network(assembly.family.space, default.architecture)
    size = recipe.members.batch_size
    trainer = Trainer(
        network,
        Plain(network, side, label_smoothing=recipe.members.label_smoothing),
        batches=lambda rng: batches(
            images["train"], batch_size=size, generator=rng, augment=recipe.augmentation(), drop_last=True
        ),
        steps=max(1, len(images["train"]) // size),
        schedule=replace(recipe.supernet_schedule(), epochs=epochs),
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
