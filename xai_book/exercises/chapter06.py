"""Checkers of the exercises of chapter 06, Paths and axioms."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.core.attribution import generator


@exercise("6.1")
def spread(answer: Callable) -> None:
    """`answer(score, x, baseline, eps, sigma)`: iGEEX, one pair per path point."""
    rng = generator(60)

    def cubic(z: Tensor) -> Tensor:
        return (z**3).sum(dim=1) + z[:, 0] * z[:, 1]

    for m, sigma in ((7, 0.5), (40, 0.2)):
        x, baseline = torch.randn(2, 3, generator=rng, dtype=torch.float64)
        eps = torch.randn(m, 3, generator=rng, dtype=torch.float64)
        expected = torch.zeros(3, dtype=torch.float64)
        for j, e in enumerate(eps):
            point = baseline + (j + 0.5) / m * (x - baseline)
            up, down = (cubic((point + sign * sigma * e)[None]) for sign in (1, -1))
            expected += (x - baseline) * (up - down) / (2 * sigma) * e / m
        expect_close(
            answer(cubic, x, baseline, eps.clone(), sigma),
            expected,
            "pair j sits at alpha = (j + 1/2) / m and asks at +sigma e and -sigma e; "
            "divide the difference by 2 sigma, multiply by e, average over the m "
            "pairs, and multiply by (x - baseline)",
        )


@exercise("6.2")
def error_of_sum(answer: Callable) -> None:
    """`answer(slopes, eps, difference)`: the standard error of the map's sum."""
    rng = generator(61)
    for m, d in ((50, 1), (200, 5), (30, 40)):
        difference = torch.rand(d, generator=rng) + 0.2
        eps = torch.randn(m, d, generator=rng)
        slopes = eps @ torch.randn(d, generator=rng) + torch.randn(m, generator=rng)
        sums = [
            math.fsum((s * e * difference).tolist())
            for s, e in zip(slopes, eps, strict=True)
        ]
        mean = math.fsum(sums) / m
        variance = math.fsum((s - mean) ** 2 for s in sums) / (m - 1)
        expect_close(
            _number(answer(slopes.clone(), eps.clone(), difference.clone())),
            torch.tensor(math.sqrt(variance / m)),
            "the sum of the map is a mean over the m pairs of one number each, "
            "slope (eps · difference): take the standard deviation of these numbers "
            "over the square root of m",
            atol=1e-4,
        )


@exercise("6.3")
def hidden_difference(answer: Callable) -> None:
    """`answer(z)`: differs at 0 and 1, but not once it is smoothed with 0.5."""
    sigma = 0.5

    def values(points: list[float]) -> Tensor:
        z = torch.tensor(points, dtype=torch.float64)
        result = answer(z)
        if not isinstance(result, Tensor) or result.shape != z.shape:
            raise WrongAnswer("return a tensor of the shape of z, one value for each")
        return result.double()

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
            "within 0.01 of zero: balance a part that smoothing shrinks with one "
            "that it leaves alone"
        )


@exercise("6.4")
def resized_limit(answer: Callable) -> None:
    """`answer(U, gradient)`: what resized noise estimates for a linear score."""
    rng = generator(62)
    for d, s in ((2, 1), (6, 3), (12, 4)):
        U = torch.rand(d, s, generator=rng, dtype=torch.float64)
        gradient = torch.randn(d, generator=rng, dtype=torch.float64)
        covariance = torch.einsum("ac,bc->ab", U, U)
        expect_close(
            answer(U.clone(), gradient.clone()),
            covariance @ gradient,
            "the estimate is the mean of (gradient · eps) eps with eps = U z: that is "
            "the covariance of eps times the gradient",
        )


@exercise("6.5")
def amplification(answer: Callable) -> None:
    """`answer(gradient, difference)`: noise share after over before, equal errors."""
    rng = generator(63)
    for d in (2, 30):
        gradient = torch.randn(d, generator=rng)
        difference = torch.rand(d, generator=rng)
        error = 0.3
        before = d * error**2 / sum(float(g) ** 2 for g in gradient)
        pairs = [
            (float(g), float(x)) for g, x in zip(gradient, difference, strict=True)
        ]
        after = sum((error * x) ** 2 for _, x in pairs)
        after /= sum((g * x) ** 2 for g, x in pairs)
        expect_close(
            _number(answer(gradient.clone(), difference.clone())),
            torch.tensor(after / before),
            "write both shares of noise, sum of squared errors over sum of squared "
            "values, before and after every entry is multiplied by its difference; "
            "the error s cancels in the ratio",
            atol=1e-4,
        )


def _number(answer: object) -> Tensor:
    """A number as a tensor; what else it may be is for `expect_close` to refuse."""
    if not isinstance(answer, (int, float, Tensor)):
        raise WrongAnswer(f"return one number, not {type(answer).__name__}")
    return torch.as_tensor(answer)
