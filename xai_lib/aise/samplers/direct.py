"""DIRECT, in batches."""

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

import numpy as np

from xai_lib.aise.samplers.base import UNIT_SQUARE, Bounds, Sampler
from xai_lib.core.arguments import check_flag, check_number


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
