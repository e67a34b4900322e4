"""Checkers of the exercises of chapter 01, What an attribution is."""

import torch
from torch import Tensor

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, shaped
from xai_lib.core.attribution import generator


@exercise("1.1")
def telling_baseline(answer: Answer) -> None:
    """The map is (x - baseline) times the mean slope, and the digit is black in the
    middle: a pixel gets a share only where the baseline is not black as well."""
    middle = (..., slice(11, 17), slice(11, 17))
    for seed in (3, 4):
        image = torch.rand(1, 28, 28, generator=generator(seed))
        image[middle] = 0
        baseline = shaped(answer(image.clone()), Tensor, 1, 28, 28)
        if not bool(((baseline >= 0) & (baseline <= 1)).all()):
            raise WrongAnswer("a baseline is an image: values in [0, 1]")
        # One minus the mean of the middle is linear, so that its slope is the mean one.
        least = float(((image - baseline) * (-1 / 36))[middle].min()) + 0
        if not least > 0:
            raise WrongAnswer(f"of the 36 pixels one gets {least:.3g}, not above zero")


@exercise("1.2")
def aopc(answer: Answer) -> None:
    """scores[0] is f(x) before any deletion: average the relative drops
    (f(x) - f(x_k)) / f(x) over k = 1 ... T."""
    for scores in (
        torch.tensor([0.8, 0.4, 0.2, 0.0]),
        torch.tensor([0.5, 0.5, 0.5]),
        torch.rand(30, generator=generator(4)) + 0.1,
    ):
        drops = (scores[0] - scores[1:]) / scores[0]
        expect(answer, drops.mean().item(), scores)


@exercise("1.3")
def delete_top(answer: Answer) -> None:
    """Sort all pixels by score, largest first, keep the order of the pixels among equal
    scores (stable=True), and set the first k to 0."""
    rng = generator(5)
    for (height, width), k in (((2, 3), 2), ((5, 6), 0), ((5, 6), 7), ((5, 6), 30)):
        n = height * width
        image = torch.rand(height, width, generator=rng) + 0.1
        # Whole numbers, so that there are ties.
        attribution = torch.randint(-3, 4, (height, width), generator=rng).float()
        places = sorted(range(n), key=(-attribution.flatten()).tolist().__getitem__)
        expected = image.flatten().clone()
        expected[places[:k]] = 0
        expect(answer, expected.view_as(image), image, attribution, k)
        given = image.clone()
        answer(given, attribution, k)
        if not torch.equal(given, image):
            raise WrongAnswer("return a copy: your function changes `image` itself")


@exercise("1.4")
def blind_spot(answer: Answer) -> None:
    """A smooth hill with its top at (1, 1) is flat there, and lower everywhere else."""

    def value(*point: float) -> float:
        return float(answer(torch.tensor(point, dtype=torch.float64)))

    at_x, h = value(1.0, 1.0), 1e-7
    # To both sides of each feature: at a tip or a jump autograd may say zero, too.
    for point in ((1 + h, 1.0), (1 - h, 1.0), (1.0, 1 + h), (1.0, 1 - h)):
        slope = (value(*point) - at_x) / h
        if not abs(slope) < 0.01:
            raise WrongAnswer(f"from (1, 1) to {point} the slope is {slope:.3g}, not 0")
    for point in ((0.0, 0.0), (-5.0, 1.0), (1.0, -5.0)):
        gap = abs(at_x - value(*point))
        if not gap >= 0.5:
            raise WrongAnswer(f"|f(1, 1) - f{point}| is {gap:.3g}, below 0.5")
