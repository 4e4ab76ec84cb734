"""The small image folder of the cases: three classes, told apart by the colour of a square."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 220), "green": (40, 200, 60), "red": (220, 40, 40)}


def make_tiny_images(folder: Path, *, count: int = 40, side: int = 32, seed: int = 0) -> Path:
    """Write `count` PNG of each class: a 12 x 12 square of the class's colour at a random place on grey noise."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.repeat(rng.integers(60, 190, (side, side, 1), dtype=np.uint8), 3, axis=2)
            top, left = rng.integers(0, side - 11, 2)
            pixels[top : top + 12, left : left + 12] = colour
            Image.fromarray(pixels).save(folder / name / f"{index:02}.png")
    return folder


def make_grey_images(folder: Path, *, count: int = 40, side: int = 32, seed: int = 0) -> Path:
    """Write `count` greyscale PNG of each of two classes: a bright square on the left or on the right."""
    rng = np.random.default_rng(seed)
    for name, start in (("left", 2), ("right", side - 14)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 120, (side, side), dtype=np.uint8)
            pixels[10:22, start : start + 12] = 230
            Image.fromarray(pixels).save(folder / name / f"{index:02}.png")
    return folder


def damage(folder: Path) -> list[str]:
    """Damage three images the three ways of case O-03 and return their names as messages give them."""
    cut = folder / "blue" / "03.png"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (folder / "green" / "07.png").write_bytes(b"")
    (folder / "red" / "11.png").write_text("not a picture at all\n" * 20)
    return ["blue/03.png", "green/07.png", "red/11.png"]
