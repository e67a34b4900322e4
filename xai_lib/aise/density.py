"""From scores at a few kernel centres to a map: weighted kernel density estimation.

Kernels G_i of one width σ sit at centres p_i and got scores s_i. Two sums over them,

    A(q) = Σ_i s_i G_i(q)         the paper's map: a density weighted by the score
    D(q) = Σ_i G_i(q)             where the sampler has been, and how often

are all that is needed. If the centres have the density π, then for n centres

    A(q) ≈ n ∫ s(p) π(p) G(q - p) dp ≈ n 2πσ² · s(q) π(q),      D(q) ≈ n 2πσ² · π(q):

the paper's sum is the saliency times the sampling density. An adaptive sampler, which
crowds where the score is high, exaggerates its favourite spot; and a model that scores
all kernels alike, s_i = c, gets c D: a picture of the sampler, not of the model. The
quotient A / D is free of π (it is Nadaraya and Watson's estimate of s, 1964): a mean of
the scores, weighted by nearness.

Two details. Far from all centres A / D would carry on the nearest score for ever; so
each pixel also counts as having one observation of no effect, of weight λ: A / (D + λ).
With λ = exp(-3² / 2) a lone kernel counts half at three widths. And "no effect" needs a
zero. The scores of kernels that show nothing would be one, but cost queries, and they
are not what adaptive samplers visit. We take the offset b for which the map

    M(q) = (A(q) - b D(q)) / (D(q) + λ)

sums to zero over the image: positive is more salient than the image's mean, negative is
less. M does not change if a constant is added to all scores, it is zero for a constant
model, and it is linear in the scores, so that the map of -f is minus that of f. The
paper's sum gets the same offset, A - b D, in which the density is still a factor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.aise.kernels import profiles

NO_EFFECT = math.exp(-(3**2) / 2)
"""λ, the weight of one observation of no effect in each pixel."""


def sums(
    centres: Any, scores: Any, width: float, height: int, columns: int
) -> tuple[Tensor, Tensor]:
    """A and D above for kernels of one width, float64 `[height, columns]` each.

    Args:
        centres: `[n, 2]`, columns (x, y), in units of the image's sides.
        scores: `[n]`, of any sign.
        width: σ, in the same units.
        height, columns: the size of the map, in pixels.

    Raises:
        ValueError: wrong shapes, or scores that are not finite.
    """
    rows, across = profiles(centres, width, height, columns)
    s = torch.as_tensor(np.asarray(scores, dtype=np.float64))
    if s.shape != (len(rows),):
        raise ValueError(f"scores must be [{len(rows)}], got {list(s.shape)}")
    if not bool(s.isfinite().all()):
        raise ValueError("scores must be finite, got NaN or infinity")
    # A sum of outer products of two profiles is one product of two matrices.
    return (rows.T * s) @ across, rows.T @ across


def saliency(
    centres: Any,
    scores: Any,
    width: float,
    height: int,
    columns: int,
    normalise: bool = True,
) -> Tensor:
    """The map of one width, float64 `[height, columns]`; arguments as in `sums`.

    Args:
        normalise: M above, in units of the score. False is the paper's sum, A - b D,
            per kernel and for kernels of unit mass, which makes it a density.
    """
    scores = np.asarray(scores, dtype=np.float64)
    # Equal scores become exact zeros; the offset below makes this one immaterial.
    total, density = sums(centres, scores - scores[:1], width, height, columns)
    weight = 1 / (density + NO_EFFECT)
    offset = (weight * total).sum() / (weight * density).sum()
    if normalise:
        return weight * (total - offset * density)
    return (total - offset * density) / (len(scores) * 2 * math.pi * width**2)
