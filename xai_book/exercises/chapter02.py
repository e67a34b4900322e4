"""Checkers of the exercises of chapter 02, Invariant perturbations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from scipy.optimize import linprog

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.core.attribution import generator


@exercise("2.1")
def worst_corner(answer: Callable) -> None:
    """`answer(g, w)`: the r in the box R(w) that makes g · r smallest."""
    rng = generator(20)
    for d in (1, 3, 5):
        g = torch.randn(d, generator=rng)
        w = torch.rand(d, generator=rng) + 0.1
        corners = torch.tensor(list(product([-1.0, 1.0], repeat=d))) * w
        expect_close(
            answer(g.clone(), w.clone()),
            corners[(corners @ g).argmin()],
            "each r_i is free to be -w_i or w_i: take the end at which g_i r_i is "
            "negative",
        )


@exercise("2.2")
def largest_box(answer: Callable) -> None:
    """`answer(h, g, bound)`: w of Problem 2.1 for two classes and a linear model."""
    rng = generator(21)
    for d, h in ((1, 0.3), (4, 0.5), (9, 2.0), (9, 100.0)):
        # Lengths of g apart from each other, so that there is one best w.
        order = torch.randperm(d, generator=rng)
        signs = torch.where(torch.rand(d, generator=rng) < 0.5, -1.0, 1.0)
        g = (order + 1) / d * signs
        best = linprog(
            -np.ones(d), A_ub=g.abs()[None].numpy(), b_ub=[h], bounds=(0, 0.7)
        )
        expect_close(
            answer(h, g.clone(), 0.7),
            torch.from_numpy(best.x),
            "w_i costs |g_i| of the budget h: fill the cheapest features up to the "
            "bound first, give what is left to the next one, and 0 to the others",
        )


@exercise("2.3")
def right_hand_side(answer: Callable) -> None:
    """`answer(f_c, f_j, grad_c, grad_j, noise)`: of the row of one noisy copy."""
    rng = generator(22)
    for _ in range(3):
        grad_c, grad_j, x, noise = torch.randn(4, 6, generator=rng)
        # Two affine scores: the row of any copy must say what the row at x says.
        f_c, f_j = grad_c @ (x + noise) + 1, grad_j @ (x + noise)
        expect_close(
            answer(f_c, f_j, grad_c, grad_j, noise),
            grad_c @ x + 1 - grad_j @ x,
            "the margin at x + noise, less the slope of the margin, "
            "(grad_c - grad_j), times the noise",
            atol=1e-4,
        )


@exercise("2.4")
def timid(answer: Callable) -> None:
    """`answer(r)`: a margin for which the linear box is far smaller than need be."""
    zero = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    value = answer(zero)
    if not isinstance(value, torch.Tensor) or value.ndim:
        raise WrongAnswer("return one number, as a tensor made from r")
    if not value.requires_grad:
        raise WrongAnswer("the margin must be a differentiable function of r")
    g = torch.autograd.grad(value, zero)[0].abs()
    margin = float(value.detach())
    if not margin > 0:
        raise WrongAnswer(f"the margin at r = 0 must be above 0, it is {margin:.3g}")
    sides = np.linspace(-1, 1, 41)
    margins = [
        float(answer(torch.tensor(r, dtype=torch.float64)))
        for r in product(sides, sides)
    ]
    if not min(margins) >= 0:
        raise WrongAnswer(
            f"the margin falls to {min(margins):.3g} in [-1, 1]²; it must not be "
            "negative there"
        )
    row = g[None].numpy()
    box = linprog(-np.ones(2), A_ub=row, b_ub=[margin], bounds=(0, 1))
    if -box.fun > 1:
        raise WrongAnswer(
            f"the linear box has w_1 + w_2 = {-box.fun:.3g}, it must be at most 1: "
            "make the slope at r = 0 larger, or the margin there smaller"
        )
