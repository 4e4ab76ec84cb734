"""A second count of multiply-adds and parameters: of the modules that run, not of the blocks that describe them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from hwnas.core import Architecture
from hwnas.nn import build_block, load_network, save_network, write_onnx
from hwnas.profiling.liveness import footprint_of
from hwnas.space import Block


def counted_macs(network: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-adds of one image [c, h, w] in every convolution and linear layer that runs. Moves the network."""
    total = 0

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            k = layer.kernel_size[0] * layer.kernel_size[1]
            total += output[0].numel() * layer.in_channels // layer.groups * k
        elif isinstance(layer, nn.Linear):
            total += output[0].numel() * layer.in_features

    hooks = [layer.register_forward_hook(count) for layer in network.modules()]
    with torch.no_grad():
        network.eval().to("meta")(torch.empty(1, *shape, device="meta"))
    for hook in hooks:
        hook.remove()
    return total


def built(blocks: Sequence[Block]) -> nn.Sequential:
    """The network of some blocks, without weights."""
    with torch.device("meta"):
        return nn.Sequential(*(build_block(block) for block in blocks))


def check_counts(blocks: Sequence[Block]) -> None:
    """The blocks follow each other, and their counts are those of the modules built from them."""
    for before, after in zip(blocks, blocks[1:], strict=False):
        assert before.output_shape == after.input_shape
    network = built(blocks)
    assert sum(p.numel() for p in network.parameters()) == sum(block.parameters for block in blocks)
    assert counted_macs(network, blocks[0].input_shape) == sum(block.macs for block in blocks)


def check_files(
    network: nn.Module, blocks: Sequence[Block], architecture: Architecture, shape: Sequence[int], folder: Path
) -> None:
    """A network is the same when it is saved and loaded, and when the runtime runs its ONNX file on another batch."""
    network.eval()
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(x)
        save_network(folder / "net.safetensors", network, blocks=blocks, architecture=architecture)
        torch.testing.assert_close(load_network(folder / "net.safetensors")(x), wanted)
    write_onnx(network, folder / "net.onnx", input_shape=tuple(shape))
    session = onnxruntime.InferenceSession(folder / "net.onnx", providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"image": x.numpy()})
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)
    assert footprint_of(folder / "net.onnx").peak_activation_bytes > 0


def data(*parts: str) -> Path:
    """A file of the benchmark data; skips the test where it is not at hand."""
    here = Path(__file__).parents[2] / ".." / "shared" / "data"
    path = Path(os.environ.get("HWNAS_BENCH_DATA", here)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} in HWNAS_BENCH_DATA or ../shared/data")
    return path
