"""Checkers of the exercises of chapter 03, Stochastic PertMap."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.core.attribution import generator


@exercise("3.1")
def mean_hinge(answer: Callable) -> None:
    """`answer(scores, c)`: the penalty of (3.3) from scores `[M, K]`."""
    rng = generator(6)
    for c in (0, 2, 4):
        scores = torch.randn(9, 5, generator=rng)
        expected = sum(
            max(0.0, float(row[j] - row[c])) for row in scores for j in range(5)
        )
        expect_close(
            answer(scores, c),
            torch.tensor(expected / 9),
            "for each of the M rows add up max(0, f_j - f_c) over all classes j, then "
            "take the mean over the rows",
        )


@exercise("3.2")
def ascend(answer: Callable) -> None:
    """`answer(gradient, d, lr, bound, n_steps)`: Algorithm 1 with plain steps."""

    def pull(w: torch.Tensor) -> torch.Tensor:
        # Its maximum, at (0.3, 2, -1), lies inside, above and below the box.
        return torch.tensor([0.3, 2.0, -1.0]).to(w) - w

    for bound, n_steps in ((1.0, 200), (0.2, 200), (1.0, 3)):
        w = torch.zeros(3)
        for _ in range(n_steps):
            w = (w + 0.1 * pull(w)).clamp(0, bound)
        expect_close(
            answer(pull, 3, 0.1, bound, n_steps),
            w,
            "start at zero; in each step add lr times the gradient at the current w, "
            "and clip w to [0, bound] at once, not only at the end",
        )

    # Clipping only at the end gives another answer where the gradient turns round.
    def turn(w: torch.Tensor) -> torch.Tensor:
        return torch.where(w > 0.99, -1.0, 3.0)

    w = torch.zeros(2)
    for _ in range(3):
        w = (w + 0.5 * turn(w)).clamp(0, 1)
    expect_close(answer(turn, 2, 0.5, 1.0, 3), w, "clip after every step")


@exercise("3.3")
def penalised_width(answer: Callable) -> None:
    """`answer(margin, penalty, bound)`: the best w for one feature."""
    for margin, penalty, bound in (
        (0.3, 10.0, 1.0),
        (0.3, 1000.0, 1.0),
        (0.3, 4.1, 1.0),
        (0.3, 3.0, 1.0),
        (0.5, 100.0, 0.2),
    ):
        w = torch.linspace(0, bound, 200_001, dtype=torch.float64)
        over = (w - margin).clamp(min=0) ** 2 / (4 * w).clamp(min=1e-12)
        best = float(w[(w - penalty * over).argmax()])
        got = answer(margin, penalty, bound)
        if not isinstance(got, (int, float)) or not math.isclose(
            got, best, rel_tol=0, abs_tol=1e-4
        ):
            raise WrongAnswer(
                f"for margin {margin}, penalty {penalty} and bound {bound} the best "
                f"w on a fine grid is {best:.4f}, you say {got}; set the derivative "
                "of w - penalty (w - margin)² / (4 w) to zero, and think of small "
                "penalties and of the bound"
            )


@exercise("3.4")
def flip(answer: Callable) -> None:
    """`answer(image, scores, tau)`: the lowest tau percent of the features in grey."""
    rng = generator(8)
    for tau in (0, 10, 50, 99, 100):
        image = torch.rand(3, 6, 7, generator=rng) + 1
        # Whole numbers, so that there are ties.
        scores = torch.randint(-4, 5, (3, 6, 7), generator=rng).float()
        order = sorted(range(126), key=scores.flatten().tolist().__getitem__)
        expected = image.flatten().clone()
        expected[order[: tau * 126 // 100]] = 0.5
        expect_close(
            answer(image.clone(), scores, tau),
            expected.view(3, 6, 7),
            "sort all features of all channels by score, smallest first and stable, "
            "and set the first floor(tau / 100 * d) of them to 0.5",
        )
