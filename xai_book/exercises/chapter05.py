"""Checkers of the exercises of chapter 05, Mask resizing."""

import math
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect
from xai_lib.core.attribution import generator


@exercise("5.1")
def queries_needed(answer: Answer) -> None:
    """The relative squared error of m pairs is (d + 1) / m, a pair is two queries, and
    a part of a pair is a whole one."""
    for d, error in ((784, 0.5), (3, 1.0), (100, 0.4), (150_528, 0.25)):
        expect(answer, 2 * math.ceil((d + 1) / Fraction(str(error))), d, error)


@exercise("5.2")
def enlarge(answer: Answer) -> None:
    """The weight of cell j at pixel i is 1 - |t - j| where that is positive, with t
    kept between the first and the last centre; each row sums to 1."""
    for size, cells in ((4, 2), (28, 14), (12, 4), (10, 3), (5, 5), (7, 1)):
        expected = interpolate(torch.eye(cells)[None], size=size, mode="linear")[0].T
        expect(answer, expected, size, cells)


@exercise("5.3")
def dummy_shares(answer: Answer) -> None:
    """The estimate goes to U Uᵀ times the gradient, and the gradient has one entry that
    is not zero; divide by what p itself gets."""
    drawn = torch.randn(6, 3, generator=generator(5))
    row = interpolate(torch.eye(4)[None], size=9, mode="linear")[0].T
    small = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]])
    for U, p in ((small, 1), (row, 3), (row, 0), (drawn, 4)):
        W = U @ U.T
        expect(answer, W[:, p] / W[p, p], U, p)


@exercise("5.4")
def one_round(answer: Answer) -> None:
    """Along each column v take (f(x + h v) - f(x - h v)) / (2 h), and add up these
    slopes times v."""
    rng = generator(7)
    a, x = torch.randn(2, 8, generator=rng)
    H = torch.randn(8, 8, generator=rng)
    V = torch.linalg.qr(torch.randn(8, 3, generator=rng)).Q
    asked = 0

    def f(rows: Tensor) -> Tensor:
        """a polynomial of degree 3"""
        nonlocal asked
        asked += len(rows)
        # Of degree 3, so that the estimate depends on the step.
        return rows @ a + ((rows @ H) * rows + rows**3).sum(dim=1)

    for step in (0.3, 1.5):
        expected = torch.zeros(8)
        for v in V.T:
            up, down = f(torch.stack([x + step * v, x - step * v]))
            expected += (up - down) / (2 * step) * v
        asked = 0
        expect(answer, expected, f, x, V, step, atol=1e-3)
        if asked != 6:
            raise WrongAnswer(f"3 directions are 6 queries, you ask {asked}")


@exercise("5.5")
def best_size(answer: Answer) -> None:
    """energy[0] belongs to s = 1; look for the largest E min(1, n / (2 s²)), which need
    not be where one round is just complete."""
    falling = (1 - 0.9 ** torch.arange(1, 29).double() ** 2).float()
    # Nearly all of the energy above the cut that the rule would choose.
    late = torch.where(torch.arange(1, 29) < 20, 0.01, 0.99)
    uneven = torch.rand(12, generator=generator(9)).cumsum(0)
    for energy, n in ((uneven, 72), (falling, 98), (falling, 392), (late, 392)):
        cosines = [
            float(e) * min(1.0, n / 2 / s**2) for s, e in enumerate(energy, start=1)
        ]
        expect(answer, cosines.index(max(cosines)) + 1, energy, n)
