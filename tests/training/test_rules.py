import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hwnas.core import Architecture, NonFiniteLossError, generator
from hwnas.data import Batch, ImageData, Images, Part, Preprocessing, batches
from hwnas.training import Adapting, Plain, Sandwich, SinglePath, accuracies, distillation
from hwnas.zoo import FAMILIES, Family


def toy_batch(side: int = 32) -> Batch:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (12, side, side, 1), dtype=np.uint8)
    part = Part(ImageData(pixels, np.arange(12) % 3, ("a", "b", "c"), "made up"), np.arange(12))
    return next(batches(Images(part, Preprocessing.fit(part)), batch_size=12))


def ends(family: Family) -> tuple[Architecture, Architecture]:
    listed = sorted(family.space.enumerate(), key=lambda a: sum(b.macs for b in family.space.blocks_of(a)))
    return listed[0], listed[-1]


def test_the_sandwich_is_the_sum_of_its_passes() -> None:
    """Second implementation: one backward pass per network, added up by hand."""
    family = FAMILIES["toy"]
    smallest, largest = ends(family)
    batch = toy_batch()
    torch.manual_seed(0)
    net = family.supernet().train()
    initial = {name: value.clone() for name, value in net.state_dict().items()}
    loss = Sandwich(net, largest, smallest, random=2)(batch, generator(0, "step"))
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    net.load_state_dict(initial)
    net.zero_grad()
    networks = [*family.space.sample(2, generator(0, "step")), smallest]
    teacher = net(batch.images(int(largest["resolution"])), largest)
    total = F.cross_entropy(teacher, batch.labels)
    assert loss == pytest.approx(float(total.detach()), abs=1e-5)
    target = teacher.detach().softmax(1)
    for a in networks:
        logits = net(batch.images(int(a["resolution"])), a)
        total = total - (target * logits.log_softmax(1)).sum(1).mean()
    total.backward()  # type: ignore[no-untyped-call]
    for name, p in net.named_parameters():
        if p.grad is None:
            assert name not in found, f"{name} was not part of any network"
        else:
            assert torch.allclose(found[name], p.grad, atol=2e-4), name


@pytest.mark.parametrize("random", [0, 1, 3])
def test_a_step_runs_the_largest_the_smallest_and_so_many_between(random: int) -> None:
    family = FAMILIES["toy"]
    smallest, largest = ends(family)
    net = family.supernet()
    seen: list[Architecture] = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    Sandwich(net, largest, smallest, random=random)(toy_batch(), generator(0, "x"))
    assert len(seen) == random + 2
    assert (seen[0], seen[-1]) == (largest, smallest)


def test_the_teacher_gets_no_gradient_and_equal_logits_no_force() -> None:
    teacher = torch.randn(4, 3, requires_grad=True)
    student = teacher.detach().clone().requires_grad_()
    distillation(student, teacher).backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None
    assert student.grad is not None and float(student.grad.abs().max()) < 1e-6


def test_plain_mixes_labels_and_teacher() -> None:
    batch = toy_batch(8)
    torch.manual_seed(0)
    student, teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    x = batch.images(8)
    labels, imitation = F.cross_entropy(student(x), batch.labels), distillation(student(x), teacher(x))
    for weight in (0.0, 0.3, 1.0):
        rule = Plain(student, 8, teacher=teacher, teacher_resolution=8, teacher_weight=weight)
        expected = (1 - weight) * labels + weight * imitation
        assert rule(batch, generator(0, 0)) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert all(p.grad is None for p in teacher.parameters())
    smoothed = Plain(student, 8, label_smoothing=0.2)(batch, generator(0, 0))
    assert smoothed == pytest.approx(
        float(F.cross_entropy(student(x), batch.labels, label_smoothing=0.2).detach()), rel=1e-5
    )


def test_accuracy_plain_and_balanced() -> None:
    """Case O-05: a network that always says the common class is exposed by the balanced number."""
    linear = nn.Linear(1, 2)
    network = nn.Sequential(nn.Flatten(), linear).train()
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([1.0, 0.0]))
    labels = torch.tensor([0] * 19 + [1])
    plain, balanced = accuracies(network, [(torch.zeros(20, 1, 1, 1), labels)])
    assert (plain, balanced) == (0.95, 0.5)
    assert network.training, "the mode is left as it was"
    with pytest.raises(ValueError, match="no images"):
        accuracies(network, [])


@pytest.mark.parametrize("random", [1, 3])
def test_a_single_path_is_each_network_alone_on_its_part(random: int) -> None:
    """Second implementation: the drawn networks by hand, one after the other."""
    family, batch = FAMILIES["toy"], toy_batch()
    torch.manual_seed(0)
    net = family.supernet().train()
    initial = {name: value.clone() for name, value in net.named_buffers()}
    loss = SinglePath(net, random=random, label_smoothing=0.1)(batch, generator(0, "step"))
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert all(torch.equal(value, initial[name]) for name, value in net.named_buffers()), "statistics were mixed"

    net.zero_grad()
    networks = family.space.sample(random, generator(0, "step"))
    total = torch.zeros(())
    for part, a in zip(batch.split(random), networks, strict=True):
        assert len(part) == len(batch) // random
        x = part.images(int(a["resolution"])).to(memory_format=torch.channels_last)
        total = total + F.cross_entropy(net(x, a), part.labels, label_smoothing=0.1) / random
    total.backward()  # type: ignore[no-untyped-call]
    assert loss == pytest.approx(float(total.detach()), abs=1e-5)
    expected = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-4, rtol=1e-3) for name in found)


def test_a_single_path_repeats_to_the_bit_and_leaves_torchs_threads_alone() -> None:
    family, batch = FAMILIES["toy"], toy_batch()
    threads, runs = torch.get_num_threads(), []
    for _ in range(3):
        torch.manual_seed(0)
        net = family.supernet().train()
        SinglePath(net, random=4)(batch, generator(0, "step"))
        runs.append([p.grad for p in net.parameters() if p.grad is not None])
    assert torch.get_num_threads() == threads
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_more_networks_than_images_are_not_asked_for() -> None:
    family, whole = FAMILIES["toy"], toy_batch()
    net = family.supernet().train()
    assert np.isfinite(SinglePath(net, random=5)(whole.split(3)[0], generator(0, "step")))


def test_adapting_is_the_mean_of_its_networks_and_the_teacher_is_not_moved() -> None:
    """Second implementation, with a distribution that draws one network: a network of its own weights teaches."""
    family = FAMILIES["toy"]
    smallest, largest = ends(family)
    chosen = {
        d.label: [float(option == smallest.get(d.label, d.options[0])) for option in d.options]
        for d in family.space.decisions
    }
    batch = toy_batch()
    torch.manual_seed(0)
    net = family.supernet().train()
    initial = {name: value.clone() for name, value in net.state_dict().items()}
    side = int(largest["resolution"])
    teacher = net.extract(largest)
    fixed = {name: value.clone() for name, value in teacher.state_dict().items()}
    rule = Adapting(
        net, chosen, teacher=teacher, teacher_resolution=side, networks=3, imitation=0.5, label_smoothing=0.1
    )
    loss = rule(batch, generator(0, "step"))
    assert all(torch.equal(value, fixed[name]) for name, value in teacher.state_dict().items()), "nor its statistics"
    assert all(p.grad is None for p in teacher.parameters())
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    net.load_state_dict(initial)
    net.zero_grad()
    with torch.no_grad():
        target = teacher.eval()(batch.images(side)).softmax(1)
    logits = net(batch.images(int(smallest["resolution"])), smallest)
    total = F.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    total = total - 0.5 * (target * logits.log_softmax(1)).sum(1).mean()
    total.backward()
    assert loss == pytest.approx(float(total.detach()), abs=1e-4)
    for name, p in net.named_parameters():
        assert (p.grad is None) == (name not in found), name
        if p.grad is not None:
            assert torch.allclose(found[name], p.grad, atol=2e-4), name


def test_an_accuracy_of_logits_that_are_nan_is_none() -> None:
    """argmax would name the first of them, and a class of its index would be right."""
    network = nn.Flatten()
    images = torch.tensor([[[[1.0, 0.0]]], [[[float("nan"), 0.0]]], [[[0.0, float("inf")]]]])
    with pytest.raises(NonFiniteLossError, match="2 of 3 images get logits that are not finite"):
        accuracies(network, [(images, torch.tensor([0, 0, 1]))])


def test_single_paths_never_get_one_image_alone() -> None:
    """Batch norm refuses one value per channel: features of 1x1 and a part of one image are that."""
    family = FAMILIES["toy"]
    whole = toy_batch()
    for images, networks in ((12, 4), (5, 2), (3, 1), (2, 1), (1, 1)):
        batch = whole.split(12 // images)[0] if images != 5 else Batch(whole._source, whole.positions[:5], None, None)
        assert len(batch) == images
        sizes: list[int] = []
        net = family.supernet()
        net.register_forward_pre_hook(lambda module, inputs, sizes=sizes: sizes.append(len(inputs[0])))
        SinglePath(net, random=4)(batch, generator(0, "x"))
        assert len(sizes) == networks and sum(sizes) == images
        assert min(sizes) >= min(2, images)
