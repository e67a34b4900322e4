"""RISE's map from the scores of B masks: three estimators of one expectation.

f is the score of an image seen through a mask m, and p the mean of the masks. RISE's
map is

    S(q) = E[f m(q)] / p = E f + Cov(f, m(q)) / p.

**Plain**, Σ f_i m_i(q) / (B p), is unbiased, and most of its noise is that of the
masks times the mean score. **Self-normalised**, Σ f_i m_i(q) / Σ m_i(q), is free of
that, and biased by some 1 / B.

**Ridge.** Let b + Σ_c β_c a_c(m) be the best linear fit to f among all masks, where a_c
are averages of the mask over parts of it. What the fit leaves is uncorrelated with
each a_c, and so with m wherever the a_c tell m. Hence

    S(q) = E f + Σ_c β_c Cov(a_c, m(q)) / p,

and that covariance is known without a query: the cells of a mask are independent, each
with variance p (1 − p), and the shifts are few. So queries pay for β alone, which
ridge regression fits. Its penalty makes it biased, the less the more masks there are.

Masks come in pairs here, m with the cells of uniform numbers u and then of −u, at the
same shift. At p = 1/2 that is m and 1 − m, and whatever is even around 1/2, such as the
joint effect of two cells, adds nothing to the fit. The penalty is the one that predicts
left-out pairs best, for which nothing is fitted again: with the hat matrix H,
the residuals r of a pair become (I − H_pair)⁻¹ r when the fit has not seen it.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_lib.core.attribution import accumulator
from xai_lib.core.blocks import at_once
from xai_lib.kernels.masks import most_shift, upsampling

PENALTIES = torch.logspace(-5, 1, 25, dtype=torch.float64, device="cpu")
"""In units of the largest eigenvalue of XᵀX."""


class Estimate(Protocol):
    """Maps that grow with the answers."""

    def add(self, masks: Tensor, scores: Tensor) -> None:
        """Take in masks `[m, H, W]` and the scores `[n, m, K]` of n images."""

    def maps(self) -> Tensor | None:
        """The maps `[n, K, H, W]` so far; None if no answer is there."""


class Mean:
    """The mean of masks, weighted by scores: plain with p, else self-normalised."""

    def __init__(self, inputs: Tensor, p: float | None = None) -> None:
        shape, dtype = inputs.shape[2:], accumulator(inputs)
        self.coverage = inputs.new_zeros(shape, dtype=dtype)
        self.total = self.coverage.new_zeros(0)
        self.p, self.count = p, 0

    def add(self, masks: Tensor, scores: Tensor) -> None:
        n, m, k = scores.shape
        if not len(self.total):
            self.total = self.coverage.new_zeros(n, k, *masks.shape[1:])
        rows = at_once(masks[0].numel())
        weights = scores.to(self.total).transpose(1, 2).flatten(0, 1).split(rows)
        sums = self.total.flatten(0, 1).split(rows)
        for part, w in zip(sums, weights, strict=True):
            part += (w @ masks.flatten(1)).view_as(part)
        self.coverage += masks.sum(dim=0)
        self.count += m

    def maps(self) -> Tensor | None:
        if not self.count:
            return None
        if self.p is not None:
            return self.total.div_(self.count * self.p)
        # A pixel that no mask showed has no evidence: 0 / tiny = 0.
        tiny = torch.finfo(self.coverage.dtype).tiny
        return self.total.div_(self.coverage.clamp_min(tiny))


class Ridge:
    """Ridge regression on averages over the mask's parts, half a cell wide."""

    def __init__(self, inputs: Tensor, p: float, mask_size: int) -> None:
        self.like, self.p = inputs[:1, :1].to(accumulator(inputs)), p
        self.mask_size = mask_size
        height, width = inputs.shape[2:]
        self.parts = min(2 * mask_size + 2, height), min(2 * mask_size + 2, width)
        self.averages: list[Tensor] = []
        self.scores: list[Tensor] = []

    def add(self, masks: Tensor, scores: Tensor) -> None:
        averages = F.adaptive_avg_pool2d(masks[:, None], self.parts).flatten(1)
        self.averages.append(averages)
        self.shape = scores.shape[0], scores.shape[2]
        self.scores.append(scores.transpose(0, 1).flatten(1))

    def maps(self) -> Tensor | None:
        count = sum(map(len, self.averages))
        if count < 4:
            return None
        both = torch.cat(self.averages), torch.cat(self.scores)
        x, y = (part.cpu().double() for part in both)  # not all devices have float64
        slopes = self.fit(x, y)
        # E f, as the masks' mean is known: p, and not that of these masks.
        mean = y.mean(dim=0) + (self.p - x.mean(dim=0)) @ slopes
        rows, columns = (
            overlap(self.mask_size, side, parts).to(self.like)
            for side, parts in zip(self.like.shape[2:], self.parts, strict=True)
        )
        slopes = slopes.T.to(self.like).unflatten(1, self.parts)
        found = (1 - self.p) * (rows.T @ slopes @ columns)
        return (found + mean.to(self.like)[:, None, None]).unflatten(0, self.shape)

    def fit(self, x: Tensor, y: Tensor) -> Tensor:
        """The slopes `[F, T]` of answers y `[B, T]` to averages x `[B, F]`."""
        return ridge(x, y)[0]


def ridge(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """min ‖y − b − x β‖² + λ ‖β‖² over b and β, with λ by leaving out pairs: β
    `[F, T]` and λ `[T]`.

    Args:
        x: float64 `[B, F]`; rows 0 and 1 are a pair, 2 and 3, and so on.
        y: float64 `[B, T]`; each target has a penalty of its own, of PENALTIES.
    """
    count = len(x)
    # An odd number of rows: the last one's partner is empty.
    pad = (0, 0, 0, count % 2)
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    u, d, vt = torch.linalg.svd(x, full_matrices=False)
    uy, constant = u.T @ y, torch.full_like(u[:, :1], count**-0.5)
    pairs = F.pad(torch.cat([u, constant], dim=1), pad).unflatten(0, (-1, 2))
    penalties = PENALTIES * d[0].square().clamp_min(1e-30)
    eye, errors = torch.eye(2, dtype=x.dtype, device=x.device), []
    for penalty in penalties:
        shrink = d.square() / (d.square() + penalty)
        left = F.pad(y - u @ (shrink[:, None] * uy), pad).unflatten(0, (-1, 2))
        hat = (pairs * F.pad(shrink, (0, 1), value=1.0)) @ pairs.transpose(1, 2)
        unseen = torch.linalg.solve(eye - hat, left)
        errors.append(unseen.square().sum(dim=(0, 1)))
    best = penalties[torch.stack(errors).argmin(dim=0)]
    return vt.T @ (d[:, None] / (d.square()[:, None] + best) * uy), best


def overlap(mask_size: int, side: int, parts: int) -> Tensor:
    """Along one axis, what part c and pixel q of a mask have in common: the mean over
    shifts of Σ_g w_g(c) w_g(q), with w_g the weight of cell g. `[parts, side]`.

    Cov(a_c, m(q)) is p (1 − p) times the product of both axes'.
    """
    weights = upsampling(mask_size, side).double().unfold(0, side, 1)
    assert len(weights) == most_shift(mask_size, side) + 1
    averages = F.adaptive_avg_pool1d(weights, parts)
    return torch.tensordot(averages, weights, ([0, 1], [0, 1])) / len(weights)
