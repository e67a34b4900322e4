"""Where to place the next kernel? Samplers that are asked for points and told scores.

    points = sampler.ask(n)             # at most n points, [k, 2]
    sampler.tell(points, scores)        # their scores, which are to be MAXIMISED

Asking and telling are apart so that the points of many searches can share one batch of
queries (`search`). RandomSampler and LatticeSampler ignore the scores. LipoSampler and
DirectSampler go where the score is, or may be, high; the papers' two optimisers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xai_lib.core.arguments import check_count, check_flag, check_number, check_seed
from xai_lib.core.attribution import progress
from xai_lib.core.extras import extra

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


class RandomSampler(Sampler):
    """Points uniform in the search area, from a seed; scores do not matter."""

    def __init__(self, bounds: Bounds = UNIT_SQUARE, seed: int = 0) -> None:
        super().__init__(bounds)
        self._rng = np.random.default_rng(check_seed(seed))

    def _propose(self, n: int) -> np.ndarray:
        unit = self._rng.random((n, len(self.lower)))
        return self.lower + unit * (self.upper - self.lower)


class LatticeSampler(Sampler):
    """n points on a regular lattice that fills the search area, row by row.

    The area is cut into rows of equal height, about as high as the points are apart in
    a row. Where n is not a product that fits, rows differ by one point.

    Args:
        bounds: the search area.
        n: points in all; `ask` gives none after these.
    """

    def __init__(self, bounds: Bounds, n: int) -> None:
        super().__init__(bounds)
        check_count("n", n)
        if len(self.lower) != 2:
            raise ValueError(f"bounds must be ((x0, y0), (x1, y1)), got {bounds}")
        width, height = self.upper - self.lower
        rows = min(n, max(1, round(math.sqrt(n * height / width))))
        points = []
        for row in range(rows):
            # Bresenham's rule spreads the longer rows evenly.
            columns = (row + 1) * n // rows - row * n // rows
            x = (np.arange(columns) + 0.5) / columns
            points += [(x_j, (row + 0.5) / rows) for x_j in x]
        self._lattice = self.lower + np.array(points) * (width, height)

    def _propose(self, n: int) -> np.ndarray:
        points, self._lattice = self._lattice[:n], self._lattice[n:]
        return points


class LipoSampler(Sampler):
    """Global optimisation of Lipschitz functions with dlib (Malherbe & Vayatis, 2017).

    LIPO bounds the score from above by what its slopes so far allow,

        U(p) = min_i S(p_i) + l |p - p_i|,

    and asks only where U exceeds the best score seen. (The paper's (6) prints a squared
    distance, which is no bound in the unit square: distances below 1 shrink when
    squared. Between pixels they are at least 1, and it is a bound, though a loose one.)
    dlib takes turns: one step maximises U over random points; the next fits a quadratic
    around the best point and asks for its maximum, until that promises less than eps.
    So many points lie near the optimum.

    Args:
        bounds: the search area.
        eps: what an improvement must promise, in units of the score (dlib's
            `solver_epsilon`).
        seed: of dlib's random points.
        parallel: the most points open at once. dlib assumes that an open point scores
            like its nearest neighbour, so other numbers give other points.

    Raises:
        ModuleNotFoundError: dlib is not installed.
    """

    def __init__(
        self,
        bounds: Bounds = UNIT_SQUARE,
        eps: float = 0.1,
        seed: int = 0,
        parallel: int = 4,
    ) -> None:
        super().__init__(bounds)
        with extra("detect"):
            import dlib
        area = dlib.function_spec(self.lower.tolist(), self.upper.tolist())
        self._dlib = dlib.global_function_search(area)
        self._dlib.set_seed(check_seed(seed))
        self._dlib.set_solver_epsilon(check_number("eps", eps, 0))
        self.parallel = check_count("parallel", parallel)
        self._requests: deque[Any] = deque()

    def _propose(self, n: int) -> np.ndarray:
        n = min(n, self.parallel - len(self._requests))
        requests = [self._dlib.get_next_x() for _ in range(n)]
        self._requests += requests
        return np.array([list(r.x) for r in requests]).reshape(n, len(self.lower))

    def _learn(self, scores: np.ndarray) -> None:
        for score in scores:
            self._requests.popleft().set(float(score))


@dataclass(frozen=True)
class Rectangles:
    """The rectangles into which DIRECT has divided the search area, to draw them.

    Attributes:
        centres: `[m, 2]`, in the units of the bounds.
        sides: `[m, 2]`, likewise.
        scores: `[m]`, at the centres.
        sizes: `[m]`, half the diagonal in the unit square (unbiased), or the longest
            side there (locally biased): what the hull is drawn over.
        optimal: bool `[m]`, those that are divided next.
    """

    centres: np.ndarray
    sides: np.ndarray
    scores: np.ndarray
    sizes: np.ndarray
    optimal: np.ndarray


@dataclass(frozen=True)
class _Split:
    """A rectangle to divide along its longest sides, and the first of its new points:
    plus and minus along `axes[0]`, plus and minus along `axes[1]`, and so on."""

    parent: int
    axes: list[int]
    first: int


class DirectSampler(Sampler):
    """DIRECT: dividing rectangles (Jones, Perttunen and Stuckman, 1993), in batches.

    The search area is scaled to the unit square and divided into rectangles, with one
    point, its score known, in the middle of each. An iteration divides all that are
    potentially optimal: those that hold the best bound S + K d for *some* Lipschitz
    constant K > 0, where d is the size of the rectangle. As K grows the winner moves
    from the best score to the largest rectangle; so in the plane of d and S the winners
    are the corners of the upper right convex hull. No K has to be known, and local and
    global search need no balance by hand. One more condition saves queries: the bound
    must promise at least eps |S_max| more than the best score S_max so far.

    A rectangle is trisected along its longest sides, of length 3^-k: the two points at
    ± 3^-(k+1) along each are asked, and the side whose better point is best is cut
    first, so that the best points keep the largest rectangles.

    All points of an iteration are known before it starts. That makes whole batches,
    and they are the points of `scipy.optimize.direct`, in its order, bit for bit. The
    released SciPy (1.17.1 is tested) has lost the test for the hull: the jump that
    rejects is tied to a log file that is never open. So it divides every rectangle
    that is better than all larger ones, if it lies below the hull or promises enough.
    The paper used SciPy, and so do we unless `convex_hull` asks for the algorithm as
    it was published.

    Args:
        bounds: the search area.
        eps: the promised improvement, relative to the best score.
        locally_biased: Gablonsky and Kelley's variant (2001): d is the longest side,
            not half the diagonal, and of equally good rectangles one is divided, not
            all.
        convex_hull: divide nothing below the hull.
    """

    def __init__(
        self,
        bounds: Bounds = UNIT_SQUARE,
        eps: float = 0.1,
        locally_biased: bool = False,
        convex_hull: bool = False,
    ) -> None:
        super().__init__(bounds)
        self.eps = check_number("eps", eps, 0)
        self.locally_biased = check_flag("locally_biased", locally_biased)
        self.convex_hull = check_flag("convex_hull", convex_hull)
        # Rectangle i has point i in its middle. DIRECT minimises: values are -scores.
        self._centres = [[0.5] * len(self.lower)]
        self._depths = [[0] * len(self.lower)]  # sides are 3^-depth
        self._values: list[float] = []
        self._levels: dict[int, list[int]] = {}  # rectangles of one size, best first
        self._asked = 0
        self._splits = deque([self._split(0)])

    @property
    def rectangles(self) -> Rectangles:
        """The rectangles now; none before the first ones are divided."""
        ids = sorted(i for members in self._levels.values() for i in members)
        optimal = set() if self._splits else set(self._potentially_optimal())
        depths = np.array([self._depths[i] for i in ids]).reshape(-1, len(self.lower))
        return Rectangles(
            centres=self.points[ids],
            sides=3.0**-depths * (self.upper - self.lower),
            scores=self.scores[ids],
            sizes=np.array([self._size(self._level(i)) for i in ids]),
            optimal=np.array([i in optimal for i in ids], dtype=bool),
        )

    def _propose(self, n: int) -> np.ndarray:
        if not self._splits:
            for parent in self._potentially_optimal():
                self._splits.append(self._split(parent))
        points = np.array(self._centres[self._asked : self._asked + n])
        self._asked += len(points)
        side = self.upper - self.lower
        return (points.reshape(-1, len(side)) + self.lower / side) * side

    def _learn(self, scores: np.ndarray) -> None:
        self._values += (-scores).tolist()
        while self._splits:
            split = self._splits[0]
            if split.first + 2 * len(split.axes) > len(self._values):
                return
            self._divide(self._splits.popleft())

    def _split(self, parent: int) -> _Split:
        """Place the new points of a rectangle that is to be divided."""
        depths, first = self._depths[parent], len(self._centres)
        axes = [a for a, depth in enumerate(depths) if depth == min(depths)]
        delta = 1 / 3.0 ** (min(depths) + 1)
        for axis in axes:
            for step in (delta, -delta):
                point = self._centres[parent].copy()
                point[axis] += step
                self._centres.append(point)
                self._depths.append(depths)
        return _Split(parent, axes, first)

    def _divide(self, split: _Split) -> None:
        """Trisect a rectangle whose new points have their values."""
        value = self._values
        pairs = {a: split.first + 2 * j for j, a in enumerate(split.axes)}
        if split.parent in (level := self._levels.get(self._level(split.parent), [])):
            level.remove(split.parent)
        depths = self._depths[split.parent].copy()
        better = {a: min(value[plus], value[plus + 1]) for a, plus in pairs.items()}
        for axis in sorted(pairs, key=better.__getitem__):
            depths[axis] += 1
            for child in (pairs[axis], pairs[axis] + 1):
                self._depths[child] = depths.copy()
        self._depths[split.parent] = depths
        for plus in pairs.values():
            self._insert_pair(plus, plus + 1)
        self._insert(split.parent)

    def _insert_pair(self, plus: int, minus: int) -> None:
        value = self._values
        level = self._levels.get(self._level(plus), [])
        head = value[level[0]] if level else -math.inf
        if value[plus] < head and value[plus] <= value[minus] <= head:
            # SciPy puts both ahead, even if the second only equals the old head.
            level[:0] = [plus, minus]
        else:
            for child in sorted((plus, minus), key=value.__getitem__):
                self._insert(child)

    def _insert(self, i: int) -> None:
        """Into the list of its level, behind its equals."""
        level = self._levels.setdefault(self._level(i), [])
        key = self._values.__getitem__
        level.insert(bisect_right(level, self._values[i], key=key), i)

    def _level(self, i: int) -> int:
        """Levels number the sizes of rectangles, from large to small."""
        depths = self._depths[i]
        return min(depths) if self.locally_biased else sum(depths)

    def _size(self, level: int) -> float:
        """The d of a level: the longest side, or half the diagonal."""
        if self.locally_biased:
            return 1 / 3.0**level
        k, cut = divmod(level, dim := len(self.lower))
        return math.sqrt(dim - cut + cut / 9) * 0.5 / 3.0**k

    def _potentially_optimal(self) -> list[int]:
        """The rectangles to divide next, in SciPy's order."""
        levels = [level for level in sorted(self._levels) if self._levels[level]]
        size = [self._size(level) for level in levels]
        best = [self._values[self._levels[level][0]] for level in levels]
        lowest = min(self._values)
        promise = lowest - self.eps * abs(lowest)
        chosen: list[int] = []  # positions in `levels`, from small to large

        for j in reversed(range(len(levels))):

            def slope(i: int, j: int = j) -> float:
                return (best[i] - best[j]) / (size[i] - size[j])

            rise = min((slope(i) for i in range(j)), default=math.inf)
            fall = max((slope(i) for i in chosen), default=0.0)
            if rise <= 0:  # a larger one is as good
                continue
            if fall <= rise:  # on the hull, whose slopes do not decrease
                divide = best[j] - rise * size[j] <= promise
            else:
                divide = not self.convex_hull
            if divide:
                chosen.append(j)
        heads, equals = [], []
        for j in reversed(chosen):
            head, *others = self._levels[levels[j]]
            heads.append(head)
            if not self.locally_biased:
                equals += [i for i in others if self._values[i] - best[j] <= 1e-13]
        return heads + equals


SAMPLERS: dict[str, Callable[[Bounds, int, float, int], Sampler]] = {
    "direct": lambda bounds, n, eps, seed: DirectSampler(bounds, eps),
    "lipo": lambda bounds, n, eps, seed: LipoSampler(bounds, eps, seed),
    "random": lambda bounds, n, eps, seed: RandomSampler(bounds, seed),
    "lattice": lambda bounds, n, eps, seed: LatticeSampler(bounds, n),
}
"""The samplers by name, made from (bounds, number of points, eps, seed)."""
