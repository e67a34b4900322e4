"""Checkers of the exercises of chapter 10, Showdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from xai_book.exercises.exercise import WrongAnswer, exercise


@exercise("10.1")
def paired_interval(answer: Callable) -> None:
    """`answer(a, b, draws)`: the interval of the mean difference, over images."""
    rng = np.random.default_rng(1)
    images = rng.normal(0, 10, 30)
    for shift, noise in ((0.5, 0.1), (0.0, 3.0)):
        a = images + shift + rng.normal(0, noise, 30)
        draws = rng.integers(0, 30, (500, 30))
        expected = np.quantile((a - images)[draws].mean(axis=1), [0.025, 0.975])
        _expect(
            answer(a.copy(), images.copy(), draws.copy()),
            expected,
            "each row of draws names the images of one resample, the same ones for "
            "both methods; take the mean difference of each row, then the 2.5 % and "
            "97.5 % quantiles of these means",
        )


@exercise("10.2")
def kendall(answer: Callable) -> None:
    """`answer(a, b)`: agreeing minus disagreeing pairs, as a share of all pairs."""
    rng = np.random.default_rng(2)
    for n in (2, 5, 12):
        a, b = rng.permutation(n), rng.permutation(n) * 100.0
        _expect(
            answer(a.astype(float), b),
            np.array(kendalltau(a, b).statistic),
            f"for {n} methods there are {n * (n - 1) // 2} pairs, each counted once: "
            "+1 if both measures put the same one first, -1 if not; then take the mean",
        )


@exercise("10.3")
def front(answer: Callable) -> None:
    """`answer(costs, quality)`: which methods no other one beats, bool `[M]`."""
    rng = np.random.default_rng(3)
    cases = [(rng.permutation(9) + 1.0, rng.permutation(9) / 10) for _ in range(5)]
    # Two of one price, and two of one quality: the worse and the dearer are beaten.
    cases.append((np.array([1.0, 1, 2, 3]), np.array([0.5, 0.6, 0.7, 0.7])))
    for costs, quality in cases:
        worse = (costs[None] <= costs[:, None]) & (quality[None] >= quality[:, None])
        strictly = (costs[None] < costs[:, None]) | (quality[None] > quality[:, None])
        _expect(
            answer(costs.copy(), quality.copy()),
            np.logical_not((worse & strictly).any(axis=1)),
            "a method is beaten if another one costs no more and is at least as good, "
            "and is better in one of the two",
        )


@exercise("10.4")
def from_replies(answer: Callable) -> None:
    """`answer(replies, labels)`: scores `[N, K]` from what a service returns."""
    labels = ["boot", "cat", "dog", "tree"]
    sure = [{"label": "dog", "score": 0.75}, {"label": "cat", "score": 0.25}]
    unsure = [
        {"label": "tree", "score": 0.5},
        {"label": "boot", "score": 0.25},
        {"label": "dog", "score": 0.125},
    ]
    expected = np.array([[0, 0.25, 0.75, 0], [0.25, 0, 0.125, 0.5], [0, 0, 0, 0]])
    for replies, rows in (
        ([sure, unsure, []], expected),
        ([unsure], expected[1:2]),
    ):
        _expect(
            answer(replies, list(labels)),
            rows,
            "a reply lists the best labels, best first, and leaves out others: write "
            "each score into the column of its label, and 0 where a label is missing",
        )


def _expect(got: Any, expected: np.ndarray, hint: str) -> None:
    """Raise `WrongAnswer` unless the answer has these numbers, in this shape."""
    if got is ...:
        return
    try:
        numbers = np.asarray(got, dtype=float)
    except (TypeError, ValueError):
        raise WrongAnswer(f"return numbers, not {type(got).__name__}. {hint}") from None
    if numbers.shape != expected.shape:
        raise WrongAnswer(
            f"the shape is {numbers.shape}, expected {expected.shape}. {hint}"
        )
    if not np.allclose(numbers, expected, atol=1e-9):
        raise WrongAnswer(hint)
