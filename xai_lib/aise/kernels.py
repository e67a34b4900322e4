"""Gaussian masks: equations (7) and (8) of AISE (Tsykunov, Lee and Park, supplement).

A mask is 1 at its centre p and falls off with the standard deviation σ, its width:

    G(q) = exp(-((x - p_x)² + (y - p_y)²) / (2 σ²)),        q = (x, y) in [0, 1]².

(7) has the factor 1 / (2 π σ²) in front, and (8) divides by the maximum, which is that
factor: so it cancels, and the peak is 1. The exponential of a sum is a product,

    G(q) = exp(-(y - p_y)² / (2 σ²)) · exp(-(x - p_x)² / (2 σ²)),

so a mask is the outer product of a profile over the rows and one over the columns.

Units. x runs along the columns and y down the rows, each from 0 to 1, and the middle
of pixel (row i, column j) is ((j + 1/2) / W, (i + 1/2) / H). The width is in the same
units: the paper works in the unit square. So on an image that is not square a mask is
an ellipse with the image's own aspect ratio: what a circle on the image, resized to a
square, looks like after it has been resized back.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from xai_lib.core.arguments import check_count
from xai_lib.core.boxes import as_numbers


def gaussian_masks(centres: Any, widths: Any, height: int, width: int) -> Tensor:
    """The masks G of (8), float32 `[k, height, width]`, values in [0, 1].

    Args:
        centres: `[k, 2]`, columns (x, y), in units of the image's sides. They may lie
            outside the image, and then the image shows only the flank of the mask.
        widths: σ, a number or `[k]`, in the same units.
        height, width: of the image, in pixels.

    Raises:
        ValueError: wrong shapes, values that are not finite, or σ not above 0.
    """
    rows, columns = profiles(centres, widths, height, width)
    return (rows[:, :, None] * columns[:, None, :]).float()


def gaussian(away: Tensor) -> Tensor:
    """The profile of a mask, by the distance from its centre in units of σ."""
    return torch.exp(-(away**2) / 2)


def profiles(
    centres: Any,
    widths: Any,
    height: int,
    width: int,
    kernel: Callable[[Tensor], Tensor] = gaussian,
) -> tuple[Tensor, Tensor]:
    """The two factors of each mask, float64: over rows `[k, height]`, over columns
    `[k, width]`; arguments as in `gaussian_masks`, and the profile."""
    check_count("height", height)
    check_count("width", width)
    p = as_numbers("centres", centres).double()
    sigma = as_numbers("widths", widths).double()
    if p.ndim != 2 or p.shape[1] != 2:
        raise ValueError(f"centres must be [k, 2], got {list(p.shape)}")
    if not bool(p.isfinite().all()):
        raise ValueError("centres must be finite, got NaN or infinity")
    if sigma.ndim > 1 or (sigma.ndim == 1 and len(sigma) != len(p)):
        raise ValueError(
            f"widths must be a number or [{len(p)}], got {list(sigma.shape)}"
        )
    if not bool(((sigma > 0) & sigma.isfinite()).all()):
        raise ValueError(f"widths must be finite and above 0, got {widths}")

    def profile(positions: Tensor, size: int) -> Tensor:
        places = torch.arange(size, dtype=torch.float64, device="cpu")
        middles = (places + 0.5) / size
        return kernel((middles - positions[:, None]) / sigma.reshape(-1, 1))

    return profile(p[:, 1], height), profile(p[:, 0], width)
