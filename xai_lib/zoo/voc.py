"""PASCAL VOC 2007: the 4,952 test images on which the AISE paper plays its games."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch

from xai_lib.extras import extra
from xai_lib.paths import cache_path
from xai_lib.zoo.annotated import Annotated
from xai_lib.zoo.catalogue import Row
from xai_lib.zoo.download import OfflineError, unpack

with extra("book"):
    from torchvision.datasets import VOCDetection
    from torchvision.transforms.functional import to_tensor

# In alphabetical order, as in every list of results.
CATEGORIES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)


class VOC07(Sequence[Annotated]):
    """The test images in the order of VOC's list, each read when it is asked for.

    Masks are the pixels of the boxes, and objects that VOC flags as difficult are set
    aside, both as in TorchRay's pointing game. Images have their own sizes.

    Attributes:
        names: of the images, such as "000001".
    """

    def __init__(self, data: VOCDetection) -> None:
        self._data = data
        self.names = tuple(Path(file).stem for file in data.images)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Annotated: ...
    @overload
    def __getitem__(self, index: slice) -> list[Annotated]: ...
    def __getitem__(self, index: int | slice) -> Annotated | list[Annotated]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        picture, tree = self._data[index]
        image = to_tensor(picture)[None]
        objects = tree["annotation"]["object"]
        boxes = torch.zeros(len(objects), 4)
        masks = torch.zeros(len(objects), *image.shape[2:], dtype=torch.bool)
        for box, mask, found in zip(boxes, masks, objects, strict=True):
            x0, y0, x1, y1 = (
                round(float(found["bndbox"][edge]))
                for edge in ("xmin", "ymin", "xmax", "ymax")
            )
            # VOC counts pixels from 1, and the last one is inside.
            box[:] = torch.tensor([x0 - 1, y0 - 1, x1, y1])
            mask[y0 - 1 : y1, x0 - 1 : x1] = True
        return Annotated(
            image,
            boxes,
            torch.tensor([CATEGORIES.index(o["name"]) for o in objects]).long(),
            masks,
            torch.tensor([o["difficult"] == "1" for o in objects]).bool(),
            CATEGORIES,
        )


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
        archive, folder = folder, folder.with_suffix("")
        if not folder.is_dir():
            unpack(archive, folder)
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
    """What `zoo.list()` says about VOC."""
    role = "4,952 photos with boxes, 20 classes"
    licence = "Flickr's terms"
    return [Row("voc07", role, "PASCAL VOC 2007", 451_020_800, licence, "download")]
