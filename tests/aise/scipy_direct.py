"""The points that `scipy.optimize.direct` visits, and those of our DirectSampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import direct

from xai_lib.aise.samplers import DirectSampler

Function = Callable[[Sequence[float]], float]
BUDGET = 150


def scipys_points(
    function: Function,
    bounds: Sequence[Sequence[float]],
    eps: float,
    locally_biased: bool,
    n: int = BUDGET,
) -> np.ndarray:
    visited: list[list[float]] = []

    def record(p: np.ndarray) -> float:
        visited.append(p.tolist())
        return function(p)

    direct(
        record,
        list(zip(*bounds, strict=True)),
        eps=eps,
        maxfun=n,
        locally_biased=locally_biased,
        vol_tol=0,
        len_tol=0,
    )
    assert len(visited) >= n  # it overshoots
    return np.array(visited[:n])


def our_points(
    sampler: DirectSampler, function: Function, portion: int = 10_000, n: int = BUDGET
) -> np.ndarray:
    """The function is minimised, as by SciPy; DirectSampler looks for a maximum."""
    while len(sampler.scores) < n:
        points = sampler.ask(min(portion, n - len(sampler.scores)))
        assert len(points) > 0
        sampler.tell(points, [-function(p) for p in points])
    return sampler.points
