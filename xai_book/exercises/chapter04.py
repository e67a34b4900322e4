"""Checkers of the exercises of chapter 04, Gradients from queries."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.core.attribution import generator


@exercise("4.1")
def centred_estimate(answer: Callable) -> None:
    """`answer(scores, noise, sigma)`: the centred estimate, `[n]` and `[n, d]`."""
    rng = generator(1)
    for n, d, sigma in ((7, 3, 0.5), (2, 4, 2.0), (40, 1, 0.1)):
        scores = 3 + torch.randn(n, generator=rng, dtype=torch.float64)
        noise = torch.randn(n, d, generator=rng, dtype=torch.float64)
        # Every answer against the mean of all others: unbiased term by term.
        votes = [
            (scores[i] - (scores.sum() - scores[i]) / (n - 1)) * noise[i]
            for i in range(n)
        ]
        expect_close(
            answer(scores, noise, sigma),
            torch.stack(votes).sum(dim=0) / (n * sigma),
            "subtract the mean of the scores, weight each noise vector by what is "
            "left, add up, and divide by sigma and by n - 1",
            atol=1e-9,
        )


@exercise("4.2")
def standard_error(answer: Callable) -> None:
    """`answer(up, down, noise, sigma)`: per feature, from m mirrored pairs."""
    rng = generator(2)
    for m, d, sigma in ((5, 3, 0.5), (60, 2, 2.0)):
        up = 2 + torch.randn(m, generator=rng, dtype=torch.float64)
        down = 2 + torch.randn(m, generator=rng, dtype=torch.float64)
        noise = torch.randn(m, d, generator=rng, dtype=torch.float64)
        votes = torch.stack(
            [(up[i] - down[i]) / (2 * sigma) * noise[i] for i in range(m)]
        )
        spread = (votes - votes.mean(dim=0)).square().sum(dim=0) / (m - 1)
        expect_close(
            answer(up, down, noise, sigma),
            (spread / m).sqrt(),
            "one vote per pair, (up - down) / (2 sigma) times its noise; then the "
            "standard deviation of the m votes (with m - 1) over the root of m",
            atol=1e-9,
        )


@exercise("4.3")
def queries_needed(answer: Callable) -> None:
    """`answer(d, error)`: the least even n for a linear function, mirrored noise."""
    for d, error in ((1, 1.0), (784, 0.5), (784, 0.1), (150_528, 1.0), (10, 3.0)):
        # As exact fractions: 0.1² is not 0.01 in floating point.
        pairs = math.ceil((d + 1) / Fraction(str(error)) ** 2)
        got = answer(d, error)
        if isinstance(got, bool) or not isinstance(got, int) or got != 2 * pairs:
            raise WrongAnswer(
                f"for d = {d} and a relative error of {error} it takes {2 * pairs} "
                f"queries, you say {got!r}; m pairs leave a squared relative error "
                "of (d + 1) / m. Return an int, and count both queries of a pair"
            )


@exercise("4.4")
def loss_gradient(answer: Callable) -> None:
    """`answer(logits, jacobian)`: the gradient of the non-informative loss."""
    rng = generator(4)
    for k, d, scale in ((3, 4, 1.0), (10, 2, 5.0), (6, 3, 0.0)):
        weight = torch.randn(k, d, generator=rng, dtype=torch.float64)
        bias = scale * torch.randn(k, generator=rng, dtype=torch.float64)
        x = torch.zeros(d, dtype=torch.float64, requires_grad=True)
        logits = weight @ x + bias
        loss = -logits.log_softmax(dim=0).mean()
        (expected,) = torch.autograd.grad(loss, x)
        expect_close(
            answer(logits.detach(), weight),
            expected,
            "the weights of the rows of the jacobian are p - 1 / K, with p the "
            "softmax of the logits",
            atol=1e-9,
        )


@exercise("4.5")
def contrary(answer: Callable) -> None:
    """`answer(z)`: slope at 0 above 1, estimate at sigma = 0.5 below -1."""
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    values = _values(answer, zero)
    if not values.requires_grad:
        raise WrongAnswer("the values do not depend on z through torch operations")
    (slope,) = torch.autograd.grad(values.sum(), zero, materialize_grads=True)
    if not float(slope) > 1:
        raise WrongAnswer(f"the slope at 0 is {float(slope):.3g}, not above 1")
    # The expectation of formula (1), on a grid instead of at random.
    noise = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    weight = torch.exp(-noise.square() / 2) / math.sqrt(2 * math.pi) * 1e-4
    votes = _values(answer, 0.5 * noise).detach() * noise / 0.5
    blurred = float((votes * weight).sum())
    if not blurred < -1:
        raise WrongAnswer(
            f"GEEX with sigma = 0.5 would expect {blurred:.3g} at 0, not below -1; "
            "add to a falling line something that rises at 0 and is soon back again"
        )


def _values(answer: Callable, z: Tensor) -> Tensor:
    values = answer(z)
    if not isinstance(values, Tensor) or values.shape != z.shape:
        raise WrongAnswer("return a tensor `[n]`: one value for each entry of z `[n]`")
    return values
