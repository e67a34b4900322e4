"""Where to place the next kernel?

RandomSampler and LatticeSampler ignore the scores. LipoSampler and DirectSampler, the
papers' two optimisers, go where the score is, or may be, high.
"""

from collections.abc import Callable

from xai_lib.aise.samplers.base import UNIT_SQUARE, Bounds, Sampler, search
from xai_lib.aise.samplers.direct import DirectSampler, Rectangles
from xai_lib.aise.samplers.lattice import LatticeSampler
from xai_lib.aise.samplers.lipo import LipoSampler
from xai_lib.aise.samplers.random import RandomSampler

__all__ = [
    "SAMPLERS",
    "UNIT_SQUARE",
    "Bounds",
    "DirectSampler",
    "LatticeSampler",
    "LipoSampler",
    "RandomSampler",
    "Rectangles",
    "Sampler",
    "search",
]

SAMPLERS: dict[str, Callable[[float, Bounds, int, int], Sampler]] = {
    "direct": lambda eps, bounds, n, seed: DirectSampler(bounds, eps),
    "lipo": lambda eps, bounds, n, seed: LipoSampler(bounds, eps, seed),
    "random": lambda eps, bounds, n, seed: RandomSampler(bounds, seed),
    "lattice": lambda eps, bounds, n, seed: LatticeSampler(bounds, n),
}
"""The samplers by name, made from (eps, bounds, number of points, seed)."""
