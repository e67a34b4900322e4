"""Checkers of the exercises of chapter 04, Gradients from queries."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, shaped
from xai_lib.core.attribution import generator
from xai_lib.geex import GEEX, search_noise


@exercise("4.1")
def contrary(answer: Answer) -> None:
    """Add to a falling line something that rises at 0 and is soon back again, without a
    jump."""
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    values = shaped(answer(zero), Tensor, 1)
    if not values.requires_grad:
        raise WrongAnswer("the values do not depend on z through torch operations")
    (slope,) = torch.autograd.grad(values.sum(), zero, materialize_grads=True)
    if not float(slope) > 1:
        raise WrongAnswer(f"the slope at 0 is {float(slope):.3g}, not above 1")
    # Where it jumps it has no slope, whatever autograd says.
    step = torch.tensor([-1e-4, 1e-4], dtype=torch.float64)
    beside = shaped(answer(step), Tensor, 2)
    for chord in ((beside - values) / step).tolist():
        if not math.isclose(chord, float(slope), rel_tol=0.1):
            raise WrongAnswer(
                f"the slope at 0 is {float(slope):.3g} by autograd, but {chord:.3g} "
                "between 0 and 0.0001 beside it"
            )
    # The expectation of formula (1), on a grid instead of at random.
    noise = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    weight = torch.exp(-noise.square() / 2) / math.sqrt(2 * math.pi) * 1e-4
    votes = shaped(answer(0.5 * noise), Tensor, len(noise)).detach() * noise / 0.5
    blurred = float((votes * weight).sum())
    if not blurred < -1:
        raise WrongAnswer(
            f"GEEX with sigma = 0.5 would expect {blurred:.3g} at 0, not below -1"
        )


@exercise("4.2")
def squared_lengths(answer: Answer) -> None:
    """One vote is c times the noise over sigma, and the noise has the mean squared
    length d; n votes have 1 / n of it."""
    expected = [64 * 4 / n / s**2 for n, s in ((256, 0.4), (1024, 0.4), (256, 0.2))]
    pairs = zip(answer(), expected, strict=True)
    if any(abs(found / right - 1) > 0.01 for found, right in pairs):
        raise WrongAnswer("these are not the lengths that the map will have")


@exercise("4.3")
def geex(answer: Answer) -> None:
    """Per pair, (up - down) / (2 sigma) is a number; multiply the pair's noise by it,
    and take the mean over the m pairs."""
    asked = 0

    def f(images: Tensor) -> Tensor:
        """a score that is bent"""
        nonlocal asked
        asked += len(images)
        return 5 + (images[:, 0, 0] ** 3).sum(dim=1) - images[:, -1, 1, 1].exp()

    for shape, m, sigma in (((1, 2, 3), 4, 0.5), ((3, 4, 4), 30, 0.2)):
        x = torch.rand(shape, generator=generator(m))
        (chunk,) = search_noise("mirrored", shape, 2 * m, seed=m)
        library = GEEX(lambda z: f(z)[:, None], 2 * m, sigma, seed=m)
        expected = library.attribute(x[None], 0)[0]
        asked = 0
        expect(answer, expected, f, x, chunk[:m], sigma, atol=1e-4)
        if asked != 2 * m:
            raise WrongAnswer(f"{m} pairs are {2 * m} queries, you ask {asked}")


@exercise("4.4")
def queries_needed(answer: Answer) -> None:
    """m pairs leave a squared relative error of (d + 1) / m; return an int, and count
    both queries of a pair."""
    for d, error in ((1, 1.0), (784, 0.5), (784, 0.1), (150_528, 1.0), (10, 3.0)):
        # As exact fractions: 0.1² is not 0.01 in floating point.
        pairs = math.ceil((d + 1) / Fraction(str(error)) ** 2)
        expect(answer, 2 * pairs, d, error, kind=int)


@exercise("4.5")
def standard_error(answer: Answer) -> None:
    """One vote per pair, (up - down) / (2 sigma) times its noise; then, per feature,
    the standard deviation of the m votes (with m - 1) over the root of m."""
    rng = generator(2)
    for m, d, sigma in ((3, 2, 1.0), (5, 3, 0.5), (60, 2, 2.0)):
        up, down = 2 + torch.randn(2, m, generator=rng, dtype=torch.float64)
        noise = torch.randn(m, d, generator=rng, dtype=torch.float64)
        votes = torch.stack(
            [(up[i] - down[i]) / (2 * sigma) * noise[i] for i in range(m)]
        )
        spread = (votes - votes.mean(dim=0)).square().sum(dim=0) / (m - 1)
        expect(answer, (spread / m).sqrt(), up, down, noise, sigma, atol=1e-9)
