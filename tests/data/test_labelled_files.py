import io
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from hwnas.data import Images, Preprocessing, labelled_files, split
from hwnas.data.decode import EncodedImages
from hwnas.data.labelled_files import LabelledFile, read_labelled_files
from tests.data.tiny_images import COLOURS, make_grey_images


def listed(folder: Path) -> list[LabelledFile]:
    return [LabelledFile(file.name, file, file.parent.name) for file in sorted(folder.rglob("*.png"))]


def test_what_does_not_fit_into_memory_stays_files(tiny_images: Path) -> None:
    parts = {"train": listed(tiny_images)}
    pixel_bytes = 120 * 32 * 32 * 3
    kept = read_labelled_files(parts, classes=list(COLOURS), source="x", max_pixel_bytes=pixel_bytes).train
    files = read_labelled_files(parts, classes=list(COLOURS), source="x", max_pixel_bytes=pixel_bytes - 1).train
    assert isinstance(kept.images, np.ndarray)
    assert isinstance(files.images, EncodedImages)
    one, two = (split(data, seed=0) for data in (kept, files))
    assert np.array_equal(one.train.indices, two.train.indices)
    preprocessing = Preprocessing.fit(one.train)
    assert preprocessing == Preprocessing.fit(two.train)
    resized = [Images(splits.test, preprocessing).resized(24) for splits in (one, two)]
    assert resized[0].equal(resized[1])


def test_contents_and_files_are_alike(tiny_images: Path) -> None:
    files = listed(tiny_images)
    contents = [LabelledFile(f.name, f.content.read_bytes(), f.label) for f in files if isinstance(f.content, Path)]
    digests = {
        read_labelled_files({"train": part}, classes=list(COLOURS), source="x").train.digest
        for part in (files, contents)
    }
    assert len(digests) == 1


def test_parts_are_named_in_the_source_and_share_channels(tiny_images: Path) -> None:
    files = listed(tiny_images)
    found = read_labelled_files({"train": files, "test": files[::4]}, classes=list(COLOURS), source="x", channels=1)
    assert found.test is not None
    assert (found.train.source, found.test.source) == ("x (train)", "x (test)")
    assert found.train.channels == found.test.channels == 1


PROGRAM = """
import sys
from pathlib import Path
from hwnas.device.measure import resident_peak
from hwnas.data import DataSource, Images, Preprocessing

def peak():
    return resident_peak()

before = peak()
splits = DataSource("image_folder", Path(sys.argv[1])).load(seed=0)
preprocessing = Preprocessing.fit(splits.train)
for part in splits.parts().values():
    Images(part, preprocessing).resized(224)
splits.to_json()
print(peak() - before, preprocessing.mean)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_photographs_are_in_memory_one_at_a_time(tmp_path: Path) -> None:
    """Peak memory does not grow with the number of photographs: 0.2 GiB beside imports; 28 held at once take 13.2."""
    content = io.BytesIO()
    Image.new("RGB", (4000, 3000), (102, 102, 102)).save(content, "jpeg", quality=95)
    for n in range(8):
        folder = tmp_path / "ab"[n % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{n}.jpg").write_bytes(content.getvalue())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    grown, _, mean = done.stdout.partition(" ")
    assert int(grown) < 300e6, "8 photographs are 288 MB of pixels; one is 36"
    assert mean.strip() == "(0.4, 0.4, 0.4)"


def test_one_photograph_among_small_images_keeps_its_part_as_files(
    tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = listed(tiny_images)
    monkeypatch.setattr(labelled_files, "MAX_IMAGE_BYTES", 32 * 32 * 3 - 1)
    found = read_labelled_files({"train": files, "test": files[:6]}, classes=list(COLOURS), source="x")
    assert isinstance(found.train.images, EncodedImages)
    assert found.test is not None and isinstance(found.test.images, EncodedImages)


def test_all_parts_together_have_one_room(tiny_images: Path) -> None:
    files = listed(tiny_images)
    room = (len(files) + 6) * 32 * 32 * 3
    for given, kept in ((room, True), (room - 1, False)):
        found = read_labelled_files(
            {"train": files, "test": files[:6]}, classes=list(COLOURS), source="x", max_pixel_bytes=given
        )
        assert isinstance(found.train.images, np.ndarray)
        assert found.test is not None and isinstance(found.test.images, np.ndarray) is kept


@pytest.mark.parametrize(("channels", "colour", "area"), [(3, False, 120 * 1024), (None, True, 121 * 1024)])
def test_grey_images_that_become_rgb_count_as_rgb(
    tmp_path: Path, channels: Literal[3] | None, *, colour: bool, area: int
) -> None:
    """Whether RGB is asked for, or only the last image of the last part has colour."""
    files = listed(make_grey_images(tmp_path))
    files += [LabelledFile("0", files[0].content, "left")] * (120 - len(files))
    parts = {"train": files}
    if colour:
        Image.new("RGB", (32, 32), (1, 2, 3)).save(tmp_path / "left" / "colour.png")
        parts["test"] = [LabelledFile("colour", tmp_path / "left" / "colour.png", "left")]
    for limit, kind in ((3 * area, np.ndarray), (3 * area - 1, EncodedImages)):
        found = read_labelled_files(
            parts, classes=["left", "right"], source="x", channels=channels, max_pixel_bytes=limit
        )
        last = found.test or found.train
        assert isinstance(last.images, kind)
        assert found.train.channels == last.channels == 3
        assert found.train.images[5].tolist() == with_three_channels(files[5])


def with_three_channels(file: LabelledFile) -> list[list[list[int]]]:
    assert isinstance(file.content, Path)
    found: list[list[list[int]]] = np.asarray(Image.open(file.content).convert("RGB")).tolist()
    return found


GREY_TO_RGB = """
import sys
from pathlib import Path
from hwnas.data.labelled_files import LabelledFile, read_labelled_files
from hwnas.device.measure import resident_peak

folder, channels = sys.argv[1], int(sys.argv[2])
files = [LabelledFile(str(n), Path(folder, "grey.png"), "ab"[n % 2]) for n in range(60)]
files.append(LabelledFile("last", Path(folder, "last.png"), "b"))
read = lambda limit: read_labelled_files(
    {"train": files}, classes=["a", "b"], source="x", channels=channels or None, max_pixel_bytes=limit
).train
read(0)
before = resident_peak()
found = read(3 * 61_000_000)
print(resident_peak() - before, type(found.images).__name__, found.images[60].shape)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell the peak")
@pytest.mark.parametrize(
    ("last", "channels", "kept_as", "most_bytes"),
    [
        (Image.new("L", (1000, 1000)), 3, "ndarray", 1.1 * 183e6),
        (Image.new("RGB", (999, 999)), 0, "tuple", 1.4 * 183e6),
    ],
)
def test_grey_images_become_rgb_one_at_a_time(
    tmp_path: Path, last: Image.Image, channels: int, kept_as: str, most_bytes: float
) -> None:
    """260 grey images of 4 megapixels took 4.55 GiB, as all were copied to RGB at once, then into one array.

    Here 61 of 1 megapixel, 183 MB as RGB; grey ones held until the last shows colour are a third more for a moment.
    """
    Image.new("L", (1000, 1000), 7).save(tmp_path / "grey.png")
    last.save(tmp_path / "last.png")
    done = subprocess.run(
        [sys.executable, "-c", GREY_TO_RGB, str(tmp_path), str(channels)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    grown, kind, shape = done.stdout.split(maxsplit=2)
    assert (kind, shape.strip()) == (kept_as, str((last.height, last.width, 3)))
    assert int(grown) < most_bytes
