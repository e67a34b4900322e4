"""RISE's masked images in one pass: grid, bilinear, shift, product."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # pixels of a program


def shown(inputs: Tensor, cells: Tensor, shifts: Tensor) -> Tensor:
    n, channels, height, width = inputs.shape
    m, grid = cells.shape[:2]
    out = inputs.new_empty(n, m, channels, height, width)
    _shown[(m, triton.cdiv(height * width, BLOCK))](
        out,
        inputs.contiguous(),
        cells.float().contiguous(),
        shifts.contiguous(),
        n,
        m,
        channels,
        height,
        width,
        grid,
        -(-height // grid),
        -(-width // grid),
        BLOCK=BLOCK,
    )
    return out


@triton.jit
def _along(place: tl.tensor, cell: tl.tensor, grid: tl.tensor) -> tl.tensor:
    """The two cells next to a place on one axis, and the share of the second."""
    middle = (place.to(tl.float32) + 0.5) * grid / ((grid + 1) * cell) - 0.5
    middle = tl.maximum(middle, 0.0)
    before = tl.minimum(middle.to(tl.int32), grid - 1)
    return before, tl.minimum(before + 1, grid - 1), middle - before


@triton.jit(do_not_specialize=["n", "m"])
def _shown(
    out: tl.tensor,
    inputs: tl.tensor,
    cells: tl.tensor,
    shifts: tl.tensor,
    n: tl.tensor,
    m: tl.tensor,
    channels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    grid: tl.tensor,
    cell_height: tl.tensor,
    cell_width: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    mask = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    size = height * width
    inside = pixel < size
    down = tl.load(shifts + 2 * mask).to(tl.int32)
    right = tl.load(shifts + 2 * mask + 1).to(tl.int32)
    top, bottom, below = _along(pixel // width + down, cell_height, grid)
    left, right_cell, beside = _along(pixel % width + right, cell_width, grid)
    corner = cells + mask * grid * grid
    upper = (1 - beside) * tl.load(corner + top * grid + left, mask=inside)
    upper += beside * tl.load(corner + top * grid + right_cell, mask=inside)
    lower = (1 - beside) * tl.load(corner + bottom * grid + left, mask=inside)
    lower += beside * tl.load(corner + bottom * grid + right_cell, mask=inside)
    value = (1 - below) * upper + below * lower
    for image in range(n):
        for channel in range(channels):
            plane = image * channels + channel
            x = tl.load(inputs + plane * size + pixel, mask=inside).to(tl.float32)
            to = (image * m + mask) * channels + channel
            tl.store(out + to * size + pixel, x * value, mask=inside)
