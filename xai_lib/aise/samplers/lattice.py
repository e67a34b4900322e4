"""A regular lattice of places."""

import math

import numpy as np

from xai_lib.aise.samplers.base import Bounds, Sampler
from xai_lib.core.arguments import check_count


class LatticeSampler(Sampler):
    """n points on a regular lattice that fills the search area, row by row.

    The area is cut into rows of equal height, about as high as the points are apart in
    a row. Where n is not a product that fits, rows differ by one point.

    Args:
        bounds: the search area.
        n: points in all; `ask` gives none after these.
    """

    def __init__(self, bounds: Bounds, n: int) -> None:
        super().__init__(bounds)
        check_count("n", n)
        if len(self.lower) != 2:
            raise ValueError(f"bounds must be ((x0, y0), (x1, y1)), got {bounds}")
        width, height = self.upper - self.lower
        rows = min(n, max(1, round(math.sqrt(n * height / width))))
        points = []
        for row in range(rows):
            # Bresenham's rule spreads the longer rows evenly.
            columns = (row + 1) * n // rows - row * n // rows
            x = (np.arange(columns) + 0.5) / columns
            points += [(x_j, (row + 0.5) / rows) for x_j in x]
        self._lattice = self.lower + np.array(points) * (width, height)

    def _propose(self, n: int) -> np.ndarray:
        points, self._lattice = self._lattice[:n], self._lattice[n:]
        return points
