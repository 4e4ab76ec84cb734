"""Modules to `.pt2` files that give the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hwnas.core import ExportError
from hwnas.nn import write_pt2


def test_the_file_gives_the_modules_numbers_in_eval_mode_and_leaves_its_mode(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish())
    module.train()
    write_pt2(module, tmp_path / "a.pt2", input_shape=(3, 8, 8), batch=2)
    assert all(part.training for part in module.modules())
    image = torch.randn(2, 3, 8, 8)
    loaded = torch.export.load(tmp_path / "a.pt2").module()
    with torch.no_grad():
        assert torch.equal(loaded(image), module.eval()(image))


class Unwilling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError("no kernel\nfor this")


def test_a_module_that_cannot_be_exported_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"torch.export of Unwilling to a.pt2 failed: .*") as info:
        write_pt2(Unwilling(), tmp_path / "a.pt2", input_shape=(1,), batch=1)
    assert "\n" not in info.value.message
    assert not (tmp_path / "a.pt2").exists()
