"""Checkers of the exercises of chapter 08, AISE for classifiers."""

import numpy as np
import torch
from torch import Tensor

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, shaped
from xai_lib.aise import gaussian_masks


@exercise("8.1")
def combined(answer: Answer) -> None:
    """What the spot alone scores counts for the place, and what is left without it
    counts against; f(x) is the same for all places."""
    preserved, deleted = torch.tensor([[0.9, 0.2, 0.0], [0.1, 0.9, 1.0]])
    expect(answer, preserved - deleted, preserved, deleted)


@exercise("8.2")
def redundant(answer: Answer) -> None:
    """Let the model be sure as soon as it sees one bright place, wherever it is."""

    def scores(images: Tensor) -> Tensor:
        found = shaped(answer(images), Tensor, len(images))
        if not bool(((found >= 0) & (found <= 1)).all()):
            raise WrongAnswer("the scores must be numbers in [0, 1]")
        return found.double()

    image = torch.ones(1, 40, 40)
    g = (torch.arange(20) + 0.5) / 20
    masks = gaussian_masks(torch.cartesian_prod(g, g).numpy(), 0.1, 40, 40)[:, None]
    with torch.no_grad():
        best = float(scores(image * masks).max())
        drop = float((scores(image[None]) - scores(image * (1 - masks))).abs().max())
        black = float(scores(0 * image[None]))
    if not best >= 0.9:
        raise WrongAnswer(f"the best spot alone scores {best:.3g}, not 0.9")
    if not drop <= 0.05:
        raise WrongAnswer(
            f"cutting out a spot changes the score by {drop:.3g}, more than 0.05"
        )
    if not black <= 0.1:
        raise WrongAnswer(
            f"a black image scores {black:.3g}, more than 0.1: no spot is needed"
        )


@exercise("8.3")
def uncovered(answer: Answer) -> None:
    """Take the middle of each pixel, its distance to the nearest point, and the share
    of the pixels where that is above sigma."""
    rng = np.random.default_rng(5)
    for n, sigma, size in ((1, 0.3, 7), (4, 0.15, 12), (30, 0.1, 20), (3, 2.0, 5)):
        points = rng.random((n, 2))
        g = (np.arange(size) + 0.5) / size
        apart = [np.hypot(g - x, (g - y)[:, None]) for x, y in points]
        far = np.min(apart, axis=0) > sigma
        expect(answer, far.mean(), points, sigma, size, atol=1e-9)


@exercise("8.4")
def next_bounds(answer: Answer) -> None:
    """The area goes reach times sigma to each side of the best place, and not outside
    the image, which goes from 0 to 1; the smaller corner comes first."""
    for best, sigma, reach, expected in (
        ((0.5, 0.4), 0.1, 2.0, ((0.3, 0.2), (0.7, 0.6))),
        ((0.1, 0.9), 0.175, 2.0, ((0.0, 0.55), (0.45, 1.0))),
        ((0.95, 0.3), 0.25, 1.0, ((0.7, 0.05), (1.0, 0.55))),
        ((0.5, 0.5), 0.25, 4.0, ((0.0, 0.0), (1.0, 1.0))),
    ):
        expect(answer, expected, np.array(best), sigma, reach, atol=1e-9)


@exercise("8.5")
def chance(answer: Answer) -> None:
    """A pixel hits if it lies on the mask, or nearer than the tolerance to a pixel of
    the mask; the chance is the share of such pixels."""
    masks = torch.zeros(4, 9, 12, dtype=torch.bool)
    masks[0, 4, 6] = masks[3, 0, 1] = True
    masks[1, 0:2, 0:3] = True
    masks[2, 1, 1] = masks[2, 7, 10] = True
    for mask in (masks[3, :2, :3], *masks[:3]):
        pixels = torch.ones_like(mask).nonzero().double()
        nearest = torch.cdist(pixels, mask.nonzero().double()).amin(dim=1)
        for tolerance in (0, 1, 2.5, 4):
            hits = (nearest < tolerance) | (nearest == 0)
            expect(answer, float(hits.double().mean()), mask, tolerance, atol=1e-9)
