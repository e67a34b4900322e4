"""PASCAL VOC 2007: the 4,952 test images on which the AISE paper plays its games."""

from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import torch
from torchvision.datasets import VOCDetection

from xai_book.data.annotated import Annotated, AnnotatedImages, naming, read_image
from xai_book.data.archives import unpack
from xai_lib.core.boxes import box_masks
from xai_lib.core.paths import cache_path
from xai_lib.zoo.download import OfflineError
from xai_lib.zoo.listing import Row, lookup

# In alphabetical order, as in every list of results.
CATEGORIES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)
_INDEX = {name: index for index, name in enumerate(CATEGORIES)}


class VOC07(AnnotatedImages):
    """The test images in the order of VOC's list, by names such as "000001".

    Masks are the pixels of the boxes, and objects that VOC flags as difficult are set
    aside, both as in TorchRay's pointing game.

    Asking for an image raises a ValueError that names the file and the object for
    damaged files, classes that are not VOC's, sizes or boxes that do not belong to the
    image, and coordinates below 1.
    """

    def __init__(self, data: VOCDetection) -> None:
        # A blank line in the list is an image without a name.
        self._files = [
            (Path(image), Path(annotation))
            for image, annotation in zip(data.images, data.annotations, strict=True)
            if Path(image).name != ".jpg"
        ]
        self.names = tuple(image.stem for image, _ in self._files)

    def _read(self, index: int) -> Annotated:
        file, annotation = self._files[index]
        with naming(str(annotation)):
            tree = ElementTree.parse(annotation).getroot()
            if tree.tag != "annotation":
                raise ValueError(f"expected <annotation>, got <{tree.tag}>")
            told = None
            if (size := tree.find("size")) is not None:
                width, height = _numbers(size, "width", "height")
                told = (width, height)
        image = read_image(file, told)
        boxes, classes, set_aside = [], [], []
        masks = [image.new_zeros(0, *image.shape[2:], dtype=torch.bool)]
        for number, node in enumerate(tree.findall("object"), 1):
            with naming(f"{annotation}, object {number}"):
                classes.append(lookup(_INDEX, _text(node, "name"), "class of VOC"))
                boxes.append(_box(node.find("bndbox")))
                set_aside.append(_flag(node.findtext("difficult", "")))
                masks.append(box_masks(image.new_tensor(boxes[-1:]), *image.shape[2:]))
        return Annotated(
            image,
            image.new_tensor(boxes).reshape(-1, 4),
            torch.tensor(classes, dtype=torch.int64, device="cpu"),
            torch.cat(masks),
            torch.tensor(set_aside, dtype=torch.bool, device="cpu"),
            CATEGORIES,
        )


def _text(node: Element, tag: str) -> str:
    text = (node.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"<{tag}> is missing or empty")
    return text


def _numbers(node: Element, *tags: str) -> list[int]:
    # Some exporters write fractions of a pixel.
    return [round(float(_text(node, tag))) for tag in tags]


def _box(node: Element | None) -> list[float]:
    """The edges of a box; VOC counts pixels from 1, and the last one is inside."""
    if node is None:
        raise ValueError("<bndbox> is missing")
    x0, y0, x1, y1 = _numbers(node, "xmin", "ymin", "xmax", "ymax")
    if x0 < 1 or y0 < 1:
        raise ValueError(
            f"the box starts at x = {x0}, y = {y0}, but VOC counts pixels from 1; if "
            "the exporter counted from 0, add 1 to every coordinate of the set"
        )
    if x1 < x0 or y1 < y0:
        raise ValueError(f"the box runs from {x0}, {y0} back to {x1}, {y1}")
    return [x0 - 1, y0 - 1, x1, y1]


def _flag(text: str) -> bool:
    """VOC writes 0 or 1, others the words or nothing."""
    known = {"": False, "0": False, "false": False, "1": True, "true": True}
    return lookup(known, text.strip().lower(), "flag <difficult>")


def load(path: str | Path | None = None) -> VOC07:
    """VOC 2007's test images.

    Args:
        path: the archive `VOCtest_06-Nov-2007.tar`, unpacked beside it once, or the
            folder that holds `VOCdevkit/VOC2007`. None is a folder in the book's cache,
            to which torchvision downloads it if need be (451 MB, checked by its MD5).

    Raises:
        OfflineError: it must be downloaded and cannot be.
        FileNotFoundError: no such path, or not what it should hold.
        ValueError: an archive that cannot be unpacked.
    """
    folder = cache_path() / "voc2007_test" if path is None else Path(path)
    if folder.is_file():
        folder = unpack(folder)  # beside the archive, and only once
    there = (folder / "VOCdevkit" / "VOC2007").is_dir()
    if path is not None and not there:
        raise FileNotFoundError(f"{folder} does not hold VOCdevkit/VOC2007")
    try:
        data = VOCDetection(folder, year="2007", image_set="test", download=not there)
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError) as error:
        raise OfflineError(
            f"cannot download VOC 2007's test images ({error}). Where there is "
            "network, get VOCtest_06-Nov-2007.tar and pass its path; scenes.make() "
            "works offline"
        ) from error
    return VOC07(data)


def rows() -> list[Row]:
    """What `xai_book.data.list()` says about VOC."""
    what = ("4,952 photos with boxes, 20 classes", "PASCAL VOC 2007", 451_020_800)
    return [Row("voc07", *what, "Flickr's terms", "download")]
