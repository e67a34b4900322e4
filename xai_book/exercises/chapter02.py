"""Checkers of the exercises of chapter 02, Invariant perturbations."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from scipy.optimize import linprog

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect
from xai_lib.core.attribution import generator


@exercise("2.1")
def worst_corner(answer: Answer) -> None:
    """Each r_i is free to be -w_i or w_i: take the end at which g_i r_i is negative."""
    rng = generator(20)
    for d in (1, 3, 5):
        g = torch.randn(d, generator=rng)
        w = torch.rand(d, generator=rng) + 0.1
        g[3:4] = 0  # where any r will do, as long as it is a number
        corners = torch.tensor(list(product([-1.0, 1.0], repeat=d))) * w
        worst = corners[(corners @ g).argmin()] * (g != 0)
        expect(lambda g, w: answer(g, w) * (g != 0), worst, g, w)


@exercise("2.2")
def largest_box(answer: Answer) -> None:
    """w_i costs |g_i| of the budget h: fill the cheapest features up to the bound
    first, give what is left to the next one, and 0 to the others."""
    rng = generator(21)
    for d, h, bound in ((1, 0.3, 0.7), (4, 0.5, 0.7), (9, 2.0, 1.5), (9, 50.0, 0.4)):
        # Lengths of g apart from each other, so that there is one best w.
        order = torch.randperm(d, generator=rng)
        signs = torch.where(torch.rand(d, generator=rng) < 0.5, -1.0, 1.0)
        g = (order + 1) / d * signs
        best = torch.from_numpy(_linear_box(g.numpy(), h, bound))
        expect(answer, best, h, g, bound)


@exercise("2.3")
def timid(answer: Answer) -> None:
    """Make the slope at r = 0 larger, or the margin there smaller, and let the margin
    bend before it comes to zero."""

    def margin(r: np.ndarray) -> float:
        found = float(answer(torch.tensor(r, dtype=torch.float64)))
        if math.isnan(found):
            raise WrongAnswer(f"the margin at r = {r.tolist()} is not a number")
        return found

    at_zero = margin(np.zeros(2))
    if not at_zero > 0:
        raise WrongAnswer(f"the margin at r = 0 must be above 0, it is {at_zero:.3g}")
    # On both sides of 0: at a kink autograd picks one of several slopes.
    ahead, behind = (
        np.array([(margin(step * e) - at_zero) / step for e in np.eye(2)])
        for step in (1e-4, -1e-4)
    )
    if not np.allclose(ahead, behind, rtol=0.1, atol=0.01):
        raise WrongAnswer(f"the margin has a kink at 0: slopes {ahead} and {behind}")
    lowest, where = _lowest(margin)
    if not lowest >= 0:
        at = where.round(5).tolist()
        raise WrongAnswer(f"the margin is negative, {lowest:.3g}, at r = {at}")
    side = _linear_box((ahead + behind) / 2, at_zero, 1).sum()
    if side > 1 + 1e-4:
        raise WrongAnswer(f"the linear box has w_1 + w_2 = {side:.3g}, more than 1")


def _linear_box(g: np.ndarray, h: float, bound: float) -> np.ndarray:
    row = np.abs(g)[None]
    return linprog(-np.ones(len(g)), A_ub=row, b_ub=[h], bounds=(0, bound)).x


def _lowest(margin: Callable[[np.ndarray], float]) -> tuple[float, np.ndarray]:
    """The least margin that is found in [-1, 1]², and where.

    A dip may be narrow, above all beside 0, where the slope is: a grid is made finer
    towards 0, and each grid's lowest points are where a closer look begins.
    """

    lowest = []
    near = np.array(list(product((-1, 0, 1), repeat=2)))
    for scale, n in ((1, 101), (1 / 8, 21), (1 / 64, 21), (1 / 512, 21)):
        sides = scale * np.linspace(-1, 1, n)
        grid = [np.array(r) for r in product(sides, sides)]
        margins = [margin(r) for r in grid]
        for i in np.argsort(margins)[:5]:
            best, step = grid[i], 2 * scale / n
            for _ in range(12):
                tried = (best + step * near).clip(-1, 1)
                best, step = min(tried, key=margin), step / 2
            lowest.append((margin(best), best))
    return min(lowest, key=lambda found: found[0])
