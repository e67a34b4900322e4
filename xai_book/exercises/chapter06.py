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
def caught(answer: Answer) -> None:
    """Where do the last pairs sit? A score whose slope changes along the path notices,
    and one that is linear does not, however steep."""
    sigma, m = 0.5, 40_000
    eps = torch.randn(m, 2, generator=generator(64), dtype=torch.float64)
    places = (torch.arange(m, dtype=torch.float64)[:, None] + 0.5) / m

    def sums(alpha: Tensor) -> Tensor:
        """What each pair adds to the sum of the map."""
        up, down = (
            shaped(answer(alpha + sign * sigma * eps), Tensor, m).double()
            for sign in (1, -1)
        )
        return (up - down) / (2 * sigma) * eps.sum(dim=1)

    # The same noise on half of the path and on all of it: what is left of the noise in
    # the difference does not count.
    half, whole = sums(places / 2), sums(places)
    off, error = (half - whole).mean(), (half - whole).std() / m**0.5
    gain = float(whole.mean())
    if not float(off.abs()) > 1e-6 + 0.1 * abs(gain) + 5 * float(error):
        raise WrongAnswer(f"it passes: your score gains {gain:.2f}, as does its map")


@exercise("6.3")
def error_of_sum(answer: Answer) -> None:
    """The sum of the map is a mean over the m pairs of one number each, slope (eps ·
    difference): take the standard deviation of these numbers (over m - 1, as torch's)
    over the root of m."""
    rng = generator(61)
    for m, d in ((3, 2), (50, 1), (200, 5), (30, 40)):
        difference = torch.rand(d, generator=rng) + 0.2
        eps = torch.randn(m, d, generator=rng)
        slopes = eps @ torch.randn(d, generator=rng) + torch.randn(m, generator=rng)
        sums = (slopes[:, None] * eps * difference).double().sum(dim=1)
        variance = float((sums - sums.mean()).square().sum()) / (m - 1)
        expected = math.sqrt(variance / m)
        expect(answer, expected, slopes, eps, difference, atol=1e-4)


@exercise("6.4")
def hidden_difference(answer: Answer) -> None:
    """f(1) is the height of one point, the smoothed value a mean over its neighbours:
    how much of a curve does it take to lift the one, and how much to lift the other?"""
    sigma = 0.5

    def values(points: list[float]) -> Tensor:
        z = torch.tensor(points, dtype=torch.float64)
        return shaped(answer(z), Tensor, len(points)).double()

    ends = values([0.0, 1.0])
    # Of a step some jump is left, however near its two sides are.
    low, high = -3.0, 4.0
    for _ in range(4):
        grid = torch.linspace(low, high, 14_001, dtype=torch.float64).tolist()
        grid = sorted({*grid, *(at for at in (0.0, 1.0) if low <= at <= high)})
        jumps = values(grid).diff().abs()
        low, high = grid[int(jumps.argmax())], grid[int(jumps.argmax()) + 1]
    if float(jumps.max()) > 1e-3:
        raise WrongAnswer(f"f must be continuous, and jumps at {low:.4g}")
    gap = float(ends[1] - ends[0])
    if abs(gap) < 0.5:
        raise WrongAnswer(f"f(1) - f(0) must be at least 0.5 in size, it is {gap:.3g}")
    noise = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    density = torch.exp(-(noise**2) / 2)
    density /= density.sum()
    around = [values((at + sigma * noise).tolist()) for at in (0.0, 1.0)]
    least, most = torch.stack(around).aminmax()
    if not (least >= 0 and most <= 1):
        raise WrongAnswer(f"f must stay in [0, 1], it has {least:.3g} and {most:.3g}")
    left = float(density @ (around[1] - around[0]))
    if not abs(left) < 0.01:
        raise WrongAnswer(f"smoothed, the two values differ by {left:.3g}, over 0.01")
