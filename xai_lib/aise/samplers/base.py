"""Samplers are asked for points and told scores; `search` runs many of them.

    points = sampler.ask(n)             # at most n points, [k, 2]
    sampler.tell(points, scores)        # their scores, which are to be MAXIMISED

Asking and telling are apart so that the points of many searches can share one batch of
queries.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from xai_lib.core.arguments import check_count
from xai_lib.core.attribution import progress

Bounds = Sequence[Sequence[float]]
UNIT_SQUARE: Bounds = ((0.0, 0.0), (1.0, 1.0))


class Sampler(ABC):
    """Base: the search area, the points out with the caller, and what came back.

    Args:
        bounds: the search area, (lower corner, upper corner): ((x0, y0), (x1, y1)).

    Attributes:
        points: float64 `[t, 2]`, the points told so far, in the order of asking.
        scores: float64 `[t]`, their scores.
    """

    def __init__(self, bounds: Bounds = UNIT_SQUARE) -> None:
        try:
            corners = np.array(bounds, dtype=np.float64)
        except (TypeError, ValueError):
            corners = np.empty(0)
        if corners.ndim != 2 or len(corners) != 2 or corners.shape[1] < 1:
            raise ValueError(f"bounds must be ((x0, y0), (x1, y1)), got {bounds}")
        if not np.isfinite(corners).all() or not (corners[0] < corners[1]).all():
            raise ValueError(
                f"bounds must be finite with x0 < x1 and y0 < y1, got {bounds}"
            )
        self.lower, self.upper = corners
        self._open = np.empty((0, corners.shape[1]))
        self.points = self._open
        self.scores = np.empty(0)

    def ask(self, n: int) -> np.ndarray:
        """At most n new points `[k, 2]`; none if the answers to earlier ones are due.

        Raises:
            ValueError, TypeError: n is not an integer of at least 0.
        """
        points = self._propose(check_count("n", n, at_least=0))
        self._open = np.concatenate([self._open, points])
        return points

    def tell(self, points: Any, scores: Any) -> None:
        """The scores `[k]` of points `[k, 2]`, in the order in which `ask` gave them.

        Raises:
            ValueError: wrong shapes, scores that are not finite, or points that are
                not the oldest ones still open. Nothing has been learnt then.
        """
        points = np.asarray(points, dtype=np.float64)
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 1 or points.shape != (len(scores), len(self.lower)):
            raise ValueError(
                f"tell takes points [k, {len(self.lower)}] and scores [k], got "
                f"{list(points.shape)} and {list(scores.shape)}"
            )
        if not np.isfinite(scores).all():
            bad = int(np.argmin(np.isfinite(scores)))
            raise ValueError(
                f"scores must be finite, got {scores[bad]} for point {points[bad]}"
            )
        if not np.array_equal(points, self._open[: len(points)]):
            raise ValueError(
                f"points must be those that ask gave, in its order: {len(self._open)} "
                f"are open, and the {len(points)} told are not the first of them"
            )
        self._open = self._open[len(points) :]
        self.points = np.concatenate([self.points, points])
        self.scores = np.concatenate([self.scores, scores])
        self._learn(scores)

    @abstractmethod
    def _propose(self, n: int) -> np.ndarray:
        """At most n new points `[k, 2]`."""

    def _learn(self, scores: np.ndarray) -> None:  # noqa: B027 (may stay empty)
        """New scores, of the oldest points not yet learnt from."""


def search(
    samplers: Sequence[Sampler],
    n: int,
    evaluate: Callable[[np.ndarray, np.ndarray], Any],
    show_progress: bool = False,
    name: str = "search",
) -> None:
    """Let each sampler visit exactly n points; all share the batches of each round.

    Args:
        samplers: new ones, or such that have been told fewer than n points.
        n: points per sampler.
        evaluate: `evaluate(owners, points)` returns the scores `[k]` of points
            `[k, 2]`; owners `[k]` says which sampler asked for each.
        show_progress, name: of the bar.

    Raises:
        RuntimeError: a sampler ran out of points.
    """

    def rounds() -> Iterator[int]:
        """Yields the owner of each point that has been told."""
        while any(len(sampler.scores) < n for sampler in samplers):
            asked = [sampler.ask(n - len(sampler.scores)) for sampler in samplers]
            counts = [len(points) for points in asked]
            if not any(counts):
                raise RuntimeError(
                    f"the samplers have no more points to give, and were to visit {n}"
                )
            owners = np.repeat(np.arange(len(samplers)), counts)
            scores = np.asarray(evaluate(owners, np.concatenate(asked)))
            parts = np.split(scores, np.cumsum(counts)[:-1])
            for sampler, points, part in zip(samplers, asked, parts, strict=True):
                sampler.tell(points, part)
            yield from owners.tolist()

    todo = n * len(samplers) - sum(len(sampler.scores) for sampler in samplers)
    for _ in progress(rounds(), show_progress, todo, name):
        pass
