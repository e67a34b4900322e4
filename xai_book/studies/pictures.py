"""Images of which is known where each class is: scenes, grids, VOC and COCO.

Scenes, whose objects are known to the pixel, stand in for VOC, and grids of photographs
for a large network.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xai_book.data import coco, torchray, voc
from xai_book.data.annotated import Annotated, of_scene
from xai_book.studies import hardware
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.paths import cache_path
from xai_lib.metrics import box_masks, grids
from xai_lib.zoo import photos, scenes

DATA: dict[str, dict[str, Any]] = {
    "scenes": {"seed": 5, "n_objects": [1, 4], "sides": [0.2, 0.5]},
    # The same scenes, and the classes in them that the model does not believe in.
    "unsure": {"seed": 5, "n_objects": [1, 4], "sides": [0.2, 0.5], "sure": False},
    "small": {"seed": 6, "n_objects": [1, 4], "sides": [0.2, 0.25]},
    "large": {"seed": 7, "n_objects": [1, 2], "sides": [0.4, 0.5]},
    # Cells of 112 pixels, all four or four of the nine explained.
    "grids 2x2": {"seed": 0, "side": 2, "size": 224, "explained": 4},
    "grids 3x3": {"seed": 0, "side": 3, "size": 336, "explained": 4},
    # The paper's own; whoever has the images and TorchRay's networks can run them.
    **{
        f"{source} {network}": {"network": f"torchray_{network}_{source[:-2]}"}
        for source in ("voc07", "coco14")
        for network in ("vgg16", "resnet50")
    },
}
"""Scenes (`zoo.scenes.make`), grids (`metrics.grids.photo_grids`) of photographs that
the model is sure of, and VOC and COCO; rows hold these numbers."""
LIMIT = 330
"""How many scenes or grids there are of each kind."""
LIMITS = {"voc07": 4952, "coco14": 5000}
"""How many photographs the paper takes."""
N_GRIDS = 60
"""How many grids are looked through for `named_grids`."""
CONFIDENT = 0.5
"""Classes with a lower probability are left out, as in the paper (section 9); on
"unsure" all others are."""
BATCH = 64


class Picture(NamedTuple):
    """An image, the k classes that are explained in it, and where they are."""

    model: str
    image: Tensor
    """`[1, C, H, W]`."""
    target: Tensor
    """Int64 `[k]`."""
    probability: Tensor
    difficult: Tensor
    """Bool `[k]`."""
    area: Tensor
    objects: int
    places: dict[str, Tensor]
    """By name, bool `[k, H', W']`, of the photograph's own size: "box" and "mask", or
    "cell"."""


@lru_cache(maxsize=8)
def picture(data: str, number: int) -> Picture:
    """An image of DATA by its number."""
    kind, _, _ = data.partition(" ")
    if kind == "grids":
        return _grid(data, number)
    if kind in LIMITS:
        one = _photographs(kind)[number]
        return _annotated(network(data), one, torchray.prepare(one.image))
    one = of_scene(scenes_of(data), number)
    sure = DATA[data].get("sure", True)
    return _annotated(network(data), one, one.image, sure)


def _annotated(model: str, one: Annotated, image: Tensor, sure: bool = True) -> Picture:
    """The classes in an image by which a method is judged, and of which the model is
    sure, or is not; `image` is what the model gets."""
    probability = blackbox(model, "torch")(image)[0].cpu()
    present = one.labels.nonzero()[:, 0].tolist()
    asked = (probability >= CONFIDENT) == sure
    target = [t for t in present if asked[t] and one.judged(t)]
    height, width = one.image.shape[2:]
    box, mask = torch.zeros(2, len(target), height, width, dtype=torch.bool)
    for k, t in enumerate(target):
        mask[k] = one.region(t)
        box[k] = box_masks(one.boxes[one.classes == t], height, width).any(dim=0)
    difficult = [one.difficult(t) for t in target]
    return Picture(
        model,
        image,
        torch.tensor(target).long(),
        probability[target],
        torch.tensor(difficult).bool(),
        mask.double().mean(dim=(1, 2)),
        len(one.boxes),
        {"box": box, "mask": mask},
    )


def _grid(data: str, number: int) -> Picture:
    model, settings = network(data), DATA[data]
    side, size = settings["side"], settings["size"]
    sure = sure_photos()
    # A grid depends on the seed and its number alone.
    every = grids.photo_grids(*sure, number + 1, side, size, settings["seed"])
    image = every.images[number][None]
    cells = torch.linspace(0, side**2 - 1, settings["explained"]).round().long()
    target = every.target[number][cells]
    return Picture(
        model,
        image,
        target,
        blackbox(model, "torch")(image)[0].cpu()[target],
        torch.ones(len(target), dtype=torch.bool),
        torch.full((len(target),), 1 / side**2),
        side**2,
        {"cell": torch.stack([cell_mask(int(c), side, size) for c in cells])},
    )


def cell_mask(cell: int, side: int, size: int) -> Tensor:
    """Where a cell of a grid is, bool `[size, size]`; cells are numbered row by row."""
    where = torch.arange(side**2).view(side, side) == cell
    return where.repeat_interleave(size // side, 0).repeat_interleave(size // side, 1)


@lru_cache
def sure_photos() -> tuple[Tensor, Tensor]:
    """The photographs that may be part of a grid, and their classes."""
    name = network("grids")
    known = photos.labelled(size=hardware.size(name))
    known_to = blackbox(name, "torch")
    sure = grids.confident(known_to, known.images, known.labels, CONFIDENT)
    return known.images[sure], known.labels[sure]


def network(data: str) -> str:
    """The name of the model that is explained."""
    if data.startswith("grids"):
        return "efficientnet_lite0"
    return DATA[data].get("network", "scenes_classifier")


@lru_cache
def _photographs(kind: str) -> Sequence[Annotated]:
    """VOC from the book's cache, or downloaded; COCO from the folder coco2014 in it."""
    return voc.load() if kind == "voc07" else coco.load(cache_path() / "coco2014")


@lru_cache
def scenes_of(data: str) -> scenes.Scenes:
    """The LIMIT scenes of "scenes", "unsure", "small" or "large" in DATA."""
    settings = DATA[data]
    return scenes.make(
        LIMIT,
        settings["seed"],
        n_objects=tuple(settings["n_objects"]),
        sides=tuple(settings["sides"]),
    )


def blackbox(name: str, backend: str | None = None) -> BlackBox:
    """The one that counts; with "torch" another one, for what is known before a method
    starts."""
    return hardware.blackbox(name, batch_size=BATCH, backend=backend)


@lru_cache
def single_scenes() -> tuple[Tensor, Tensor]:
    """The scenes that show one article, and where it is, bool `[N, H, W]`."""
    every = scenes_of("scenes")
    single = [i for i, boxes in enumerate(every.boxes) if len(boxes) == 1]
    size = every.images.shape[2:]
    return every.images[single], torch.cat(
        [box_masks(every.boxes[i], *size) for i in single]
    )


@lru_cache
def named_grids() -> tuple[Tensor, Tensor]:
    """Those of the first N_GRIDS grids whose likeliest class is that of one of the four
    photographs, and where this is, bool `[N, H, W]`. For any other class PertMap would
    have to keep what is not there."""
    name, settings = network("grids"), DATA["grids 2x2"]
    side, size, seed = (settings[k] for k in ("side", "size", "seed"))
    every = grids.photo_grids(*sure_photos(), N_GRIDS, side, size, seed)
    named = hardware.blackbox(name, batch_size=16)(every.images).argmax(dim=1)
    grid, cell = (every.target == named.cpu()[:, None]).nonzero(as_tuple=True)
    return every.images[grid], torch.stack(
        [cell_mask(int(c), side, size) for c in cell]
    )
