"""Checkers of the exercises of chapter 07, Saliency as a density."""

from itertools import product

import numpy as np
import torch

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, shaped
from xai_lib.aise import DirectSampler


@exercise("7.1")
def gaussian_mask(answer: Answer) -> None:
    """x goes with the columns and y with the rows, the middle of pixel (i, j) is
    ((j + 1/2) / width, (i + 1/2) / height), and there is no factor in front: the peak
    is 1 where the centre is the middle of a pixel."""
    for x, y, sigma, height, width in ((0.3, 0.8, 0.1, 2, 3), (1.2, 0.0, 0.4, 7, 4)):
        squares = [
            [
                ((j + 0.5) / width - x) ** 2 + ((i + 0.5) / height - y) ** 2
                for j in range(width)
            ]
            for i in range(height)
        ]
        expected = torch.exp(-torch.tensor(squares).double() / (2 * sigma**2))
        expect(answer, expected, x, y, sigma, height, width)


@exercise("7.2")
def weights(answer: Answer) -> None:
    """The mean of w K over points of density p is the integral of w p K; what must w
    be, so that the integral of s K is left? Signs survive, and the weights need not add
    up to anything."""
    for scores, density in (
        (np.array([1.0, 2.0, -3.0]), np.array([0.5, 2.0, 1.5])),
        (np.array([0.0, 4.0]), np.array([3.0, 0.25])),
    ):
        expect(answer, scores / density, scores, density, atol=1e-9)


@exercise("7.3")
def upper_bound(answer: Answer) -> None:
    """Each known point allows its score plus constant times the Euclidean distance, not
    squared; the tightest of these holds."""
    rng = np.random.default_rng(3)
    for k, t, constant in ((4, 3, 2.0), (1, 5, 0.5), (6, 1, 10.0)):
        p, points, scores = rng.random((k, 2)), rng.random((t, 2)), rng.random(t)
        apart = np.hypot(*(p[:, None] - points).transpose(2, 0, 1))
        expected = (scores + constant * apart).min(axis=1)
        expect(answer, expected, p, points, scores, constant, atol=1e-9)


@exercise("7.4")
def promising(answer: Answer) -> None:
    """A rectangle must be best for some K, and its bound with the largest such K must
    reach the best score plus eps times its absolute value."""
    cases = [
        ([0.1, 0.2, 0.3], [3.0, 2.6, 1.0], 0.1),
        ([0.1, 0.2, 0.3], [3.0, 2.6, 1.0], 0.9),
        ([0.1, 0.2, 0.3], [-1.0, -1.1, -3.0], 0.15),  # the share is of |S_max|
        ([0.1, 0.2, 0.3], [30.0, 29.8, 27.0], 0.1),  # and of its size
        ([0.1, 0.2, 0.3], [3.0, 1.5, 1.0], 0.0),  # the middle one is below the hull
        ([0.1, 0.2, 0.3, 0.3], [1.0, 2.0, 2.5, 0.0], 0.1),
        ([0.5], [1.0], 0.1),
    ]
    rng = np.random.default_rng(4)
    for eps, unit in product((0.0, 0.05, 0.1, 0.3, 0.6), (1, -10, 0.1)):
        drawn = rng.choice([0.08, 0.14, 0.24, 0.41, 0.71], 30)
        cases.append((drawn.tolist(), (unit * rng.random(30)).tolist(), eps))
    for *rectangles, eps in cases:
        sizes, scores = np.array(rectangles)
        expect(answer, _divided(sizes, scores, eps), sizes, scores, eps)


@exercise("7.5")
def hidden_from_direct(answer: Answer) -> None:
    """Put a narrow bump on a point of the lattice that is far from DIRECT's points (on
    a constant function they are at odd multiples of 1/18)."""

    def scores(points: np.ndarray) -> np.ndarray:
        found = shaped(answer(points), np.ndarray, len(points))
        if not ((found >= 0) & (found <= 1)).all():
            raise WrongAnswer("the scores must be numbers in [0, 1]")
        return found.astype(np.float64)

    places = (np.arange(7) + 0.5) / 7
    lattice = scores(np.array(list(product(places, places)))).max()
    if not lattice >= 0.9:
        raise WrongAnswer(f"the lattice of 7 × 7 finds only {lattice:.3g}, not 0.9")
    direct = DirectSampler()
    while (left := 50 - len(direct.scores)) > 0:
        points = direct.ask(left)
        direct.tell(points, scores(points))
    if not direct.scores.max() <= 0.1:
        raise WrongAnswer(f"DIRECT finds {direct.scores.max():.3g}, more than 0.1")


def _divided(sizes: np.ndarray, scores: np.ndarray, eps: float) -> np.ndarray:
    """Each pair of rectangles bounds K from below or above: is an interval left?"""
    goal = scores.max() + eps * abs(scores.max())
    chosen = []
    for d, s in zip(sizes, scores, strict=True):
        smaller, larger = sizes < d, sizes > d
        low = ((scores - s)[smaller] / (d - sizes)[smaller]).max(initial=0)
        high = ((s - scores)[larger] / (sizes - d)[larger]).min(initial=np.inf)
        best = s == scores[sizes == d].max() and low <= high and high > 0
        chosen.append(best and s + high * d >= goal)
    return np.array(chosen)
