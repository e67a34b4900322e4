"""Checkers of the exercises of chapter 07, Saliency as a density."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.aise.samplers import (
    UNIT_SQUARE,
    DirectSampler,
    LatticeSampler,
    Sampler,
    search,
)


@exercise("7.1")
def gaussian_mask(answer: Callable) -> None:
    """`answer(x, y, sigma, height, width)`: the mask (8) `[height, width]`."""
    for x, y, sigma, height, width in (
        (0.3, 0.8, 0.1, 6, 10),
        (0.5, 0.5, 0.25, 7, 3),
        (1.2, 0.0, 0.4, 5, 5),
    ):
        expected = torch.tensor(
            [
                [
                    -(((j + 0.5) / width - x) ** 2 + ((i + 0.5) / height - y) ** 2)
                    for j in range(width)
                ]
                for i in range(height)
            ],
            dtype=torch.float64,
        )
        expect_close(
            answer(x, y, sigma, height, width),
            (expected / (2 * sigma**2)).exp(),
            "x goes with the columns and y with the rows, the middle of pixel (i, j) "
            "is ((j + 1/2) / width, (i + 1/2) / height), and there is no factor in "
            "front: the peak is 1 where the centre is the middle of a pixel",
        )


@exercise("7.2")
def weights(answer: Callable) -> None:
    """`answer(scores, density)`: weights that make the sampling density cancel."""
    cases = (
        ([1.0, 2.0, -3.0], [0.5, 2.0, 1.5]),
        ([0.0, 4.0], [3.0, 0.25]),
    )
    for scores, density in cases:
        expected = [s / p for s, p in zip(scores, density, strict=True)]
        got = _array(answer(np.array(scores), np.array(density)), (len(scores),))
        if not np.allclose(got, expected, rtol=0, atol=1e-9):
            raise WrongAnswer(
                "the mean of w K over points of density p is the integral of w p K; "
                "what must w be, so that the integral of s K is left? Signs survive, "
                "and the weights need not add up to anything"
            )


@exercise("7.3")
def upper_bound(answer: Callable) -> None:
    """`answer(p, points, scores, constant)`: the corrected (6) at p `[k, 2]`: `[k]`."""
    rng = np.random.default_rng(3)
    for k, t, constant in ((4, 3, 2.0), (1, 5, 0.5), (6, 1, 10.0)):
        p, points, scores = rng.random((k, 2)), rng.random((t, 2)), rng.random(t)
        expected = [
            min(
                score + constant * float(np.hypot(*(one - point)))
                for point, score in zip(points, scores, strict=True)
            )
            for one in p
        ]
        got = _array(answer(p, points, scores, constant), (k,))
        if not np.allclose(got, expected, rtol=0, atol=1e-9):
            raise WrongAnswer(
                "each known point allows its score plus constant times the Euclidean "
                "distance, not squared; the tightest of these holds"
            )


@exercise("7.4")
def promising(answer: Callable) -> None:
    """`answer(sizes, scores, eps)`: the rectangles that DIRECT divides, bool `[m]`."""
    cases = [
        ([0.1, 0.2, 0.3], [3.0, 2.6, 1.0], 0.1),
        ([0.1, 0.2, 0.3], [3.0, 2.6, 1.0], 0.9),
        ([0.1, 0.2, 0.3], [-1.0, -1.1, -3.0], 0.1),  # the share is of |S_max|
        ([0.1, 0.2, 0.3], [3.0, 1.5, 1.0], 0.0),  # the middle one is below the hull
        ([0.1, 0.2, 0.3, 0.3], [1.0, 2.0, 2.5, 0.0], 0.1),
        ([0.5], [1.0], 0.1),
    ]
    rng = np.random.default_rng(4)
    for eps in (0.0, 0.05, 0.1, 0.3, 0.6):
        drawn = rng.choice([0.08, 0.14, 0.24, 0.41, 0.71], 30)
        cases.append((drawn.tolist(), rng.random(30).tolist(), eps))
    for sizes, scores, eps in cases:
        got = _array(answer(np.array(sizes), np.array(scores), eps), (len(sizes),))
        if got.astype(bool).tolist() != _divided(sizes, scores, eps):
            raise WrongAnswer(
                f"for eps = {eps}, sizes {np.round(sizes, 2).tolist()} and scores "
                f"{np.round(scores, 2).tolist()} a rectangle is missing or too many "
                "are chosen: it must be best for some K, and its bound with the "
                "largest such K must reach the best score plus eps times its absolute "
                "value"
            )


@exercise("7.5")
def hidden_from_direct(answer: Callable) -> None:
    """`answer(p)`: scores in [0, 1]; 50 queries of DIRECT see none, a lattice does."""

    def best(sampler: Sampler, n: int) -> float:
        search([sampler], n, lambda _, p: _scores(answer, p))
        return float(sampler.scores.max())

    lattice = best(LatticeSampler(UNIT_SQUARE, 49), 49)
    if not lattice >= 0.9:
        raise WrongAnswer(
            f"the lattice of 7 x 7 finds only {lattice:.3g}, not 0.9: put a bump on "
            "one of its points, ((j + 1/2) / 7, (i + 1/2) / 7)"
        )
    direct = best(DirectSampler(), 50)
    if not direct <= 0.1:
        raise WrongAnswer(
            f"DIRECT finds {direct:.3g}, more than 0.1: make the bump narrower, or "
            "take a point of the lattice that is far from DIRECT's (on a constant "
            "function they are at odd multiples of 1/18)"
        )


def _divided(sizes: list[float], scores: list[float], eps: float) -> list[bool]:
    """Each pair of rectangles bounds K from below or above: is an interval left?"""
    goal = max(scores) + eps * abs(max(scores))
    chosen = []
    for d, s in zip(sizes, scores, strict=True):
        low, high = 0.0, np.inf
        for other_d, other_s in zip(sizes, scores, strict=True):
            if other_d == d and other_s > s:
                high = -1.0
            elif other_d < d:
                low = max(low, (other_s - s) / (d - other_d))
            elif other_d > d:
                high = min(high, (s - other_s) / (other_d - d))
        chosen.append(low <= high and high > 0 and s + high * d >= goal)
    return chosen


def _array(answer: Any, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(answer, np.ndarray) and answer.shape == shape:
        return answer
    raise WrongAnswer(f"return a NumPy array of shape {list(shape)}")


def _scores(answer: Callable, points: np.ndarray) -> np.ndarray:
    scores = _array(answer(points), (len(points),)).astype(np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise WrongAnswer("the scores must be numbers in [0, 1]")
    return scores
