"""The whole of hwnas on a toy space, in the order things happen. Read this first; run it with `python -m hwnas.tour`.

Every step uses the same parts as `hwnas profile` and `hwnas search`, without a recipe, resume or progress bars.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hwnas.core import Architecture, Budget, Limit, Objective
from hwnas.cost import UnitSumCost
from hwnas.data import Augment, Batch, Images, Preprocessing, batches, digits, split
from hwnas.device import Device
from hwnas.evaluation import FromFunction
from hwnas.evaluation.shared_weights import calibrate_batch_norm, served
from hwnas.export import export_onnx
from hwnas.nn import build_block, build_network
from hwnas.pareto import pick
from hwnas.profiling import OnNoise, profile, remeasure
from hwnas.strategies import Nsga2
from hwnas.study import Phase, Study
from hwnas.training import Sandwich, Schedule, Trainer, accuracies
from hwnas.zoo import FAMILIES


@dataclass(frozen=True)
class Stop:
    """A network at the end of the tour: what was predicted, what was measured, where its file is."""

    architecture: Architecture
    accuracy: float
    predicted_ms: float
    measured_ms: float
    onnx: Path


def tour(folder: Path, *, epochs: int = 12, evaluations: int = 24, on_noise: OnNoise = "default") -> list[Stop]:
    """Profile this CPU, train a supernet on digits, search, export and measure the front.

    Args:
        folder: Gets the latency table and the ONNX files.
        epochs: Of the supernet.
        evaluations: Of the search.
        on_noise: "mark" goes on where the machine is too noisy for a table, which says so; by default that is an error.

    Returns:
        The front, the most accurate network first.
    """
    # 1. The images. Training fits weights, validation picks networks, test would be reported (not here).
    splits = split(digits(), validation=0.2, test=0.2, seed=0)
    preprocessing = Preprocessing.fit(splits.train)
    train, validation = Images(splits.train, preprocessing), Images(splits.validation, preprocessing)

    # 2. The space: two stages of mobile blocks; resolution, depth, kernel and expansion are decisions. An architecture
    #    is a choice for each; decisions that change nothing (the second block of a stage of depth 1) are left out.
    family = replace(FAMILIES["toy"], channels=splits.channels, classes=len(splits.classes))
    space = family.space
    print(f"{space.size} networks, for example {space.sample(1, np.random.default_rng(0))[0]}")

    # 3. The device. Every block that the space can produce is timed as ONNX in the deployment runtime; whole networks
    #    calibrate the sum of blocks, and other whole networks, never fitted, say how good the prediction is.
    device = Device(name="this-cpu")
    report = profile(
        space,
        build_block,
        lambda architecture: build_network(space, architecture),
        device=device,
        folder=folder / "latency_tables",
        on_noise=on_noise,
    )
    latency, macs = UnitSumCost.from_table(space, report.table), UnitSumCost.count(space, "macs")
    held_out = report.table.header.calibration.holdout if report.table.header.calibration else None
    print(
        f"{len(report.table.rows)} blocks measured; held-out error {held_out.mape:.1%}"
        if held_out
        else "not calibrated"
    )

    # 4. The supernet: all networks in one set of weights, called with the choice that should run.
    supernet = family.supernet()

    def one_epoch(rng: np.random.Generator) -> Iterator[Batch]:
        return batches(train, batch_size=64, generator=rng, augment=Augment(shift=0.1), drop_last=True)

    trainer = Trainer(
        supernet,
        Sandwich(supernet, largest=macs.largest()[1], smallest=macs.smallest()[1], random=1),
        batches=one_epoch,
        steps=len(train) // 64,
        schedule=Schedule(epochs, learning_rate=0.1),
    )

    # 5. Where an accuracy comes from: cut the network out, give it batch-norm statistics of its own, validate.
    def cut(architecture: Architecture) -> torch.nn.Module:
        network = supernet.extract(architecture).eval()
        calibrate_batch_norm(network, int(architecture["resolution"]), train, images=512, seed=0)
        return network

    def evaluate(architecture: Architecture) -> dict[str, float]:
        plain, _ = accuracies(cut(architecture), served(validation, int(architecture["resolution"])))
        return {"accuracy": plain}

    # 6. The study owns budget, limits, cache and store; a strategy is a program against it. Training and evaluations
    #    are durable steps: with a folder, a run that is killed goes on where it was.
    @dataclass(frozen=True)
    class TrainThenSearch:
        strategy: Nsga2

        def search(self, study: Study) -> None:
            phase: Phase = study.train("supernet", trainer.state, trainer.epoch, epochs)
            study.use_weights(phase.version)
            self.strategy.search(study)

    objectives = [Objective.named("accuracy"), Objective.named("latency_ms")]
    with Study(
        space,
        evaluate=FromFunction(evaluate),
        objectives=objectives,
        limits=[Limit("latency_ms", at_most=0.9 * latency.largest()[0])],
        costs=[latency],
        budget=Budget(evaluations=evaluations),
    ) as study:
        outcome = study.run(TrainThenSearch(Nsga2(population=8)))
    print(f"{len(outcome.evaluations)} networks asked for, {len(outcome.front)} on the front: {outcome.reason}")

    # 7. Numbers that were measured: each network of the front becomes one ONNX file that agrees with torch at several
    #    batch sizes, and is timed together with the table's reference networks.
    files = {}
    for found in outcome.front:
        side = int(found.architecture["resolution"])
        path = folder / f"{found.architecture.digest}.onnx"
        facts = {"classes": list(splits.classes), "preprocessing": preprocessing.to_json(side)}
        export_onnx(cut(found.architecture), path, input_shape=(splits.channels, side, side), metadata=facts)
        files[found.architecture.digest] = path
    measured = remeasure(
        files,
        table=report.table,
        device=device,
        space=space,
        build_network=lambda architecture: build_network(space, architecture),
    )
    stops = [
        Stop(
            found.architecture,
            found["accuracy"],
            found["latency_ms"],
            measured.latency_ms[found.architecture.digest],
            files[found.architecture.digest],
        )
        for found in outcome.front
    ]
    for stop in stops:
        print(f"{stop.accuracy:7.2%}  predicted {stop.predicted_ms:.4f} ms  measured {stop.measured_ms:.4f} ms")

    # 8. The one to take.
    points = [{"accuracy": stop.accuracy, "latency_ms": stop.measured_ms} for stop in stops]
    best = stops[pick(points, objectives, by="knee")]
    print(f"the knee: {best.onnx}")
    return stops


if __name__ == "__main__":
    tour(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="hwnas-tour-")))
