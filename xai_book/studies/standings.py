"""Statements about scores: rankings with intervals, ties, agreement, and what to take.

`scores` are always a number per image, high is good, and the same images in the same
order for every name: all comparisons are paired. Any study's scores will do.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from xai_lib.metrics.intervals import bootstrap_mean, places, sign, times_drawn

T = TypeVar("T", bound=Hashable)
FLOORS = ("random", "centre", "image")
"""Maps that know nothing about the model; "image" is the image itself."""
SMOOTH_FLOORS = ("lumps", "waves")
"""Floors of large images, where smooth noise deletes better than single pixels; see
`geex.floors`."""
KNOWS_NOTHING = (*FLOORS, *SMOOTH_FLOORS, "blob", "AISE-shuffled")
"""The floors of all studies."""


class Label(NamedTuple):
    """What a case is called."""

    method: str
    budget: int | None
    """Queries at most, of methods that only ask; else None."""

    def __str__(self) -> str:
        return self.method if self.budget is None else f"{self.method} {self.budget:,}"


Scores = Mapping[T, Tensor]


class Place(NamedTuple):
    """Where a name stands among others; 1 is best."""

    rank: float
    low: float
    high: float
    """The 95 % bootstrap interval of the rank, over images."""


def ranking(
    scores: Scores[T], n_resamples: int = 2000, seed: int = 0
) -> dict[T, Place]:
    """The names by mean score, best first, each with the interval of its rank.

    Every resample draws images, the same for all names, and ranks the means again;
    equal means share a rank, and keep their order.
    """
    names, values = _table(scores)
    resampled = places(_resampled(values, n_resamples, seed))
    ends = np.quantile(resampled, [0.025, 0.975], axis=1)
    ranks = places(values.mean(axis=1))
    return {
        names[i]: Place(float(ranks[i]), *map(float, ends[:, i]))
        for i in np.argsort(ranks, kind="stable")
    }


def told(better: Tensor, worse: Tensor) -> bool:
    """Whether images tell two apart: the 95 % bootstrap interval of the mean paired
    difference lies above zero."""
    low, _ = bootstrap_mean(better - worse)
    return bool(sign(low) > 0)


def ties(scores: Scores[T]) -> list[tuple[T, T]]:
    """Neighbours in the ranking that the images cannot tell apart."""
    return [
        (a, b) for a, b in pairwise(ranking(scores)) if not told(scores[a], scores[b])
    ]


class Agreement(NamedTuple):
    """Kendall's τ_b of two rankings, and its 95 % bootstrap interval over images."""

    tau: float
    low: float
    high: float


def agreement(
    first: Scores[T], second: Scores[T], n_resamples: int = 500, seed: int = 0
) -> Agreement:
    """How far two measures rank the names alike: 1 the same order, -1 the opposite.

    Only names that both have count. Both measures are of the same data: as many images
    are the same images, and drawn together.
    """
    common = [name for name in first if name in second]
    if len(common) < 3:
        raise ValueError(f"agreement needs at least 3 common names, got {len(common)}")
    tables = [_table({name: s[name] for name in common})[1] for s in (first, second)]
    tau = _kendall(*(t.mean(axis=1)[:, None] for t in tables))[0]
    together = tables[0].shape[1] == tables[1].shape[1]
    drawn = [
        _resampled(t, n_resamples, seed + (0 if together else i))
        for i, t in enumerate(tables)
    ]
    low, high = np.quantile(_kendall(*drawn), [0.025, 0.975])
    return Agreement(float(tau), float(low), float(high))


def _kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """τ_b of the columns of two tables `[names, columns]`."""
    i, j = np.triu_indices(len(first), 1)
    a, b = (sign(t[i] - t[j]) for t in (first, second))
    norm = np.sqrt((a != 0).sum(axis=0) * (b != 0).sum(axis=0))
    return (a * b).sum(axis=0) / np.maximum(norm, 1)


def mean_rank(measures: Sequence[Scores[T]]) -> dict[T, Tensor]:
    """Several measures in one: minus the mean, over measures, of the rank per image.

    Ranks have no unit, so that no measure counts more because its numbers are larger.
    """
    names = list(measures[0])
    total = np.zeros((len(names), len(measures[0][names[0]])))
    for scores in measures:
        _, values = _table({name: scores[name] for name in names})
        total += places(values)  # halves of whole numbers, so that equal sums are equal
    means = torch.from_numpy(-total / len(measures))
    return dict(zip(names, means, strict=True))


def pareto(costs: Mapping[T, float], quality: Mapping[T, float]) -> list[T]:
    """The names that no other one beats at a cost as low, cheapest first.

    Costs may have any unit; they are equal if `places` finds them so as shares of the
    highest one.
    """
    names = list(quality)
    spent = np.array([costs[name] for name in names], dtype=np.float64)
    dear = places(-spent / (np.abs(spent).max(initial=0) or 1))
    good = places([quality[name] for name in names])
    front: list[T] = []
    best = -math.inf
    for i in np.lexsort((good, dear)):
        if sign(quality[names[i]] - best) > 0:
            front.append(names[i])
            best = quality[names[i]]
    return front


def alike(scores: Scores[T]) -> list[T]:
    """All that the images cannot tell apart from the best one, the best first."""
    best, *others = ranking(scores)
    return [best, *(n for n in others if not told(scores[best], scores[n]))]


class Decision(NamedTuple):
    """What to take from a table, under a condition."""

    label: Label | None
    """None if the images do not tell the best apart from the best floor."""
    alike: tuple[Label, ...]
    """All that cannot be told apart from the best one allowed, the best first."""
    floor: Label | None
    """The best floor, if there is one."""


def decide(
    scores: Scores[Label], budget: int | None, *, gradients: bool
) -> Decision | None:
    """What a table of scores recommends to somebody with a budget.

    Of all methods that are allowed and that the images cannot tell apart from the best
    one, the cheapest in queries that is surely above every floor.

    Args:
        scores: for each label a number per image, with those of some KNOWS_NOTHING.
        budget: the most queries; None allows any number.
        gradients: whether methods that differentiate are allowed.

    Returns:
        None if the scores have no method that is allowed.
    """
    limit = math.inf if budget is None else budget
    allowed = {
        label: values
        for label, values in scores.items()
        if label.method not in KNOWS_NOTHING
        and (gradients if label.budget is None else label.budget <= limit)
    }
    if not allowed:
        return None
    floors = {n: v for n, v in scores.items() if n.method in KNOWS_NOTHING}
    best = alike(allowed)
    above = [
        n for n in best if all(told(allowed[n], floor) for floor in floors.values())
    ]
    return Decision(
        min(above, key=lambda n: n.budget or 0) if above else None,
        tuple(best),
        next(iter(ranking(floors))) if floors else None,
    )


def _table(scores: Scores[T]) -> tuple[list[T], np.ndarray]:
    """Names, and their scores `[names, N]`."""
    names = list(scores)
    if not names:
        raise ValueError("scores must hold at least one name, got none")
    lengths = {len(scores[name]) for name in names}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError(
            "scores must have one number per image, for the same images, got "
            f"{sorted(lengths)} numbers"
        )
    return names, torch.stack([scores[n].double() for n in names]).numpy()


def _resampled(values: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Means over drawn images, `[names, n_resamples]`."""
    n = values.shape[1]
    return values @ times_drawn(n, n_resamples, seed).numpy().T / n
