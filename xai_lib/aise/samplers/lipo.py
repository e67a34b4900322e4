"""LIPO, in dlib's version."""

from collections import deque
from typing import Any

import numpy as np

from xai_lib.aise.samplers.base import UNIT_SQUARE, Bounds, Sampler
from xai_lib.core.arguments import check_count, check_number, check_seed
from xai_lib.core.extras import extra


class LipoSampler(Sampler):
    """Global optimisation of Lipschitz functions with dlib (Malherbe & Vayatis, 2017).

    LIPO bounds the score from above by what its slopes so far allow,

        U(p) = min_i S(p_i) + l |p - p_i|,

    and asks only where U exceeds the best score seen. (The paper's (6) prints a squared
    distance, which is no bound in the unit square: distances below 1 shrink when
    squared. Between pixels they are at least 1, and it is a bound, though a loose one.)
    dlib takes turns: one step maximises U over random points; the next fits a quadratic
    around the best point and asks for its maximum, until that promises less than eps.
    So many points lie near the optimum.

    Args:
        bounds: the search area.
        eps: what an improvement must promise, in units of the score (dlib's
            `solver_epsilon`).
        seed: of dlib's random points.
        parallel: the most points open at once. dlib assumes that an open point scores
            like its nearest neighbour, so other numbers give other points.

    Raises:
        ModuleNotFoundError: dlib is not installed.
    """

    def __init__(
        self,
        bounds: Bounds = UNIT_SQUARE,
        eps: float = 0.1,
        seed: int = 0,
        parallel: int = 4,
    ) -> None:
        super().__init__(bounds)
        with extra("detect"):
            import dlib
        area = dlib.function_spec(self.lower.tolist(), self.upper.tolist())
        self._dlib = dlib.global_function_search(area)
        self._dlib.set_seed(check_seed(seed))
        self._dlib.set_solver_epsilon(check_number("eps", eps, 0))
        self.parallel = check_count("parallel", parallel)
        self._requests: deque[Any] = deque()

    def _propose(self, n: int) -> np.ndarray:
        n = min(n, self.parallel - len(self._requests))
        requests = [self._dlib.get_next_x() for _ in range(n)]
        self._requests += requests
        return np.array([list(r.x) for r in requests]).reshape(n, len(self.lower))

    def _learn(self, scores: np.ndarray) -> None:
        for score in scores:
            self._requests.popleft().set(float(score))
