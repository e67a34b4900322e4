"""COCO 2014's validation images; the AISE paper takes the first 5,000."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xai_lib.extras import extra
from xai_lib.zoo.annotated import Annotated
from xai_lib.zoo.catalogue import Row

with extra("book"):
    from skimage.draw import polygon2mask
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
    from torchvision.transforms.functional import to_tensor

# In the order of COCO's own ids, whose gaps torchvision fills with "N/A".
CATEGORIES = tuple(
    name
    for name in FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    if name not in ("__background__", "N/A")
)


class COCO14(Sequence[Annotated]):
    """The images in the order of their ids, each read when it is asked for.

    Masks are filled outlines, crowds among them, as in TorchRay's pointing game; a
    pixel belongs to an outline that holds its centre, and an outline that holds none
    to the pixels of its corners. Images have their own sizes; some show no object.

    Attributes:
        names: the file names.
    """

    def __init__(self, images: Path, annotations: Path) -> None:
        content = json.loads(annotations.read_text())
        self._index = {
            kind["id"]: CATEGORIES.index(kind["name"]) for kind in content["categories"]
        }
        self._images = images
        entries = sorted(content["images"], key=lambda entry: entry["id"])
        self.names = tuple(entry["file_name"] for entry in entries)
        self._ids = [entry["id"] for entry in entries]
        self._objects = defaultdict(list)
        for found in content["annotations"]:
            self._objects[found["image_id"]].append(found)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Annotated: ...
    @overload
    def __getitem__(self, index: slice) -> list[Annotated]: ...
    def __getitem__(self, index: int | slice) -> Annotated | list[Annotated]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        with Image.open(self._images / self.names[index]) as file:
            image = to_tensor(file.convert("RGB"))[None]
        height, width = image.shape[2:]
        objects = self._objects.get(self._ids[index], [])
        masks = torch.zeros(len(objects), height, width, dtype=torch.bool)
        for mask, found in zip(masks, objects, strict=True):
            mask |= _mask(found["segmentation"], height, width)
        # COCO tells the corner and the sides.
        boxes = torch.tensor([o["bbox"] for o in objects]).float().reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return Annotated(
            image,
            boxes,
            torch.tensor([self._index[o["category_id"]] for o in objects]).long(),
            masks,
            torch.zeros(len(objects), dtype=torch.bool),
            CATEGORIES,
        )


def load(path: str | Path) -> COCO14:
    """COCO 2014's validation images.

    Nothing is downloaded, as no published hash of the archives is known to us; they
    are val2014.zip and annotations_trainval2014.zip at cocodataset.org.

    Args:
        path: the folder to which both were unpacked: it holds `val2014` and
            `annotations/instances_val2014.json`.

    Raises:
        FileNotFoundError: one of the two is missing.
    """
    images = Path(path) / "val2014"
    annotations = Path(path) / "annotations" / "instances_val2014.json"
    for needed in (images, annotations):
        if not needed.exists():
            raise FileNotFoundError(
                f"COCO 2014: {needed} does not exist; unpack val2014.zip and "
                "annotations_trainval2014.zip from cocodataset.org into one folder, or "
                "use scenes.make(), which needs no files"
            )
    return COCO14(images, annotations)


def _mask(segmentation: list | dict, height: int, width: int) -> Tensor:
    """An outline (or several), or a crowd's run lengths, as bool `[H, W]`."""
    if isinstance(segmentation, dict):
        # Lengths of alternate runs outside and inside, down the columns.
        runs = segmentation["counts"]
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return torch.from_numpy(inside.reshape(width, height).T.copy())
    mask = np.zeros((height, width), dtype=bool)
    for outline in segmentation:
        # COCO measures from the corner of the first pixel, scikit-image from its
        # centre; and it wants (row, column).
        corners = np.reshape(outline, (-1, 2))[:, ::-1] - 0.5
        inside = polygon2mask((height, width), corners)
        if not inside.any():  # thinner than a pixel
            rows, columns = corners.round().astype(int).T
            inside[rows.clip(0, height - 1), columns.clip(0, width - 1)] = True
        mask |= inside
    return torch.from_numpy(mask)


def rows() -> list[Row]:
    """What `zoo.list()` says about COCO; both archives together, rounded."""
    role = "40,504 photos with masks, 80 classes"
    licence = "CC BY 4.0; photos: Flickr's terms"
    return [Row("coco14", role, "COCO 2014 val", 6_900_000_000, licence, "download")]
