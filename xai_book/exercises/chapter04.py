"""Checkers of the exercises of chapter 04, Gradients from queries."""

import math

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
    noise = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    around = shaped(answer(0.5 * noise), Tensor, len(noise)).detach()
    # Where it jumps it has no slope, whatever autograd says.
    for k in (79_998, 80_002):
        chord = float((around[k] - values.detach()) / (0.5 * noise[k]))
        if not math.isclose(chord, float(slope), rel_tol=0.1):
            raise WrongAnswer(
                f"the slope at 0 is {float(slope):.3g} by autograd, but {chord:.3g} "
                "between 0 and 0.0001 beside it"
            )
    # The expectation of formula (1), on a grid instead of at random.
    weight = torch.exp(-noise.square() / 2) / math.sqrt(2 * math.pi) * 1e-4
    blurred = float((around * noise / 0.5 * weight).sum())
    if not blurred < -1:
        raise WrongAnswer(f"GEEX with sigma = 0.5 expects {blurred:.3g}, not below -1")


@exercise("4.2")
def squared_lengths(answer: Answer) -> None:
    """One vote is c times the noise over sigma, and the noise has the mean squared
    length d; n votes have 1 / n of it."""
    expected = [64 * 4 / n / s**2 for n, s in ((256, 0.4), (1024, 0.4), (256, 0.2))]
    for k, (found, right) in enumerate(zip(answer(), expected, strict=True), start=1):
        if not math.isclose(found, right, rel_tol=0.01):
            raise WrongAnswer(f"number {k} is not the length that the map will have")


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
    """The variance of one vote is A + B: A for the slope, B for the level; n votes have
    1 / n of it. Return an int."""
    for case in ((1, 0, 1, 0.5, 1), (784, 5, 2, 0.5, 0.5), (10, -1, 1, 1, 3)):
        d, level, length, sigma, error = case
        vote = d + 1 + d * (level / length / sigma) ** 2  # over the length squared
        expect(answer, math.ceil(vote / error**2), *case, kind=int)


@exercise("4.5")
def standard_error(answer: Answer) -> None:
    """One vote per pair, (up - down) / (2 sigma) times its noise; then, per feature,
    the standard deviation of the m votes (with m - 1) over the root of m."""
    rng = generator(2)
    for m, d, sigma in ((3, 2, 1.0), (5, 3, 0.5), (60, 2, 2.0)):
        up, down = 2 + torch.randn(2, m, generator=rng, dtype=torch.float64)
        noise = torch.randn(m, d, generator=rng, dtype=torch.float64)
        votes = ((up - down) / (2 * sigma) * noise.T).T
        spread = (votes - votes.mean(dim=0)).square().sum(dim=0) / (m - 1)
        expect(answer, (spread / m).sqrt(), up, down, noise, sigma, atol=1e-9)
