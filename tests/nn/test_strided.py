import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from hwnas.nn.strided import StridedPointwise, trainable_conv2d

TRAIN = """
import torch
from hwnas.nn.strided import StridedPointwise
torch.set_num_threads(1)
torch.manual_seed(0)
convolution = StridedPointwise(4, 12, stride=2)
kept = []
for step in range(300):
    images = torch.rand(32, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    convolution.zero_grad()
    convolution(images).square().sum().backward()
    kept += [torch.rand(size) for size in (5, 17, 65, 96, 130, 385)]
print("trained")
"""


@pytest.mark.parametrize(("c_in", "c_out", "stride", "side"), [(4, 12, 2, 8), (4, 5, 2, 7), (3, 3, 1, 5), (9, 6, 3, 8)])
def test_it_is_the_plain_convolution(c_in: int, c_out: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    # oneDNN has no float64: the plain layer is safe there.
    ours, plain = StridedPointwise(c_in, c_out, stride=stride).double(), nn.Conv2d(c_in, c_out, 1, stride, bias=False)
    plain.double().load_state_dict(ours.state_dict())
    for training in (True, False):
        first = torch.rand(4, c_in, side, side, dtype=torch.float64, requires_grad=True)
        second = first.detach().clone().requires_grad_()
        found, expected = ours.train(training)(first), plain.train(training)(second)
        torch.testing.assert_close(found, expected)
        weight = torch.rand_like(found)
        (found * weight).sum().backward()
        (expected * weight).sum().backward()
        torch.testing.assert_close(first.grad, second.grad)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)


def test_training_with_few_channels_and_one_thread_leaves_other_memory_alone() -> None:
    """The plain layer ends this program by a signal within its 300 steps wherever oneDNN takes its AVX2 kernels."""
    ran = subprocess.run(
        [sys.executable, "-c", TRAIN],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "trained"), ran.stderr[-500:]


@pytest.mark.parametrize("kernel", [(1, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("channels", [2, 8])
def test_every_kernel_has_the_library_s_numbers(kernel: tuple[int, int], channels: int) -> None:
    torch.manual_seed(1)
    images, bias = torch.rand(2, channels, 7, 6), torch.rand(5)
    weight = torch.rand(5, channels, *kernel, requires_grad=True)
    margins = kernel[0] // 2, kernel[1] // 2
    plain = nn.functional.conv2d(images, weight, bias, 2, margins)
    torch.testing.assert_close(trainable_conv2d(images, weight, bias, stride=2, padding=margins), plain)
    with torch.no_grad():
        assert torch.equal(trainable_conv2d(images, weight, bias, stride=2, padding=margins), plain)
