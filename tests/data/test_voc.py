from __future__ import annotations

import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xai_book.data import voc
from xai_lib.metrics import pointing_hits
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


# Annotations as they come


def write(folder: Path, body: str, name: str = "000004") -> None:
    xml = f"<annotation>{body}</annotation>"
    (folder / f"VOCdevkit/VOC2007/Annotations/{name}.xml").write_text(xml)


def an_object(
    name: str = "dog", difficult: str = "0", box: tuple = (2, 3, 9, 8)
) -> str:
    return OBJECT.format(name=name, difficult=difficult, box=box)


SIZE = "<size><width>{}</width><height>{}</height><depth>3</depth></size>"


def test_the_masks_and_pairs_are_torchrays(folder: Path) -> None:
    """Its rules restated: a class's mask is the union of its boxes, the last pixel
    inside; a pair is judged unless all objects of the class are difficult; and a hit
    is a pixel of the mask nearer to the maximum than the tolerance."""
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(25):
        objects = []
        for _ in range(rng.integers(1, 6)):
            xs, ys = (np.sort(rng.integers(1, side + 1, 2)) for side in (40, 30))
            kind = str(rng.choice(["cat", "dog", "cow"]))
            flag = int(rng.integers(2))
            objects.append((kind, flag, (xs[0], ys[0], xs[1], ys[1])))
        size = SIZE.format(40, 30)
        body = "".join(an_object(kind, str(flag), box) for kind, flag, box in objects)
        write(folder, size + body)
        found = voc.load(folder)[0]
        for kind in {kind for kind, _, _ in objects}:
            mask, flags = np.zeros((30, 40), dtype=bool), []
            for name, flag, (xmin, ymin, xmax, ymax) in objects:
                if name == kind:
                    mask[ymin - 1 : ymax, xmin - 1 : xmax] = True
                    flags.append(flag)
            target = voc.CATEGORIES.index(kind)
            assert np.array_equal(found.region(target).numpy(), mask)
            assert found.judged(target) is not all(flags)
            v, u = np.mgrid[:30, :40]
            values = torch.from_numpy(rng.random((1, 1, 30, 40)))
            row, column = divmod(int(values.argmax()), 40)
            accept = (v - row) ** 2 + (u - column) ** 2 < 5**2
            (hit,) = pointing_hits(values, found.region(target)[None], 5)
            assert bool(hit) is bool((mask & accept).any())
            outcomes.add(bool(hit))
    assert outcomes == {False, True}


def test_parts_are_no_objects(folder: Path) -> None:
    part = f"<part><name>head</name>{an_object().split('</difficult>')[1][:-9]}</part>"
    write(folder, an_object("person")[: -len("</object>")] + part + "</object>")
    found = voc.load(folder)[0]
    assert [found.categories[c] for c in found.classes] == ["person"]
    assert found.boxes.tolist() == [[1, 2, 9, 8]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, False) for text in ("0", "", " ", "false", "False")),
        *((text, True) for text in ("1", " 1 ", "true", "True", "TRUE")),
    ],
)
def test_difficult(folder: Path, text: str, expected: bool) -> None:
    write(folder, an_object(difficult=text))
    assert voc.load(folder)[0].set_aside.tolist() == [expected]
    flag = f"<difficult>{text}</difficult>"
    write(folder, an_object(difficult=text).replace(flag, "<difficult/>"))
    assert voc.load(folder)[0].set_aside.tolist() == [False]
    write(folder, an_object(difficult=text).replace(flag, ""))
    assert voc.load(folder)[0].set_aside.tolist() == [False]


def test_no_object_and_blank_lines(folder: Path) -> None:
    write(folder, SIZE.format(40, 30))
    listed = folder / "VOCdevkit/VOC2007/ImageSets/Main/test.txt"
    listed.write_bytes(b"\n000004 \r\n\n000001\r\n\n")
    data = voc.load(folder)
    assert data.names == ("000004", "000001")
    assert [len(found.boxes) for found in data] == [0, 1]
    assert data[0].masks.shape == (0, 30, 40)
    assert data[0].boxes.shape == (0, 4)


def test_fractions_and_boxes_that_stick_out(folder: Path) -> None:
    write(folder, an_object(box=(1.6, 2.9, 9.4, 8.1)) + an_object(box=(35, 28, 44, 33)))
    found = voc.load(folder)[0]
    assert found.boxes.tolist() == [[1, 2, 9, 8], [34, 27, 44, 33]]
    assert found.masks.flatten(1).sum(dim=1).tolist() == [8 * 6, 6 * 3]


def test_the_format_of_an_image_is_in_the_file(folder: Path) -> None:
    path = folder / "VOCdevkit/VOC2007/JPEGImages/000004.jpg"
    exif = Image.Exif()
    exif[0x0112] = 3  # boxes are told of the pixels as they are stored
    pixels = np.zeros((30, 40, 4), dtype=np.uint8)
    pixels[:10, :, 0] = pixels[..., 3] = 255
    Image.fromarray(pixels).save(path, "PNG", exif=exif)
    assert voc.load(folder)[0].image[0, :, :, 0].sum(dim=1).tolist() == [10, 0, 0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot read .*000004\.jpg as an image"):
        voc.load(folder)[0]
    assert len(voc.load(folder)[1].boxes) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            an_object(box=(0, 3, 9, 8)),
            "object 1: the box starts at x = 0, y = 3, but",
        ),
        (
            an_object(box=(2, -4, 9, 8)),
            "object 1: the box starts at x = 2, y = -4",
        ),
        (an_object(box=(9, 3, 2, 8)), "object 1: the box runs from 9, 3 back to 2, 8"),
        (an_object(box=(2, 8, 9, 3)), "object 1: the box runs from 2, 8 back to 9, 3"),
        (
            an_object(box=(41, 3, 44, 8)),
            "object 1: boxes must overlap the image",
        ),
        (an_object() + an_object(box=(2, 31, 9, 38)), "object 2: boxes must overlap"),
        (an_object(box=("", 3, 9, 8)), "object 1: <xmin> is missing or empty"),
        (
            an_object(box=("two", 3, 9, 8)),
            "object 1: could not convert string",
        ),
        (an_object(box=("nan", 3, 9, 8)), "object 1: cannot convert float NaN"),
        (an_object(box=(2, 3, "inf", 8)), "object 1.*cannot convert float infinity"),
        (
            an_object("Dog"),
            r"object 1: unknown class of VOC 'Dog' \(did you mean",
        ),
        (
            an_object("zebra"),
            "object 1: unknown class of VOC 'zebra'.*known: aero",
        ),
        (an_object(""), "object 1: <name> is missing or empty"),
        (an_object(difficult="maybe"), "object 1: unknown flag <difficult> 'maybe'"),
        ("<object><name>dog</name></object>", "object 1: <bndbox> is missing"),
        (
            SIZE.format(30, 40),
            "000004.jpg has 40 x 30 pixels, its annotation says",
        ),
        (SIZE.format("", 30), "<width> is missing or empty"),
        ("<object>", "mismatched tag"),
        ("</annotation><html>", "junk after document element"),
    ],
)
def test_wrong_annotations(folder: Path, body: str, message: str) -> None:
    write(folder, body)
    data = voc.load(folder)
    with pytest.raises(ValueError, match=message) as caught:
        data[0]
    assert "000004" in str(caught.value)
    assert len(data[1].boxes) == 1  # the others still work


def test_other_files(folder: Path) -> None:
    path = folder / "VOCdevkit/VOC2007/Annotations/000004.xml"
    path.write_text("<html></html>")
    with pytest.raises(ValueError, match=r"000004\.xml: expected <annotation>, got"):
        voc.load(folder)[0]
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"000004\.xml: no element found"):
        voc.load(folder)[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"000004\.xml"):
        voc.load(folder)[0]


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
