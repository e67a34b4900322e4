from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xai_book.data import coco
from xai_lib.metrics import box_masks, pointing_hits


def annotation(image: int, category: int, box: list, segmentation: object) -> dict:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "segmentation": segmentation,
        "iscrowd": int(isinstance(segmentation, dict)),
    }


# On 10 rows and 20 columns. Outlines are x, y, x, y, … from the image's corner.
TRIANGLE = [4.0, 0.0, 12.0, 0.0, 4.0, 8.0]
SQUARE = [15.0, 5.0, 18.0, 5.0, 18.0, 9.0, 15.0, 9.0]
SLIVER = [2.1, 9.1, 2.3, 9.1, 2.3, 9.3]
# 3 columns outside, then the first two rows of the fourth column, then the rest.
CROWD = {"size": [10, 20], "counts": [30, 2, 168]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "val2014").mkdir()
    (tmp_path / "annotations").mkdir()
    images = []
    for number in (9, 2, 5):  # not in order
        name = f"COCO_val2014_{number:012d}.jpg"
        # Grey, as some of COCO's are.
        Image.fromarray(np.full((10, 20), 10 * number, dtype=np.uint8)).save(
            tmp_path / "val2014" / name, quality=100
        )
        images.append({"id": number, "file_name": name, "height": 10, "width": 20})
    content = {
        "images": images,
        "categories": [
            {"id": 90, "name": "toothbrush"},
            {"id": 1, "name": "person"},
            {"id": 13, "name": "stop sign"},  # 12 is one of the gaps
        ],
        "annotations": [
            annotation(5, 13, [4.0, 0.0, 8.0, 8.0], [TRIANGLE, SQUARE]),
            annotation(5, 1, [3.0, 0.0, 1.0, 2.0], CROWD),
            annotation(2, 90, [2.1, 9.1, 0.2, 0.2], [SLIVER]),
        ],
    }
    path = tmp_path / "annotations" / "instances_val2014.json"
    path.write_text(json.dumps(content))
    return tmp_path


def test_reading(folder: Path) -> None:
    data = coco.load(folder)
    assert [int(name[-7:-4]) for name in data.names] == [2, 5, 9]
    found = data[1]
    assert found.image.shape == (1, 3, 10, 20)
    assert torch.allclose(found.image, torch.tensor(50 / 255), atol=0.01)
    assert [found.categories[c] for c in found.classes] == ["stop sign", "person"]
    assert found.classes.tolist() == [11, 0]
    assert found.labels.nonzero()[:, 0].tolist() == [0, 11]
    assert found.boxes.tolist() == [[4, 0, 12, 8], [3, 0, 4, 2]]

    y, x = np.mgrid[:10, :20] + 0.5
    triangle = (x > 4) & (y > 0) & (x - 4 + y < 8)
    on_the_edge = x - 4 + y == 8
    square = (x > 15) & (x < 18) & (y > 5) & (y < 9)
    region = found.region(11).numpy()
    assert np.array_equal(region[~on_the_edge], (triangle | square)[~on_the_edge])
    assert found.region(0).nonzero().tolist() == [[0, 3], [1, 3]]
    assert found.difficult(0)
    assert found.judged(0)


def test_an_outline_without_a_pixel_still_hits_one(folder: Path) -> None:
    found = coco.load(folder)[0]
    assert found.region(79).nonzero().tolist() == [[9, 2]]


def test_image_without_objects(folder: Path) -> None:
    found = coco.load(folder)[2]
    assert found.boxes.shape == (0, 4)
    assert found.masks.shape == (0, 10, 20)
    assert not found.labels.any()
    assert [len(each.classes) for each in coco.load(folder)] == [1, 2, 0]
    assert [len(each.classes) for each in coco.load(folder)[1:]] == [2, 0]


def test_categories() -> None:
    assert len(coco.CATEGORIES) == 80
    assert coco.CATEGORIES[0] == "person"
    assert coco.CATEGORIES[79] == "toothbrush"


@pytest.mark.parametrize("missing", ["val2014", "annotations"])
def test_missing(folder: Path, missing: str) -> None:
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"{missing}.*does not exist.*unpack"):
        coco.load(folder)


def rewrite(folder: Path, change: Callable[[dict], object]) -> None:
    """The annotations, changed."""
    path = folder / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# Images as they come


def test_images_of_every_kind(folder: Path) -> None:
    """Grey, CMYK, a PNG named .jpg; turned by EXIF, which COCO does not count."""
    images = folder / "val2014"
    colours = np.full((10, 20, 3), (200, 100, 50), dtype=np.uint8)
    made = Image.fromarray(colours)
    made.convert("CMYK").save(images / "COCO_val2014_000000000002.jpg", quality=100)
    made.save(folder / "a.png")
    (folder / "a.png").rename(images / "COCO_val2014_000000000005.jpg")
    exif = Image.Exif()
    exif[0x0112] = 3
    halves = Image.fromarray(np.repeat(np.uint8([[0] * 10 + [255] * 10]), 10, axis=0))
    halves.save(images / "COCO_val2014_000000000009.jpg", exif=exif, quality=100)
    first, second, third = coco.load(folder)
    colour = torch.tensor([200, 100, 50]) / 255
    for found in (first, second):
        assert torch.allclose(found.image.mean(dim=(0, 2, 3)), colour, atol=0.02)
    assert float(third.image[..., :8].mean()) < 0.02
    assert float(third.image[..., 12:].mean()) > 0.98


def test_an_image_of_another_size_than_annotated(folder: Path) -> None:
    path = folder / "val2014" / "COCO_val2014_000000000005.jpg"
    Image.new("RGB", (10, 20)).save(path)
    data = coco.load(folder)
    message = r"000005\.jpg has 10 x 20 pixels, its annotation says 20 x 10; annotate"
    with pytest.raises(ValueError, match=message):
        data[1]
    assert len(data[0].boxes) == 1  # the others still work
    rewrite(folder, lambda content: [image.pop("width") for image in content["images"]])
    with pytest.raises(ValueError, match=r"annotation 0: an outline .* lies outside"):
        coco.load(folder)[1]


def test_a_damaged_image_is_named(folder: Path) -> None:
    path = folder / "val2014" / "COCO_val2014_000000000005.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cannot read .*000005\.jpg as an image"):
        coco.load(folder)[1]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"000005\.jpg does not exist"):
        coco.load(folder)[1]


# Masks of every kind

# An ellipse and a rectangle, encoded by pycocotools 2.0.11; the lengths by NumPy.
COMPRESSED = ">362O0O2O000000000001N101N7OK00000:"
LENGTHS = [
    *(14, 3, 6, 5, 5, 5, 4, 7, 3, 7, 3, 7, 3, 7, 3, 7, 3, 7),
    *(3, 7, 4, 5, 5, 5, 6, 3, 13, 2, 8, 2, 8, 2, 8, 2, 18),
]


def test_compressed_run_lengths(folder: Path) -> None:
    y, x = np.mgrid[:10, :20]
    shown = (x - 7) ** 2 / 40 + (y - 5) ** 2 / 12 < 1
    shown[:2, 15:19] = True
    for counts in (COMPRESSED, LENGTHS):
        rewrite(folder, set_first(segmentation={"size": [10, 20], "counts": counts}))
        found = coco.load(folder)[1]
        assert np.array_equal(found.masks[0].numpy(), shown)


def next_to(outlines: list, height: int, width: int) -> np.ndarray:
    """The pixels whose centres are nearer than a pixel to a side of an outline."""
    y, x = np.mgrid[:height, :width] + 0.5
    shortest = np.full((height, width), np.inf)
    for outline in outlines:
        corners = np.reshape(outline, (-1, 2))
        for (x0, y0), (x1, y1) in zip(
            corners, np.roll(corners, 1, axis=0), strict=True
        ):
            length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-9)
            along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length
            along = along.clip(0, 1)
            away = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
            shortest = np.minimum(shortest, away)
    return shortest < 1


def test_pycocotools_draws_the_same(folder: Path) -> None:
    """Crowds are equal; outlines up to the pixels beside their sides."""
    tools = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    rng = np.random.default_rng(4)
    height, width, n = 60, 80, 60
    objects = []
    for i in range(n):
        centre = rng.uniform(10, 50, size=2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, size=rng.integers(3, 12)))
        radii = rng.uniform(1, 30, size=len(angles))
        around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        outline = centre + radii[:, None] * around
        outline = outline.clip(0, (width, height)).round(2).flatten().tolist()
        crowd = np.asfortranarray(rng.random((height, width)) < rng.uniform(0.01, 0.99))
        runs = tools.encode(crowd.astype(np.uint8))
        runs["counts"] = runs["counts"].decode()
        kinds = ([outline], [outline, [2, 2, 9, 2, 2, 9]], runs)
        objects.append(annotation(7, 1, [0, 0, width, height], kinds[i % 3]))
    Image.new("L", (width, height)).save(folder / "val2014" / "seven.jpg")
    image = {"id": 7, "file_name": "seven.jpg", "height": height, "width": width}
    rewrite(folder, lambda c: c["images"].append(image))
    rewrite(folder, lambda c: c["annotations"].extend(objects))
    found = coco.load(folder)[2]
    assert found.masks.shape == (n, height, width)
    for mask, one in zip(found.masks.numpy(), objects, strict=True):
        shape = one["segmentation"]
        if isinstance(shape, dict):
            assert np.array_equal(mask, tools.decode(shape))
        else:
            expected = tools.decode(
                tools.merge(tools.frPyObjects(shape, height, width))
            )
            differing = mask != expected.astype(bool)
            assert not (differing & ~next_to(shape, height, width)).any()
            assert mask.any()


def test_without_an_outline_the_box(folder: Path) -> None:
    """As exporters of boxes write them; a box thinner than a pixel holds one."""

    def change(content: dict) -> None:
        first, second, third = content["annotations"]
        del first["segmentation"]
        second.update(segmentation=[], bbox=[3.2, 1.0, 0.1, 5.0])
        third.update(segmentation={"size": [10, 20], "counts": [200]})

    rewrite(folder, change)
    data = coco.load(folder)
    box = torch.zeros(10, 20, dtype=torch.bool)
    box[:8, 4:12] = True
    assert torch.equal(data[1].masks[0], box)
    thin = torch.zeros(10, 20, dtype=torch.bool)
    thin[1:6, 3] = True
    assert torch.equal(data[1].masks[1], thin)
    assert data[0].region(79).nonzero().tolist() == [[9, 2]]
    pixels = box_masks(data[1].boxes, 10, 20)  # as the studies ask for boxes
    assert torch.equal(pixels, data[1].masks)


def test_the_pointing_game_is_torchrays(folder: Path) -> None:
    """Its rules restated: a hit if a pixel of any object of the class, crowds too, is
    nearer to the maximum than the tolerance."""
    data = coco.load(folder)
    rng = np.random.default_rng(1)
    tried = [0, 0]
    for found in data:
        for target in found.labels.nonzero()[:, 0].tolist():
            region = found.region(target).numpy()
            ys, xs = region.nonzero()
            for tolerance in (1, 3, 5):
                values = torch.from_numpy(rng.random((1, 1, 10, 20)))
                row, column = divmod(int(values.argmax()), 20)
                near = (ys - row) ** 2 + (xs - column) ** 2 < tolerance**2
                (hit,) = pointing_hits(
                    values, torch.from_numpy(region)[None], tolerance
                )
                assert hit == near.any()
                tried[int(near.any())] += 1
    assert min(tried) > 0


# What is wrong is named


def set_first(**values: object) -> Callable[[dict], None]:
    return lambda content: content["annotations"][0].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            set_first(bbox=[9, 9, -3, 4]),
            "annotation 0: bbox must be x, y, width",
        ),
        (
            set_first(bbox=[1, 2, 3]),
            "annotation 0: bbox must be x, y, width",
        ),
        (set_first(bbox=None), "annotation 0 is not as expected"),
        (set_first(bbox=[25, 1, 3, 3]), "annotation 0: boxes must overlap the image"),
        (set_first(bbox=[float("nan"), 1, 3, 3]), "annotation 0: boxes must be finite"),
        (set_first(id=77, bbox=[1, -9, 3, 3]), "annotation 77: boxes must overlap"),
        (set_first(category_id=12), "category_id 12 is none of the categories"),
        (
            set_first(segmentation=[[1, 2, 3, 4]]),
            "an outline must be x, y",
        ),
        (set_first(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "an outline must be x, y of"),
        (
            set_first(segmentation=[1, 2, 9, 2, 9, 9]),
            "an outline must be x, y",
        ),
        (
            set_first(segmentation=[[25, 1, 28, 1, 28, 4]]),
            r"an outline around \[27\.0, 2\.0\] lies outside the image of 20 x 10",
        ),
        (
            set_first(segmentation={"size": [20, 10], "counts": [200]}),
            r"run lengths must be for 10 rows and 20 columns, got \[20, 10\]",
        ),
        (
            set_first(segmentation={"size": [10, 20], "counts": [150]}),
            "run lengths must be of 200 pixels, got 150",
        ),
        (set_first(segmentation={"size": [10, 20], "counts": "00"}), "of 200 pixels"),
        (set_first(segmentation={"counts": [200]}), "annotation 0: 'size' is missing"),
        (
            set_first(segmentation="outline"),
            "annotation 0: could not convert",
        ),
        (lambda c: c["annotations"][0].pop("bbox"), "annotation 0: 'bbox' is missing"),
    ],
)
def test_wrong_objects(folder: Path, change: Callable, message: str) -> None:
    rewrite(folder, change)
    data = coco.load(folder)
    with pytest.raises(ValueError, match=message) as caught:
        data[1]
    assert "COCO_val2014_000000000005.jpg, annotation" in str(caught.value)
    assert len(data[0].boxes) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.pop("categories"),
            "no 'categories' in it, so these are",
        ),
        (lambda c: c.pop("annotations"), "no 'annotations' in it"),
        (
            lambda c: c["categories"][0].update(name="tooth brush"),
            "unknown class",
        ),
        (lambda c: c["images"].append(c["images"][0]), "two images have the same id"),
        (lambda c: c["images"][0].pop("id"), "'id' is missing"),
        (lambda c: c["annotations"][0].pop("image_id"), "'image_id' is missing"),
        (lambda c: c.update(images=[3]), "not as expected"),
    ],
)
def test_wrong_annotations(folder: Path, change: Callable, message: str) -> None:
    rewrite(folder, change)
    with pytest.raises(ValueError, match=rf"instances_val2014\.json.*{message}"):
        coco.load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"7", b"\xff\xfe\0\0{"])
def test_damaged_annotations(folder: Path, content: bytes) -> None:
    (folder / "annotations" / "instances_val2014.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"instances_val2014\.json"):
        coco.load(folder)


def test_objects_of_images_that_are_not_there(folder: Path) -> None:
    """Whoever keeps some of the images may keep all of the annotations."""
    rewrite(folder, lambda content: content["images"].pop(2))
    assert [len(found.classes) for found in coco.load(folder)] == [1, 0]
