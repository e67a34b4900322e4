from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xai_lib.zoo import coco


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
