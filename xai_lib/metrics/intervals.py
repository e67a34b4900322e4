"""Confidence intervals for means over images."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from xai_lib.arguments import check_count, check_number, check_seed


def bootstrap_mean(
    values: Tensor, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The percentile bootstrap interval of the mean over images.

    Args:
        values: `[N, ...]`, one row per image; whole rows are drawn again, so that a
            curve's points stay together.
        level: coverage.
        n_resamples, seed: of the bootstrap.

    Returns:
        The lower and upper ends, each `[...]`.

    Raises:
        TypeError, ValueError: a wrong argument, by name; values that are not finite.
    """
    check_number("level", level, 0, 1)
    check_count("n_resamples", n_resamples)
    check_seed(seed)
    if not isinstance(values, Tensor) or values.ndim < 1:
        raise TypeError(f"values must be a tensor [N, ...], got {values!r}")
    if not bool(values.isfinite().all()):
        raise ValueError("values must be finite, got NaN or infinity")
    n = check_count("the number of images", len(values))
    rows = values.detach().cpu().double().view(n, -1)
    means = shares_drawn(n, n_resamples, seed) @ rows
    tail = (1 - level) / 2
    low, high = means.quantile(means.new_tensor([tail, 1 - tail]), dim=0)
    return low.view(values.shape[1:]), high.view(values.shape[1:])


@lru_cache(maxsize=16)
def shares_drawn(n: int, n_resamples: int, seed: int) -> Tensor:
    """Which share of each resample every one of n images is, float64
    `[n_resamples, n]`; the mean of a resample is then a matrix product.

    Kept, as comparisons of many methods draw the same images again; do not change it.
    """
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    return torch.from_numpy(draws / n)
