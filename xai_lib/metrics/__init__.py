"""How good is a map? Curves along its order, distances, and games of pointing."""

from xai_lib.core.boxes import box_masks
from xai_lib.metrics.deletion import PerturbationCurve, deletion, insertion
from xai_lib.metrics.distance import map_distance
from xai_lib.metrics.flipping import FlipCurve, flipping
from xai_lib.metrics.grids import (
    GridGame,
    Grids,
    confident,
    grid_pointing_game,
    photo_grids,
)
from xai_lib.metrics.intervals import bootstrap_mean, sign
from xai_lib.metrics.pointing import PointingGame, energy_inside, pointing_hits
from xai_lib.metrics.sensitivity import max_sensitivity

__all__ = [
    "FlipCurve",
    "GridGame",
    "Grids",
    "PerturbationCurve",
    "PointingGame",
    "bootstrap_mean",
    "box_masks",
    "confident",
    "deletion",
    "energy_inside",
    "flipping",
    "grid_pointing_game",
    "insertion",
    "map_distance",
    "max_sensitivity",
    "photo_grids",
    "pointing_hits",
    "sign",
]
