"""Images seen through masks: RISE's grids, and the blurred kernels of AISE.

**RISE** (Petsiuk, Das and Saenko, 2018, section 3.2): a small grid of zeros and ones,
upsampled bilinearly to a little more than the image, shifted, and multiplied. In torch
a mask is a product of matrices, A[y : y + H] @ grid @ A[x : x + W].T; the kernel
computes a pixel's mask from the four cells around it and writes the product alone.
The masks themselves are what an image of ones shows.

**AISE** (Tsykunov, Lee and Park): x ⊙ G and x ⊙ (1 − G), with G an outer product of two
profiles. This is pixel by pixel, and `torch.compile` makes one pass of the plain form
(tested), so there is no kernel; nor for PertMap's x + t ⊙ w, which is `torch.addcmul`,
one pass already, nor for AISE's density Σ s G, one product of matrices per width.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_lib.kernels import kernels_run_on


def shown(inputs: Tensor, cells: Tensor, shifts: Tensor) -> Tensor:
    """Each image through each mask of RISE: `[N, m, C, H, W]`, in the inputs' dtype.

    Args:
        inputs: `[N, C, H, W]`.
        cells: `[m, g, g]`, 0 or 1, or anything between.
        shifts: `[m, 2]`, integers, rows and columns by which each mask is moved up and
            to the left: from 0 to `most_shift`.
    """
    if kernels_run_on(inputs.device):
        from xai_lib.kernels.triton import masks

        return masks.shown(inputs, cells, shifts)
    return plain_shown(inputs, cells, shifts)


def plain_shown(inputs: Tensor, cells: Tensor, shifts: Tensor) -> Tensor:
    """As `shown`, in torch."""
    return inputs[:, None] * plain_masks(cells, shifts, inputs)[None, :, None]


def plain_masks(cells: Tensor, shifts: Tensor, like: Tensor) -> Tensor:
    """What an image of ones shows, in torch: `[m, H, W]`, in the dtype of `like`."""
    height, width = like.shape[-2:]
    grid, device = cells.shape[1], cells.device
    rows, columns = (upsampling(grid, size, device) for size in (height, width))
    top = rows[shifts[:, :1] + torch.arange(height, device=device)]
    left = columns[shifts[:, 1:] + torch.arange(width, device=device)]
    return (top @ cells.to(rows) @ left.transpose(1, 2)).to(like.dtype)


def most_shift(grid: int, size: int) -> int:
    """The largest shift of a mask of `grid` cells along `size` pixels."""
    return (grid + 1) * math.ceil(size / grid) - size


@lru_cache(maxsize=16)
def upsampling(grid: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Linear upsampling along one axis, `[(grid + 1) · ⌈size / grid⌉, grid]`: at least
    a cell longer than an image, by which masks are shifted (RISE, section 3.2)."""
    length = (grid + 1) * math.ceil(size / grid)
    cells = torch.eye(grid, dtype=torch.float32, device="cpu")[None]
    return F.interpolate(cells, size=length, mode="linear")[0].T.to(device)


def blurred(
    inputs: Tensor,
    owner: Tensor,
    rows: Tensor,
    columns: Tensor,
    preserve: bool = True,
    delete: bool = True,
) -> Tensor:
    """x ⊙ G of k kernels, and behind them x ⊙ (1 − G): `[2 k, C, H, W]`, or `[k, ...]`.

    Written to be compiled: `torch.compile(blurred, dynamic=True)` is one kernel, which
    reads x and two profiles and writes the queries.

    Args:
        inputs: x `[N, C, H, W]`.
        owner: integers `[k]`, the image of each kernel.
        rows, columns: the profiles, `[k, H]` and `[k, W]`, in the inputs' dtype.
        preserve, delete: which of the two products; at least one.
    """
    mask = (rows[:, :, None] * columns[:, None, :])[:, None]
    x = inputs[owner]
    parts = [x * mask] * preserve + [x * (1 - mask)] * delete
    return torch.cat(parts) if len(parts) > 1 else parts[0]
