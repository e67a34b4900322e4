"""Checkers of the exercises of chapter 10, Which explanation?."""

from itertools import combinations

import numpy as np

from xai_book.exercises.exercise import Answer, exercise, expect


@exercise("10.1")
def front(answer: Answer) -> None:
    """A method is beaten if another one costs no more and is at least as good, and is
    better in one of the two."""
    rng = np.random.default_rng(3)
    cases = [(rng.permutation(9) + 1.0, rng.permutation(9) / 10) for _ in range(5)]
    # Two of one price, and two of one quality: the worse and the dearer are beaten.
    cases.append((np.array([1.0, 1, 2, 3]), np.array([0.5, 0.6, 0.7, 0.7])))
    # Two that are equal in both: neither beats the other.
    cases.append((np.array([1.0, 1, 2]), np.array([0.5, 0.5, 0.4])))
    for costs, quality in cases:
        no_worse = (costs <= costs[:, None]) & (quality >= quality[:, None])
        better = (costs < costs[:, None]) | (quality > quality[:, None])
        expect(answer, (~(no_worse & better).any(axis=1)).tolist(), costs, quality)


@exercise("10.2")
def paired_interval(answer: Answer) -> None:
    """Each row of draws names the images of one resample, the same ones for both
    methods; take the mean difference of each row, then the 2.5 % and 97.5 % quantiles
    of these means."""
    rng = np.random.default_rng(1)
    for n, shift, noise in ((30, 0.5, 0.1), (12, 0.0, 3.0)):
        images = rng.normal(0, 10, n)
        a = images + shift + rng.normal(0, noise, n)
        draws = rng.integers(0, n, (500, n))
        ends = np.quantile((a - images)[draws].mean(axis=1), [0.025, 0.975])
        expect(answer, ends.tolist(), a, images, draws, atol=1e-9)


@exercise("10.3")
def kendall(answer: Answer) -> None:
    """Count each pair of methods once: +1 if both measures put the same one first, -1
    if not; then take the mean over all pairs."""
    rng = np.random.default_rng(2)
    for n in (2, 3, 5, 12):
        a, b = rng.permutation(n) * 1.0, rng.permutation(n) * 100.0
        signs = [
            np.sign((a[i] - a[j]) * (b[i] - b[j])) for i, j in combinations(range(n), 2)
        ]
        expect(answer, float(np.mean(signs)), a, b, atol=1e-9)


@exercise("10.4")
def from_replies(answer: Answer) -> None:
    """A reply lists the best labels, best first, and leaves out others: write each
    score into the column of its label, and 0 where a label is missing."""
    labels = ["tree", "boot", "dog", "cat"]
    sure = [{"label": "dog", "score": 0.75}, {"label": "cat", "score": 0.25}]
    unsure = [
        {"label": "tree", "score": 0.5},
        {"label": "boot", "score": 0.25},
        {"label": "dog", "score": 0.125},
    ]
    rows = [[0, 0, 0.75, 0.25], [0.5, 0.25, 0.125, 0], [0, 0, 0, 0]]
    expect(answer, rows[1:2], [unsure], labels, atol=1e-9)
    expect(answer, rows, [sure, unsure, []], labels, atol=1e-9)
