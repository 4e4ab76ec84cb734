"""A folder of images, one sub-folder per class, as most people keep theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hwnas.core import DataError
from hwnas.core.escaping import visible
from hwnas.data.dataset import SourceData, check_unicode
from hwnas.data.decode import Channels
from hwnas.data.labelled_files import Damaged, LabelledFile, read_labelled_files

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_LEFT_BY_SYSTEMS = frozenset({"desktop.ini", "ehthumbs.db", "thumbs.db", "__macosx", "@eadir", "$recycle.bin"})
_PART_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def image_folder(path: Path, *, channels: Channels | None = None, damaged: Damaged = "refuse") -> SourceData:
    """Read every image below a folder; the sub-folder an image lies in names its class.

    Classes are sorted by name. Hidden files and folders and what systems leave behind (`.ipynb_checkpoints`, `._x.png`,
    `Thumbs.db`) are ignored; class folders without images and files that are not images are left out and told in
    `skipped`. Where the folder holds `train/` with `val/` or `test/` (also `validation/`, `valid/`, `training/`,
    `testing/`), these are taken as the split.

    Args:
        path: The folder.
        channels: 1 or 3; None takes 1 if every image is greyscale, else 3.
        damaged: "refuse" raises an error that lists damaged images, "skip" leaves them out and tells.

    Raises:
        DataError: If there is no such folder, it has fewer than two classes with images, the name of a class is not
            UTF-8, or images are damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected one with a sub-folder of images per class")
    folders, files = _entries(path)
    skipped = _told(files, where="") if files else []
    part_folders = _own_split(folders)
    if not part_folders:
        part_folders = {"train": path}
    else:
        skipped += [f"{visible(f.name)}/: not part of the split" for f in folders if f not in part_folders.values()]

    classes: set[str] = set()
    parts: dict[str, list[LabelledFile]] = {}
    for part, part_folder in part_folders.items():
        parts[part] = []
        class_folders, strays = _entries(part_folder)
        check_unicode((folder.name for folder in class_folders), what=f"{visible(str(part_folder))}: the class folder")
        if part_folder != path and strays:
            skipped += _told(strays, where=f"{part_folder.name}/")
        for folder in class_folders:
            classes.add(folder.name)
            images, others = _files_below(folder)
            where = f"{folder.relative_to(path).as_posix()}/"
            if others:
                skipped += _told(others, where=where)
            parts[part] += [
                LabelledFile(visible(image.relative_to(path).as_posix()), image, folder.name) for image in images
            ]
    if len({file.label for file in parts["train"]}) < 2:
        found = ", ".join(sorted({file.label for file in parts["train"]})) or "none"
        raise DataError(
            f"{path}: classes with images: {found}; expected at least two sub-folders with images",
            hint="put the images of each class into a folder of its own, named after the class",
        )
    for part in [part for part, listed in parts.items() if not listed]:
        skipped.append(f"{part_folders[part].name}/: no images")
        del parts[part]
    return read_labelled_files(
        parts, classes=sorted(classes), source=visible(str(path)), channels=channels, damaged=damaged, skipped=skipped
    )


def _own_split(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders of a given split by part; empty if the folders are classes, one of which may be called `train`.

    Raises:
        DataError: If two folders name one part, or the train folder has no class folders.
    """
    parts: dict[str, Path] = {}
    for folder in folders:
        part = _PART_OF_FOLDER.get(folder.name.lower())
        if part in parts:
            raise DataError(f"{folder.parent}: {parts[part].name}/ and {folder.name}/ both name the {part} part")
        if part is not None:
            parts[part] = folder
    if "train" not in parts or len(parts) == 1 < len(folders):
        return {}
    if not _entries(parts["train"])[0]:
        raise DataError(
            f"{parts['train']}: has no sub-folders; expected one per class",
            hint="put the images of each class into a folder of its own, named after the class",
        )
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sub-folders and files, sorted by name, without hidden ones and what systems leave behind."""
    entries = sorted(entry for entry in folder.iterdir() if _is_visible(entry.name))
    return [entry for entry in entries if entry.is_dir()], [entry for entry in entries if not entry.is_dir()]


def _files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Image files and other files at any depth, in a fixed order."""
    images: list[Path] = []
    others: list[Path] = []
    for file in _walk(folder):
        (images if file.suffix.lower() in SUFFIXES else others).append(file)
    return images, others


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_visible(name))
        yield from (Path(parent, name) for name in sorted(files) if _is_visible(name))


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _LEFT_BY_SYSTEMS


def _told(files: Sequence[Path], *, where: str) -> list[str]:
    named = ", ".join(visible(file.name) for file in files[:3]) + (", ..." if len(files) > 3 else "")
    what = "not in a class folder" if all(file.suffix.lower() in SUFFIXES for file in files) else "not images"
    return [f"{where or 'top level'}: {len(files)} {'file' if len(files) == 1 else 'files'} {what}: {named}"]
