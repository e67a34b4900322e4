"""COCO 2014's validation images; the AISE paper takes the first 5,000."""

import json
from pathlib import Path

import numpy as np
import torch
from skimage.draw import polygon2mask
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from xai_book.data.annotated import Annotated, AnnotatedImages, naming, read_image
from xai_lib.core.boxes import box_masks
from xai_lib.zoo.listing import Row, lookup

# In the order of COCO's own ids, whose gaps torchvision fills with "N/A".
CATEGORIES = tuple(
    name
    for name in FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    if name not in ("__background__", "N/A")
)
_INDEX = {name: index for index, name in enumerate(CATEGORIES)}


class COCO14(AnnotatedImages):
    """The images in the order of their ids, by their file names.

    Masks are filled outlines, crowds among them, as in TorchRay's pointing game; a
    pixel belongs to an outline that holds its centre, and an outline that holds none
    to the pixels of its corners. An object without an outline has the pixels of its
    box. Some images show no object.

    Asking for an image raises a ValueError that names the file and the object for
    damaged files, and for sizes, boxes and outlines that do not belong to the image.
    """

    def __init__(self, images: Path, annotations: Path) -> None:
        with naming(str(annotations)):
            content = json.loads(annotations.read_bytes())
            for part in ("images", "categories", "annotations"):
                if part not in content:
                    raise ValueError(
                        f"no {part!r} in it, so these are no instances; COCO's "
                        "captions, for one, have no classes"
                    )
            self._index = {
                kind["id"]: lookup(_INDEX, kind["name"], "class of COCO")
                for kind in content["categories"]
            }
            self._images = images
            entries = {entry["id"]: entry for entry in content["images"]}
            if len(entries) < len(content["images"]):
                raise ValueError("two images have the same id")
            self._entries = [entries[number] for number in sorted(entries)]
            self.names = tuple(entry["file_name"] for entry in self._entries)
            self._objects: dict[int, list[dict]] = {number: [] for number in entries}
            for found in content["annotations"]:
                self._objects.setdefault(found["image_id"], []).append(found)

    def _read(self, index: int) -> Annotated:
        entry = self._entries[index]
        told = None
        if {"width", "height"} <= entry.keys():
            told = (entry["width"], entry["height"])
        image = read_image(self._images / entry["file_name"], told)
        objects = self._objects[entry["id"]]
        classes = torch.zeros(len(objects), dtype=torch.int64, device="cpu")
        boxes = torch.zeros(len(objects), 4, dtype=torch.float32, device="cpu")
        masks = classes.new_zeros(len(objects), *image.shape[2:], dtype=torch.bool)
        for i, found in enumerate(objects):
            with naming(f"{entry['file_name']}, annotation {found.get('id', i)}"):
                if found["category_id"] not in self._index:
                    raise ValueError(
                        f"category_id {found['category_id']} is none of the categories"
                    )
                classes[i] = self._index[found["category_id"]]
                boxes[i] = _box(found["bbox"])
                in_box = box_masks(boxes[i : i + 1], *image.shape[2:])[0]
                outlined = _mask(found.get("segmentation") or [], *image.shape[2:])
                masks[i] = outlined if bool(outlined.any()) else in_box
        set_aside = torch.zeros_like(classes, dtype=torch.bool)
        return Annotated(image, boxes, classes, masks, set_aside, CATEGORIES)


def load(path: str | Path) -> COCO14:
    """COCO 2014's validation images.

    Nothing is downloaded, as no published hash of the archives is known to us; they
    are val2014.zip and annotations_trainval2014.zip at cocodataset.org.

    Args:
        path: the folder to which both were unpacked: it holds `val2014` and
            `annotations/instances_val2014.json`.

    Raises:
        FileNotFoundError: one of the two is missing.
        ValueError: the annotations are damaged, no instances, or of other classes.
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


def _box(told: list[float]) -> Tensor:
    """The edges `[4]` of a box of which COCO tells the corner and the sides."""
    box = torch.tensor(told, dtype=torch.float32, device="cpu")
    if box.shape != (4,) or bool((box[2:] < 0).any()):
        raise ValueError(f"bbox must be x, y, width and height, got {told}")
    box[2:] += box[:2]
    return box


def _mask(segmentation: list | dict, height: int, width: int) -> Tensor:
    """An outline (or several), or a crowd's run lengths, as bool `[H, W]`."""
    if isinstance(segmentation, dict):
        return _filled(segmentation, height, width)
    mask = np.zeros((height, width), dtype=bool)
    for outline in segmentation:
        # COCO measures from the corner of the first pixel, scikit-image from its
        # centre; and it wants (row, column).
        corners = _corners(outline, height, width)[:, ::-1] - 0.5
        inside = polygon2mask((height, width), corners)
        if not inside.any():  # thinner than a pixel
            rows, columns = corners.round().astype(int).T
            inside[rows.clip(0, height - 1), columns.clip(0, width - 1)] = True
        mask |= inside
    return torch.from_numpy(mask)


def _corners(outline: list[float], height: int, width: int) -> np.ndarray:
    """The corners x, y of an outline that overlaps the image: `[n, 2]`."""
    numbers = np.array(outline, dtype=float).flatten()
    if len(numbers) < 6 or len(numbers) % 2 or not np.isfinite(numbers).all():
        raise ValueError(f"an outline must be x, y of 3 corners or more, got {outline}")
    corners = numbers.reshape(-1, 2)
    if (corners.max(axis=0) < 0).any() or (corners.min(axis=0) > (width, height)).any():
        raise ValueError(
            f"an outline around {corners.mean(axis=0).round(1).tolist()} lies outside "
            f"the image of {width} x {height} pixels"
        )
    return corners


def _filled(runs: dict, height: int, width: int) -> Tensor:
    """Run lengths, of alternate runs outside and inside down the columns."""
    counts = runs["counts"]
    if isinstance(counts, str):
        counts = counts.encode()
    lengths = _decoded(counts) if isinstance(counts, bytes) else counts
    if list(runs["size"]) != [height, width]:
        raise ValueError(
            f"run lengths must be for {height} rows and {width} columns, got "
            f"{runs['size']}"
        )
    if min(lengths) < 0 or sum(lengths) != height * width:
        raise ValueError(
            f"run lengths must be of {height * width} pixels, got {sum(lengths)}"
        )
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return torch.from_numpy(inside.reshape(width, height).T.copy())


def _decoded(text: bytes) -> list[int]:
    """Run lengths out of COCO's compressed form.

    Characters from "0" on carry 5 bits each, the low ones first, and a sixth that says
    whether the number goes on; from the fourth number on, it is the difference to the
    last but one.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        code = character - 48
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:  # negative
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths


def rows() -> list[Row]:
    """What `xai_book.data.list()` says about COCO; both archives together, rounded."""
    role = "40,504 photos with masks, 80 classes"
    licence = "CC BY 4.0; photos: Flickr's terms"
    return [Row("coco14", role, "COCO 2014 val", 6_900_000_000, licence, "download")]
