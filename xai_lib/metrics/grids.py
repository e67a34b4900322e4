"""The grid pointing game: of several photographs side by side, which one is it?

Böhle, Fritz and Schiele, "Convolutional dynamic alignment networks for interpretable
classifications" (2021), section 4.2, https://arxiv.org/abs/2104.00032. Photographs of
different classes are put together to a grid. The map of one of the classes should
point at the cell that shows it: unlike a box drawn by a person, a cell is known to
hold all the evidence that there is.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xai_lib.core.arguments import (
    check_count,
    check_inputs,
    check_number,
    check_seed,
    check_target,
    pick,
)
from xai_lib.core.blackbox import as_blackbox
from xai_lib.core.blocks import groups
from xai_lib.core.image_range import check_range
from xai_lib.metrics.pointing import energy_inside, pointing_hits


class Grids(NamedTuple):
    """G grids of side × side photographs, each of another class."""

    images: Tensor
    """`[G, C, H, W]`."""
    target: Tensor
    """The class in each cell, row by row, int64 `[G, side²]`."""
    photos: Tensor
    """The index of the photograph in each cell, int64 `[G, side²]`."""


class GridGame(NamedTuple):
    """The grid pointing game of M maps."""

    hits: Tensor
    """Whether the maximum lies in the right cell, float64 `[M]`; see
    `pointing_hits` for several maxima."""
    shares: Tensor
    """The share of the positive mass in the right cell, float64 `[M]`; see
    `energy_inside`. Böhle et al. call it the localisation score."""


def confident(
    forward_func: Callable, images: Tensor, target: Tensor, at_least: float = 0.5
) -> Tensor:
    """Which images the model assigns to their class with a probability of at least
    `at_least`: bool `[N]`. `forward_func` returns probabilities."""
    classes = check_target(target, len(images))
    if classes is None:
        raise TypeError("target must be an int or a tensor [N], got None")
    check_number("at_least", at_least, 0, 1)
    check_range(forward_func, images, name="images")
    return pick(as_blackbox(forward_func)(images), classes).cpu() >= at_least


def photo_grids(
    images: Tensor,
    target: Tensor,
    n_grids: int,
    side: int = 2,
    size: int | None = None,
    seed: int = 0,
) -> Grids:
    """Grids of photographs, as in the grid pointing game.

    Grid g depends on the seed and on g alone: side² classes are drawn, and a photograph
    of each. Choose photographs that the model is sure of (see `confident`).

    Args:
        images: `[N, C, H, W]`.
        target: the class of each photograph, int64 `[N]`.
        n_grids: G.
        side: photographs in a row and in a column.
        size: height and width of a grid; the photographs are made smaller. None keeps
            their size, so that a grid is side times as high and as wide, as Böhle et
            al. do with networks that end in a mean over places.
        seed: of the choice.

    Raises:
        TypeError, ValueError: a wrong argument, by name; fewer classes than cells.
    """
    check_inputs(images, "images")
    classes = check_target(target, len(images))
    if classes is None:
        raise TypeError("target must be a tensor [N] of classes, got None")
    side = check_count("side", side)
    present = classes.unique().numpy()
    if len(present) < side**2:
        raise ValueError(
            f"target must have at least side² = {side**2} classes, got {len(present)}"
        )
    if size is not None:
        if check_count("size", size, at_least=side) % side:
            raise ValueError(f"size must be a multiple of side = {side}, got {size}")
        cell = (size // side, size // side)
        images = F.interpolate(images, cell, mode="bilinear", antialias=True)
    members = {c: (classes == c).nonzero()[:, 0].numpy() for c in present.tolist()}
    chosen = []
    for g in range(check_count("n_grids", n_grids)):
        rng = np.random.default_rng([check_seed(seed), g])
        drawn = rng.choice(present, side**2, replace=False).tolist()
        chosen.append([int(rng.choice(members[c])) for c in drawn])
    photos = torch.tensor(chosen, device="cpu")
    channels, height, width = images.shape[1:]
    canvas = images.new_empty(n_grids, channels, side * height, side * width)
    cells = canvas.unflatten(3, (side, width)).unflatten(2, (side, height))
    for grid, row in zip(cells, chosen, strict=True):
        for c, photo in enumerate(row):
            grid[:, c // side, :, c % side] = images[photo]
    return Grids(canvas, classes[photos], photos)


def grid_pointing_game(attributions: Tensor, cell: Tensor, side: int = 2) -> GridGame:
    """Does the map of a class point at the cell that shows the class?

    Args:
        attributions: `[M, 1, H, W]`, maps of grids; H and W are multiples of side.
        cell: the number of the class's cell, row by row from 0, int64 `[M]`.
        side: cells in a row and in a column.

    Raises:
        TypeError, ValueError: a wrong argument, by name.
    """
    check_inputs(attributions, "attributions")
    side = check_count("side", side)
    height, width = attributions.shape[2:]
    if height % side or width % side:
        raise ValueError(
            f"attributions must have a height and width that are multiples of side = "
            f"{side}, got {height} x {width}"
        )
    cells = check_target(cell, len(attributions), "cell")
    if cells is None or int(cells.max()) >= side**2:
        raise ValueError(f"cell must hold numbers from 0 to {side**2 - 1}, got {cell}")
    numbers = torch.arange(side**2, device="cpu").view(side, side)
    where = numbers.repeat_interleave(height // side, dim=0)
    where = where.repeat_interleave(width // side, dim=1)
    games = []
    for maps, own in groups(attributions, cells):
        masks = where == own[:, None, None]
        hits = pointing_hits(maps, masks, tolerance=0)
        games.append((hits, energy_inside(maps, masks)))
    return GridGame(*(torch.cat(scores) for scores in zip(*games, strict=True)))
