"""Checkers of the exercises of chapter 04, Gradients from queries."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, shaped
from xai_lib.core.attribution import generator


@exercise("4.1")
def centred_estimate(answer: Answer) -> None:
    """Subtract the mean of the scores, weight each noise vector by what is left, add
    up, and divide by sigma and by n - 1."""
    rng = generator(1)
    for n, d, sigma in ((3, 2, 0.5), (7, 3, 0.5), (2, 4, 2.0), (40, 1, 0.1)):
        scores = 3 + torch.randn(n, generator=rng, dtype=torch.float64)
        noise = torch.randn(n, d, generator=rng, dtype=torch.float64)
        # Every answer against the mean of all others: unbiased term by term.
        others = (scores.sum() - scores) / (n - 1)
        votes = (scores - others)[:, None] * noise
        expected = votes.sum(dim=0) / (n * sigma)
        expect(answer, expected, scores, noise, sigma, atol=1e-9)


@exercise("4.2")
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


@exercise("4.3")
def queries_needed(answer: Answer) -> None:
    """m pairs leave a squared relative error of (d + 1) / m; return an int, and count
    both queries of a pair."""
    for d, error in ((1, 1.0), (784, 0.5), (784, 0.1), (150_528, 1.0), (10, 3.0)):
        # As exact fractions: 0.1² is not 0.01 in floating point.
        pairs = math.ceil((d + 1) / Fraction(str(error)) ** 2)
        expect(answer, 2 * pairs, d, error, kind=int)


@exercise("4.4")
def loss_gradient(answer: Answer) -> None:
    """The weights of the rows of the jacobian are p - 1 / K, with p the softmax of the
    logits."""
    rng = generator(4)
    for k, d, scale in ((3, 4, 1.0), (10, 2, 5.0), (6, 3, 0.0)):
        weight = torch.randn(k, d, generator=rng, dtype=torch.float64)
        bias = scale * torch.randn(k, generator=rng, dtype=torch.float64)
        x = torch.zeros(d, dtype=torch.float64, requires_grad=True)
        logits = weight @ x + bias
        loss = -logits.log_softmax(dim=0).mean()
        (expected,) = torch.autograd.grad(loss, x)
        expect(answer, expected, logits.detach(), weight, atol=1e-9)


@exercise("4.5")
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
