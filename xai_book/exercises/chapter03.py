"""Checkers of the exercises of chapter 03, Stochastic PertMap."""

import torch
from torch import Tensor

from xai_book.exercises.exercise import Answer, exercise, expect
from xai_lib.core.attribution import generator


@exercise("3.1")
def mean_hinge(answer: Answer) -> None:
    """For each of the M rows of scores add up max(0, f_j - f_c) over all classes j,
    then take the mean over the rows."""
    rng = generator(6)
    for m, k, c in ((2, 3, 1), (9, 5, 0), (9, 5, 2), (9, 5, 4)):
        scores = torch.randn(m, k, generator=rng)
        hinges = [max(0.0, float(f - row[c])) for row in scores for f in row]
        expect(answer, torch.tensor(sum(hinges) / m), scores, c)


@exercise("3.2")
def ascend(answer: Answer) -> None:
    """Start at zero; in each step add lr times the gradient at the current w, and clip
    w to [0, bound] at once, not only at the end."""

    def pull(w: Tensor) -> Tensor:
        """w -> (0.3, 2, -1) - w"""
        return torch.tensor([0.3, 2.0, -1.0]).to(w) - w

    # Clipping only at the end gives another answer where the gradient turns round.
    def turn(w: Tensor) -> Tensor:
        """w -> -1 where w > 0.99, else 3"""
        return torch.where(w > 0.99, -1.0, 3.0)

    for gradient, d, lr, bound, n_steps in (
        (pull, 3, 0.1, 1.0, 3),
        (pull, 3, 0.1, 1.0, 200),
        (pull, 3, 0.1, 0.2, 200),
        (turn, 2, 0.5, 1.0, 3),
    ):
        w = torch.zeros(d)
        for _ in range(n_steps):
            w = (w + lr * gradient(w)).clamp(0, bound)
        expect(answer, w, gradient, d, lr, bound, n_steps)


@exercise("3.3")
def penalised_width(answer: Answer) -> None:
    """Set the derivative of w - penalty (w - margin)² / (4 w) to zero, and think of
    small penalties and of the bound."""
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
        expect(answer, best, margin, penalty, bound, atol=1e-4)


@exercise("3.4")
def flip(answer: Answer) -> None:
    """Sort all features of all channels by score, smallest first and stable, and set
    the first floor(tau / 100 * d) of them to 0.5."""
    rng = generator(8)
    for channels, tau in ((1, 35), (3, 0), (3, 10), (3, 50), (3, 99), (3, 100)):
        shape = (channels, 2 * channels, 7)
        image = torch.rand(shape, generator=rng) + 1
        # Whole numbers, so that there are ties.
        scores = torch.randint(-4, 5, shape, generator=rng).float()
        d = scores.numel()
        order = sorted(range(d), key=scores.flatten().tolist().__getitem__)
        expected = image.flatten().clone()
        expected[order[: tau * d // 100]] = 0.5
        expect(answer, expected.view(shape), image, scores, tau)
