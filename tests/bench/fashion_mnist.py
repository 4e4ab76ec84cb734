"""The main job on real images, against the network one would take without it.

Runs `search/fashion_mnist.toml` (or takes the run that is there), then trains the space's default network alone for as
long as the whole run took, and times everything together once more. About 80 minutes on two quiet cores.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from hwnas.core import generator
from hwnas.data import batches
from hwnas.evaluation.shared_weights import calibrate_batch_norm, served
from hwnas.export import export_onnx
from hwnas.job import Assembly, Front, Member, Silent, assemble, profile
from hwnas.job import search as run_search
from hwnas.nn import build_network
from hwnas.profiling import remeasure
from hwnas.report import Dot, front_picture
from hwnas.training import Plain, Trainer, accuracies
from tests.bench.figures import ROOT, Measured, Row

RECIPE = ROOT / "search" / "fashion_mnist.toml"
PICTURE = ROOT / "tests" / "bench" / "results" / "fashion_mnist.png"


def fashion_mnist(
    data: Path,
    *,
    recipe: Path = RECIPE,
    root: Path = ROOT,
    picture: Path = PICTURE,
) -> Measured:
    """Accuracy and latency of the front, its rivals, and the time all of it took."""
    assembly = assemble(recipe, root=root)
    if not assembly.table_path.is_file():
        profile(recipe, root=root)
    front = run_search(recipe, root=root)
    default = next(member for member in front.members if member.role == "default")
    members = [member for member in front.members if member.role == "member"]
    searched = float(front.facts["search"]["seconds"])
    whole = searched + sum(member.training_seconds for member in members)
    epoch = default.training_seconds / assembly.recipe.members.default_epochs
    epochs = max(1, round(whole / epoch))
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
    alone_ms = again.latency_ms["alone"]
    _draw(front, picture, alone=(alone_ms, test))
    best = max(front.on_front, key=lambda m: m.test["accuracy"])
    latencies = [m.values["latency_ms"] for m in front.on_front]
    rivals = [
        m
        for m in front.on_front
        if m.values["latency_ms"] < default.values["latency_ms"] and m.test["accuracy"] >= default.test["accuracy"]
    ]
    longest = max(m.training_seconds for m in members)
    rows = [
        Row("best member, test accuracy", best.test["accuracy"], "share", 0.92, 0.925),
        Row("front, slowest over fastest latency", max(latencies) / min(latencies), "ratio", 3.0),
        Row(
            "predicted against measured latency, mean error",
            front.facts["prediction_error"]["mape"],
            "share",
            0.05,
            0.02,
            "lower",
        ),
        Row("whole run, stored seconds of training and search", whole / 60, "minutes", 60.0, 40.0, "lower"),
        Row(
            "front members faster than the default network alone (a) and at least as accurate on test",
            len(rivals),
            "networks",
            1,
        ),
        Row("(a) default network alone, training", default.training_seconds, "s"),
        Row("longest final training of a member", longest, "s"),
        Row("(a) default network alone, test accuracy", default.test["accuracy"], "share"),
        Row("(a) default network alone, latency", default.values["latency_ms"], "ms", better="lower"),
        Row("(b) default network alone for the whole run's time, epochs", epochs, "epochs"),
        Row("(b) training", seconds / 60, "minutes"),
        Row("(b) validation accuracy", validation, "share"),
        Row("(b) test accuracy", test, "share"),
        Row("(b) latency", alone_ms, "ms", better="lower"),
        Row("best member minus (b), test accuracy", best.test["accuracy"] - test, "share"),
    ]
    for member in front.on_front:
        name = f"front {member.architecture.digest}"
        rows += [
            Row(f"{name}, test accuracy", member.test["accuracy"], "share"),
            Row(f"{name}, latency", member.values["latency_ms"], "ms", better="lower"),
            Row(
                f"{name}, latency measured once more",
                again.latency_ms[member.architecture.digest],
                "ms",
                better="lower",
            ),
        ]
    return Measured(
        rows,
        {
            "recipe": recipe.name,
            "seed": assembly.recipe.seed,
            "device": assembly.device.name,
            "measurement": front.facts["measurement"]["verdict"],
            "session_factor": front.facts["measurement"]["session_factor"],
            "session_factor_now": again.factor,
        },
    )


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
    )
    started = time.perf_counter()
    for k in range(epochs):
        trainer.epoch(k, generator(recipe.seed, "alone", k))
    seconds = time.perf_counter() - started
    network.eval()
    calibrate_batch_norm(network, side, images["train"], images=recipe.evaluation.batch_norm_images, seed=recipe.seed)
    found = [accuracies(network, served(images[part], side))[0] for part in ("validation", "test")]
    return network, seconds, (found[0], found[1])


def _draw(front: Front, path: Path, *, alone: tuple[float, float]) -> None:
    """The README's picture: test accuracy, which nothing was chosen by."""
    default = next(member for member in front.members if member.role == "default")
    device = front.facts["device"]
    front_picture(
        path,
        dots=[
            Dot(m.values["latency_ms"], m.test["accuracy"], m.predicted["latency_ms"].value, m.on_front)
            for m in front.members
            if m.role == "member"
        ],
        rivals=[
            Dot(default.values["latency_ms"], default.test["accuracy"], label="default network, a member's time"),
            Dot(*alone, label="default network, the whole run's time"),
        ],
        title="Fashion-MNIST, 60,000 images: one run on two CPU cores",
        caption=f"space {front.facts['space']['name']}; {device['runtime']}, {device['threads']} thread, "
        f"batch {device['batch']}; latency measured",
        accuracy_label="test accuracy",
    )
