"""Checkers of the exercises of chapter 06, Paths and axioms."""

import math

import torch
from torch import Tensor

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, shaped
from xai_lib.core.attribution import generator


@exercise("6.1")
def spread(answer: Answer) -> None:
    """Pair j sits at alpha = (j + 1/2) / m and asks at +sigma e and -sigma e; divide
    the difference by 2 sigma, multiply by e, average over the m pairs, and multiply by
    (x - baseline)."""
    rng = generator(60)

    def cubic(z: Tensor) -> Tensor:
        """z₀³ + z₁³ + z₂³ + z₀z₁"""
        return (z**3).sum(dim=1) + z[:, 0] * z[:, 1]

    for m, sigma in ((2, 0.5), (7, 0.5), (40, 0.2)):
        x, baseline = torch.randn(2, 3, generator=rng, dtype=torch.float64)
        eps = torch.randn(m, 3, generator=rng, dtype=torch.float64)
        expected = torch.zeros(3, dtype=torch.float64)
        for j, e in enumerate(eps):
            point = baseline + (j + 0.5) / m * (x - baseline)
            up, down = (cubic((point + sign * sigma * e)[None]) for sign in (1, -1))
            expected += (x - baseline) * (up - down) / (2 * sigma) * e / m
        expect(answer, expected, cubic, x, baseline, eps, sigma)


@exercise("6.2")
def error_of_sum(answer: Answer) -> None:
    """The sum of the map is a mean over the m pairs of one number each, slope (eps ·
    difference): take the standard deviation of these numbers over the root of m."""
    rng = generator(61)
    for m, d in ((3, 2), (50, 1), (200, 5), (30, 40)):
        difference = torch.rand(d, generator=rng) + 0.2
        eps = torch.randn(m, d, generator=rng)
        slopes = eps @ torch.randn(d, generator=rng) + torch.randn(m, generator=rng)
        sums = (slopes[:, None] * eps * difference).double().sum(dim=1)
        variance = float((sums - sums.mean()).square().sum()) / (m - 1)
        expected = math.sqrt(variance / m)
        expect(answer, expected, slopes, eps, difference, atol=1e-4)


@exercise("6.3")
def hidden_difference(answer: Answer) -> None:
    """Balance a part that smoothing shrinks with one that it leaves alone."""
    sigma = 0.5

    def values(points: list[float]) -> Tensor:
        z = torch.tensor(points, dtype=torch.float64)
        return shaped(answer(z), Tensor, len(points)).double()

    ends = values([0.0, 1.0])
    near = values([-1e-6, 1e-6, 1 - 1e-6, 1 + 1e-6])
    if float((near - ends[[0, 0, 1, 1]]).abs().max()) > 1e-3:
        raise WrongAnswer("f must be continuous at 0 and at 1")
    gap = float(ends[1] - ends[0])
    if abs(gap) < 0.5:
        raise WrongAnswer(f"f(1) - f(0) must be at least 0.5 in size, it is {gap:.3g}")
    noise = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    density = torch.exp(-(noise**2) / 2)
    density /= density.sum()
    smooth = [density @ values((at + sigma * noise).tolist()) for at in (0.0, 1.0)]
    left = float(smooth[1] - smooth[0])
    if not abs(left) < 0.01:
        raise WrongAnswer(
            f"smoothed with sigma = 0.5 the difference is {left:.3g}, it must be "
            "within 0.01 of zero"
        )


@exercise("6.4")
def resized_limit(answer: Answer) -> None:
    """The estimate is the mean of (gradient · eps) eps with eps = U z: that is the
    covariance of eps times the gradient."""
    rng = generator(62)
    for d, s in ((2, 1), (6, 3), (12, 4)):
        U = torch.rand(d, s, generator=rng, dtype=torch.float64)
        gradient = torch.randn(d, generator=rng, dtype=torch.float64)
        covariance = torch.einsum("ac,bc->ab", U, U)
        expect(answer, covariance @ gradient, U, gradient)


@exercise("6.5")
def amplification(answer: Answer) -> None:
    """Write both shares of noise, sum of squared errors over sum of squared values,
    before and after every entry is multiplied by its difference; the error s cancels in
    the ratio, after over before."""
    rng = generator(63)
    for d in (2, 30):
        gradient = torch.randn(d, generator=rng)
        difference = torch.rand(d, generator=rng)
        errors = torch.full((d,), 0.3)
        before = errors.square().sum() / gradient.square().sum()
        after = (errors * difference).square().sum()
        after /= (gradient * difference).square().sum()
        expect(answer, float(after / before), gradient, difference, atol=1e-4)
