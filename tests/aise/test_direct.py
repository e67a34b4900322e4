"""DIRECT against `scipy.optimize.direct`: the same points in the same order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import direct
from scipy.spatial import ConvexHull

from scipy_direct import BUDGET, Function, our_points, scipys_points
from xai_lib.aise.samplers import DirectSampler

TABLE = np.random.default_rng(0).random((9, 9))
STEPS = np.random.default_rng(1).integers(0, 4, (9, 9))


def camel(p: Sequence[float]) -> float:
    x, y = p
    return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2


def table(values: np.ndarray) -> Function:
    return lambda p: float(values[int(9 * p[0]) % 9, int(9 * p[1]) % 9])


# To be minimised. Many have ties, which is where an order of evaluation shows.
FUNCTIONS: dict[str, Function] = {
    "constant": lambda p: 1.0,
    "zero": lambda p: 0.0,
    "linear": lambda p: p[0] + 2 * p[1],
    "linear in x": lambda p: p[0],
    "falling in y": lambda p: -3 * p[1] - 7,
    "symmetric": lambda p: p[0] + p[1],
    "bowl": lambda p: (p[0] - 0.3) ** 2 + (p[1] - 0.6) ** 2,
    "far below zero": lambda p: (p[0] - 0.3) ** 2 + (p[1] - 0.6) ** 2 - 100,
    "cone": lambda p: math.hypot(p[0] - 0.21, p[1] - 0.77),
    "pyramid": lambda p: abs(p[0] - 0.5) + abs(p[1] - 0.5),
    "ridge": lambda p: max(abs(p[0] - 0.4), abs(p[1] - 0.5)),
    "saddle": lambda p: (p[0] - 0.5) * (p[1] - 0.5),
    "rastrigin": lambda p: (
        p[0] ** 2 + p[1] ** 2 - math.cos(18 * p[0]) - math.cos(18 * p[1])
    ),
    "waves": lambda p: math.sin(13 * p[0]) * math.cos(11 * p[1] + p[0]),
    "camel": camel,
    "narrow hole": lambda p: (
        -math.exp(-((p[0] - 0.83) ** 2 + (p[1] - 0.14) ** 2) / 0.002)
    ),
    "flat but one spot": lambda p: -float(abs(p[0] - 0.7) + abs(p[1] - 0.6) < 0.1),
    "step": lambda p: float(p[0] > 0.3) + float(p[1] > 0.6),
    "checkerboard": lambda p: float((int(7 * p[0]) + int(5 * p[1])) % 2),
    "terraces": lambda p: float(round(3 * math.sin(7 * p[0]) * math.cos(5 * p[1]))),
    "quarters": lambda p: float(round(4 * p[0]) + round(4 * p[1])),
    "random table": table(TABLE),
    "random steps": table(STEPS),
    "below the tolerance of ties": lambda p: 1e-14 * (p[0] + p[1]),
    "ripples on a slope": lambda p: p[0] + 0.1 * math.sin(60 * p[1]) + p[1] ** 2,
}
BOUNDS = [((0, 0), (1, 1)), ((-5, 0), (10, 15)), ((0.1, -0.3), (0.7, 0.9))]


def scipy_has_lost_the_hull() -> bool:
    """Does this SciPy divide what lies below the hull, as 1.17.1 does?"""
    points = scipys_points(FUNCTIONS["linear"], BOUNDS[0], 0.0, False)
    strict = DirectSampler(BOUNDS[0], 0.0, convex_hull=True)
    return not np.array_equal(points, our_points(strict, FUNCTIONS["linear"]))


CONVEX_HULL = not scipy_has_lost_the_hull()


@pytest.mark.parametrize("locally_biased", [False, True])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_scipys_points_in_scipys_order(name: str, locally_biased: bool) -> None:
    function = FUNCTIONS[name]
    for bounds in BOUNDS:
        for eps in (0.0, 1e-4, 0.1, 0.5):
            expected = scipys_points(function, bounds, eps, locally_biased)
            for portion in (10_000, 3):
                sampler = DirectSampler(bounds, eps, locally_biased, CONVEX_HULL)
                points = our_points(sampler, function, portion)
                np.testing.assert_array_equal(points, expected)


@pytest.mark.parametrize("locally_biased", [False, True])
def test_random_tables_with_many_ties(locally_biased: bool) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        function = table(rng.integers(0, 2 + seed % 4, (9, 9)) - seed % 3)
        expected = scipys_points(function, BOUNDS[0], 0.1, locally_biased)
        sampler = DirectSampler(BOUNDS[0], 0.1, locally_biased, CONVEX_HULL)
        np.testing.assert_array_equal(our_points(sampler, function), expected)


@pytest.mark.parametrize("locally_biased", [False, True])
@pytest.mark.parametrize("dim", [1, 3, 4])
def test_other_dimensions(dim: int, locally_biased: bool) -> None:
    centre = np.linspace(0.2, 0.9, dim)
    bounds = (np.zeros(dim), np.arange(1.0, dim + 1))

    def function(p: Sequence[float]) -> float:
        return float(((np.asarray(p) - centre) ** 2).sum())

    expected = scipys_points(function, bounds, 1e-3, locally_biased)
    sampler = DirectSampler(bounds, 1e-3, locally_biased, CONVEX_HULL)
    np.testing.assert_array_equal(our_points(sampler, function), expected)


def test_whole_iterations_come_at_once() -> None:
    """The batch is the iteration: the callback of SciPy is called after each."""
    visited, ends = [], []

    def record(p: np.ndarray) -> float:
        visited.append(p)
        return camel(p)

    direct(
        record,
        [(-2, 2), (-1, 1)],
        eps=0.1,
        maxfun=BUDGET,
        locally_biased=False,
        vol_tol=0,
        len_tol=0,
        callback=lambda x: ends.append(len(visited)),
    )
    sampler = DirectSampler(((-2, -1), (2, 1)), 0.1, convex_hull=CONVEX_HULL)
    sizes = []
    while len(sampler.scores) < ends[-1]:
        points = sampler.ask(10_000)
        sampler.tell(points, [-camel(p) for p in points])
        sizes.append(len(sampler.scores))
    assert sizes == [5, *ends]
    assert max(np.diff(sizes)) >= 8


def test_nothing_while_answers_are_due() -> None:
    sampler = DirectSampler()
    first = sampler.ask(3)
    assert len(sampler.ask(100)) == 2
    assert len(sampler.ask(100)) == 0
    sampler.tell(first, np.zeros(3))
    assert len(sampler.ask(100)) == 0


# What a chapter draws


@pytest.mark.parametrize("convex_hull", [False, True])
@pytest.mark.parametrize("locally_biased", [False, True])
def test_rectangles_tile_the_area(locally_biased: bool, convex_hull: bool) -> None:
    bounds = np.array([(-5.0, 0.0), (10.0, 3.0)])
    sampler = DirectSampler(bounds, 0.01, locally_biased, convex_hull)
    assert len(sampler.rectangles.centres) == 0
    probes = np.random.default_rng(2).uniform(*bounds, (500, 2))
    for _ in range(8):
        points = sampler.ask(1000)
        sampler.tell(points, [-camel(p / [5, 1]) for p in points])
        found = sampler.rectangles
        area = found.sides.prod(axis=1)
        assert area.sum() == pytest.approx(15 * 3)
        inside = (np.abs(probes[:, None] - found.centres) < found.sides / 2).all(2)
        assert (inside.sum(axis=1) == 1).all()  # each point in one rectangle
        np.testing.assert_array_equal(found.centres, sampler.points)
        np.testing.assert_array_equal(found.scores, sampler.scores)
        unit = found.sides / (bounds[1] - bounds[0])
        sizes = unit.max(1) if locally_biased else np.hypot(*unit.T) / 2
        np.testing.assert_allclose(found.sizes, sizes)
        # The next points lie in the rectangles that are marked.
        marked = found.centres[found.optimal]
        new = sampler.ask(1000)
        home = (np.abs(new[:, None] - found.centres) < found.sides / 2).all(2)
        assert (home.sum(axis=1) == 1).all()
        parents = found.centres[home.argmax(axis=1)]
        assert {tuple(p) for p in parents} == {tuple(p) for p in marked}
        assert not sampler.rectangles.optimal.any()  # they are being divided
        sampler.tell(new, [-camel(p / [5, 1]) for p in new])


def test_convex_hull_is_the_published_rule() -> None:
    """Divided is what is on the upper right hull of (size, score), by Qhull."""
    strict = DirectSampler(((-2, -1), (2, 1)), 0.0, convex_hull=True)
    lax = DirectSampler(((-2, -1), (2, 1)), 0.0)
    below = 0
    for sampler in (strict, lax):
        for _ in range(9):
            points = sampler.ask(1000)
            sampler.tell(points, [0.1 * p[0] + 0.03 * p[1] - camel(p) for p in points])
            found = sampler.rectangles
            if len(np.unique(found.sizes)) < 3:
                continue
            cloud = np.column_stack([found.sizes, found.scores])
            hull = ConvexHull(cloud)
            up = hull.equations[:, 1] > 1e-12
            facets = hull.simplices[up & (hull.equations[:, 0] > 0)]
            corners = set(facets.ravel())
            # The best of the largest and the best of all are corners even if no
            # facet that faces up and to the right ends there.
            largest = found.sizes == found.sizes.max()
            corners.add(int(np.argmax(np.where(largest, found.scores, -np.inf))))
            divided = set(np.flatnonzero(found.optimal))
            if sampler is strict:
                assert divided == corners
            else:
                assert divided >= corners
                below += len(divided - corners)
    assert below > 0


def test_eps_saves_local_search() -> None:
    """The larger eps, the fewer points near the optimum."""

    def near(eps: float) -> int:
        sampler = DirectSampler(eps=eps, convex_hull=True)
        points = our_points(sampler, FUNCTIONS["far below zero"])
        return int((np.linalg.norm(points - [0.3, 0.6], axis=1) < 0.05).sum())

    assert near(0.0) > 2 * near(0.1)


def test_budget_is_spent_exactly_in_any_portions() -> None:
    whole = our_points(DirectSampler(), camel, n=50)
    assert len(whole) == 50
    for portion in (1, 2, 5, 49):
        np.testing.assert_array_equal(
            our_points(DirectSampler(), camel, portion, n=50), whole
        )


def test_wrong_eps() -> None:
    with pytest.raises(ValueError, match="eps must be finite and at least 0"):
        DirectSampler(eps=-1e-4)
