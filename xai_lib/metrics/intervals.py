"""Means over images, their confidence intervals, and what counts as a difference.

Another processor adds a sum in another order, and its last digits change. Nothing here
may hang on them: equal values have exactly their value as mean and as interval, and
`sign`, by which all verdicts and rankings go, takes a tie for a tie.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from xai_lib.core.arguments import check_count, check_number, check_seed

TIE = 6.22e-6
"""Scores that differ by no more are equal, and an interval that ends no farther from a
limit touches it. Rows keep five decimals, so two of them may be 1e-5 apart by rounding
alone: this is less, and more than rounding can do to a mean. The book's rows have no
difference near it, which `tests/studies/test_verdicts_are_stable.py` tries."""


def sign(differences: ArrayLike) -> np.ndarray:
    """-1, 0 or 1 for below, equal to and above zero, where less than TIE is equal.

    Of differences of scores of order one, in any shape; float64, NaN where one is.
    """
    found = np.asarray(differences, dtype=np.float64)
    return np.sign(np.where(np.abs(found) <= TIE, 0.0, found))


def places(scores: ArrayLike) -> np.ndarray:
    """The ranks of names by their scores: 1 is the highest, and equals share a rank.

    Of `[names]`, or of each column of `[names, columns]`; float64, of the same shape.
    """
    found = np.asarray(scores, dtype=np.float64)
    # Above counts whole, equal half; among the equals is the name itself.
    return np.stack([0.5 + (1 + sign(found - own)).sum(axis=0) / 2 for own in found])


def image_mean(values: Tensor) -> Tensor:
    """The mean over images of `[N, ...]`, float64 `[...]`: exactly the value where all
    images have the same."""
    first, rest = _centred(values)
    return first + rest.mean(dim=0)


def bootstrap_mean(
    values: Tensor, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The percentile bootstrap interval of the mean over images.

    Its lower and upper end, float64 `[...]`, are exactly the value where all images
    have the same, and resamples of whole numbers are added up exactly.

    Args:
        values: `[N, ...]`, one row per image; whole rows are drawn again, so that a
            curve's points stay together.
        level: coverage.
        n_resamples, seed: of the bootstrap.

    Raises:
        TypeError, ValueError: a wrong argument, by name; values that are not finite.
    """
    tail = (1 - check_number("level", level, 0, 1)) / 2
    check_count("n_resamples", n_resamples)
    check_seed(seed)
    first, rest = _centred(values)
    counts = times_drawn(len(rest), n_resamples, seed)
    means = counts @ rest.reshape(len(rest), -1) / len(rest)
    low, high = means.quantile(means.new_tensor([tail, 1 - tail]), dim=0)
    return first + low.view(first.shape), first + high.view(first.shape)


def _centred(values: Tensor) -> tuple[Tensor, Tensor]:
    """The first row, and all rows less the first, in float64: sums of what is left are
    small, and exactly zero where nothing is left."""
    if not isinstance(values, Tensor) or values.ndim < 1:
        raise TypeError(f"values must be a tensor [N, ...], got {values!r}")
    check_count("the number of images", len(values))
    if not bool(values.isfinite().all()):
        raise ValueError("values must be finite, got NaN or infinity")
    rows = values.detach().cpu().double()
    return rows[0], rows - rows[0]


@lru_cache(maxsize=16)
def times_drawn(n: int, n_resamples: int, seed: int) -> Tensor:
    """How often each resample has drawn every one of n images: whole numbers, float64
    `[n_resamples, n]`. The sum over a resample is then a matrix product, which is exact
    for whole numbers; divide by n afterwards.

    Kept, as comparisons of many methods draw the same images again; do not change it.
    """
    check_count("n_resamples", n_resamples)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n, np.full(n, 1 / n), n_resamples)
    return torch.from_numpy(draws).double()
