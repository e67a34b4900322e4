"""The beds of the studies: kinds of images, and the model that is explained on them.

To add a data set, add a bed here: the studies measure it by its name, and with budgets
it is on the bench of chapter 10, as `showdown_NAME`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xai_book.data import coco_animals, imagenet_folder
from xai_book.studies import hardware, pictures
from xai_book.studies.pointing_game import SCALED
from xai_lib.core.attribution import generator
from xai_lib.geex import search_noise
from xai_lib.zoo import digits, photos

QUALITY = ("aopc", "insertion", "kept")
"""Measures of the bench that ask the model whether a map's order is its own."""
PLACE = ("energy", "pointing")
"""Those that ask whether the map lies on what the class is named after."""
PHOTOS = 26
"""Photographs with an ImageNet class that the packages bring."""


class Bed(NamedTuple):
    """A kind of images."""

    name: str
    """As figures have it."""
    model: str
    """A name of `models.load`."""
    images: Callable[[int], Tensor]
    """From the side in pixels to all images, float `[N, C, side, side]` in [0, 1]."""
    budgets: tuple[int, ...] = ()
    """Of queries, on the bench of chapter 10; without any the bed is not on it."""
    n_images: int = 0
    """How many the bench's store holds."""
    measures: tuple[str, ...] = (*QUALITY, "agreement", "stability")
    """Of the bench; high is good in all of them."""
    places: Callable[[], Tensor] | None = None
    """Where the class is in each image, bool `[N, H, W]`; None if nobody knows which
    pixels show it, and PLACE is not measured."""
    tolerance: float = 0
    """How many pixels beside the place "pointing" allows."""


def _photos(data: str, size: int) -> Tensor:
    return torch.cat([photos.load(name, size).image for name in photo_names(data)])


LITE = "efficientnet_lite0"
BUDGETS = (100, 500, 2000)
BEDS = {
    "mnist": Bed("MNIST", "cnn_mnist", lambda _: digits.mnist().images, BUDGETS, 40),
    "fashion_mnist": Bed(
        "Fashion-MNIST",
        "cnn_fashion_mnist",
        lambda _: digits.fashion_mnist().images,
        BUDGETS,
        n_images=40,
    ),
    # A query costs a hundred times as much.
    "photos": Bed(
        "photographs", LITE, partial(_photos, "photos"), (100, 1000), n_images=20
    ),
    "unlabelled_photos": Bed(
        "photographs without a class", LITE, partial(_photos, "unlabelled_photos")
    ),
    "coco_animals": Bed("COCO-animals", "vgg16", lambda _: coco_animals.load().images),
    # Those of `aise` with a single article, as "the class" must be one.
    "scenes": Bed(
        *("scenes", "scenes_classifier", lambda _: pictures.single_scenes()[0]),
        *(BUDGETS, 20, (*QUALITY, *PLACE, "agreement", "stability")),
        *(lambda: pictures.single_scenes()[1], SCALED),
    ),
    # Four photographs, of which the network names one; where is it? Its belief is too
    # low, .1 to .3, to be deleted.
    "grids": Bed(
        *("grids", LITE, lambda _: pictures.named_grids()[0]),
        *((100,), 20, (*PLACE, "agreement")),
        places=lambda: pictures.named_grids()[1],
    ),
}


@lru_cache
def photo_names(data: str) -> tuple[str, ...]:
    """The names of "photos" (those with an ImageNet class) or "unlabelled_photos"."""
    known = photos.labelled(size=1).names
    return known if data == "photos" else tuple(sorted({*photos.names()} - {*known}))


def load(data: str, indices: Sequence[int], model: str) -> Tensor:
    """Images of a bed in the size of a model, float `[N, C, size, size]` in [0, 1].

    Args:
        data: of BEDS, or the path of an ImageNet validation folder.
        indices: into the data.
        model: a name of `models.load`.

    Raises:
        ValueError: an index that the data do not have.
        FileNotFoundError: neither a name nor a folder.
    """
    images = _images(data, hardware.size(model))
    beyond = [i for i in indices if i >= len(images)]
    if beyond:
        raise ValueError(f"{data} has {len(images)} images, got index {beyond[0]}")
    if isinstance(images, Tensor):
        return images[list(indices)]
    return torch.stack([images[i][0] for i in indices])


@lru_cache
def _images(data: str, size: int) -> Any:
    if data in BEDS:
        return BEDS[data].images(size)
    if not Path(data).is_dir():
        raise FileNotFoundError(
            f"data must be one of {', '.join(BEDS)} or the path of an ImageNet "
            f"validation folder, got {data!r}"
        )
    return imagenet_folder.load(data, size)


def floor(
    name: str, image: Tensor, seed: int = 0, noise: Mapping[str, Any] | None = None
) -> Tensor:
    """A map that knows nothing about the model, `[1, C, H, W]` or `[1, 1, H, W]`.

    Args:
        name: "flat"; "centre", minus the distance from the middle in pixels; "image",
            its brightness; with another name the map is drawn at random.
        image: `[1, C, H, W]`.
        seed: of random maps, the image's index in the studies.
        noise: draws one search direction with these settings of `search_noise`, and
            not single pixels; see `geex.floors`.
    """
    if name == "image":
        return image.mean(dim=1, keepdim=True)
    if name == "flat":
        return torch.ones_like(image)
    if name == "centre":
        down, across = (torch.arange(n) - (n - 1) / 2 for n in image.shape[2:])
        return -torch.hypot(down[:, None], across[None])[None, None]
    if noise:
        shape = tuple(image.shape[1:])
        forward, _ = next(search_noise(shape=shape, n_samples=2, seed=seed, **noise))
        return forward[None]
    return torch.rand(image.shape, generator=generator(seed))
