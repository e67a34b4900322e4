"""Maps against loops over pixels, integrals and limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from xai_lib.aise.density import saliency, weighted_density
from xai_lib.aise.samplers import DirectSampler, LipoSampler, RandomSampler

RNG = np.random.default_rng(3)
CENTRES, SCORES = RNG.random((12, 2)), RNG.normal(size=12)


def loops(weights: np.ndarray, sigma: float, height: int, columns: int) -> np.ndarray:
    """(1/n) Σ w K, pixel by pixel, from (7)."""
    out = np.zeros((height, columns))
    for i in range(height):
        for j in range(columns):
            for (x, y), w in zip(CENTRES, weights, strict=True):
                dx, dy = (j + 0.5) / columns - x, (i + 0.5) / height - y
                raw = math.exp(-(dx**2 + dy**2) / (2 * sigma**2))
                out[i, j] += w * raw / (2 * math.pi * sigma**2) / len(weights)
    return out


@pytest.mark.parametrize("sigma", [0.04, 0.3])
def test_weighted_density_by_loops(sigma: float) -> None:
    found = weighted_density(CENTRES, SCORES, sigma, 9, 14)
    assert found.dtype is torch.float64
    np.testing.assert_allclose(found, loops(SCORES, sigma, 9, 14), rtol=1e-12)


def test_reversed_arrays() -> None:
    """The order of the points is all the same, and so is that of the memory."""
    for made in (weighted_density, saliency):
        turned = made(CENTRES[::-1], SCORES[::-1], 0.1, 9, 14)
        torch.testing.assert_close(turned, made(CENTRES, SCORES, 0.1, 9, 14))


@pytest.mark.parametrize("sigma", [0.04, 0.3])
def test_saliency_is_a_covariance(sigma: float) -> None:
    """Of the score and the coverage of the pixel, by NumPy."""
    found = saliency(CENTRES, SCORES, sigma, 9, 14)
    for i, j in [(0, 0), (4, 11), (8, 3)]:
        dx, dy = (j + 0.5) / 14 - CENTRES[:, 0], (i + 0.5) / 9 - CENTRES[:, 1]
        coverage = np.exp(-(dx**2 + dy**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
        expected = np.cov(SCORES, coverage, bias=True)[0, 1]
        assert found[i, j].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sigma", [0.04, 0.3])
def test_normalised_by_loops(sigma: float) -> None:
    kernel = 2 * math.pi * sigma**2 * len(SCORES)
    top = loops(SCORES - SCORES.mean(), sigma, 9, 14) * kernel
    below = 1 + loops(np.ones(12), sigma, 9, 14) * kernel
    found = saliency(CENTRES, SCORES, sigma, 9, 14, normalise=True)
    np.testing.assert_allclose(found, top / below, rtol=1e-9, atol=1e-15)


def test_the_density_of_the_centres_has_mass_one() -> None:
    """Far from the edges nothing of the kernels is cut off."""
    inner = 0.4 + 0.2 * CENTRES
    density = weighted_density(inner, np.ones(12), 0.05, 200, 150)
    assert density.mean().item() == pytest.approx(1, abs=1e-6)
    # So the covariance has mass zero: what is up here is down there.
    assert saliency(inner, SCORES, 0.05, 200, 150).mean().abs() < 1e-6


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("constant", [0.0, 0.7, -250.1, 1e-300])
def test_a_constant_model_has_a_map_of_zeros(constant: float, normalise: bool) -> None:
    scores = np.full(12, constant)
    found = saliency(CENTRES, scores, 0.1, 9, 14, normalise)
    assert torch.equal(found, torch.zeros(9, 14, dtype=torch.float64))


@pytest.mark.parametrize("normalise", [False, True])
def test_signs_survive(normalise: bool) -> None:
    def of(scores: np.ndarray) -> torch.Tensor:
        return saliency(CENTRES, scores, 0.1, 9, 14, normalise)

    expected = of(SCORES)
    assert expected.min() < 0 < expected.max()
    # All scores negative: the same map, not its opposite.
    torch.testing.assert_close(of(SCORES - 100), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(of(-SCORES), -expected, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(of(3 * SCORES), 3 * expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("normalise", [False, True])
def test_one_sample_says_nothing(normalise: bool) -> None:
    found = saliency([[0.5, 0.5]], [3.0], 0.1, 5, 5, normalise)
    assert torch.equal(found, torch.zeros(5, 5, dtype=torch.float64))


def test_every_point_counts() -> None:
    """The last one too, however many there are."""
    before = saliency(CENTRES, SCORES, 0.1, 9, 14)
    changed = SCORES.copy()
    changed[-1] += 1
    assert (saliency(CENTRES, changed, 0.1, 9, 14) != before).all()


def test_the_plain_sum_is_saliency_times_sampling_density() -> None:
    """Centres with the density π = 2x, the score s = 1 + y; both are linear, so that
    smoothing changes neither, away from the edges."""
    rng = np.random.default_rng(0)
    centres = rng.random((200_000, 2))
    centres[:, 0] **= 0.5
    scores = 1 + centres[:, 1]
    x, y = (torch.arange(20) + 0.5) / 20, (torch.arange(30)[:, None] + 0.5) / 30
    pi, s = 2 * x + 0 * y, 1 + y + 0 * x
    inner = (slice(9, 21), slice(6, 14))  # 0.3 from the edges: six widths

    plain = weighted_density(centres, scores, 0.05, 30, 20)[inner]
    torch.testing.assert_close(plain, (s * pi)[inner].double(), atol=0.06, rtol=0)
    constant = weighted_density(centres, np.ones(len(centres)), 0.05, 30, 20)[inner]
    torch.testing.assert_close(constant, pi[inner].double(), atol=0.04, rtol=0)
    ours = saliency(centres, scores, 0.05, 30, 20)[inner]
    torch.testing.assert_close(
        ours, (pi * (s - 1.5))[inner].double(), atol=0.02, rtol=0
    )
    free = saliency(centres, scores, 0.05, 30, 20, normalise=True)[inner]
    torch.testing.assert_close(free, (s - 1.5)[inner].double(), atol=0.01, rtol=0)


@pytest.mark.parametrize("make", [RandomSampler, DirectSampler, LipoSampler])
def test_all_negative_scores_of_an_adaptive_sampler(make: type) -> None:
    """The plain sum turns over: it is lowest where the sampler went most often. A
    covariance does not."""

    def log_hill(points: np.ndarray) -> np.ndarray:
        return -10 - ((points - [0.7, 0.3]) ** 2).sum(1)

    sampler = make()
    while len(sampler.scores) < 60:
        points = sampler.ask(60 - len(sampler.scores))
        sampler.tell(points, log_hill(points))
    found = saliency(sampler.points, sampler.scores, 0.15, 20, 20)
    row, column = divmod(int(found.argmax()), 20)
    assert abs((column + 0.5) / 20 - 0.7) < 0.15
    assert abs((row + 0.5) / 20 - 0.3) < 0.15
    if make is not RandomSampler:
        plain = weighted_density(sampler.points, sampler.scores, 0.15, 20, 20)
        assert plain[row, column] < plain.mean()


def test_far_from_all_centres_nothing_is_known() -> None:
    centres = [[0.1, 0.1], [0.2, 0.1]]
    for normalise in (False, True):
        found = saliency(centres, [5.0, -5.0], 0.02, 50, 50, normalise)
        assert found[40:, 40:].abs().max() < 1e-12
        assert bool(found.isfinite().all())


@pytest.mark.parametrize(
    ("centres", "scores", "width", "message"),
    [
        (CENTRES, SCORES[:-1], 0.1, r"weights must be \[12\], got \[11\]"),
        (CENTRES, np.append(SCORES[:-1], math.nan), 0.1, "weights must be finite"),
        (np.empty((0, 2)), [], 0.1, "at least one point"),
        (CENTRES[:, 0], SCORES, 0.1, r"centres must be \[k, 2\]"),
        (CENTRES, SCORES, 0.0, "widths must be finite and above 0"),
    ],
)
def test_wrong_arguments(centres: Any, scores: Any, width: float, message: str) -> None:
    for function in (weighted_density, saliency):
        with pytest.raises(ValueError, match=message):
            function(centres, scores, width, 9, 14)
