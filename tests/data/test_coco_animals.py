"""The loader on a miniature archive, built here like the real one."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xai_book.data import coco_animals
from xai_lib.zoo.download import CorruptDownload, OfflineError

KINDS = ("bear", "bird", "cat", "dog", "giraffe", "horse", "sheep", "zebra")


def picture(kind: int, number: int) -> Image.Image:
    """One plain colour per image, so that its place in the result can be seen."""
    pixels = np.full((30, 40, 3), (20 * kind, 100 * number, 7), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "made" / "coco-animals"
    for k, kind in enumerate(KINDS):
        for split, n in (("train", 1), ("val", 2)):
            folder = root / split / kind
            folder.mkdir(parents=True)
            for i in range(n):
                picture(k, i).save(folder / f"COCO_{split}2014_{i:012d}.png")
        (root / "val" / kind / "notes.txt").write_text("not an image")
        # What macOS leaves in an archive.
        (root / "val" / kind / "._COCO_val2014_000000000000.png").write_bytes(b"\0\5")
    (root / "val" / ".ipynb_checkpoints").mkdir()
    path = tmp_path / "coco-animals.zip"
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(root.rglob("*")):
            file.write(member, member.relative_to(root.parent))
    return path


def check(found: coco_animals.CocoAnimals) -> None:
    assert found.images.shape == (16, 3, 16, 16)
    assert found.kinds == tuple(kind for kind in KINDS for _ in range(2))
    assert found.names[0] == "COCO_val2014_000000000000.png"
    colours = (found.images.mean(dim=(2, 3)) * 255).round().int().tolist()
    assert colours == [[20 * k, 100 * i, 7] for k in range(8) for i in range(2)]


def test_archive_and_folder(archive):
    check(coco_animals.load(archive, size=16, per_kind=2))
    unpacked = archive.with_suffix("")
    assert unpacked.is_dir()
    check(coco_animals.load(archive, size=16, per_kind=2))  # unpacked already
    check(coco_animals.load(unpacked, size=16, per_kind=2))
    check(coco_animals.load(unpacked / "coco-animals", size=16, per_kind=2))


def test_download_with_a_hash(archive, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(coco_animals, "URL", archive.as_uri())
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    settings = {"size": 16, "per_kind": 2}
    with pytest.raises(CorruptDownload):
        coco_animals.load(sha256="0" * 64, **settings)
    check(coco_animals.load(sha256=digest, **settings))
    archive.unlink()
    check(coco_animals.load(**settings))  # from the cache


def test_without_files(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(OfflineError, match=r"No published hash .* pass its path"):
        coco_animals.load()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        coco_animals.load(tmp_path / "nowhere")


def test_wrong_structure(archive, tmp_path):
    with pytest.raises(ValueError, match="has 2 images, expected 25"):
        coco_animals.load(archive)
    val = archive.with_suffix("") / "coco-animals" / "val"
    (val / "zebra").rename(val / "panda")
    with pytest.raises(ValueError, match=r"expected the folders bear.*got .*panda"):
        coco_animals.load(archive.with_suffix(""), per_kind=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no folder 'val'"):
        coco_animals.load(tmp_path / "empty")


def test_a_broken_image(archive):
    coco_animals.load(archive, size=16, per_kind=2)
    broken = next((archive.with_suffix("") / "coco-animals/val/cat").glob("*.png"))
    broken.write_bytes(b"not an image")
    with pytest.raises(ValueError, match="as an image"):
        coco_animals.load(archive, size=16, per_kind=2)


def test_images_are_in_range(archive):
    images = coco_animals.load(archive, size=16, per_kind=2).images
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
