from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from hwnas.core import ExportError
from hwnas.nn import build_block, write_onnx
from hwnas.nn.blocks import describe_mbconv


def test_one_file_with_whole_activations_and_folded_norms(tmp_path: Path) -> None:
    block = build_block(describe_mbconv(8, 8, 6, hidden=24, kernel=5, stride=1, activation_name="hswish", squeeze=4))
    block.train()
    write_onnx(block, tmp_path / "block.onnx", input_shape=(8, 6, 6))
    assert [path.name for path in tmp_path.iterdir()] == ["block.onnx"]
    operators = [node.op_type for node in onnx.load(str(tmp_path / "block.onnx")).graph.node]
    assert operators.count("HardSwish") == 2
    assert operators.count("HardSigmoid") == 1
    assert "BatchNormalization" not in operators
    assert all(part.training for part in block.modules()), "the exporter must not change the mode"


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("this operator has no kernel")

    with pytest.raises(ExportError, match=r"Broken to b.onnx failed: this operator has no kernel"):
        write_onnx(Broken(), tmp_path / "b.onnx", input_shape=(1, 2, 2))


def test_a_failed_export_prints_no_graph(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Foreign(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.digamma(x)

    with pytest.raises(ExportError, match="the operator 'aten::digamma' to ONNX .* is not supported"):
        write_onnx(Foreign(), tmp_path / "f.onnx", input_shape=(1, 2, 2))
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
