"""Named photographs as `[1, 3, H, W]` tensors in [0, 1], most with an ImageNet class.

scikit-image's and scikit-learn's samples come with the installation. Twenty more, in
ImageNet's classes, are in the wheel of foolbox, which pip fetches when one of them is
first wanted. Grey photographs get three equal channels.
"""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xai_lib.core.arguments import check_count
from xai_lib.core.paths import cache_path
from xai_lib.zoo.download import fetch_wheel
from xai_lib.zoo.image_files import as_shown, stored
from xai_lib.zoo.listing import Row, lookup, package_file


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
    free: bool = True
    """Whether a committed figure may show it."""


def _skimage(file: str, label: int | None, by: str, licence: str) -> _File:
    return _File("skimage", f"data/{file}", label, f"scikit-image, {by}", licence)


def _sklearn(file: str, label: int | None, by: str) -> _File:
    path, source = f"datasets/images/{file}", f"scikit-learn, {by} on Flickr"
    return _File("sklearn", path, label, source, "CC BY 2.0")


_WHEEL = "foolbox==3.3.4"
_WHEEL_HASH = "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb"
_WHEEL_SIZE = 1_677_112


def _foolbox(number: int, label: int) -> _File:
    # The package is MIT; what holds for the photographs in it is stated nowhere.
    file = f"imagenet_{number:02d}_{label}.jpg"
    return _File("foolbox", f"data/{file}", label, "foolbox", "unclear", False)


# The name and label of each photograph in foolbox, by its number there.
_FOOLBOX = (
    *(("bull_mastiff", 243), ("folding_chair", 559), ("beaker", 438), ("buckeye", 990)),
    *(("strawberry", 949), ("thatch", 853), ("jeep_sepia", 609), ("jeep_blue", 609)),
    *(("yurt", 915), ("bottlecap", 455), ("drum", 541), ("loafer", 630)),
    *(("prayer_rug", 741), ("cannon", 471), ("spoonbill", 129), ("goose", 99)),
    *(("dalmatian", 251), ("bald_eagle", 22)),
    *(("leafhopper", 317), ("dung_beetle", 305)),
)
_FILES: dict[str, _File] = {
    "chelsea": _skimage("chelsea.png", 281, "Stefan van der Walt", "CC0"),
    "coffee": _skimage("coffee.png", 967, "Rachel Michetti", "CC0"),
    "camera": _skimage("camera.png", 872, "Lav Varshney", "CC0"),
    # ImageNet's nearest class: it knows missiles, but no launch vehicles.
    "rocket": _skimage("rocket.jpg", 657, "SpaceX", "public domain"),
    # ImageNet's nearest class: it knows mopeds and scooters, but no motorcycles.
    "motorcycle_left": _skimage(
        "motorcycle_left.png", 665, "Middlebury Stereo 2014", "not stated"
    )._replace(free=False),
    "astronaut": _skimage("astronaut.png", None, "NASA", "public domain"),
    "china": _sklearn("china.jpg", 698, "danielbuechele"),
    "flower": _sklearn("flower.jpg", None, "vultilion"),
    **{name: _foolbox(number, label) for number, (name, label) in enumerate(_FOOLBOX)},
}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(_FILES)


def class_name(index: int) -> str:
    """The name of an ImageNet class, as torchvision spells it.

    Raises:
        TypeError, ValueError: not an integer from 0 to 999.
    """
    from xai_lib.zoo.models import IMAGENET_CATEGORIES

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
        FileNotFoundError: the package that holds it is not installed.
        OfflineError: it is in foolbox's wheel, and pip does not reach that.
    """
    file = lookup(_FILES, name, "photo")
    with _on_disk(file) as path:
        image = prepared(stored(path).convert("RGB"), size)[None]
    return Photo(image, file.label, name, file.source, file.licence, file.free)


@contextmanager
def _on_disk(file: _File) -> Iterator[Path]:
    """Where a photograph can be read, as long as the context lasts."""
    if file.package != "foolbox":
        yield package_file(file.package, file.path)
        return
    wheel = fetch_wheel(_WHEEL, _WHEEL_HASH, cache_path() / "wheels")
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        yield Path(archive.extract(f"foolbox/{file.path}", folder))


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
    return prepared(as_shown(path), size)[None]


def prepared(image: Image.Image, size: int) -> Tensor:
    """A PIL image in RGB as float32 `[3, size, size]`, by the ImageNet convention."""
    short = round(check_count("size", size) * 256 / 224)
    width, height = (short * side // min(image.size) for side in image.size)
    left, upper = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.array(image.crop((left, upper, left + size, upper + size)))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255


def rows() -> list[Row]:
    """What `zoo.list()` says about the photographs."""
    found = []
    for name, file in _FILES.items():
        role = "photo" if file.label is None else f"photo, {class_name(file.label)}"
        size, supply = _WHEEL_SIZE, "download"
        if file.package != "foolbox":
            size = package_file(file.package, file.path).stat().st_size
            supply = "offline"
        found.append(Row(name, role, file.source, size, file.licence, supply))
    return found
