"""Case O-17: a network's accuracy does not depend on what was evaluated before, nor on the process."""

import pickle
from pathlib import Path

import pytest
import torch

from hwnas.core import StoreError, generator
from hwnas.data import DataSource, Images, Preprocessing, batches
from hwnas.evaluation.shared_weights import SharedWeights
from hwnas.training import Sandwich, Schedule, Trainer
from hwnas.zoo import MobileNetV3, family

SOURCE = DataSource("digits", limit=600)


def small() -> MobileNetV3:
    toy = family("toy", {"resolutions": [8, 12], "stem_stride": 1}, channels=1, classes=10)
    assert isinstance(toy, MobileNetV3)
    return toy


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    toy = small()
    torch.manual_seed(0)
    net = toy.supernet()
    splits = SOURCE.load(0)
    images = Images(splits.train, Preprocessing.fit(splits.train))
    ordered = sorted(toy.space.enumerate(), key=lambda a: sum(b.macs for b in toy.space.blocks_of(a)))
    trainer = Trainer(
        net,
        Sandwich(net, ordered[-1], ordered[0], random=1),
        batches=lambda rng: batches(images, batch_size=32, generator=rng, drop_last=True),
        steps=len(images) // 32,
        schedule=Schedule(8, learning_rate=0.1),
    )
    for k in range(8):
        trainer.epoch(k, generator(0, k))
    torch.save({"module": net.state_dict()}, folder / "supernet@8.ckpt")
    return folder


def evaluator(checkpoints: Path) -> SharedWeights:
    return SharedWeights(small(), SOURCE, seed=0, checkpoints=checkpoints, batch_norm_images=256)


def accuracy(evaluate: SharedWeights, name: str) -> float:
    toy = small()
    ordered = sorted(toy.space.enumerate(), key=lambda a: sum(b.macs for b in toy.space.blocks_of(a)))
    architecture = {"smallest": ordered[0], "largest": ordered[-1], "middle": ordered[len(ordered) // 2]}[name]
    found = evaluate(architecture, fidelity="full", weights="supernet@8", seed=1)["accuracy"]
    return found if isinstance(found, float) else found.value


def test_order_and_process_do_not_matter(checkpoints: Path) -> None:
    evaluate = evaluator(checkpoints)
    first = accuracy(evaluate, "middle")
    others = accuracy(evaluate, "smallest"), accuracy(evaluate, "largest")
    assert accuracy(evaluate, "middle") == first
    copy = pickle.loads(pickle.dumps(evaluate))  # noqa: S301 - what a worker is sent
    assert accuracy(copy, "middle") == first
    assert min(*others, first) > 0.5, "every network of a trained supernet is clearly above chance (0.1)"


def test_what_a_worker_is_sent_holds_neither_images_nor_weights(checkpoints: Path) -> None:
    evaluate = evaluator(checkpoints)
    accuracy(evaluate, "smallest")
    assert len(pickle.dumps(evaluate)) < 20_000


def test_missing_weights_are_named(checkpoints: Path) -> None:
    architecture = small().default()
    with pytest.raises(StoreError, match=r"supernet@9.ckpt: the weights supernet@9 are not there"):
        evaluator(checkpoints)(architecture, fidelity="full", weights="supernet@9", seed=0)
    with pytest.raises(StoreError, match="evaluated without weights"):
        evaluator(checkpoints)(architecture, fidelity="full", weights=None, seed=0)
