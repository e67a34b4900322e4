"""From scores at a few kernel centres to a map: weighted kernel density estimation.

n kernels of one width σ sit at centres p_i, and their scores are s_i. K is the kernel
of (7), of unit mass, so that every width counts alike in the sum over widths. The
paper's map is the density of the centres, weighted by the scores:

    P(q) = (1/n) Σ_i s_i K(q - p_i).

What is in it? Let π be the density from which the sampler takes its centres. The mean
over many of them is P = (s π) * K, which for a narrow kernel is about s(q) π(q): the
saliency times the sampling density. A constant model, s_i = c, gets c π, a picture of
the sampler. And where all scores are negative, the place that the sampler likes best,
and visits most, gets the lowest value. So we subtract what a constant model with the
same mean score s̄ would get from the same centres:

    M(q) = (1/n) Σ_i (s_i - s̄) K(q - p_i),

which is the covariance, over the samples, of the score and of how much q is covered.
M is zero for a constant model; a constant added to all scores does not change it; it is
linear in the scores, so that the map of -f is minus the map of f. Positive says that
the score is above the mean where q is covered. It is about π(q) (s(q) - s̄): the density
is still a factor, so a place counts more if an adaptive sampler came back to it.

The quotient of the two sums (Nadaraya and Watson, 1964) is free of π,

    N(q) = Σ_i (s_i - s̄) G(q - p_i) / (1 + Σ_i G(q - p_i)),

a mean of the scores weighted by nearness, in units of the score. The 1 is one more
observation in each pixel, of no effect: without it a pixel far from all centres would
get the score of the nearest. N has a flaw: near the edges of the image all centres lie
to one side, their mean is taken for the score at the edge, and maxima move outwards.
"""

import math
from typing import Any

import numpy as np
from torch import Tensor

from xai_lib.aise.kernels import profiles
from xai_lib.core.boxes import as_numbers


def weighted_density(
    centres: Any, weights: Any, width: float, height: int, columns: int
) -> Tensor:
    """(1/n) Σ_i w_i K(q - p_i), float64 `[height, columns]`, per unit of area.

    With the scores as weights it is P above, with ones the density of the centres.

    Args:
        centres: `[n, 2]`, columns (x, y), in units of the image's sides.
        weights: `[n]`, of any sign.
        width: σ of all kernels, in the same units.
        height, columns: the size of the map, in pixels.

    Raises:
        ValueError: wrong shapes, no centre, or numbers that are not finite.
    """
    rows, across = profiles(centres, width, height, columns)
    w = as_numbers("weights", weights).double()
    if len(rows) == 0:
        raise ValueError("centres must hold at least one point, got none")
    if w.shape != (len(rows),):
        raise ValueError(f"weights must be [{len(rows)}], got {list(w.shape)}")
    if not bool(w.isfinite().all()):
        raise ValueError("weights must be finite, got NaN or infinity")
    # A sum of outer products of profiles is one product of matrices.
    return (rows.T * w) @ across / (len(w) * 2 * math.pi * width**2)


def saliency(
    centres: Any,
    scores: Any,
    width: float,
    height: int,
    columns: int,
    normalise: bool = False,
) -> Tensor:
    """The map of one width, M above, or N if `normalise`: float64 `[height, columns]`.

    Args and errors as in `weighted_density`, with the scores as weights.
    """
    scores = np.asarray(scores, dtype=np.float64)
    weights = scores - scores[:1]  # equal scores become exact zeros
    weights = weights - weights.mean() if len(weights) else weights
    covariance = weighted_density(centres, weights, width, height, columns)
    if not normalise:
        return covariance
    once = 1 / (len(scores) * 2 * math.pi * width**2)
    ones = np.ones(len(scores))
    return covariance / (weighted_density(centres, ones, width, height, columns) + once)
