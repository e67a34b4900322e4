"""Checkers of the exercises of chapter 00, Start here."""

from __future__ import annotations

from collections.abc import Callable

import torch

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.core.attribution import generator


@exercise("0.1")
def occlude(answer: Callable) -> None:
    """`answer(image, top, left, size)`: the image with a square set to zero."""
    rng = generator(1)
    for top, left, size in ((0, 0, 3), (2, 5, 4), (6, 1, 1)):
        image = torch.rand(3, 8, 10, generator=rng) + 0.1
        before = image.clone()
        expected = image.clone()
        expected[:, top : top + size, left : left + size] = 0
        hidden = answer(image, top, left, size)
        if not torch.equal(image, before):
            raise WrongAnswer("your function changed its input; work on image.clone()")
        expect_close(
            hidden,
            expected,
            "set the square to 0 in all channels: rows top to top + size, "
            "columns left to left + size",
        )


@exercise("0.2")
def rise_map(answer: Callable) -> None:
    """`answer(masks, scores)`: the mean score per pixel, weighted by the masks."""
    rng = generator(2)
    masks = torch.rand(50, 6, 9, generator=rng)
    scores = torch.rand(50, generator=rng)
    expected = (scores[:, None, None] * masks).sum(0) / masks.sum(0)
    expect_close(
        answer(masks, scores),
        expected,
        "multiply each mask by its score, add them up, and divide by the sum of the "
        "masks at each pixel (not by their number)",
    )
    flat = answer(masks, torch.full((50,), 0.7))
    expect_close(flat, torch.full((6, 9), 0.7), "a constant model must get a flat map")


@exercise("0.3")
def occlusion_queries(answer: Callable) -> None:
    """`answer(height, width, window, stride)`: how often the model is asked."""
    for height, width, window, stride in (
        (8, 8, 2, 2),
        (224, 224, 32, 16),
        (7, 12, 3, 2),
    ):
        windows = torch.ones(height, width).unfold(0, window, stride)
        expected = windows.unfold(1, window, stride)[..., 0, 0].numel()
        got = answer(height, width, window, stride)
        if got != expected:
            raise WrongAnswer(
                f"for a {height} x {width} image, window {window} and stride {stride} "
                f"you count {got}; slide the window over a small grid on paper and "
                "count its places along one side first"
            )
