"""Checkers of the exercises of chapter 11, Errata and pitfalls."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from xai_book.exercises.exercise import Answer, WrongAnswer, describe, exercise, expect
from xai_lib.core.attribution import generator

Gradients = Callable[[Tensor], Tensor]
"""From points `[n, d]` to the gradients there, `[n, d]`."""
Program = Callable[..., Tensor]
"""A path method: (gradients, x `[d]`, baseline `[d]`) to a map `[d]`."""


@exercise("11.1")
def batched_gradient(answer: Answer) -> None:
    """How far apart do the two queries of a pair lie, and what does each batch, of any
    size, contribute?"""
    rng = generator(1)
    for m, d, sigma, size in ((3, 2, 0.5, 2), (10, 2, 2.0, 4), (7, 3, 0.1, 6)):
        x = torch.randn(d, generator=rng, dtype=torch.float64)
        eps = torch.randn(m, d, generator=rng, dtype=torch.float64)
        slope = torch.randn(d, generator=rng, dtype=torch.float64)

        def score(z: Tensor, slope: Tensor = slope, size: int = size) -> Tensor:
            """a quadratic score"""
            if z.ndim != 2 or len(z) > size:
                raise WrongAnswer(
                    f"the model takes at most {size} points at once, as a tensor "
                    f"[n, d]; it was sent {list(z.shape)}"
                )
            return (z @ slope).square() + 3

        # Of a quadratic score, too, it is mean(eps epsᵀ) times the gradient at x.
        expected = eps.T @ (eps @ slope) * 2 * (x @ slope) / m
        expect(answer, expected, score, x, eps, sigma, size, atol=1e-6)


@exercise("11.2")
def path_integral(answer: Answer) -> None:
    """Do the points lie on the line from the baseline to x, and do their weights add up
    to 1?"""
    slope = torch.tensor([1.0, -2.0, 3.0]).double()

    def of_linear(z: Tensor) -> Tensor:
        """the gradient of x₀ - 2 x₁ + 3 x₂"""
        return slope.expand_as(z)

    def of_cubes(z: Tensor) -> Tensor:
        """the gradient of the sum of cubes"""
        asked.append(len(z))
        return 3 * z.square()

    asked: list[int] = []
    x = torch.tensor([1.0, 0.5, -1.0]).double()
    for baseline in (torch.zeros(3).double(), torch.tensor([0.5, 1, 2]).double()):
        shares = (x - baseline) * slope
        expect(answer, shares, of_linear, x, baseline, 4, atol=1e-6)
        expect(answer, x**3 - baseline**3, of_cubes, x, baseline, 2000, atol=0.02)
    if abs((used := sum(asked) / 2) - 2000) > 1:
        raise WrongAnswer(f"for n = 2000: you use {used:g} points")


@exercise("11.3")
def top_first(answer: Answer) -> None:
    """What is minus a uint8?"""
    maps = [
        np.array([[0, 255], [1, 0]], dtype=np.uint8),
        np.random.default_rng(3).integers(0, 256, (5, 4), dtype=np.uint8),
        np.zeros((2, 3), dtype=np.uint8),
    ]
    for values in maps:
        got = np.asarray(answer(values.copy()))
        flat = values.ravel()
        if got.ndim != 1 or sorted(got.tolist()) != [*range(flat.size)]:
            raise WrongAnswer(
                f"return the numbers 0 to {flat.size - 1} of all pixels, each once, in "
                f"an array of one axis, not {describe(got)}"
            )
        falling = flat[got].astype(int)
        if (np.diff(falling) > 0).any():
            raise WrongAnswer(
                f"for values = {values.tolist()}: in your order they run "
                f"{falling.tolist()}, and must not rise"
            )


@exercise("11.4")
def pointing_score(answer: Answer) -> None:
    """A tie counts as the share of its maxima that hit, and a pair without an object
    does not count."""
    peak, corner, row = torch.zeros(3, 2, 3)
    peak[0, 1], corner[1, 2], row[0] = 1, 2, 1
    two = peak.clone()
    two[1, 0] = 1
    on = peak.bool()
    nothing = torch.zeros_like(on)
    for maps, masks, expected in (
        ([peak, corner], [on, on], 0.5),
        ([torch.ones(2, 3)], [row.bool()], 0.5),
        ([two], [on], 0.5),
        ([peak, corner], [on, nothing], 1.0),
        ([peak, corner], [nothing, on], 0.0),
    ):
        expect(answer, expected, torch.stack(maps), torch.stack(masks), atol=1e-6)
    rng = generator(4)
    for _ in range(20):
        values = torch.randint(-30, -26, (2, 2, 3), generator=rng) / 10
        places = torch.rand(2, 2, 3, generator=rng) < 0.5
        hits = [m[v == v.max()] for v, m in zip(values, places, strict=True) if m.any()]
        mean = sum(float(hit.double().mean()) for hit in hits) / len(hits)
        expect(answer, mean, values, places, atol=1e-6)


@exercise("11.5")
def unmasks(answer: Answer) -> None:
    """Compare with an answer you know, for a curved function of several features, a
    baseline that is not zero, and attributions of both signs."""
    for what, program in (RIGHT | WRONG).items():
        verdict = answer(program)
        if not isinstance(verdict, bool | np.bool_ | Tensor):
            raise WrongAnswer(f"return True or False, not {describe(verdict)}")
        if verdict and what in WRONG:
            raise WrongAnswer(f"you call a program right that {what}")
        if not verdict and what in RIGHT:
            raise WrongAnswer(f"you call a program wrong that is right: {what}")


MIDDLES = (torch.arange(500).double() + 0.5) / 500
NODES, WEIGHTS = map(torch.from_numpy, np.polynomial.legendre.leggauss(20))


def _integral(
    gradients: Gradients,
    x: Tensor,
    baseline: Tensor,
    alphas: Tensor = MIDDLES,
    weights: Tensor | float = 1 / 500,
) -> Tensor:
    """Integrated Gradients with these points and weights on the path."""
    found = gradients(baseline + alphas.to(x)[:, None] * (x - baseline))
    weighted = found * torch.as_tensor(weights).to(x).reshape(-1, 1)
    return (x - baseline) * weighted.sum(dim=0)


RIGHT: dict[str, Program] = {
    "500 midpoints": _integral,
    "Gauss and Legendre's 20 points": (
        partial(_integral, alphas=(NODES + 1) / 2, weights=WEIGHTS / 2)
    ),
}
WRONG: dict[str, Program] = {
    "integrates half of the path": partial(_integral, alphas=MIDDLES / 2),
    "divides 500 gradients by 550": partial(_integral, weights=1 / 550),
    "takes the gradient at the input only": (
        lambda gradients, x, baseline: (x - baseline) * gradients(x[None])[0]
    ),
    "forgets the baseline": lambda gradients, x, _: _integral(gradients, x, 0 * x),
    "returns absolute values": lambda *args: _integral(*args).abs(),
    "gives every feature its neighbour's share": lambda *args: _integral(*args).roll(1),
    "gives every feature the mean gradient of all": lambda gradients, *ends: _integral(
        lambda z: gradients(z).mean(dim=1, keepdim=True).expand_as(z), *ends
    ),
}
"""The programs of exercise 11.5, and what the wrong ones do."""
