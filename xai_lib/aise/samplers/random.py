"""Random places."""

import numpy as np

from xai_lib.aise.samplers.base import UNIT_SQUARE, Bounds, Sampler
from xai_lib.core.arguments import check_seed
from xai_lib.kernels import philox


class RandomSampler(Sampler):
    """Points uniform in the search area, from a seed; scores do not matter."""

    def __init__(self, bounds: Bounds = UNIT_SQUARE, seed: int = 0) -> None:
        super().__init__(bounds)
        self.seed, self._asked = check_seed(seed), 0

    def _propose(self, n: int) -> np.ndarray:
        drawn = philox.uniforms(self.seed, self._asked, n, len(self.lower)).double()
        self._asked += n
        return self.lower + (drawn.numpy() + 1) / 2 * (self.upper - self.lower)
