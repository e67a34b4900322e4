"""Random places."""

from __future__ import annotations

import numpy as np

from xai_lib.aise.samplers.base import UNIT_SQUARE, Bounds, Sampler
from xai_lib.core.arguments import check_seed


class RandomSampler(Sampler):
    """Points uniform in the search area, from a seed; scores do not matter."""

    def __init__(self, bounds: Bounds = UNIT_SQUARE, seed: int = 0) -> None:
        super().__init__(bounds)
        self._rng = np.random.default_rng(check_seed(seed))

    def _propose(self, n: int) -> np.ndarray:
        unit = self._rng.random((n, len(self.lower)))
        return self.lower + unit * (self.upper - self.lower)
