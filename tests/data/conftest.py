from pathlib import Path

import numpy as np
import pytest

from hwnas.data import ImageData
from tests.data.tiny_images import make_tiny_images


@pytest.fixture
def tiny_images(tmp_path: Path) -> Path:
    """A fresh copy of tiny-images that a test may damage."""
    return make_tiny_images(tmp_path / "tiny-images")


@pytest.fixture
def noise() -> ImageData:
    """60 RGB images 12 x 12 of three classes, nothing to learn."""
    rng = np.random.default_rng(3)
    return ImageData(rng.integers(0, 256, (60, 12, 12, 3), dtype=np.uint8), np.arange(60) % 3, ("a", "b", "c"), "noise")
