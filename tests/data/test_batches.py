from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hwnas.core import DataError, generator
from hwnas.data import Augment, Batch, ImageData, Images, Part, Preprocessing, batches
from hwnas.data.batches import Changes

PLAIN = Preprocessing(1, (0.0,), (1.0,))


def made(count: int = 10, side: int = 16, channels: int = 1) -> Images:
    pixels = np.random.default_rng(5).integers(1, 256, (count, side, side, channels), dtype=np.uint8)
    data = ImageData(pixels, np.arange(count) % 2, ("a", "b"), "made up")
    part = Part(data, np.arange(count))
    return Images(part, PLAIN if channels == 1 else Preprocessing.fit(part))


def changed(images: Images, augment: Augment, **parts: object) -> Batch:
    """All images under the same given changes: none but those named."""
    count = len(images)
    values = {
        name: np.full(count, parts.get(name, default))
        for name, default in (("down", 0.0), ("right", 0.0), ("mirrored", False))
    }
    hole = np.tile(np.asarray(parts.get("hole", (0.5, 0.5)), np.float64), (count, 1))
    return Batch(images, torch.arange(count), augment, Changes(hole=hole, **values))


def test_images_are_resized_once_and_as_one_by_one() -> None:
    images = made(channels=3)
    assert images.resized(12) is images.resized(12)
    for position in range(len(images)):
        alone = images.preprocessing.resized(images.part.data.images[position], 12)
        assert np.array_equal(images.resized(12)[position].numpy(), alone.transpose(2, 0, 1))


def test_batches_equal_preprocessing_to_the_bit() -> None:
    images = made(channels=3)
    for size in (16, 12, 20):
        [batch] = batches(images, batch_size=100)
        alone = [images.preprocessing(image, size) for image in images.part]
        assert np.array_equal(batch.images(size).numpy(), np.stack(alone))


def test_without_a_generator_the_order_is_kept() -> None:
    images = made(count=10)
    found = list(batches(images, batch_size=4))
    assert [len(batch) for batch in found] == [4, 4, 2]
    assert torch.cat([batch.positions for batch in found]).tolist() == list(range(10))
    assert torch.cat([batch.labels for batch in found]).equal(images.labels)


@given(st.integers(1, 12), st.integers(0, 3))
def test_an_epoch_sees_every_image_once(batch_size: int, epoch: int) -> None:
    images = made(count=10)
    found = list(batches(images, batch_size=batch_size, generator=generator(0, "epoch", epoch)))
    positions = torch.cat([batch.positions for batch in found])
    assert sorted(positions.tolist()) == list(range(10))
    assert torch.cat([batch.labels for batch in found]).equal(images.labels[positions])


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4]), (5, [5, 5]), (10, [10]), (11, [10])])
def test_drop_last_leaves_out_the_rest_but_never_everything(batch_size: int, sizes: list[int]) -> None:
    found = batches(made(count=10), batch_size=batch_size, drop_last=True)
    assert [len(batch) for batch in found] == sizes


def test_order_and_changes_come_from_the_generator_alone() -> None:
    images = made()
    augment = Augment(shift=0.2, flip=True, cutout=0.3)

    def epoch(number: int, disturb: Callable[[], object]) -> list[Tensor]:
        found = []
        for batch in batches(images, batch_size=4, generator=generator(1, "epoch", number), augment=augment):
            disturb()
            found.append(batch.images(16))
        return found

    one = epoch(0, lambda: None)
    again = epoch(0, lambda: torch.rand(3))
    other = epoch(1, lambda: None)
    assert all(a.equal(b) for a, b in zip(one, again, strict=True))
    assert not any(a.equal(b) for a, b in zip(one, other, strict=True))


def test_global_generators_and_threads_are_left_alone() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    for batch in batches(made(), batch_size=4, generator=generator(1), augment=Augment(shift=0.2, flip=True)):
        batch.images(16)
    assert torch.get_rng_state().equal(before)
    assert torch.get_num_threads() == threads


def test_the_default_augmentation_changes_nothing() -> None:
    images = made()
    [plain] = batches(images, batch_size=10, generator=generator(2))
    [same] = batches(images, batch_size=10, generator=generator(2), augment=Augment())
    assert plain.images(16).equal(same.images(16))


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (0, 3), (-1, 2), (-4, -4)])
@pytest.mark.parametrize("fill", ["black", "edge"])
def test_a_shift_moves_pixels_exactly(down: int, right: int, fill: str) -> None:
    images = made(channels=1)
    augment = Augment(shift=0.5, fill="edge" if fill == "edge" else "black")
    result = changed(images, augment, down=down / 16, right=right / 16).images(16)[:, 0]
    original = images.resized(16)[:, 0].numpy()
    pads = ((0, 0), (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0)))
    padded = np.pad(original, pads, mode="edge") if fill == "edge" else np.pad(original, pads)
    top, left = max(-down, 0), max(-right, 0)
    expected = padded[:, top : top + 16, left : left + 16].astype(np.float32) / np.float32(255)
    assert np.array_equal(result.numpy(), expected)


def test_a_flip_mirrors_before_the_shift() -> None:
    images = made(channels=3)
    flipped = changed(images, Augment(flip=True), mirrored=True).images(16)
    plain = changed(images, Augment()).images(16)
    assert flipped.equal(plain.flip(3))
    moved = changed(images, Augment(flip=True, shift=0.5, fill="edge"), mirrored=True, right=0.25).images(16)
    assert moved[:, :, :, 4:].equal(flipped[:, :, :, :-4])


@pytest.mark.parametrize("size", [8, 16, 32])
def test_a_cutout_is_a_square_of_mean_colour(size: int) -> None:
    images = made(channels=3)
    result = changed(images, Augment(cutout=0.5), hole=(0.5, 0.25)).images(size)
    plain = changed(images, Augment()).images(size)
    hole = torch.zeros(size, size, dtype=torch.bool)
    hole[size // 4 : size * 3 // 4, : size // 2] = True
    assert (result[:, :, hole] == 0).all()
    assert result[:, :, ~hole].equal(plain[:, :, ~hole])


def test_changes_are_the_same_at_every_size() -> None:
    """A pattern that survives resizing moves by the same share of the side."""
    pixels = np.zeros((40, 32, 32, 1), np.uint8)
    pixels[:, 8:16, 16:24] = 255
    part = Part(ImageData(pixels, np.zeros(40, np.int64), ("a",), "made up"), np.arange(40))
    augment = Augment(shift=0.25, flip=True)
    [batch] = batches(Images(part, PLAIN), batch_size=40, generator=generator(3), augment=augment)
    centres = []
    for size in (32, 16, 64):
        image = batch.images(size)[:, 0].double()
        side = (torch.arange(size) + 0.5) / size
        mass = image.sum((1, 2))
        centres.append(torch.stack([(image.sum(2) * side).sum(1) / mass, (image.sum(1) * side).sum(1) / mass], 1))
    assert (centres[0] - centres[1]).abs().max() <= 0.5 / 32 + 0.5 / 16
    assert (centres[0] - centres[2]).abs().max() <= 0.5 / 32 + 0.5 / 64 + 0.01
    assert centres[0].std(0).min() > 0.05


def test_images_of_a_batch_are_made_once_per_size() -> None:
    [batch] = batches(made(), batch_size=10, generator=generator(0), augment=Augment(shift=0.1))
    assert batch.images(16) is batch.images(16)
    assert batch.images(12).shape == (10, 1, 12, 12)


@given(st.floats(0, 0.99), st.booleans(), st.integers(0, 99))
def test_drawn_changes_stay_in_bounds(shift: float, flip: bool, seed: int) -> None:
    changes = Changes.draw(Augment(shift=shift, flip=flip), 50, np.random.default_rng(seed))
    assert max(np.abs(changes.down).max(), np.abs(changes.right).max()) <= shift
    assert flip or not changes.mirrored.any()
    other = np.random.default_rng(seed)
    Changes.draw(Augment(cutout=0.5), 50, other)
    assert other.random() == draw_then_next(seed)


def draw_then_next(seed: int) -> float:
    rng = np.random.default_rng(seed)
    Changes.draw(Augment(shift=0.3, flip=True), 50, rng)
    return float(rng.random())


def test_half_of_the_images_are_mirrored() -> None:
    changes = Changes.draw(Augment(flip=True), 4000, np.random.default_rng(0))
    assert abs(changes.mirrored.mean() - 0.5) < 0.03


def test_wrong_settings_are_refused_at_once() -> None:
    with pytest.raises(DataError, match="batch_size is 0"):
        batches(made(), batch_size=0)
    with pytest.raises(DataError, match="augmentation without a generator"):
        batches(made(), batch_size=4, augment=Augment(flip=True))
    with pytest.raises(DataError, match=r"shift is 1\.5"):
        Augment(shift=1.5)
    with pytest.raises(DataError, match=r"cutout is -0\.1"):
        Augment(cutout=-0.1)
    with pytest.raises(DataError, match='fill is "white"'):
        Augment(fill="white")  # type: ignore[arg-type]


@given(count=st.integers(1, 9), n=st.integers(1, 12), seed=st.integers(0, 9))
def test_parts_of_a_batch_are_the_batch(count: int, n: int, seed: int) -> None:
    images = made(count)
    augment = Augment(shift=0.2, flip=True, cutout=0.3)
    [batch] = batches(images, batch_size=count, generator=generator(seed, "epoch"), augment=augment)
    parts = batch.split(n)
    assert len(parts) <= n
    assert max(map(len, parts)) - min(map(len, parts)) <= 1 or n > count
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    assert torch.equal(torch.cat([part.images(8) for part in parts]), batch.images(8))
