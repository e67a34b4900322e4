"""Checkers of the exercises of chapter 02, Invariant perturbations."""

import math
from itertools import product

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, shaped
from xai_lib.core.attribution import generator


@exercise("2.1")
def worst_corner(answer: Answer) -> None:
    """Each r_i is free to be -w_i or w_i: take the end at which g_i r_i is negative."""
    rng = generator(20)
    for d in (1, 3, 5):
        g = torch.randn(d, generator=rng)
        w = torch.rand(d, generator=rng) + 0.1
        corners = torch.tensor(list(product([-1.0, 1.0], repeat=d))) * w
        expect(answer, corners[(corners @ g).argmin()], g, w)


@exercise("2.2")
def largest_box(answer: Answer) -> None:
    """w_i costs |g_i| of the budget h: fill the cheapest features up to the bound
    first, give what is left to the next one, and 0 to the others."""
    rng = generator(21)
    for d, h in ((1, 0.3), (4, 0.5), (9, 2.0), (9, 100.0)):
        # Lengths of g apart from each other, so that there is one best w.
        order = torch.randperm(d, generator=rng)
        signs = torch.where(torch.rand(d, generator=rng) < 0.5, -1.0, 1.0)
        g = (order + 1) / d * signs
        expect(answer, torch.from_numpy(_linear_box(g, h, 0.7)), h, g, 0.7)


@exercise("2.3")
def timid(answer: Answer) -> None:
    """Make the slope at r = 0 larger, or the margin there smaller, and let the margin
    bend before it comes to zero."""
    zero = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    value = shaped(answer(zero), Tensor)
    if not value.requires_grad:
        raise WrongAnswer("the margin must be a differentiable function of r")
    slope = torch.autograd.grad(value, zero)[0]
    margin = float(value.detach())
    if not margin > 0:
        raise WrongAnswer(f"the margin at r = 0 must be above 0, it is {margin:.3g}")
    lowest, where = _lowest(answer)
    if not lowest >= 0:
        raise WrongAnswer(
            f"the margin is {lowest:.3g} at r = {where.round(5).tolist()}; it must "
            "not be negative in [-1, 1]²"
        )
    side = _linear_box(slope, margin, 1).sum()
    if side > 1:
        raise WrongAnswer(
            f"the linear box has w_1 + w_2 = {side:.3g}, it must be at most 1"
        )


def _linear_box(g: Tensor, h: float, bound: float) -> np.ndarray:
    row = g.abs()[None].numpy()
    return linprog(-np.ones(len(g)), A_ub=row, b_ub=[h], bounds=(0, bound)).x


def _lowest(answer: Answer) -> tuple[float, np.ndarray]:
    """The least margin that is found in [-1, 1]², and where.

    A dip may be narrow, above all beside 0, where the slope is: a grid is made finer
    towards 0, and each grid's lowest points are where a closer look begins.
    """

    def margin(r: np.ndarray) -> float:
        found = float(answer(torch.tensor(r, dtype=torch.float64)))
        if math.isnan(found):
            raise WrongAnswer(f"the margin at r = {r.tolist()} is not a number")
        return found

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
