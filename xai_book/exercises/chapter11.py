"""Checkers of the exercises of chapter 11, Errata and pitfalls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.core.attribution import generator

Gradients = Callable[[Tensor], Tensor]
"""From points `[n, d]` to the gradients there, `[n, d]`."""
Program = Callable[[Gradients, Tensor, Tensor], Tensor]
"""A path method: (gradients, x `[d]`, baseline `[d]`) to a map `[d]`."""


@exercise("11.1")
def batched_gradient(answer: Callable) -> None:
    """`answer(score, x, eps, sigma, size)`: `[d]`, from mirrored pairs `[m, d]`."""
    rng = generator(1)
    for m, d, sigma, size in ((12, 3, 0.5, 4), (10, 2, 2.0, 4), (7, 3, 0.1, 6)):
        x = torch.randn(d, generator=rng, dtype=torch.float64)
        eps = torch.randn(m, d, generator=rng, dtype=torch.float64)
        slope = torch.randn(d, generator=rng, dtype=torch.float64)

        def score(z: Tensor, slope: Tensor = slope, size: int = size) -> Tensor:
            if z.ndim != 2 or len(z) > size:
                raise WrongAnswer(
                    f"the model takes at most {size} points at once, as a tensor "
                    f"[n, d]; it was sent {list(z.shape)}"
                )
            return z @ slope + 3

        # Of a linear score the mirrored estimate is known: mean(eps epsᵀ) slope.
        expect_close(
            answer(score, x, eps, sigma, size),
            eps.T @ (eps @ slope) / m,
            "of a linear score the estimate must be mean(eps epsᵀ) times its slope, "
            f"also for {m} pairs in batches of {size}; how far apart do the two "
            "queries of a pair lie, and what does each batch contribute?",
            atol=1e-6,
        )


@exercise("11.2")
def path_integral(answer: Callable) -> None:
    """`answer(gradients, x, baseline, n)`: Integrated Gradients, `[d]`."""
    slope = torch.tensor([1.0, -2.0, 3.0]).double()
    x = torch.tensor([1.0, 0.5, -1.0]).double()
    for baseline in (torch.zeros(3).double(), torch.tensor([0.5, 1, 2]).double()):
        where = "a black" if not baseline.any() else "another"
        expect_close(
            answer(lambda z: slope.expand_as(z), x, baseline, 4),
            (x - baseline) * slope,
            f"with {where} baseline and n = 4, a linear score must be shared out "
            "exactly: do the weights of the points add up to 1?",
            atol=1e-6,
        )
        expect_close(
            answer(lambda z: 2 * z, x, baseline, 2000),
            x.square() - baseline.square(),
            f"with {where} baseline the sum of squares must give x² - baseline²: do "
            "the points lie on the line from the baseline to x?",
            atol=0.02,
        )


@exercise("11.3")
def top_first(answer: Callable) -> None:
    """`answer(values)`: the pixels of a uint8 map, the most important first."""
    rng = np.random.default_rng(3)
    maps = [
        np.array([[0, 255], [7, 0]], dtype=np.uint8),
        rng.integers(0, 256, (5, 4), dtype=np.uint8),
        np.zeros((2, 3), dtype=np.uint8),
    ]
    for values in maps:
        got = np.asarray(answer(values.copy()))
        flat = values.ravel()
        whole = got.dtype.kind in "iu" and np.array_equal(
            np.sort(got.ravel()), np.arange(flat.size)
        )
        if got.ndim != 1 or not whole:
            raise WrongAnswer(
                f"return the numbers 0 to {flat.size - 1} of all pixels, each once, in "
                "an integer array of one axis"
            )
        falling = flat[got].astype(int)
        if (np.diff(falling) > 0).any():
            raise WrongAnswer(
                f"in your order the values run {falling.tolist()}: they must not rise. "
                "What is minus a uint8?"
            )


@exercise("11.4")
def pointing_score(answer: Callable) -> None:
    """`answer(maps, masks)`: the share of hits; both `[M, H, W]`."""
    peak = torch.zeros(4, 4)
    peak[1, 2] = 1.0
    corner = torch.zeros(4, 4)
    corner[3, 3] = 2.0
    two = peak.clone()
    two[0, 0] = 1.0
    on = peak.bool()
    nothing = torch.zeros_like(on)
    row = torch.zeros_like(on)
    row[1] = True
    games = (
        ("a hit and a miss", [peak, corner], [on, on], 0.5),
        ("a flat map", [torch.ones(4, 4)], [row], 0.25),
        ("two maxima, one of them on the object", [two], [on], 0.5),
        ("a pair whose mask is empty", [peak, corner], [on, nothing], 1.0),
        ("an empty mask and a miss", [peak, corner], [nothing, on], 0.0),
    )
    for what, maps, masks, expected in games:
        got = answer(torch.stack(maps), torch.stack(masks))
        try:
            value = float(got)
        except (TypeError, ValueError):
            raise WrongAnswer(f"return a number, not {type(got).__name__}") from None
        if not abs(value - expected) <= 1e-6:
            raise WrongAnswer(
                f"for {what} the score is {expected:g}, you say {value:g}; a tie "
                "counts as the share of its maxima that hit, and a pair without an "
                "object does not count"
            )


@exercise("11.5")
def unmasks(answer: Callable) -> None:
    """`answer(program)`: whether a program for a path integral is right."""
    for name, program, right in PROGRAMS:
        verdict = answer(program)
        if not isinstance(verdict, bool | np.bool_ | Tensor):
            raise WrongAnswer(
                f"return True or False, not {type(verdict).__name__} "
                "(bool(...) of a comparison)"
            )
        if bool(verdict) is not right:
            said = "right" if bool(verdict) else "wrong"
            raise WrongAnswer(
                f"you call it {said}, but this one {name}. Compare with an answer you "
                "know, for a curved function of several features, a baseline that is "
                "not zero, and attributions of both signs"
            )


def _along(
    alphas: Tensor, weights: Tensor | float, from_black: bool = False
) -> Program:
    """Integrated Gradients with these points and weights on the path."""

    def program(gradients: Gradients, x: Tensor, baseline: Tensor) -> Tensor:
        step = x if from_black else x - baseline
        at = alphas.to(x)[:, None]
        weighted = gradients(baseline * (not from_black) + at * step)
        total = (weighted * torch.as_tensor(weights).to(x).reshape(-1, 1)).sum(dim=0)
        return step * total

    return program


def _middles(n: int) -> Tensor:
    return (torch.arange(n).double() + 0.5) / n


def _at_input(gradients: Gradients, x: Tensor, baseline: Tensor) -> Tensor:
    return (x - baseline) * gradients(x[None])[0]


def _absolute(gradients: Gradients, x: Tensor, baseline: Tensor) -> Tensor:
    return _RIGHT(gradients, x, baseline).abs()


def _swapped(gradients: Gradients, x: Tensor, baseline: Tensor) -> Tensor:
    return _RIGHT(gradients, x, baseline).roll(1)


def _features_mixed(gradients: Gradients, x: Tensor, baseline: Tensor) -> Tensor:
    def mixed(z: Tensor) -> Tensor:
        found = gradients(z)
        return found.mean(dim=1, keepdim=True).expand_as(found)

    return _RIGHT(mixed, x, baseline)


def _gauss(n: int) -> Program:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return _along(torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2))


_RIGHT = _along(_middles(500), 1 / 500)
PROGRAMS: tuple[tuple[str, Program, bool], ...] = (
    ("is right: 500 midpoints", _RIGHT, True),
    ("integrates half of the path", _along(_middles(500) / 2, 1 / 500), False),
    ("is right: Gauss and Legendre's 20 points", _gauss(20), True),
    (
        "adds up 11 points and divides by 10",
        _along(torch.linspace(0, 1, 11).double(), 1 / 10),
        False,
    ),
    ("takes the gradient at the input only", _at_input, False),
    (
        "forgets the baseline",
        _along(_middles(500), 1 / 500, from_black=True),
        False,
    ),
    ("returns absolute values", _absolute, False),
    ("gives every feature the share of its neighbour", _swapped, False),
    ("gives every feature the mean gradient of all", _features_mixed, False),
)
"""What the programs of exercise 11.5 do, and whether that is right."""
