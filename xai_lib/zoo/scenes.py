"""Scenes: articles of clothing on a canvas, with exact boxes and masks, from a seed.

One to four Fashion-MNIST articles, small and large, before a background that may be
cluttered: an image with several objects whose places are known to the pixel. It stands
in where the AISE paper uses VOC and COCO, and its pictures may be shown.

The rules: every article has a class of its own choice, so a class may come twice; its
box is as tight as its mask; no two boxes share a pixel. A scene whose articles do not
fit is drawn again, so that scenes with many articles have somewhat smaller ones.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_fill_holes
from torch import Tensor

from xai_lib.core.arguments import check_count, check_number, check_seed
from xai_lib.zoo import digits
from xai_lib.zoo.digits import Digits
from xai_lib.zoo.listing import Row

SIZE = 112
"""Height and width of a scene, in pixels."""
# Of the pixels of `make(1000)`; the networks for scenes normalise with them.
MEAN, STD = 0.2156, 0.1968
_FRAGMENTS = 12
_ATTEMPTS = 200


class Scenes(NamedTuple):
    """N scenes with what is in them. Scene i has k_i articles."""

    images: Tensor
    """Float32 `[N, 1, S, S]` in [0, 1]."""
    labels: Tensor
    """Multi-hot, bool `[N, 10]`: the classes that are in the scene."""
    boxes: list[Tensor]
    """Float32 `[k_i, 4]`: the edges x0, y0, x1, y1 in pixels. A box around the pixel
    columns 3 and 4 has x0 = 3 and x1 = 5."""
    classes: list[Tensor]
    """Int64 `[k_i]`."""
    masks: list[Tensor]
    """Bool `[k_i, S, S]`: the pixels of each article; no two overlap."""
    categories: tuple[str, ...]


def make(
    n: int,
    seed: int = 0,
    size: int = SIZE,
    n_objects: tuple[int, int] = (1, 4),
    *,
    sides: tuple[float, float] = (0.2, 0.5),
    clutter: float = 0.5,
    articles: Digits | None = None,
) -> Scenes:
    """N scenes. Scene i depends on the seed and on i, not on n; its articles and their
    places not on the clutter.

    Args:
        n: how many scenes.
        seed: at least 0.
        size: height and width, in pixels.
        n_objects: the fewest and the most articles in a scene; all numbers between
            are equally frequent.
        sides: the smallest and the largest longer side of an article, as a share of
            `size`, drawn uniformly.
        clutter: how bright the background is, in [0, 1]: smooth noise with fragments of
            articles in it. 0 is black.
        articles: what to place. None is the packaged `digits.fashion_mnist()`, which
            the zoo's scene networks were not trained on.

    Raises:
        TypeError, ValueError: a wrong argument; articles that do not fit.
    """
    n = check_count("n", n)
    seed = check_seed(seed)
    size = check_count("size", size, at_least=16)
    fewest, most = _pair("n_objects", n_objects)
    check_count("n_objects[0]", fewest)
    check_count("n_objects[1]", most, at_least=fewest)
    low, high = _pair("sides", sides)
    # Less than 4 pixels show nothing.
    check_number("sides[0]", low, 4 / size, 1)
    check_number("sides[1]", high, low, 1)
    check_number("clutter", clutter, 0, 1)
    articles = _packaged() if articles is None else articles
    sources = (np.random.default_rng([seed, i]) for i in range(n))
    rules = (articles, size, n_objects, sides, clutter)
    scenes = [_scene(rng, *rules) for rng in sources]
    images, boxes, classes, masks = (list(part) for part in zip(*scenes, strict=True))
    names = articles.categories
    labels = torch.zeros((n, len(names)), dtype=torch.bool, device="cpu")
    for row, present in zip(labels, classes, strict=True):
        row[present] = True
    return Scenes(torch.stack(images), labels, boxes, classes, masks, names)


def region(scenes: Scenes, image: int, target: int) -> Tensor:
    """The pixels of all articles of class `target` in a scene: bool `[S, S]`.

    Raises:
        ValueError: there is no such article.
    """
    found = scenes.classes[image] == target
    if not bool(found.any()):
        raise ValueError(f"the image has no object of class {target}")
    return scenes.masks[image][found].any(dim=0)


def rows() -> list[Row]:
    """What `zoo.list()` says about the scenes."""
    (articles,) = (row for row in digits.rows() if row.name == "fashion_mnist")
    role = f"grey images, {SIZE} x {SIZE}, with boxes and masks"
    return [articles._replace(name="scenes", role=role)]


@cache
def _packaged() -> Digits:
    return digits.fashion_mnist()


def _pair(name: str, value: tuple) -> tuple:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (low, high), got {value!r}")
    return value


def _scene(
    rng: np.random.Generator,
    articles: Digits,
    size: int,
    n_objects: tuple[int, int],
    sides: tuple[float, float],
    clutter: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One scene: image `[1, S, S]`, boxes, classes and masks."""
    k = int(rng.integers(n_objects[0], n_objects[1] + 1))
    canvas = _background(rng, articles, size, clutter)
    for _ in range(_ATTEMPTS):
        chosen = rng.integers(len(articles.images), size=k)
        lengths = rng.uniform(*sides, size=k) * size
        cutouts = [
            _cutout(articles.images[j, 0], float(length))
            for j, length in zip(chosen, lengths, strict=True)
        ]
        corners = _places(rng, [tuple(a.shape) for a, _ in cutouts], size)
        if corners:
            break
    else:
        raise ValueError(
            f"{k} articles with longer sides of {sides[0] * size:.0f} to "
            f"{sides[1] * size:.0f} pixels do not fit into {size} x {size} without "
            "overlap; lower sides or n_objects"
        )
    boxes = torch.zeros(k, 4, dtype=torch.float32, device="cpu")
    masks = boxes.new_zeros(k, size, size, dtype=torch.bool)
    for i, ((article, alpha), (y, x)) in enumerate(zip(cutouts, corners, strict=True)):
        height, width = article.shape
        place = (slice(y, y + height), slice(x, x + width))
        canvas[place] = torch.lerp(canvas[place], article, alpha)
        masks[i][place] = alpha >= 0.5
        boxes[i] = _bounds(masks[i])
    canvas.clamp_(0, 1)  # the interpolation may round to -1e-9
    return canvas[None], boxes, articles.labels[torch.from_numpy(chosen)], masks


def _cutout(image: Tensor, length: float) -> tuple[Tensor, Tensor]:
    """The article and its opacity, both `[h, w]` with max(h, w) = length, rounded.

    Dark spots inside an article belong to it: its silhouette has no holes.
    """
    silhouette = torch.from_numpy(binary_fill_holes(image.numpy() > 0.05))
    x0, y0, x1, y1 = _bounds(silhouette).int().tolist()
    both = torch.stack([image, silhouette.float()])[:, y0:y1, x0:x1]
    scale = length / max(y1 - y0, x1 - x0)
    shape = [max(1, round(side * scale)) for side in both.shape[1:]]
    scaled = F.interpolate(both[None], shape, mode="bilinear", antialias=True)
    return scaled[0, 0], scaled[0, 1]


def _bounds(mask: Tensor) -> Tensor:
    """The tight box of a mask."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return torch.stack(edges).float()


def _places(
    rng: np.random.Generator, shapes: list[tuple[int, ...]], size: int
) -> list[tuple[int, int]]:
    """Top left corners (y, x) at which no two rectangles overlap; empty if none were
    found by chance."""
    taken: list[tuple[int, int, int, int]] = []
    for height, width in shapes:
        for _ in range(20):
            y, x = (int(rng.integers(size - s + 1)) for s in (height, width))
            if all(
                y + height <= y0 or y1 <= y or x + width <= x0 or x1 <= x
                for y0, x0, y1, x1 in taken
            ):
                taken.append((y, x, y + height, x + width))
                break
        else:
            return []
    return [(y, x) for y, x, _, _ in taken]


def _background(
    rng: np.random.Generator, articles: Digits, size: int, clutter: float
) -> Tensor:
    """Smooth noise with fragments of articles: `[S, S]` in [0, clutter]."""
    coarse = torch.from_numpy(rng.random((1, 1, 7, 7), dtype=np.float32))
    noise = F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)[0, 0]
    ground = 0.6 * noise
    for _ in range(_FRAGMENTS):
        article = articles.images[int(rng.integers(len(articles.images)))]
        side = article.shape[-1] // 4
        y, x = rng.integers(article.shape[-1] - side + 1, size=2)
        fragment = article[None, :, y : y + side, x : x + side]
        side = size // 12
        y, x = rng.integers(size - side + 1, size=2)
        ground[y : y + side, x : x + side] = F.interpolate(fragment, (side, side))[0, 0]
    return clutter * ground
