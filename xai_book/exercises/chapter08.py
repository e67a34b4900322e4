"""Checkers of the exercises of chapter 08, AISE for classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.aise import gaussian_masks


@exercise("8.1")
def combined(answer: Callable) -> None:
    """`answer(preserved, deleted)`: s of places, without f(x): `[k]`."""
    cases = (
        ([0.9, 0.2, 0.0], [0.1, 0.9, 1.0]),
        ([0.3, 0.3], [0.8, 0.4]),
    )
    for preserved, deleted in cases:
        expected = [kept - left for kept, left in zip(preserved, deleted, strict=True)]
        expect_close(
            answer(torch.tensor(preserved), torch.tensor(deleted)),
            torch.tensor(expected),
            "what the spot alone scores counts for the place, and what is left "
            "without it counts against; f(x) is the same for all places",
        )


@exercise("8.2")
def redundant(answer: Callable) -> None:
    """`answer(images)`: a model for which every spot is superfluous, and some are
    sufficient: `[k]`."""
    image = torch.ones(1, 40, 40)
    g = (torch.arange(20) + 0.5) / 20
    places = torch.cartesian_prod(g, g)
    masks = gaussian_masks(places.numpy(), 0.1, 40, 40)[:, None]
    with torch.no_grad():
        full = _scores(answer, image[None])
        kept = _scores(answer, image * masks)
        drop = full - _scores(answer, image * (1 - masks))
    if not float(kept.max()) >= 0.9:
        raise WrongAnswer(
            f"the best spot alone scores {float(kept.max()):.3g}, not 0.9: let the "
            "model be sure as soon as it sees one bright place"
        )
    if not float(drop.abs().max()) <= 0.05:
        raise WrongAnswer(
            f"cutting out a spot changes the score by {float(drop.abs().max()):.3g}, "
            "more than 0.05: what is left must convince as well, wherever the spot is"
        )


@exercise("8.3")
def uncovered(answer: Callable) -> None:
    """`answer(points, sigma, size)`: the share of pixels farther than sigma from all
    points, of an image of size × size."""
    rng = np.random.default_rng(5)
    for n, sigma, size in ((1, 0.3, 7), (4, 0.15, 12), (30, 0.1, 20), (3, 2.0, 5)):
        points = rng.random((n, 2))
        far = 0
        for row in range(size):
            for column in range(size):
                x, y = (column + 0.5) / size, (row + 0.5) / size
                apart = [float(np.hypot(x - px, y - py)) for px, py in points]
                far += min(apart) > sigma
        if abs(_number(answer(points, sigma, size)) - far / size**2) > 1e-9:
            raise WrongAnswer(
                f"{n} points and sigma = {sigma} on {size} x {size} pixels: take the "
                "middle of each pixel, its distance to the nearest point, and the "
                "share of the pixels where that is above sigma"
            )


@exercise("8.4")
def next_bounds(answer: Callable) -> None:
    """`answer(best, sigma, reach)`: the search area of the next width,
    ((x0, y0), (x1, y1))."""
    cases = (
        ((0.5, 0.4), 0.1, 2.0, ((0.3, 0.2), (0.7, 0.6))),
        ((0.1, 0.9), 0.175, 2.0, ((0.0, 0.55), (0.45, 1.0))),
        ((0.95, 0.3), 0.25, 1.0, ((0.7, 0.05), (1.0, 0.55))),
        ((0.5, 0.5), 0.25, 4.0, ((0.0, 0.0), (1.0, 1.0))),
    )
    for best, sigma, reach, expected in cases:
        try:
            got = np.asarray(answer(np.array(best), sigma, reach), dtype=np.float64)
        except (TypeError, ValueError):
            got = np.zeros(0)
        if got.shape != (2, 2):
            raise WrongAnswer(
                "return the two corners, ((x0, y0), (x1, y1)), the smaller ones first"
            )
        if not np.allclose(got, expected, rtol=0, atol=1e-9):
            raise WrongAnswer(
                f"for best = {best}, sigma = {sigma}, reach = {reach}: reach times "
                "sigma to each side of the best place, and not outside the image, "
                "which goes from 0 to 1"
            )


@exercise("8.5")
def chance(answer: Callable) -> None:
    """`answer(mask, tolerance)`: how often a random pixel wins the pointing game."""
    masks = torch.zeros(3, 9, 12, dtype=torch.bool)
    masks[0, 4, 6] = True
    masks[1, 0:2, 0:3] = True
    masks[2, 1, 1] = masks[2, 7, 10] = True
    for mask in masks:
        on = mask.nonzero().double()
        pixels = torch.ones_like(mask).nonzero().double()
        nearest = torch.cdist(pixels, on).amin(dim=1)
        for tolerance in (0, 1, 2.5, 4):
            expected = ((nearest < tolerance) | (nearest == 0)).double().mean()
            if abs(_number(answer(mask, tolerance)) - float(expected)) > 1e-9:
                raise WrongAnswer(
                    f"a mask of {len(on)} pixels, tolerance {tolerance}: a pixel hits "
                    "if it lies on the mask, or nearer than the tolerance to a pixel "
                    "of the mask; the chance is the share of such pixels"
                )


def _scores(answer: Callable, images: Tensor) -> Tensor:
    scores = answer(images)
    if not isinstance(scores, Tensor) or scores.shape != (len(images),):
        raise WrongAnswer(f"return a tensor [{len(images)}], one score per image")
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise WrongAnswer("the scores must be numbers in [0, 1]")
    return scores.double()


def _number(answer: Any) -> float:
    try:
        return float(answer)
    except (TypeError, ValueError):
        raise WrongAnswer("return one number") from None
