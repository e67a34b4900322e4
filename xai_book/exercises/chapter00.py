"""Checkers of the exercises of chapter 00, Start here."""

import torch

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect
from xai_lib.core.attribution import generator


@exercise("0.1")
def flat_value(answer: Answer) -> None:
    """The same score can be taken out of the upper sum: what is left of the quotient,
    at a single pixel?"""
    masks = torch.rand(20, 6, 9, generator=generator(2))
    for score in (0.7, -0.2, 3.0):
        scores = torch.full((20, 1, 1), score)
        expect(answer, ((scores * masks).sum(0) / masks.sum(0)).mean().item(), score)


@exercise("0.2")
def occlusion_queries(answer: Answer) -> None:
    """Slide the window over a small grid on paper, and count its places along one side
    first."""
    for case in ((8, 8, 2, 2), (224, 224, 32, 16), (7, 14, 3, 2)):
        height, width, window, stride = case
        windows = torch.ones(height, width).unfold(0, window, stride)
        places = windows.unfold(1, window, stride)[..., 0, 0].numel()
        expect(answer, places, *case)


@exercise("0.3")
def hide_each(answer: Answer) -> None:
    """`expand` repeats the image without copying it: all of `hidden` is one and the
    same memory. What does copy it?"""
    for corners, window in (([(0, 0), (2, 5)], 3), ([(6, 1), (6, 2), (0, 9)], 1)):
        image = torch.rand(3, 8, 10, generator=generator(1)) + 0.1
        outside = torch.ones(len(corners), 1, 8, 10)
        for k, (row, column) in enumerate(corners):
            outside[k, :, row : row + window, column : column + window] = 0
        expect(answer, outside * image, image, corners, window)
        given = image.clone()
        answer(given, corners, window)
        if not torch.equal(image, given):
            raise WrongAnswer("your function changes the image that it is given")
