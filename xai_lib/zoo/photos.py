"""Named photographs as `[1, 3, H, W]` tensors in [0, 1], most with an ImageNet class.

All come with the installation: scikit-image's and scikit-learn's samples, and twenty
that foolbox ships, in ImageNet's classes. Grey photographs get three equal channels.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as F

from xai_lib.arguments import check_count
from xai_lib.paths import data_path
from xai_lib.zoo.catalogue import Row, lookup, package_file
from xai_lib.zoo.image_files import as_shown, is_hidden, is_picture, stored
from xai_lib.zoo.models import IMAGENET_CATEGORIES


class Photo(NamedTuple):
    """One photograph."""

    image: Tensor
    """Float32 `[1, 3, size, size]` in [0, 1]."""
    label: int | None
    """ImageNet class index, None if the photo shows none of the 1,000 classes."""
    name: str
    source: str
    licence: str
    redistributable: bool
    """Whether a committed figure may show it. If False: for numbers only."""


class LabelledPhotos(NamedTuple):
    """All photographs with an ImageNet class, in a fixed order."""

    images: Tensor
    """Float32 `[N, 3, size, size]` in [0, 1]."""
    labels: Tensor
    """ImageNet class indices, int64 `[N]`."""
    names: tuple[str, ...]
    sources: tuple[str, ...]
    licences: tuple[str, ...]
    redistributable: tuple[bool, ...]


class _File(NamedTuple):
    package: str
    path: str
    label: int | None
    source: str
    licence: str
    redistributable: bool = True


def _skimage(file: str, label: int | None, by: str, licence: str) -> _File:
    return _File("skimage", f"data/{file}", label, f"scikit-image, {by}", licence)


def _sklearn(file: str, label: int | None, by: str) -> _File:
    return _File(
        "sklearn", f"datasets/images/{file}", label, f"scikit-learn, {by}", "CC BY 2.0"
    )


def _foolbox(number: int, label: int) -> _File:
    # The package is MIT; what holds for the photographs in it is stated nowhere.
    file = f"imagenet_{number:02d}_{label}.jpg"
    return _File("foolbox", f"data/{file}", label, "foolbox", "unclear", False)


_FILES: dict[str, _File] = {
    "chelsea": _skimage("chelsea.png", 281, "Stefan van der Walt", "CC0"),
    "coffee": _skimage("coffee.png", 967, "Rachel Michetti", "CC0"),
    "camera": _skimage("camera.png", 872, "Lav Varshney", "CC0"),
    # ImageNet's nearest class: it knows missiles, but no launch vehicles.
    "rocket": _skimage("rocket.jpg", 657, "SpaceX", "public domain"),
    # ImageNet's nearest class: it knows mopeds and scooters, but no motorcycles.
    "motorcycle_left": _skimage(
        "motorcycle_left.png", 665, "Middlebury Stereo 2014", "not stated"
    )._replace(redistributable=False),
    "astronaut": _skimage("astronaut.png", None, "NASA", "public domain"),
    "china": _sklearn("china.jpg", 698, "danielbuechele on Flickr"),
    "flower": _sklearn("flower.jpg", None, "vultilion on Flickr"),
    "bull_mastiff": _foolbox(0, 243),
    "folding_chair": _foolbox(1, 559),
    "beaker": _foolbox(2, 438),
    "buckeye": _foolbox(3, 990),
    "strawberry": _foolbox(4, 949),
    "thatch": _foolbox(5, 853),
    "jeep_sepia": _foolbox(6, 609),
    "jeep_blue": _foolbox(7, 609),
    "yurt": _foolbox(8, 915),
    "bottlecap": _foolbox(9, 455),
    "drum": _foolbox(10, 541),
    "loafer": _foolbox(11, 630),
    "prayer_rug": _foolbox(12, 741),
    "cannon": _foolbox(13, 471),
    "spoonbill": _foolbox(14, 129),
    "goose": _foolbox(15, 99),
    "dalmatian": _foolbox(16, 251),
    "bald_eagle": _foolbox(17, 22),
    "leafhopper": _foolbox(18, 317),
    "dung_beetle": _foolbox(19, 305),
}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(_FILES)


def class_name(index: int) -> str:
    """The name of an ImageNet class, as torchvision spells it.

    Raises:
        TypeError, ValueError: not an integer from 0 to 999.
    """
    index = check_count("index", index, at_least=0)
    if index >= len(IMAGENET_CATEGORIES):
        raise ValueError(f"index must be an ImageNet class, 0 to 999, got {index}")
    return IMAGENET_CATEGORIES[index]


def load(name: str, size: int = 224) -> Photo:
    """A photograph by name: its short side resized to 256/224 of `size`, then the
    central square of `size` × `size` pixels, as is usual for ImageNet.

    The numbers in the file, as scikit-image gives them too: unlike `read` it leaves
    the colours of "rocket", the only one that is not in sRGB, as they are stored.

    Raises:
        ValueError: an unknown name, or a size below 1.
    """
    file = lookup(_FILES, name, "photo")
    image = stored(package_file(file.package, file.path)).convert("RGB")
    return Photo(
        _prepare(image, size)[None],
        file.label,
        name,
        file.source,
        file.licence,
        file.redistributable,
    )


def labelled(size: int = 224) -> LabelledPhotos:
    """All photographs that show an ImageNet class, prepared as by `load`."""
    photos = [load(n, size) for n, file in _FILES.items() if file.label is not None]
    images, labels, *texts = zip(*photos, strict=True)
    return LabelledPhotos(torch.cat(images), torch.tensor(labels, device="cpu"), *texts)


def read(path: str | Path, size: int = 224) -> Tensor:
    """An image file of one's own as float32 `[1, 3, size, size]` in [0, 1].

    As a viewer shows it: turned upright by its EXIF orientation, its colours brought
    from its own colour profile to sRGB. Then resized and cropped as by `load`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, damaged, too large, of several frames or pages,
            transparent anywhere, of a colour depth that 8 bits would cut, or with a
            colour profile that does not fit.
    """
    return _prepare(as_shown(path), size)[None]


def _prepare(image: Image.Image, size: int) -> Tensor:
    """A PIL image as float32 `[3, size, size]`, by the ImageNet convention."""
    image = F.resize(image, [round(check_count("size", size) * 256 / 224)])
    # Float64 where that is torch's default dtype.
    return F.to_tensor(F.center_crop(image, [size])).float()


def folder(path: str | Path, size: int = 224) -> ImageFolder:
    """An ImageNet-style validation folder: one folder per class, images in it.

    A dataset of pairs (image `[3, size, size]`, ImageNet class index), read one at a
    time: 50,000 images at once would fill 30 GB. Hand it to a `DataLoader`.

    Images are read as by `read`, errors included. So EXIF orientations and colour
    profiles count, which torchvision's `ImageFolder` ignores and with it most published
    accuracies: a few images differ from theirs. Hidden files and folders, such as the
    resource forks `._x.jpg` of macOS, are skipped.

    Args:
        path: its folders are named by WordNet id ("n01440764") or class index ("0").
        size: see `load`.

    Raises:
        FileNotFoundError: no such folder, no class in it, or a class without images.
        ValueError: a folder that names no ImageNet class, or a size below 1.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"image folder {path} does not exist")
    return _ImageNetFolder(
        str(path),
        transform=partial(_prepare, size=check_count("size", size)),
        loader=as_shown,
        is_valid_file=is_picture,
    )


class _ImageNetFolder(ImageFolder):
    """`ImageFolder` with ImageNet's class indices instead of 0, 1, 2, … in the order
    of the folders' names."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        ids = data_path("imagenet_wnids.txt").read_text().split()
        known = {name: index for index, name in enumerate(ids)}
        known |= {str(index): index for index in range(len(ids))}
        classes, _ = super().find_classes(directory)
        classes = [name for name in classes if not is_hidden(name)]
        if not classes:
            raise FileNotFoundError(f"{directory} has no folder for a class")
        for name in classes:
            if name not in known:
                raise ValueError(
                    f"folder {name!r} in {directory} names no ImageNet class; expected "
                    "a WordNet id such as 'n01440764' or an index from 0 to 999"
                )
        return classes, {name: known[name] for name in classes}


def rows() -> list[Row]:
    """What `zoo.list()` says about the photographs."""
    return [
        Row(
            name,
            "photo" if file.label is None else f"photo, {class_name(file.label)}",
            file.source,
            package_file(file.package, file.path).stat().st_size,
            file.licence,
            "offline",
        )
        for name, file in _FILES.items()
    ]
