"""Checkers of the exercises of chapter 08, AISE for classifiers."""

import torch
from torch import Tensor

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, shaped
from xai_lib.aise import AISE, gaussian_masks


@exercise("8.1")
def hidden_from_both(answer: Answer) -> None:
    """One spot must be too little to convince, and what is left without it enough: how
    many distant places could the model ask for, and how many of them may be missing?"""

    def scores(images: Tensor) -> Tensor:
        found = shaped(answer(images), Tensor, len(images))
        if not bool(((found > -1e-6) & (found < 1 + 1e-6)).all()):  # rounded
            raise WrongAnswer("the scores must be numbers in [0, 1]")
        return found.double()

    image = torch.ones(1, 40, 40)
    g = (torch.arange(20) + 0.5) / 20
    masks = gaussian_masks(torch.cartesian_prod(g, g).numpy(), 0.1, 40, 40)[:, None]
    with torch.no_grad():
        whole = float(scores(image[None]))
        best = float(scores(image * masks).max())
        drop = float((whole - scores(image * (1 - masks))).abs().max())
    for wrong, what in (
        (whole < 0.9, f"the image itself scores {whole:.3g}, not 0.9"),
        (best > 0.1, f"some spot alone scores {best:.3g}, over 0.1"),
        (drop > 0.05, f"cutting out a spot changes the score by {drop:.3g}, over 0.05"),
    ):
        if wrong:
            raise WrongAnswer(what)


@exercise("8.2")
def aise_map(answer: Answer) -> None:
    """A place scores what the spot shows alone less what is left without it: two
    queries. Centre the scores of each width by their own mean, divide its kernels by
    2 pi sigma^2, take the mean over places and the sum over widths."""
    image = torch.rand(2, 12, 16, generator=torch.Generator().manual_seed(2))
    asked: list[int] = []

    def f(images: Tensor) -> Tensor:
        """a model"""
        asked.append(len(images))
        bright = images[:, :, 2:6, 8:13].mean(dim=(1, 2, 3))
        return bright * (1 + images[:, 0, 9, 3])

    for n, widths in ((5, (0.2,)), (25, (0.1, 0.175, 0.25))):
        right = AISE(f, "direct", widths, n).attribute(image[None], target=0)[0, 0]
        asked.clear()
        expect(answer, right, f, image, n, widths, atol=1e-4 * float(right.abs().max()))
        if (got := sum(asked)) != (due := 2 * n * len(widths)):
            raise WrongAnswer(
                f"for {n = }, {widths = }: expected {due} queries, got {got}"
            )


@exercise("8.3")
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
