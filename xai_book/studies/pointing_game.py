"""The pointing game on stored rows: hits by tolerance, accuracies with intervals.

The published tolerance of 15 pixels is generous on a scene of 112: a circle of that
radius is a twentieth of a scene, and a three-hundredth of a VOC photograph. So rows
hold how far a map's maximum lies from the object, for any tolerance, and SCALED is the
one that compares with the paper.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xai_lib.core.arguments import check_choice, check_number
from xai_lib.metrics import PointingGame
from xai_lib.metrics.intervals import bootstrap_mean, image_mean
from xai_lib.zoo import scenes

SCALED = round(15 / 500 * scenes.SIZE, 2)
"""15 pixels on a VOC photograph, whose longer side has 500, are 3.36 on a scene."""
TOLERANCES = (0.0, SCALED, 5.0, 10.0, 15.0)
"""In pixels: for which `aise.read` gives the hits."""
CELL: dict[str, Any] = {"tolerance": 0.0, "place": "cell"}
"""The pointing game on grids: a point belongs to one photograph. See `game`."""


class Score(NamedTuple):
    """A row of the table: accuracies in [0, 1], with 95 % intervals over images."""

    accuracy: float
    low: float
    high: float
    difficult: float
    """The accuracy on the difficult pairs, or NaN if there are none."""
    difficult_low: float
    difficult_high: float
    energy: float
    """The mean share of the positive mass on the object."""
    energy_low: float
    energy_high: float
    pairs: int
    images: int


def hit_shares(maxima: Sequence[Sequence[Sequence[float]]]) -> Tensor:
    """Which share of each map's maxima `metrics.pointing_hits` counts as hits, float64
    `[M, len(TOLERANCES)]`, from how far away they lie, and the share of each."""
    of = np.repeat(np.arange(len(maxima)), [len(one) for one in maxima])
    away, share = np.array([pair for one in maxima for pair in one]).T
    # In hundredths of a pixel, as rows hold them; on the object is always a hit.
    limits = [max(1, round(100 * tolerance)) for tolerance in TOLERANCES]
    hits = [share * (np.round(100 * away) < limit) for limit in limits]
    columns = [np.bincount(of, column, len(maxima)) for column in hits]
    return torch.from_numpy(np.stack(columns, axis=1))


def pairs(rows: Mapping[int, dict[str, Any]]) -> dict[str, Tensor]:
    """The pairs of an image and a class in it, one below the other.

    Args:
        rows: by image, what `aise.measure` returns for a case with one budget.

    Returns:
        See `aise.read`.
    """
    every = [{"image": i, "queries": -1} | row for i, row in rows.items()]
    found = {}
    for name in every[0]:
        measured, _, place = name.partition("_")
        whole = name in ("image", "queries")  # one number for all pairs of an image
        values = [
            value
            for row in every
            for value in ([row[name]] * len(row["target"]) if whole else row[name])
        ]
        if measured == "maxima":
            found[f"hits_{place}"] = hit_shares(values)
        else:
            count = whole or name in ("target", "objects", "difficult")
            kind = torch.int64 if count else torch.float64
            found[name] = torch.tensor(values, dtype=kind)
    return found | {"difficult": found["difficult"].bool()}


def game(
    found: Mapping[str, Tensor],
    tolerance: float = SCALED,
    place: str = "box",
    difficult: bool = False,
) -> PointingGame:
    """The pointing game of one label of `aise.read`.

    Args:
        tolerance: of TOLERANCES. 15 pixels is the published number, SCALED the one that
            means the same on a scene.
        place: "box" as for VOC, "mask" as for COCO, or "cell" of a grid.
        difficult: only the difficult pairs.

    Raises:
        ValueError: another tolerance or place; no difficult pair.
    """
    check_number("tolerance", tolerance, 0)
    if tolerance not in TOLERANCES:
        raise ValueError(f"tolerance must be one of {TOLERANCES}, got {tolerance}")
    places = tuple(n.partition("_")[2] for n in found if n.startswith("hits_"))
    check_choice("place", place, places)
    hits = found[f"hits_{place}"][:, TOLERANCES.index(tolerance)]
    whole = PointingGame(hits, found["target"], found["image"])
    if not difficult:
        return whole
    if not bool(found["difficult"].any()):
        raise ValueError("there is no difficult pair")
    return whole.subset(found["difficult"])


def scores(
    found: Mapping[Hashable, Mapping[str, Tensor]],
    tolerance: float = SCALED,
    place: str = "box",
) -> dict[Hashable, Score]:
    """The table: the accuracy of each label of `aise.read`, on all and on difficult
    pairs, and the energy. Arguments as in `game`."""
    table = {}
    for label, rows in found.items():
        whole = game(rows, tolerance, place)
        hard = (math.nan,) * 3
        if bool(rows["difficult"].any()):
            part = game(rows, tolerance, place, difficult=True)
            hard = part.accuracy, *part.interval()
        energy = per_image(rows, f"energy_{place}")
        mass = float(image_mean(energy)), *map(float, bootstrap_mean(energy))
        counts = len(whole.hits), len(energy)
        values = (whole.accuracy, *whole.interval(), *hard, *mass, *counts)
        table[label] = Score._make(values)
    return table


def per_image(rows: Mapping[str, Tensor], name: str) -> Tensor:
    """The means over the pairs of each image, `[N]`, in the order of their numbers."""
    return image_means(rows[name], rows["image"])


def image_means(values: Tensor, image: Tensor) -> Tensor:
    """The means of the values `[M]` of each image `[M]`: `[N]`, by their numbers."""
    known, of = image.unique(return_inverse=True)
    total = torch.zeros(len(known), dtype=torch.float64)
    return total.index_add(0, of, values.double()) / of.bincount()
