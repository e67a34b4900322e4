from __future__ import annotations

import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xai_lib.zoo import voc
from xai_lib.zoo.download import OfflineError

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>
<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""
# name, difficult, and xmin, ymin, xmax, ymax as VOC counts: from 1, the last included.
FIRST = [
    ("dog", 0, (1, 1, 3, 2)),
    ("dog", 1, (39, 29, 40, 30)),
    ("person", 1, (11, 6, 30, 25)),
]
SECOND = [("tvmonitor", 0, (2, 3, 2, 3))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    base = root / "VOCdevkit" / "VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / part).mkdir(parents=True)
    for name, objects in (("000004", FIRST), ("000001", SECOND)):
        pixels = np.full((30, 40, 3), (200, 100, 0), dtype=np.uint8)
        Image.fromarray(pixels).save(base / "JPEGImages" / f"{name}.jpg", quality=100)
        body = "".join(
            OBJECT.format(name=kind, difficult=flag, box=box)
            for kind, flag, box in objects
        )
        xml = f"<annotation><filename>{name}.jpg</filename>{body}</annotation>"
        (base / "Annotations" / f"{name}.xml").write_text(xml)
    (base / "ImageSets" / "Main" / "test.txt").write_text("000004\n000001\n")
    return root


def test_reading(folder: Path) -> None:
    data = voc.load(folder)
    assert data.names == ("000004", "000001")
    assert len(data) == 2
    first = data[0]
    assert first.image.shape == (1, 3, 30, 40)
    colours = first.image[0].mean(dim=(1, 2)) * 255
    torch.testing.assert_close(colours, torch.tensor([200.0, 100, 0]), atol=2, rtol=0)

    expected = [[0, 0, 3, 2], [38, 28, 40, 30], [10, 5, 30, 25]]
    assert first.boxes.tolist() == expected
    assert [first.categories[c] for c in first.classes] == ["dog", "dog", "person"]
    dog, person = voc.CATEGORIES.index("dog"), voc.CATEGORIES.index("person")
    assert first.labels.nonzero()[:, 0].tolist() == [dog, person]
    assert first.set_aside.tolist() == [False, True, True]
    assert first.judged(dog)
    assert not first.judged(person)

    region = first.region(dog)
    assert region.shape == (30, 40)
    assert region[:2, :3].all()
    assert region[28:, 38:].all()
    assert region.sum() == 6 + 4
    assert first.difficult(dog)
    assert not first.difficult(person)  # a third of the image

    second = data[-1]
    assert second.boxes.tolist() == [[1, 2, 2, 3]]
    assert second.masks[0].nonzero().tolist() == [[2, 1]]
    assert not second.difficult(voc.CATEGORIES.index("tvmonitor"))  # alone
    assert [len(each.classes) for each in data] == [3, 1]
    assert [len(each.classes) for each in data[::-1]] == [1, 3]
    with pytest.raises(ValueError, match="no object of class 0"):
        second.judged(0)


def test_categories_are_in_alphabetical_order() -> None:
    assert len(voc.CATEGORIES) == 20
    assert list(voc.CATEGORIES) == sorted(voc.CATEGORIES)


def test_archive(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "VOCtest_06-Nov-2007.tar"
    with tarfile.open(archive, "w") as file:
        file.add(folder / "VOCdevkit", "VOCdevkit")
    assert voc.load(archive).names == ("000004", "000001")
    (tmp_path / "VOCtest_06-Nov-2007/VOCdevkit/VOC2007/ImageSets/Main/test.txt").open(
        "w"
    ).write("000001\n")
    assert voc.load(archive).names == ("000001",)  # not unpacked again


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not hold VOCdevkit/VOC2007"):
        voc.load(tmp_path)
    broken = tmp_path / "voc.tar"
    broken.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot unpack"):
        voc.load(broken)


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(OfflineError, match=r"VOCtest_06-Nov-2007\.tar"):
        voc.load()
