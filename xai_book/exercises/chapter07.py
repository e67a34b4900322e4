"""Checkers of the exercises of chapter 07, Saliency as a density."""

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from xai_book.exercises.exercise import (
    Answer,
    WrongAnswer,
    describe,
    exercise,
    expect,
    mismatch,
    shaped,
)
from xai_lib.aise import DirectSampler, saliency
from xai_lib.aise.samplers import search


@exercise("7.1")
def gaussian_mask(answer: Answer) -> None:
    """x goes with the columns and y with the rows, the middle of pixel (i, j) is
    ((j + 1/2) / width, (i + 1/2) / height), and there is no factor in front: the peak
    is 1 where the centre is the middle of a pixel."""
    for x, y, sigma, height, width in ((0.3, 0.8, 0.1, 2, 3), (1.2, 0.0, 0.4, 7, 4)):
        i, j = np.mgrid[:height, :width] + 0.5
        expected = np.exp(
            -((j / width - x) ** 2 + (i / height - y) ** 2) / 2 / sigma**2
        )
        expect(answer, torch.from_numpy(expected), x, y, sigma, height, width)


@exercise("7.2")
def weights(answer: Answer) -> None:
    """The mean of w K over points of density ρ is the integral of w ρ K; what must w
    be, so that the integral of s K is left? Signs survive, and the weights need not add
    up to anything."""
    for scores, density in (
        (np.array([1.0, 2.0, -3.0]), np.array([0.5, 2.0, 1.5])),
        (np.array([0.0, 4.0]), np.array([3.0, 0.25])),
    ):
        expect(answer, scores / density, scores, density, atol=1e-9)


@exercise("7.3")
def mended_map(answer: Answer) -> None:
    """What would a model without information get from the same points? Its score is the
    same everywhere: it is their mean that no place exceeds."""
    rng = np.random.default_rng(3)
    for n, sigma, height, width in ((1, 0.2, 4, 5), (7, 0.1, 9, 6), (30, 0.3, 5, 8)):
        points, scores = rng.random((n, 2)), rng.normal(size=n)
        expected = saliency(points, scores, sigma, height, width)
        expect(answer, expected, points, scores, sigma, height, width)


@exercise("7.4")
def one_round(answer: Answer) -> None:
    """Choose all rectangles before the first is divided. Each longest side gives two
    new places, a third of the side from the middle; the axis with the better one is cut
    first, and the pieces of the second cut keep the first one's shorter side."""
    for seed, rounds in ((0, 1), (4, 2), (4, 9)):
        asked: list[np.ndarray] = []
        tops = np.random.default_rng(seed).uniform(0.1, 0.9, (3, 2))
        score = partial(_three_hills, tops, asked)
        direct = DirectSampler(eps=0, convex_hull=True)
        for _ in range(rounds + 1):
            before, known = direct.rectangles, len(asked)
            direct.tell(places := direct.ask(10_000), score(places))  # a whole round
        new, now = len(asked) - known, direct.rectangles
        want = _rows((now.centres, now.sides, now.scores))
        got = _rows(answer(score, before.centres, before.sides, before.scores))
        for what, came, due in (
            ("rectangles afterwards", len(got), len(want)),
            *(("centre, sides, score", *rows) for rows in zip(got, want, strict=False)),
            ("queries", len(asked) - known - new, new),
        ):
            if wrong := mismatch(came, due, 1e-9):
                first = describe(before.centres)
                raise WrongAnswer(f"for the centres {first}: {what}: {wrong}")


@exercise("7.5")
def promising(answer: Answer) -> None:
    """A rectangle must be best for some l, and its bound with the largest such l must
    reach the best score plus eps times its absolute value."""
    cases = [([0.1, 0.2, 0.3], [-1.0, -1.1, -3.0], 0.15)]  # the share is of |S_max|
    cases.append(([0.1, 0.2], [1.0, 1.0], 0.0))  # of two alike the larger one
    rng = np.random.default_rng(4)
    for eps, unit in product((0.0, 0.05, 0.1, 0.3, 0.6), (1, -10, 0.1)):
        drawn = rng.choice([0.08, 0.14, 0.24, 0.41, 0.71], 30)
        cases.append((drawn.tolist(), (unit * rng.random(30)).tolist(), eps))
        tied = rng.integers(1, 5, 12).tolist(), rng.integers(-3, 4, 12).tolist()
        cases.append((*tied, eps))  # some are equal, and some on one line
    for *rectangles, eps in cases:
        sizes, scores = np.array(rectangles, dtype=np.float64)
        expect(answer, _divided(sizes, scores, eps), sizes, scores, eps)


@exercise("7.6")
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
    search([direct], 50, lambda _, points: scores(points))
    if not direct.scores.max() <= 0.1:
        raise WrongAnswer(f"DIRECT finds {direct.scores.max():.3g}, more than 0.1")


def _divided(sizes: np.ndarray, scores: np.ndarray, eps: float) -> np.ndarray:
    """Each pair of rectangles bounds l from below or above: is an interval left?"""
    goal = scores.max() + eps * abs(scores.max())
    chosen = []
    for d, s in zip(sizes, scores, strict=True):
        smaller, larger = sizes < d, sizes > d
        low = ((scores - s)[smaller] / (d - sizes)[smaller]).max(initial=0)
        high = ((s - scores)[larger] / (sizes - d)[larger]).min(initial=np.inf)
        best = s == scores[sizes == d].max() and low <= high and high > 0
        chosen.append(best and s + high * d >= goal)
    return np.array(chosen)


def _three_hills(tops: np.ndarray, asked: list[np.ndarray], p: np.ndarray) -> Any:
    asked.extend(p)
    return np.exp(-((p[:, None] - tops) ** 2).sum(axis=2) / 0.03) @ [1, 0.8, 0.6]


def _rows(rectangles: Any) -> np.ndarray:
    """Centres, sides and scores side by side, in an order that they have alone."""
    centres, sides, scores = rectangles
    rows = np.hstack([centres, sides, np.reshape(scores, (-1, 1))])
    return rows[np.lexsort(rows.round(9).T)]
