"""Masks against the formula, pixel by pixel, on images that are not square."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from xai_lib.aise.kernels import gaussian_masks, profiles

CENTRES = np.array([[0.1, 0.8], [0.5, 0.5], [0.93, 0.02], [-0.2, 1.3]])
WIDTHS = np.array([0.05, 0.3, 0.12, 0.4])


@pytest.mark.parametrize(("height", "width"), [(7, 13), (12, 5), (1, 1), (9, 9)])
def test_closed_form(height: int, width: int) -> None:
    masks = gaussian_masks(CENTRES, WIDTHS, height, width)
    assert masks.shape == (4, height, width)
    assert masks.dtype is torch.float32
    for mask, (x, y), sigma in zip(masks, CENTRES, WIDTHS, strict=True):
        for i in range(height):
            for j in range(width):
                dx, dy = (j + 0.5) / width - x, (i + 0.5) / height - y
                raw = math.exp(-(dx**2 + dy**2) / (2 * sigma**2)) / (
                    2 * math.pi * sigma**2
                )
                peak = 1 / (2 * math.pi * sigma**2)
                assert mask[i, j].item() == pytest.approx(raw / peak, abs=1e-6)


def test_x_is_the_column_and_y_the_row() -> None:
    """A kernel at the right and near the top, on an image that is wide."""
    mask = gaussian_masks([[0.9, 0.25]], 0.05, 10, 40)[0]
    row, column = divmod(int(mask.argmax()), 40)
    assert row == 2
    assert column in (35, 36)


def test_the_peak_is_one_at_a_pixels_middle() -> None:
    middle = [[(6 + 0.5) / 11, (2 + 0.5) / 7]]
    mask = gaussian_masks(middle, 0.1, 7, 11)[0]
    assert mask[2, 6].item() == 1
    assert mask.max().item() == 1


def test_a_width_is_a_share_of_each_side() -> None:
    """One width from the centre along x and along y, in units of the sides, the mask
    has the same value, exp(-1/2): an ellipse on an image that is not square."""
    mask = gaussian_masks([[0.5, 0.5]], 0.2, 5 * 21, 5 * 7)[0]
    row, column = 52, 17  # the middle of the image is the middle of this pixel
    assert mask[row, column].item() == 1
    assert mask[row + 21, column].item() == pytest.approx(math.exp(-0.5))
    assert mask[row, column + 7].item() == pytest.approx(math.exp(-0.5))


def test_one_width_for_all() -> None:
    one = gaussian_masks(CENTRES, 0.2, 6, 8)
    assert torch.equal(one, gaussian_masks(CENTRES, np.full(4, 0.2), 6, 8))


def test_reversed_arrays() -> None:
    """Points as (row, column) turned around, without a copy: negative strides."""
    masks = gaussian_masks(CENTRES[:, ::-1], WIDTHS[::-1], 6, 8)
    columns_first = np.ascontiguousarray(CENTRES[:, ::-1])
    assert torch.equal(masks, gaussian_masks(columns_first, WIDTHS[::-1].copy(), 6, 8))


def test_masks_are_products_of_profiles() -> None:
    rows, columns = profiles(CENTRES, WIDTHS, 6, 8)
    assert rows.shape == (4, 6)
    assert columns.shape == (4, 8)
    masks = gaussian_masks(CENTRES, WIDTHS, 6, 8)
    for mask, row, column in zip(masks, rows, columns, strict=True):
        torch.testing.assert_close(mask.double(), torch.outer(row, column))


def test_a_narrow_kernel_between_pixels_vanishes_and_is_no_nan() -> None:
    mask = gaussian_masks([[0.5, 0.5]], 1e-9, 4, 4)
    assert torch.equal(mask, torch.zeros(1, 4, 4))


@pytest.mark.parametrize(
    ("centres", "widths", "size", "error", "message"),
    [
        ([0.5, 0.5], 0.1, (4, 4), ValueError, r"centres must be \[k, 2\], got \[2\]"),
        ([[0.5] * 3], 0.1, (4, 4), ValueError, r"centres must be .* got \[1, 3\]"),
        ([[0.5, math.nan]], 0.1, (4, 4), ValueError, "centres must be finite"),
        ([[0.5, 0.5]], [0.1, 0.2], (4, 4), ValueError, r"widths must .*\[1\].*\[2\]"),
        ([[0.5, 0.5]], 0.0, (4, 4), ValueError, "widths must be .* above 0, got 0.0"),
        ([[0.5, 0.5]], math.inf, (4, 4), ValueError, "widths must be finite"),
        ([[0.5, 0.5]], 0.1, (0, 4), ValueError, "height must be at least 1, got 0"),
        ([[0.5, 0.5]], 0.1, (4, 2.5), TypeError, "width must be an integer, got 2.5"),
    ],
)
def test_wrong_arguments(
    centres: Any, widths: Any, size: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gaussian_masks(centres, widths, *size)
