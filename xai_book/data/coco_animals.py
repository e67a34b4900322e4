"""COCO-animals: the 200 validation images that Ikeno and Hara (2018) explain.

A teaching subset of COCO's photographs: eight kinds of animals, 25 validation images
each. No published hash of the archive is known to us, so nothing is downloaded without
a hash that the caller names.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from xai_book.data.archives import unpack
from xai_book.data.imagenet_folder import is_hidden, is_picture
from xai_lib.core.paths import cache_path
from xai_lib.zoo import photos
from xai_lib.zoo.download import OfflineError, fetch

URL = "http://cs231n.stanford.edu/coco-animals.zip"
KINDS = ("bear", "bird", "cat", "dog", "giraffe", "horse", "sheep", "zebra")


class CocoAnimals(NamedTuple):
    """The validation images, in the order of their folders and file names."""

    images: Tensor
    """Float32 `[N, 3, size, size]` in [0, 1]."""
    kinds: tuple[str, ...]
    """The animal in each image; ImageNet has several classes for most of them."""
    names: tuple[str, ...]
    """The file names."""


def load(
    path: str | Path | None = None,
    size: int = 224,
    *,
    per_kind: int = 25,
    sha256: str | None = None,
    show_progress: bool = False,
) -> CocoAnimals:
    """The validation images, read as by `photos.read`.

    Args:
        path: the zip archive, or the folder it unpacks to (with `val/bear/…` in it).
            None is `coco-animals` in the book's cache folder, downloaded if need be.
        size: of the images, in pixels.
        per_kind: how many images each kind must have.
        sha256: of the archive, for the download.
        show_progress: draw a bar while downloading.

    Raises:
        OfflineError: not there, and no hash or no network; says what to do.
        CorruptDownload: the archive has another hash.
        FileNotFoundError: no such path.
        ValueError: not the eight kinds with `per_kind` images each; a bad image.
    """
    folder = cache_path() / "coco-animals" if path is None else Path(path)
    if path is None and not folder.is_dir():
        if sha256 is None:
            raise OfflineError(
                f"COCO-animals is not in {folder}. No published hash of its archive "
                f"is known, so it is not downloaded unasked: get {URL} and pass its "
                "path, or pass sha256=…; photos.labelled() works offline"
            )
        unpack(fetch(URL, sha256, cache_path(), show_progress=show_progress), folder)
    elif folder.is_file():
        folder = unpack(folder)  # beside the archive, and only once
    if not folder.is_dir():
        raise FileNotFoundError(f"COCO-animals: {folder} does not exist")
    files = _files(folder, per_kind)
    images = torch.cat([photos.read(file, size) for file in files])
    kinds, names = zip(*((file.parent.name, file.name) for file in files), strict=True)
    return CocoAnimals(images, kinds, names)


def _files(folder: Path, per_kind: int) -> list[Path]:
    val = folder / "val"
    if not val.is_dir():  # archives may or may not bring a folder of their own
        val = folder / "coco-animals" / "val"
    if not val.is_dir():
        raise ValueError(f"{folder} is not COCO-animals: it has no folder 'val'")
    folders = sorted(entry.name for entry in val.iterdir() if entry.is_dir())
    kinds = [name for name in folders if not is_hidden(name)]
    if kinds != list(KINDS):
        raise ValueError(
            f"{val} is not COCO-animals: expected the folders {', '.join(KINDS)}, got "
            f"{', '.join(kinds) or 'none'}"
        )
    files = []
    for kind in KINDS:
        images = sorted(f for f in (val / kind).iterdir() if is_picture(f))
        if len(images) != per_kind:
            raise ValueError(
                f"{val / kind} has {len(images)} images, expected {per_kind}; get the "
                "archive again"
            )
        files += images
    return files
