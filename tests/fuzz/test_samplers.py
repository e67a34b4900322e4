"""Samplers under random portions, bounds and scores; DIRECT against SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scipy_direct import our_points, scipys_points
from xai_lib.aise.samplers import SAMPLERS, DirectSampler, search

BUDGET = 60
corners = st.floats(-50, 50).map(lambda x: round(x, 2))
sides = st.floats(0.05, 20).map(lambda x: round(x, 2))
areas = st.tuples(corners, corners, sides, sides).map(
    lambda c: ((c[0], c[1]), (c[0] + c[2], c[1] + c[3]))
)


@pytest.mark.parametrize("name", list(SAMPLERS))
@given(bounds=areas, seed=st.integers(0, 2**32 - 1), data=st.data())
def test_ask_and_tell_in_any_portions(
    name: str, bounds: Any, seed: int, data: st.DataObject
) -> None:
    sampler = SAMPLERS[name](0.1, bounds, 30, seed)
    asked, told = np.empty((0, 2)), 0
    scores = np.random.default_rng(seed).normal(size=30).round(1)
    for _ in range(data.draw(st.integers(1, 8))):
        n = data.draw(st.integers(0, 30 - len(asked)))
        points = sampler.ask(n)
        assert points.shape[1] == 2
        assert len(points) <= n
        asked = np.concatenate([asked, points])
        k = data.draw(st.integers(0, len(asked) - told))
        due = asked[told : told + k]
        if k:  # what was not asked teaches nothing
            with pytest.raises(ValueError, match="points must be those that ask gave"):
                sampler.tell(due + 100, scores[told : told + k])
            wrong = np.where(np.arange(k) == k - 1, np.nan, scores[told : told + k])
            with pytest.raises(ValueError, match="scores must be finite"):
                sampler.tell(due, wrong)
        sampler.tell(due, scores[told : told + k])
        told += k
        assert np.array_equal(sampler.points, asked[:told])
        assert np.array_equal(sampler.scores, scores[:told])
    (x0, y0), (x1, y1) = bounds
    margin = 1e-9 * (abs(x0) + abs(x1) + abs(y0) + abs(y1))
    assert (asked >= np.array([x0, y0]) - margin).all()
    assert (asked <= np.array([x1, y1]) + margin).all()


@pytest.mark.parametrize("name", list(SAMPLERS))
@given(
    bounds=st.lists(areas, min_size=1, max_size=4),
    n=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_a_shared_search_visits_what_a_lonely_one_does(
    name: str, bounds: list[Any], n: int, seed: int
) -> None:
    def value(points: np.ndarray) -> np.ndarray:
        return np.sin(points[:, 0]) + np.cos(0.7 * points[:, 1])

    samplers = [SAMPLERS[name](0.1, area, n, seed) for area in bounds]
    search(samplers, n, lambda owners, points: value(points))
    for area, sampler in zip(bounds, samplers, strict=True):
        alone = SAMPLERS[name](0.1, area, n, seed)
        search([alone], n, lambda owners, points: value(points))
        assert np.array_equal(sampler.points, alone.points)
        assert sampler.points.shape == (n, 2)


def waves(seed: int) -> Callable[[Any], float]:
    """A smooth random function on the plane."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.normal(scale=4, size=(5, 2)), rng.uniform(0, 7, 5)
    height = rng.normal(size=5)
    return lambda p: float(
        sum(
            h * math.cos(f[0] * p[0] + f[1] * p[1] + s)
            for h, f, s in zip(height, frequency, phase, strict=True)
        )
    )


def steps(seed: int) -> Callable[[Any], float]:
    """Few values, so that there are many ties: an order of evaluation shows."""
    smooth = waves(seed)
    return lambda p: float(round(2 * smooth(p)))


# Later versions of SciPy may have mended the test for the hull, see DirectSampler.
SLOPE = (lambda p: p[0] + 2 * p[1], ((0, 0), (1, 1)), 0.0, False)
HULL = np.array_equal(
    scipys_points(*SLOPE, n=BUDGET),
    our_points(DirectSampler(*SLOPE[1:], convex_hull=True), SLOPE[0], n=BUDGET),
)


@pytest.mark.parametrize("kind", [waves, steps])
@given(
    seed=st.integers(0, 10**6),
    bounds=areas,
    eps=st.sampled_from([0.0, 1e-4, 0.01, 0.1, 1.0]),
    locally_biased=st.booleans(),
    portion=st.integers(1, BUDGET),
)
def test_direct_is_scipys(
    kind: Callable,
    seed: int,
    bounds: Any,
    eps: float,
    locally_biased: bool,
    portion: int,
) -> None:
    function = kind(seed)
    sampler = DirectSampler(bounds, eps, locally_biased, HULL)
    ours = our_points(sampler, function, portion, BUDGET)
    theirs = scipys_points(function, bounds, eps, locally_biased, BUDGET)
    assert np.array_equal(ours, theirs)
