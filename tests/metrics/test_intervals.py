"""The bootstrap against SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from xai_lib.metrics import bootstrap_mean

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


def test_a_constant_sample_has_no_width() -> None:
    low, high = bootstrap_mean(torch.full((7, 3), 0.25))
    for end in (low, high):
        assert end.tolist() == pytest.approx([0.25] * 3, abs=1e-12)


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
