"""Checkers of the exercises of chapter 00, Start here."""

import torch

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect
from xai_lib.core.attribution import generator


@exercise("0.1")
def occlude(answer: Answer) -> None:
    """In image.clone(), set all channels to 0 in the square: rows top to top + size,
    columns left to left + size."""
    rng = generator(1)
    for top, left, size in ((0, 0, 3), (2, 5, 4), (6, 1, 1)):
        image = torch.rand(3, 8, 10, generator=rng) + 0.1
        expected = image.clone()
        expected[:, top : top + size, left : left + size] = 0
        expect(answer, expected, image, top, left, size)
        given = image.clone()
        answer(given, top, left, size)
        if not torch.equal(image, given):
            raise WrongAnswer("your function changes the image that it is given")


@exercise("0.2")
def rise_map(answer: Answer) -> None:
    """Multiply each mask by its score, add them up, and divide by the sum of the masks
    at each pixel (not by their number): a constant model gets a flat map."""
    rng = generator(2)
    for shape in ((2, 1, 3), (50, 6, 9)):
        masks = torch.rand(shape, generator=rng)
        scores = torch.rand(shape[0], generator=rng)
        expected = (scores[:, None, None] * masks).sum(0) / masks.sum(0)
        expect(answer, expected, masks, scores)
    expect(answer, torch.full((6, 9), 0.7), masks, torch.full((50,), 0.7))


@exercise("0.3")
def occlusion_queries(answer: Answer) -> None:
    """Slide the window over a small grid on paper, and count its places along one side
    first."""
    for case in ((8, 8, 2, 2), (224, 224, 32, 16), (7, 12, 3, 2)):
        height, width, window, stride = case
        windows = torch.ones(height, width).unfold(0, window, stride)
        places = windows.unfold(1, window, stride)[..., 0, 0].numel()
        expect(answer, places, *case)
