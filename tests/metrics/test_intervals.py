"""The bootstrap against SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from xai_lib.metrics import bootstrap_mean
from xai_lib.metrics.intervals import TIE, image_mean, places, sign

VALUES = torch.from_numpy(np.random.default_rng(4).gamma(2.0, size=40))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_agrees_with_scipy(level: float) -> None:
    low, high = bootstrap_mean(VALUES, level, n_resamples=20_000)
    expected = scipy.stats.bootstrap(
        (VALUES.numpy(),),
        np.mean,
        confidence_level=level,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    error = float(VALUES.std()) / 40**0.5
    # Two independent Monte-Carlo ends differ by about 0.02 standard errors.
    assert float(low) == pytest.approx(expected.low, abs=0.1 * error)
    assert float(high) == pytest.approx(expected.high, abs=0.1 * error)
    assert float(high - low) > error


def test_covers_the_mean_as_often_as_it_says() -> None:
    """300 samples of 50 from a known distribution; 90 % intervals."""
    samples = torch.from_numpy(np.random.default_rng(2).uniform(size=(50, 300)))
    hits = 0
    for column in samples.T:
        low, high = bootstrap_mean(column, 0.9, n_resamples=400)
        hits += int(low <= 0.5 <= high)
    # 270 of 300 expected, with a standard deviation of 5.2.
    assert 250 <= hits <= 290


@pytest.mark.parametrize("n", [3, 7, 26, 200, 303])
@pytest.mark.parametrize("value", [0.05, 1 / 3, -0.7, 1e9 + 0.1, 1e-9])
def test_equal_values_are_their_mean_and_have_no_width(value: float, n: int) -> None:
    """To the bit: 200 values of 0.05 once had an interval that began above them."""
    values = torch.full((n, 2), value, dtype=torch.float64)
    low, high = bootstrap_mean(values)
    for found in (low, high, image_mean(values)):
        assert found.tolist() == [value] * 2
    low, high = bootstrap_mean(values[:, 0])
    assert float(low) == float(high) == float(image_mean(values[:, 0])) == value


def test_counts_are_added_up_as_counts() -> None:
    """As many ones as minus ones are exactly a tie, in a resample too."""
    ones = torch.tensor([1] * 8 + [0] * 4 + [-1] * 8)
    draws = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), 2000)
    sums = np.sort(draws @ ones.numpy())  # whole numbers
    low, high = bootstrap_mean(ones, level=0.9)
    for end, place in ((low, 0.05 * 1999), (high, 0.95 * 1999)):
        below, above = sums[int(place)], sums[int(place) + 1]
        assert below == above  # so that there is nothing to interpolate
        assert float(end) == pytest.approx(below / 20, abs=1e-15)
    assert sums[999] == sums[1000] == 0
    assert [float(end) for end in bootstrap_mean(ones, level=0)] == [0, 0]
    assert float(image_mean(ones)) == 0


@pytest.mark.parametrize("order", range(20))
def test_another_order_of_the_sum_changes_no_sign(order: int) -> None:
    """The differences add up to nothing in decimals, but hardly ever in floats."""
    values = np.array([0.1, 0.2, -0.3, 0.7, -0.7, 0.6, -0.6])
    shuffled = np.random.default_rng(order).permutation(values)
    assert sign(sum(shuffled)) == 0
    assert sign(image_mean(torch.from_numpy(shuffled))) == 0


def test_sign_is_zero_near_zero_only() -> None:
    near = [0.0, -0.0, 1e-18, -1e-18, 2e-6, -2e-6]
    assert sign(near).tolist() == [0] * 6
    # The last digit that rows keep is a difference.
    assert sign([[1e-5, -1e-5], [3.0, -np.inf]]).tolist() == [[1, -1], [1, -1]]
    assert np.isnan(sign(float("nan")))
    assert sign(torch.tensor(0.5)) == 1
    # No mean of five-decimal numbers over up to 400 images is at the limit itself.
    n = np.arange(1, 401)
    assert (np.abs(TIE * n / 1e-5 - np.round(TIE * n / 1e-5)) > 1e-4).all()


def test_places_are_ranks_in_which_ties_are_shared() -> None:
    scores = np.random.default_rng(5).integers(0, 4, (9, 50)) / 10
    expected = scipy.stats.rankdata(-scores, axis=0)
    assert np.array_equal(places(scores), expected)
    noisy = scores + np.random.default_rng(6).uniform(-1e-6, 1e-6, scores.shape)
    assert np.array_equal(places(noisy), expected)
    assert places([0.5, 0.25, 0.5 + 1e-12]).tolist() == [1.5, 3, 1.5]


def test_one_image_has_no_width() -> None:
    low, high = bootstrap_mean(torch.tensor([[1.0, 2.0]]))
    assert low.tolist() == high.tolist() == [1.0, 2.0]


def test_the_points_of_a_curve_stay_together() -> None:
    """A curve's second point at twice the first is so in every resample."""
    curves = torch.stack([VALUES, 2 * VALUES, -VALUES], dim=1).view(40, 3, 1)
    low, high = bootstrap_mean(curves)
    assert low.shape == high.shape == (3, 1)
    torch.testing.assert_close(low[1], 2 * low[0])
    torch.testing.assert_close(low[2], -high[0])
    torch.testing.assert_close(low[0, 0], bootstrap_mean(VALUES)[0])


def test_seed_and_clean_hands() -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = bootstrap_mean(VALUES), bootstrap_mean(VALUES)
    assert first == again
    assert bootstrap_mean(VALUES, seed=1) != first
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(
    ("values", "settings", "error", "message"),
    [
        (VALUES, {"level": 1.5}, ValueError, r"level must be .*\[0, 1\], got 1\.5"),
        (VALUES, {"level": "95%"}, TypeError, "level must be a number, got '95%'"),
        (
            VALUES,
            {"n_resamples": 0},
            ValueError,
            "n_resamples must be at least 1, got 0",
        ),
        (VALUES[:0], {}, ValueError, "the number of images must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(
    values: torch.Tensor, settings: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bootstrap_mean(values, **settings)
