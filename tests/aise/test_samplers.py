"""What all samplers share, and the three that are not DIRECT."""

from __future__ import annotations

import builtins
import math
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from xai_lib.aise.samplers import (
    SAMPLERS,
    DirectSampler,
    LatticeSampler,
    LipoSampler,
    RandomSampler,
    Sampler,
    search,
)

WIDE = ((-0.5, 2.0), (1.5, 2.5))
MAKE: dict[str, Callable[..., Sampler]] = {
    "direct": lambda bounds, seed=0: DirectSampler(bounds),
    "lipo": lambda bounds, seed=0: LipoSampler(bounds, seed=seed),
    "random": lambda bounds, seed=0: RandomSampler(bounds, seed),
    "lattice": lambda bounds, seed=0: LatticeSampler(bounds, 40),
}


@pytest.fixture(params=list(MAKE))
def make(request: pytest.FixtureRequest) -> Callable[..., Sampler]:
    return MAKE[request.param]


def hill(points: np.ndarray) -> np.ndarray:
    """Highest, 1, at (1.1, 2.2)."""
    return np.exp(-((points - [1.1, 2.2]) ** 2).sum(1) / 0.02)


def global_states() -> tuple[bytes, bytes, Any]:
    """Of NumPy, torch and Python."""
    numpys = np.random.get_state()[1].tobytes()  # noqa: NPY002
    return numpys, torch.get_rng_state().numpy().tobytes(), random.getstate()


def run(sampler: Sampler, n: int, most: int = 1000, score: Callable = hill) -> Sampler:
    while len(sampler.scores) < n:
        points = sampler.ask(min(most, n - len(sampler.scores)))
        assert 0 < len(points) <= most
        sampler.tell(points, score(points))
    return sampler


def test_ask_and_tell(make: Callable[..., Sampler]) -> None:
    sampler = run(make(WIDE), 40, most=7)
    assert sampler.points.shape == (40, 2)
    assert sampler.points.dtype == np.float64
    assert (sampler.points >= WIDE[0]).all()
    assert (sampler.points <= WIDE[1]).all()
    assert len(np.unique(sampler.points, axis=0)) == 40
    np.testing.assert_array_equal(sampler.scores, hill(sampler.points))
    # x and y have their own bounds, and both are used.
    assert np.ptp(sampler.points[:, 0]) > 1
    assert np.ptp(sampler.points[:, 1]) > 0.25


def test_ask_for_none(make: Callable[..., Sampler]) -> None:
    sampler = make(WIDE)
    assert sampler.ask(0).shape == (0, 2)
    sampler.tell(np.empty((0, 2)), np.empty(0))
    assert len(sampler.ask(3)) == 3


def test_a_batch_may_be_told_in_parts(make: Callable[..., Sampler]) -> None:
    whole, parts = make(WIDE), make(WIDE)
    while len(whole.scores) < 30:
        points = whole.ask(4)
        whole.tell(points, hill(points))
        asked = parts.ask(4)
        for point in asked:
            parts.tell(point[None], hill(point[None]))
    np.testing.assert_array_equal(whole.points, parts.points)


def test_same_seed_same_points_and_no_global_state(
    make: Callable[..., Sampler],
) -> None:
    states = global_states()
    first, second = run(make(WIDE, seed=5), 30), run(make(WIDE, seed=5), 30)
    np.testing.assert_array_equal(first.points, second.points)
    assert global_states() == states


@pytest.mark.parametrize("name", ["random", "lipo"])
def test_another_seed_gives_other_points(name: str) -> None:
    first, second = run(MAKE[name](WIDE, seed=0), 30), run(MAKE[name](WIDE, seed=1), 30)
    assert not np.array_equal(first.points, second.points)


def test_tensors_can_be_told() -> None:
    sampler = RandomSampler()
    points = sampler.ask(3)
    sampler.tell(torch.from_numpy(points), torch.tensor([1.0, 2.0, 3.0]))
    assert sampler.scores.tolist() == [1, 2, 3]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused(
    make: Callable[..., Sampler], bad: float
) -> None:
    """dlib would end the interpreter; nothing may have been learnt."""
    sampler, twin = make(WIDE), make(WIDE)
    points = sampler.ask(4)
    scores = hill(points)
    scores[2] = bad
    with pytest.raises(ValueError, match=f"scores must be finite, got {bad} for point"):
        sampler.tell(points, scores)
    assert len(sampler.scores) == 0
    sampler.tell(points, hill(points))
    twin.tell(twin.ask(4), hill(points))
    np.testing.assert_array_equal(sampler.ask(4), twin.ask(4))


def test_wrong_tells(make: Callable[..., Sampler]) -> None:
    sampler = make(WIDE)
    points = sampler.ask(3)
    for told, scores, message in [
        (points, [1.0, 2.0], r"got \[3, 2\] and \[2\]"),
        (points, np.ones((3, 1)), r"got \[3, 2\] and \[3, 1\]"),
        (points[:, :1], np.ones(3), r"got \[3, 1\] and \[3\]"),
        (points[::-1], np.ones(3), "points must be those that ask gave"),
        (points + 1e-9, np.ones(3), "points must be those that ask gave"),
        (np.concatenate([points, points]), np.ones(6), "3 are open, and the 6 told"),
    ]:
        with pytest.raises(ValueError, match=message):
            sampler.tell(told, scores)
    sampler.tell(points, np.ones(3))
    with pytest.raises(ValueError, match="0 are open"):
        sampler.tell(points, np.ones(3))


@pytest.mark.parametrize(("n", "error"), [(-1, ValueError), (2.0, TypeError)])
def test_wrong_asks(make: Callable[..., Sampler], n: Any, error: type) -> None:
    with pytest.raises(error, match="n must be"):
        make(WIDE).ask(n)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (((0, 0), (0, 1)), "x0 < x1"),
        (((0, 2), (1, 1)), "x0 < x1"),
        (((0, 0), (1, math.inf)), "finite"),
        (((0, 0), (math.nan, 1)), "finite"),
        ((0, 1), "bounds must be"),
        (((0, 0), (1, 1), (2, 2)), "bounds must be"),
    ],
)
def test_wrong_bounds(make: Callable[..., Sampler], bounds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(bounds)


# Random


def test_random_points_do_not_depend_on_the_portions() -> None:
    portions = run(RandomSampler(seed=3), 37, most=5).points
    np.testing.assert_array_equal(portions, RandomSampler(seed=3).ask(37))


def test_random_points_are_uniform() -> None:
    points = RandomSampler(WIDE).ask(40_000)
    counts = np.histogram2d(*points.T, bins=4, range=[(-0.5, 1.5), (2, 2.5)])[0]
    assert np.abs(counts - 2500).max() < 5 * np.sqrt(2500)


def test_random_seed() -> None:
    with pytest.raises(ValueError, match="seed must be at least 0"):
        RandomSampler(seed=-1)


# Lattice


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 48, 49, 50, 87])
def test_a_lattice_has_exactly_n_points(n: int) -> None:
    sampler = LatticeSampler(((0, 0), (1, 1)), n)
    points = np.concatenate([sampler.ask(10) for _ in range(n // 10 + 1)])
    assert points.shape == (n, 2)
    assert len(np.unique(points, axis=0)) == n
    np.testing.assert_allclose(points.mean(0), 0.5, atol=0.3 / math.sqrt(n))
    assert len(sampler.ask(10)) == 0


def test_a_square_number_gives_the_square_lattice() -> None:
    places = (np.arange(7) + 0.5) / 7
    expected = np.array([(x, y) for y in places for x in places])
    np.testing.assert_allclose(LatticeSampler(((0, 0), (1, 1)), 49).ask(49), expected)


def test_the_lattice_fits_an_area_that_is_not_square() -> None:
    """8 points on 2 × 0.5: two rows of four would be 0.5 and 0.25 apart, so one row of
    eight, 0.25 apart, would leave the height; sqrt(8 · 0.5 / 2) rounds to 1."""
    points = LatticeSampler(WIDE, 8).ask(8)
    np.testing.assert_allclose(points[:, 1], 2.25)
    np.testing.assert_allclose(points[:, 0], -0.5 + 0.25 * (np.arange(8) + 0.5))
    tall = LatticeSampler(((0, 0), (1, 4)), 16).ask(16)
    assert len(np.unique(tall[:, 0])) == 2
    assert len(np.unique(tall[:, 1])) == 8


@pytest.mark.parametrize(
    ("bounds", "n", "error", "message"),
    [
        (WIDE, 0, ValueError, "n must be at least 1"),
        (WIDE, 4.0, TypeError, "n must be an integer"),
        (((0, 0, 0), (1, 1, 1)), 4, ValueError, "bounds must be"),
    ],
)
def test_wrong_lattices(bounds: Any, n: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        LatticeSampler(bounds, n)


# LIPO


@pytest.mark.parametrize("parallel", [1, 4, 8])
def test_lipo_finds_a_narrow_hill(parallel: int) -> None:
    sampler = run(LipoSampler(WIDE, eps=0.01, parallel=parallel), 80)
    assert sampler.scores.max() > 0.95
    # Trust-region steps crowd near the optimum: FACTS says about a third.
    near = np.linalg.norm(sampler.points - [1.1, 2.2], axis=1) < 0.1
    assert near.sum() > 80 / 5


def test_lipo_is_dlibs_own_search() -> None:
    """One open request at a time is dlib's search, driven directly."""
    import dlib

    dlibs = dlib.global_function_search(dlib.function_spec(*map(list, WIDE)))
    dlibs.set_seed(9)
    dlibs.set_solver_epsilon(0.05)
    sampler = LipoSampler(WIDE, eps=0.05, seed=9, parallel=1)
    for _ in range(40):
        request = dlibs.get_next_x()
        point = sampler.ask(1)
        np.testing.assert_array_equal(point[0], list(request.x))
        score = hill(point)
        request.set(float(score[0]))
        sampler.tell(point, score)


def test_lipo_keeps_parallel_requests_open() -> None:
    sampler = LipoSampler(parallel=4)
    points = sampler.ask(10)
    assert len(points) == 4
    assert len(sampler.ask(10)) == 0
    sampler.tell(points[:3], [0.0, 1.0, 2.0])
    assert len(sampler.ask(10)) == 3


def test_lipo_points_depend_on_how_many_are_open() -> None:
    one, four = (run(LipoSampler(WIDE, parallel=p), 40).points for p in (1, 4))
    assert not np.array_equal(one, four)
    # Not on how many are asked for at once beyond that.
    np.testing.assert_array_equal(
        run(LipoSampler(WIDE), 40).points, run(LipoSampler(WIDE), 40, most=4).points
    )


def test_lipo_needs_dlib(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "dlib":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "dlib", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"dlib.*in the extra \[detect\]"):
        LipoSampler()


def test_wrong_lipo_settings() -> None:
    with pytest.raises(ValueError, match="eps must be"):
        LipoSampler(eps=-0.1)
    with pytest.raises(ValueError, match="parallel must be at least 1"):
        LipoSampler(parallel=0)
    with pytest.raises(ValueError, match="seed must be at least 0"):
        LipoSampler(seed=-1)


# Many searches together


def test_search_shares_rounds_and_is_exact() -> None:
    names = list(SAMPLERS)
    together = [SAMPLERS[name](0.1, WIDE, 23, 7) for name in names]
    alone = [SAMPLERS[name](0.1, WIDE, 23, 7) for name in names]
    scale = np.array([1.0, -2.0, 3.0, 0.5])
    rounds = []

    def evaluate(owners: np.ndarray, points: np.ndarray) -> np.ndarray:
        rounds.append(owners)
        return scale[owners] * hill(points)

    search(together, 23, evaluate)
    assert [len(sampler.scores) for sampler in together] == [23] * 4
    assert sum(map(len, rounds)) == 4 * 23
    assert set(rounds[0]) == {0, 1, 2, 3}
    for i, (many, one) in enumerate(zip(together, alone, strict=True)):
        run(one, 23, score=lambda points, i=i: scale[i] * hill(points))
        np.testing.assert_array_equal(many.points, one.points)
        np.testing.assert_array_equal(many.scores, one.scores)


def test_search_goes_on_where_samplers_are() -> None:
    half = run(RandomSampler(), 10)
    search([half], 25, lambda owners, points: hill(points))
    np.testing.assert_array_equal(half.points, RandomSampler().ask(25))


def test_search_that_runs_dry_ends() -> None:
    sampler = LatticeSampler(WIDE, 5)
    with pytest.raises(RuntimeError, match=r"no more points to give, .* visit 6"):
        search([sampler], 6, lambda owners, points: hill(points))
