"""The examples of the library's page: they run, and no entry is without one."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sync_notebooks import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
# What a program gets from an entry that the examples call.
ANSWERS = {
    *("Box", "LinearSolution", "StochasticSolution", "ViolationRates", "WorstPoint"),
    *("Estimate", "SearchNoise", "Samples", "Detection", "detection_score"),
    *("FlipCurve", "GridGame", "Grids", "PerturbationCurve", "PointingGame"),
    *("Classifier", "Photo", "LabelledPhotos", "Digits", "Scenes", "Detector"),
    *("Report", "PertMap"),
}
# It needs pip and its index.
AWAY = {"labelled"}


def entries() -> Iterator[tuple[str, str]]:
    """Module and name of each class and function on the page."""
    found = re.findall(r"automodule:: (\S+)(?:\n   :members:(.*))?$", PAGE, re.M)
    for name, listed in found:
        module = importlib.import_module(name)
        names = [n.strip() for n in listed.split(",") if n.strip()]
        if name == "xai_lib":
            continue  # a list of names that follow
        for own in names or module.__all__:
            if callable(getattr(module, own)):
                yield name, own
    yield "xai_lib.zoo", "list"


def test_every_entry_has_an_example() -> None:
    code = re.sub(r"#.*", "", "\n".join(BLOCKS))
    found = list(entries())
    assert len(found) > 80
    lost = []
    for module, name in found:
        own = module.rpartition(".")[2]
        # A name that several modules have is told by its module.
        word = rf"\b{own}\.{name}\b" if name in ("load", "list", "names") else name
        if name not in ANSWERS | AWAY and not re.search(rf"\b{word}\b", code):
            lost.append(f"{module}.{name}")
    assert not lost, f"docs/api.md has no example of {', '.join(lost)}"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Each data set as its authors lay it out, with a picture or two."""
    picture = Image.fromarray(np.full((30, 40, 3), 90, dtype=np.uint8))

    def put(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)

    base = tmp_path / "VOC07" / "VOCdevkit" / "VOC2007"
    put(base / "JPEGImages" / "000001.jpg")
    for name, text in {
        "ImageSets/Main/test.txt": "000001\n",
        "Annotations/000001.xml": "<annotation><object><name>dog</name>"
        "<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>",
    }.items():
        (base / name).parent.mkdir(parents=True)
        (base / name).write_text(text)
    coco = tmp_path / "COCO14"
    put(coco / "val2014" / "COCO_val2014_000000000001.jpg")
    content = {
        "images": [
            {
                "id": 1,
                "file_name": "COCO_val2014_000000000001.jpg",
                "height": 30,
                "width": 40,
            }
        ],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "image_id": 1,
                "category_id": 1,
                "bbox": [2, 2, 9, 9],
                "segmentation": [[2, 2, 11, 2, 11, 11]],
                "iscrowd": 0,
            }
        ],
    }
    (coco / "annotations").mkdir()
    path = coco / "annotations" / "instances_val2014.json"
    path.write_text(json.dumps(content))
    for kind in ["bear", "bird", "cat", "dog", "giraffe", "horse", "sheep", "zebra"]:
        put(tmp_path / "coco-animals" / "val" / kind / "COCO_val2014_000000000001.jpg")
    put(tmp_path / "imagenet" / "0" / "one.JPEG")
    return tmp_path


def test_the_examples_run(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocotools")
    monkeypatch.chdir(folders)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS, start=1):
        exec(compile(block, f"docs/api.md, example {number}", "exec"), names)
