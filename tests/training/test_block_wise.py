"""Sections trained apart: what is compared with what, who gets gradients, and that it teaches."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hwnas.core import Architecture, SpaceError, generator
from hwnas.cost import UnitSumCost
from hwnas.data import Augment, Batch, DataSource, Images, Preprocessing, batches
from hwnas.evaluation.shared_weights import calibrate_batch_norm, served
from hwnas.nn import Sectioned
from hwnas.training import BlockWise, Schedule, SinglePath, Trainer, accuracies, at_any_resolution
from hwnas.training.rules import images_of
from hwnas.zoo import FAMILIES, family
from tests.training.test_rules import ends, toy_batch


def pair() -> tuple[Sectioned, Sectioned, Architecture]:
    """Two toy supernets of the same weights, and the largest network."""
    torch.manual_seed(0)
    net = FAMILIES["toy"].supernet()
    assert isinstance(net, Sectioned)
    return net, copy.deepcopy(net), ends(FAMILIES["toy"])[1]


def test_the_loss_is_what_is_worked_out_by_hand() -> None:
    net, teacher, largest = pair()
    batch = toy_batch()
    drawn = FAMILIES["toy"].space.sample(2, generator(0, "step"))
    reference, calm = copy.deepcopy(net), copy.deepcopy(teacher)
    loss = BlockWise(net, teacher=teacher, taught=largest, random=2)(batch, generator(0, "step"))
    total = torch.zeros(())
    for a in drawn:
        x = images_of(batch, a)
        taught = Architecture({**largest, "resolution": a["resolution"]})
        stem, *inner, _ = calm.sections(taught)
        with torch.no_grad():
            x = stem(x)
            for theirs, ours in zip(inner, reference.sections(a)[1:-1], strict=True):
                wanted = theirs(x)
                with torch.enable_grad():
                    total = total + F.mse_loss(ours(x), wanted) / wanted.var() / len(inner) / 2
                x = wanted
    total.backward()  # type: ignore[no-untyped-call]
    assert loss == pytest.approx(float(total.detach()), rel=1e-4)
    for (name, mine), other in zip(net.named_parameters(), reference.parameters(), strict=True):  # type: ignore[attr-defined]
        assert (mine.grad is None) == (other.grad is None), name
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=1e-3)


def test_ends_and_teacher_stay_as_they_are_and_the_teacher_itself_has_nothing_to_learn() -> None:
    net, teacher, largest = pair()
    rule = BlockWise(net, teacher=teacher, taught=largest, draw=at_any_resolution(net.space, largest))
    assert rule(toy_batch(), generator(0, "a")) == pytest.approx(0.0, abs=1e-9)
    uniform = BlockWise(net, teacher=teacher, taught=largest, random=3)
    assert uniform(toy_batch(), generator(0, "b")) > 0.01
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}  # type: ignore[attr-defined]
    assert trained == {"stages"}
    assert all(p.grad is None for p in teacher.parameters())


def test_a_section_without_weights_costs_nothing_but_its_loss() -> None:
    """A cell of skips in NAS-Bench-201's first stage."""
    learner = family("nasbench201_small", {"cells": 1, "width": 4, "resolutions": [32]}, channels=1, classes=3)
    torch.manual_seed(0)
    net, teacher = learner.supernet(), learner.supernet()
    assert isinstance(net, Sectioned) and isinstance(teacher, Sectioned)
    skips = learner.space.canonical(
        {d.label: d.options[0] for d in learner.space.decisions} | {"node3.from0": "skip_connect"}
    )
    largest = UnitSumCost.count(learner.space, "macs").largest()[1]
    rule = BlockWise(net, teacher=teacher, taught=largest, draw=lambda n, rng: [skips])
    assert rule(toy_batch(), generator(0, "a")) > 0.01
    assert {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None} == {"reductions"}  # type: ignore[attr-defined]


def test_a_space_without_anything_between_is_refused() -> None:
    class Short:
        space = FAMILIES["toy"].space

        def sections(self, architecture: Architecture) -> list[object]:
            return [None, None]

    with pytest.raises(SpaceError, match="no section between the first and the last"):
        BlockWise(Short(), teacher=Short(), taught=ends(FAMILIES["toy"])[0])  # type: ignore[arg-type]


def test_networks_that_were_never_trained_whole_recognise_digits() -> None:
    """A teacher, then its sections' imitation: drawn networks answer right, though no label reached them."""
    splits = DataSource("digits").load(0)
    preprocessing = Preprocessing.fit(splits.train)
    train, validation = Images(splits.train, preprocessing), Images(splits.validation, preprocessing)
    torch.manual_seed(0)
    toy = replace(FAMILIES["toy"], resolutions=(16,))
    teacher = toy.supernet()
    assert isinstance(teacher, Sectioned)
    largest = ends(toy)[1]

    def serve(rng: np.random.Generator) -> Iterator[Batch]:
        return batches(train, batch_size=64, generator=rng, augment=Augment(shift=0.1), drop_last=True)

    def train_by(rule: object, module: object, epochs: int) -> None:
        trainer = Trainer(
            module,  # type: ignore[arg-type]
            rule,  # type: ignore[arg-type]
            batches=serve,
            steps=len(train) // 64,
            schedule=Schedule(epochs, learning_rate=0.1),
        )
        for k in range(epochs):
            trainer.epoch(k, generator(0, "epoch", k))

    train_by(SinglePath(teacher, draw=at_any_resolution(toy.space, largest)), teacher, 10)
    net = toy.supernet()
    assert isinstance(net, Sectioned)
    net.load_state_dict(teacher.state_dict())
    drawn = toy.space.sample(4, np.random.default_rng(5))

    def mean_accuracy() -> float:
        found = []
        for a in drawn:
            network, side = net.extract(a).eval(), int(a["resolution"])
            calibrate_batch_norm(network, side, train, images=512, seed=0)
            found.append(accuracies(network, served(validation, side))[0])
        return float(np.mean(found))

    before = mean_accuracy()
    train_by(BlockWise(net, teacher=teacher, taught=largest, random=2), net, 8)
    assert mean_accuracy() > max(0.7, before + 0.08)
