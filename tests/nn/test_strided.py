"""Strided 1x1 convolutions with few channels: the library's numbers, found within their own memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from hwnas.nn.strided import trainable_conv2d, trainable_forwards

TRAIN = """
import numpy as np
import torch
from torch import nn
from hwnas.core import generator
from hwnas.data import ImageData, Images, Part, Preprocessing, batches
from hwnas.training import Plain, Schedule, Trainer

torch.set_num_threads(1)
torch.manual_seed(0)
pixels = generator(0, "pixels").integers(0, 255, (64, 8, 8, 3), dtype=np.uint8)
part = Part(ImageData(pixels, np.arange(64) % 4, ("a", "b", "c", "d"), "made up"), np.arange(64))
images = Images(part, Preprocessing.fit(part))
net = nn.Sequential(nn.Conv2d(3, 12, 1, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4))
kept = []
trainer = Trainer(
    net,
    Plain(net, 8),
    batches=lambda rng: batches(images, batch_size=32, generator=rng, drop_last=True),
    steps=2,
    schedule=Schedule(150),
    progress=lambda *_: kept.extend(torch.rand(size) for size in (5, 17, 65, 96, 130, 385)),
)
for k in range(150):
    trainer.epoch(k, generator(0, k))
print("trained", "forward" in vars(net[0]))
"""


def test_a_user_s_plain_layer_is_trained_by_one_thread_and_other_memory_is_left_alone() -> None:
    """The layer's own forward pass ends this program by a signal wherever oneDNN takes its AVX2 kernels."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=False, env=one_thread)
    assert (ran.returncode, ran.stdout.strip()) == (0, "trained False"), ran.stderr[-500:]


def test_the_layers_that_need_it_are_found() -> None:
    class Own(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    needed = [nn.Conv2d(4, 12, 1, stride=2), nn.Conv2d(7, 3, 1, stride=(1, 3), bias=False)]
    others = [
        nn.Conv2d(8, 12, 1, stride=2),
        nn.Conv2d(4, 12, 1),
        nn.Conv2d(4, 12, 3, stride=2),
        nn.Conv2d(4, 12, 1, stride=2, padding=1),
        nn.Conv2d(4, 12, 1, stride=2, groups=4),
        Own(4, 12, 1, stride=2),
    ]
    net = nn.Sequential(*needed, nn.Sequential(*others))
    assert [layer for layer, _ in trainable_forwards(net)] == needed


@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_trained_by_the_library_s_numbers(stride: int | tuple[int, int], *, bias: bool) -> None:
    torch.manual_seed(0)
    # oneDNN has no float64: the layer's own gradient is safe there.
    layer = nn.Conv2d(4, 5, 1, stride=stride, bias=bias).double()
    [(found, forward)] = trainable_forwards(nn.Sequential(layer))
    assert found is layer
    gradients = []
    for call in (layer, forward):
        x = torch.rand(3, 4, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = call(x)
        weight = torch.rand(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        gradients.append(torch.autograd.grad((y * weight).sum(), [x, *layer.parameters()]))
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("kernel", [(1, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("channels", [2, 8])
@pytest.mark.parametrize("widen", [0, 1])
def test_every_kernel_has_the_library_s_numbers(kernel: tuple[int, int], channels: int, widen: int) -> None:
    torch.manual_seed(1)
    images, bias = torch.rand(2, channels, 7, 6), torch.rand(5)
    weight = torch.rand(5, channels, *kernel, requires_grad=True)
    margins = kernel[0] // 2 + widen, kernel[1] // 2 + widen
    plain = nn.functional.conv2d(images, weight, bias, 2, margins)
    torch.testing.assert_close(trainable_conv2d(images, weight, bias, stride=2, padding=margins), plain)
    with torch.no_grad():
        assert torch.equal(trainable_conv2d(images, weight, bias, stride=2, padding=margins), plain)
