from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from xai_book.data.annotated import of_scene
from xai_lib.zoo import scenes
from xai_lib.zoo.digits import Digits

MANY = scenes.make(60, seed=3)


def articles(*images: Tensor) -> Digits:
    """Articles of our own, of the classes 0, 1, …"""
    names = tuple(f"class {i}" for i in range(10))
    return Digits(
        torch.stack(images)[:, None], torch.arange(len(images)), names, "", ""
    )


def ramp(height: int, width: int) -> Tensor:
    """A `height` × `width` article amid 28 × 28, each pixel another grey."""
    image = torch.zeros(28, 28)
    y, x = (28 - height) // 2, (28 - width) // 2
    values = torch.linspace(0.1, 1, height * width).reshape(height, width)
    image[y : y + height, x : x + width] = values
    return image


def _numpy_state() -> np.ndarray:
    return np.random.get_state()[1]  # type: ignore[return-value]  # noqa: NPY002


def test_same_seed_same_scenes() -> None:
    torch_before, numpy_before = torch.get_rng_state(), _numpy_state()
    few, again = scenes.make(5, seed=3), scenes.make(5, seed=4)
    assert np.array_equal(_numpy_state(), numpy_before)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert torch.equal(few.images, MANY.images[:5])
    for i in range(5):
        assert torch.equal(few.masks[i], MANY.masks[i])
        assert not torch.equal(few.images[i], again.images[i])
    assert len(MANY.images.unique(dim=0)) == 60


def test_clutter_changes_the_background_alone() -> None:
    plain = scenes.make(5, seed=3, clutter=0)
    for i in range(5):
        assert torch.equal(plain.boxes[i], MANY.boxes[i])
        inside = MANY.masks[i].any(dim=0)
        away = (plain.images[i, 0] - MANY.images[i, 0]).abs()
        assert away[inside].max() <= 0.25  # edges are half background
        assert away[~inside].max() > 0.25
        assert plain.images[i, 0][~inside].median() == 0


def test_shapes_and_ranges() -> None:
    assert MANY.images.shape == (60, 1, 112, 112)
    assert MANY.images.dtype == torch.float32
    assert MANY.images.min() >= 0
    assert MANY.images.max() <= 1
    assert MANY.labels.shape == (60, 10)
    assert MANY.labels.dtype == torch.bool
    assert {len(c) for c in MANY.classes} == {1, 2, 3, 4}
    assert MANY.categories[9] == "Ankle boot"
    assert MANY.labels.any(dim=0).all()


def test_boxes_masks_and_labels_agree() -> None:
    for i in range(60):
        boxes, classes, masks = MANY.boxes[i], MANY.classes[i], MANY.masks[i]
        assert len(boxes) == len(classes) == len(masks)
        assert set(MANY.labels[i].nonzero()[:, 0].tolist()) == set(classes.tolist())
        for box, mask in zip(boxes, masks.numpy(), strict=True):
            rows, columns = np.nonzero(mask)
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == expected
            longer = max(box[2] - box[0], box[3] - box[1])
            assert 0.2 * 112 - 2 <= longer <= 0.5 * 112 + 1
        for a, b in itertools.combinations(boxes.tolist(), 2):
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            assert width <= 0 or height <= 0


@pytest.mark.parametrize(("height", "width"), [(28, 28), (10, 28), (28, 12)])
def test_article_at_its_own_size(height: int, width: int) -> None:
    article = ramp(height, width)
    found = scenes.make(
        4, n_objects=(2, 2), sides=(0.25, 0.25), articles=articles(article), clutter=0.3
    )
    for i in range(4):
        outside = torch.ones(112, 112, dtype=torch.bool)
        for box in found.boxes[i].int().tolist():
            x0, y0, x1, y1 = box
            assert (y1 - y0, x1 - x0) == (height, width)
            values = article[article > 0].reshape(height, width)
            torch.testing.assert_close(found.images[i, 0, y0:y1, x0:x1], values)
            outside[y0:y1, x0:x1] = False
        background = found.images[i, 0][outside]
        assert background.max() <= 0.3
        assert background.std() > 0.01


def test_enlarged_twice() -> None:
    half = torch.zeros(28, 28)
    half[:, :14], half[:, 14:] = 0.2, 0.9
    one = scenes.make(
        1, n_objects=(1, 1), sides=(0.5, 0.5), articles=articles(half), clutter=0
    )
    x0, y0, x1, y1 = one.boxes[0][0].int().tolist()
    assert (x1 - x0, y1 - y0) == (56, 56)
    inside = one.images[0, 0, y0:y1, x0:x1]
    assert torch.allclose(inside[:, :26], torch.tensor(0.2))
    assert torch.allclose(inside[:, 30:], torch.tensor(0.9))
    assert one.images[0, 0].count_nonzero() == 56 * 56


def test_a_dark_spot_belongs_to_the_article() -> None:
    ring = torch.ones(28, 28)
    ring[10:18, 10:18] = 0
    one = scenes.make(
        1, n_objects=(1, 1), sides=(0.25, 0.25), articles=articles(ring), clutter=1
    )
    x0, y0, x1, y1 = one.boxes[0][0].int().tolist()
    assert one.masks[0][0].sum() == 28 * 28
    assert torch.equal(one.images[0, 0, y0:y1, x0:x1], ring)


def test_numbers_of_objects_are_equally_frequent() -> None:
    counts = [len(c) for c in scenes.make(200, size=48, clutter=0).classes]
    for k in (1, 2, 3, 4):
        assert 30 <= counts.count(k) <= 70  # 50 ± 6 in one standard deviation


def some(*sides: int, classes: list[int]) -> scenes.Scenes:
    """One scene of 40 × 40 with square articles in a row."""
    masks = torch.zeros(len(sides), 40, 40, dtype=torch.bool)
    labels, left = torch.zeros(1, 10, dtype=torch.bool), 0
    labels[0, classes] = True
    for mask, side in zip(masks, sides, strict=True):
        mask[:side, left : left + side] = True
        left += side
    names = tuple("0123456789")
    boxes = torch.zeros(len(sides), 4)
    return scenes.Scenes(
        torch.zeros(1, 1, 40, 40),
        labels,
        [boxes],
        [torch.tensor(classes)],
        [masks],
        names,
    )


@pytest.mark.parametrize(
    ("sides", "classes", "expected"),
    [
        ((10, 10), [2, 5], True),
        ((10, 10), [2, 2], False),  # no other class
        ((10,), [2], False),
        ((20, 10), [2, 5], False),  # exactly a quarter
        ((19, 10), [2, 5], True),
        ((14, 15, 5), [2, 2, 5], False),  # 421 of 1600 together, each far below 400
    ],
)
def test_difficult(sides: tuple, classes: list[int], expected: bool) -> None:
    one = some(*sides, classes=classes)
    assert of_scene(one, 0).difficult(2) is expected


def test_region_is_the_union_of_a_class() -> None:
    one = some(3, 4, 5, classes=[2, 5, 2])
    found = scenes.region(one, 0, 2)
    assert torch.equal(found, one.masks[0][0] | one.masks[0][2])
    with pytest.raises(ValueError, match="the image has no object of class 7"):
        scenes.region(one, 0, 7)
    with pytest.raises(ValueError, match="no object of class 7"):
        of_scene(one, 0).difficult(7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"size": 8}, "size must be at least 16"),
        ({"n_objects": (0, 2)}, r"n_objects\[0\] must be at least 1"),
        ({"n_objects": (3, 2)}, r"n_objects\[1\] must be at least 3"),
        ({"sides": (0.01, 0.5)}, r"sides\[0\] must be .*0\.01"),
        ({"sides": (0.5, 0.2)}, r"sides\[1\] must be .*0\.2"),
        ({"sides": (0.5, 1.2)}, r"sides\[1\] must be .*1\.2"),
        ({"clutter": 1.5}, "clutter must be"),
        ({"n_objects": (4, 4), "sides": (0.9, 1.0)}, "4 articles .* do not fit into"),
    ],
)
def test_bad_arguments(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenes.make(**{"n": 1} | settings)


def test_bad_pair() -> None:
    with pytest.raises(TypeError, match=r"n_objects must be a pair .*got 3"):
        scenes.make(1, n_objects=3)  # type: ignore[arg-type]
