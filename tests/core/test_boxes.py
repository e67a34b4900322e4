"""The pixels of a box, against a loop over pixels and exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
import torch

from xai_lib.core.boxes import box_masks

HEIGHT, WIDTH = 5, 6


def held(low: float, high: float, n: int) -> list[int]:
    """The pixels whose centres lie in [low, high), or the one of the middle."""
    centres = [i for i in range(n) if low <= i + 0.5 < high]
    middle = floor((Fraction(low) + Fraction(high)) / 2)
    return centres or [min(max(middle, 0), n - 1)]


@pytest.mark.parametrize(
    "box",
    [
        [1.0, 2, 4, 3],  # one row, three columns
        [0, 0, 6, 5],
        [0, 0, 1, 1],  # the first pixel
        [0.5, 0.4, 1.6, 0.6],
        [-3, -2, 2, 9],  # sticks out
        [2.1, 0, 2.4, 5],  # thinner than a column
        [2.6, 0, 3.4, 5],
        [1.1, 1.2, 1.3, 1.4],  # within a pixel
        [2.5, 1, 2.5, 4],  # a line
        [3, 3, 3, 3],  # a point between pixels
        [6, 5, 6, 5],  # the last corner
        [-4, 1, 0.2, 3],  # all of it that is inside holds no centre
        [5.9, 4.8, 9, 7],
    ],
)
def test_the_pixels_of_a_box(box: list[float]) -> None:
    for boxes in (torch.tensor([box]), torch.tensor([box]).double(), [box]):
        (mask,) = box_masks(boxes, HEIGHT, WIDTH)
        expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        # As the library has it: what float32 makes of the numbers.
        x0, y0, x1, y1 = (float(np.float32(edge)) for edge in box)
        for row in held(y0, y1, HEIGHT):
            for column in held(x0, x1, WIDTH):
                expected[row, column] = True
        assert torch.equal(mask, expected)
        assert mask.any()


def test_many_boxes_and_none() -> None:
    boxes = torch.tensor([[1.0, 2, 4, 3], [0, 0, 6, 5]])
    masks = box_masks(boxes, HEIGHT, WIDTH)
    assert masks.flatten(1).sum(dim=1).tolist() == [3, 30]
    assert box_masks(torch.zeros(0, 4), HEIGHT, WIDTH).shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (torch.zeros(4), r"boxes must be \[k, 4\].*got shape \[4\]"),
        ([[4.0, 0, 2, 2]], r"x0 <= x1 and y0 <= y1, got \[4\.0, 0\.0, 2\.0, 2\.0\]"),
        ([[1.0, 2, 3, np.nan]], "boxes must be finite"),
        ([[0.1, 0.2, 0.5, 0.9]], "boxes must be in pixels"),
        ([[1, 1, 2, 2], [6.5, 1, 9, 3]], r"whose width is 6 pixels, got \[6\.5, 1"),
        ([[1.0, -3, 3, 0]], "whose height is 5 pixels"),
        ([[1.0, 5, 3, 8]], "whose height is 5 pixels"),
    ],
)
def test_wrong_boxes(boxes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        box_masks(boxes, HEIGHT, WIDTH)
