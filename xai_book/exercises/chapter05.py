"""Checkers of the exercises of chapter 05, Mask resizing."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.core.attribution import generator


@exercise("5.1")
def queries_needed(answer: Callable) -> None:
    """`answer(d, error)`: queries for a relative squared error, for a linear score."""
    for d, error in ((784, 0.5), (3, 1.0), (100, 0.4), (150_528, 0.25)):
        pairs = math.ceil((d + 1) / Fraction(str(error)))
        got = answer(d, error)
        if isinstance(got, bool) or got != 2 * pairs:
            raise WrongAnswer(
                f"for d = {d} and error {error} it is {2 * pairs}, you say {got}; the "
                "error of m pairs is (d + 1) / m, a pair is two queries, and a part of "
                "a pair is a whole one"
            )


@exercise("5.2")
def enlarge(answer: Callable) -> None:
    """`answer(size, cells)`: bilinear enlargement of a row as a matrix."""
    for size, cells in ((28, 14), (12, 4), (10, 3), (5, 5), (7, 1)):
        expected = interpolate(torch.eye(cells)[None], size=size, mode="linear")[0].T
        expect_close(
            answer(size, cells),
            expected,
            f"for {size} pixels from {cells} cells: the weight of cell j at pixel i is "
            "1 - |t - j| where that is positive, with t kept between the first and "
            "the last centre; each row sums to 1",
        )


@exercise("5.3")
def dummy_shares(answer: Callable) -> None:
    """`answer(U, p)`: expected estimates relative to that of the feature read."""
    rng = generator(5)
    row = interpolate(torch.eye(4)[None], size=9, mode="linear")[0].T
    for U, p in ((row, 3), (row, 0), (torch.randn(6, 3, generator=rng), 4)):
        W = U @ U.T
        expect_close(
            answer(U, p),
            W[:, p] / W[p, p],
            "the estimate goes to U Uᵀ times the gradient, and the gradient has one "
            "entry that is not zero; divide by what p itself gets",
        )


@exercise("5.4")
def one_round(answer: Callable) -> None:
    """`answer(f, x, V, step)`: a complete round of mirrored orthonormal directions."""
    rng = generator(7)
    a = torch.randn(8, generator=rng)
    H = torch.randn(8, 8, generator=rng)
    x = torch.randn(8, generator=rng)
    V = torch.linalg.qr(torch.randn(8, 3, generator=rng)).Q
    asked = 0

    def f(rows: Tensor) -> Tensor:
        nonlocal asked
        asked += len(rows)
        return rows @ a + ((rows @ H) * rows).sum(dim=1)

    for step in (0.1, 0.7):
        asked = 0
        expect_close(
            answer(f, x, V, step),
            V @ V.T @ (a + (H + H.T) @ x),
            "along each column v take (f(x + h v) - f(x - h v)) / (2 h), and add up "
            "these slopes times v",
            atol=1e-3,
        )
        if asked != 6:
            raise WrongAnswer(f"3 directions are 6 queries, you ask {asked}")


@exercise("5.5")
def best_size(answer: Callable) -> None:
    """`answer(energy, n)`: the size of the subspace with the largest cosine."""
    rng = generator(9)
    falling = (1 - 0.9 ** torch.arange(1, 29).double() ** 2).float()
    # Nearly all of the energy above the cut that the rule would choose.
    late = torch.where(torch.arange(1, 29) < 20, 0.01, 0.99)
    uneven = torch.rand(12, generator=rng).cumsum(0)
    for energy, n in ((falling, 98), (falling, 392), (late, 392), (uneven, 72)):
        s = range(1, len(energy) + 1)
        cosines = [float(energy[k - 1]) * min(1.0, n / 2 / k**2) for k in s]
        best = cosines.index(max(cosines)) + 1
        got = answer(energy.clone(), n)
        if isinstance(got, bool) or got != best:
            raise WrongAnswer(
                f"for n = {n} the largest E min(1, n / (2 s²)) is at s = {best}, you "
                f"say {got}; energy[0] belongs to s = 1"
            )
