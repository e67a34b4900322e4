"""How good is a map? Curves that change the image in the map's order."""

from xai_lib.metrics.deletion import PerturbationCurve, deletion, insertion
from xai_lib.metrics.flipping import FlipCurve, flipping
from xai_lib.metrics.intervals import bootstrap_mean

__all__ = [
    "FlipCurve",
    "PerturbationCurve",
    "bootstrap_mean",
    "deletion",
    "flipping",
    "insertion",
]
