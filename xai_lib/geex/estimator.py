"""The score-function estimate of a gradient, and its standard error.

Cai and Wunder, first arXiv version, section 3 and equation 1. With ε ~ N(0, 1), the
log-likelihood trick (integration by parts) gives the gradient of the smoothed function

    f_σ(x) = E f(x + σε),    ∇f_σ(x) = E ∇f(x + σε) = E[f(x + σε) ε] / σ,

the expectation of SmoothGrad, and n queries estimate it without bias by

    g = (1/nσ) Σ_i (f(x + σε_i) − b_i) ε_i,

as long as b_i does not depend on ε_i. This control variate takes the part of the score
away that is the same everywhere. Here b_i is the mean of the other scores so far, which
costs no query. Mirrored pairs need none: (f(x + σε) − f(x − σε)) ε / 2σ has no even
part of f in it, a constant least of all. For noise ε = U z, E[ε εᵀ] = U Uᵀ, and the
same lines give U Uᵀ E ∇f(x + σUz).

**Variance**, exact for f(x + v) = f(x) + g·v + ½ vᵀHv, of feature k among d:

| noise | n Var |
| --- | --- |
| independent, no b | c²/σ² + 2c H_kk + what follows, with c = f_σ(x) |
| independent, b = c | ‖g‖² + g_k² + σ² (½‖H‖² + 2 (H²)_kk) |
| mirrored | 2 (‖g‖² + g_k²) |
| orthogonal, blocks of b | 2 (‖g‖² + g_k²) − 2 (b−1)/(d−1) (d‖g‖² + (d−2) g_k²)/(d+2) |

Mirroring pays two queries for a direction; it wins about where curvature makes more
noise than slope, σ²‖H‖²/2 > ‖g‖². Orthogonality takes away the share (b−1)/(d−1) of
what the slopes of other features add, all but 2/(d+2) of it for b = d. For other
functions it can add variance too, at most 3/(d+1) of that of mirrored noise.

**Standard error**: the spread of independent units over their number, a sample, a pair
or a block. Blocks need at least two; a single one has its pairs taken as units, which
overstates its error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from xai_lib.geex.noise import Chunk, SearchNoise


class Estimate(NamedTuple):
    """An estimated gradient and its uncertainty, both shaped like the inputs."""

    gradient: Tensor
    standard_error: Tensor
    """Of the mean over the queries, feature by feature; NaN for a single pair."""


class ScoreFunctionMean:
    """The mean over chunks of queries, for N images and K scores at once.

    All images share the noise, so a chunk adds one product of matrices: weights
    `[N K, h]` made of the scores, times directions `[h, D]`, which are made for it.

    Args:
        search: where the noise comes from.
        with_error: keep the sums of squares that the standard error needs.
    """

    def __init__(self, search: SearchNoise, with_error: bool) -> None:
        self.search, self.with_error = search, with_error
        several = search.n_directions > search.block
        self.unit = search.block if with_error and several else 1
        self.seen = self.done = 0  # directions whose scores, and that, are in the mean
        self.score_sum: Tensor | float = 0.0

    def see(self, scores: Tensor) -> None:
        """Scores `[N, m, K]` that take part in b_i: all of a group, before the first of
        them is accumulated."""
        self.seen += scores.shape[1] // (2 if self.search.mirrored else 1)
        self.score_sum = self.score_sum + scores.sum(dim=1, keepdim=True)

    def accumulate(self, scores: Tensor, chunk: Chunk) -> None:
        """Scores `[N, m, K]` that have been seen, of all inputs, at a chunk."""
        weights = self._weights(scores).to(chunk.like).transpose(1, 2)
        w = weights.flatten(0, 1)
        if self.done == 0:
            self.shape = weights.shape[:2]
            # Σ w ε = U Σ w z, but the squares of ε have no such short form.
            d = self.search.dimension
            size = math.prod(self.search.shape) if self.with_error else d
            self.total = chunk.like.new_zeros(len(w), size)
            if self.with_error:
                # Of closed units, the squares of their sums; of the open one, its sum.
                self.squares, self.open = self.total.clone(), self.total.clone()
        if self.unit > 1:
            self._add_to_blocks(w, chunk.e.flatten(1))
        else:
            chunk.add(self.total, w, of_z=not self.with_error)
            if self.with_error:
                chunk.add(self.squares, w.square(), squared=True)
        self.done += chunk.count

    def _weights(self, scores: Tensor) -> Tensor:
        """What each direction is multiplied by, `[N, h, K]`."""
        if self.search.mirrored:
            plus, minus = scores.chunk(2, dim=1)
            return (plus - minus) / 2
        n = self.seen
        # f_i − b_i with b_i = (score_sum − f_i) / (n − 1).
        return (scores - self.score_sum / n) * (n / (n - 1))

    def _add_to_blocks(self, w: Tensor, e: Tensor) -> None:
        start = 0
        while start < len(e):
            stop = start + self.unit - (self.done + start) % self.unit
            self.open.addmm_(w[:, start:stop], e[start:stop])
            if stop <= len(e):
                self.total += self.open
                self.squares += self.open.square()
                self.open.zero_()
            start = stop

    def gradient(self, stdevs: float) -> Tensor:
        """g for queries at x + stdevs · ε, `[N, K, *shape]`."""
        total = self.total + self.open if self.unit > 1 else self.total
        if not self.with_error:
            total = self.search.spread(total)
        return self._mean_of(total, stdevs)

    def standard_error(self, stdevs: float) -> Tensor:
        """Of `gradient`, likewise; needs `with_error`.

        With S_u the sum over unit u of m_u directions, n in all, B units, the variance
        of ΣS_u / n is estimated by B / (B−1) Σ_u (S_u − m_u ΣS_u / n)² / n². That is
        unbiased for equal units; a smaller last block makes it too large, if anything.
        """
        n, last = self.done, self.done % self.unit
        mean = (self.total + self.open) / n
        spread = (
            (self.squares + self.open.square())
            - 2 * mean * (self.unit * self.total + last * self.open)
            + mean.square() * (n // self.unit * self.unit**2 + last**2)
        )
        units = -(-n // self.unit)
        factor = units / (units - 1) if units > 1 else float("nan")
        error = (factor * spread.clamp_min(0)).sqrt()
        return self._mean_of(error, stdevs)

    def _mean_of(self, total: Tensor, stdevs: float) -> Tensor:
        mean = total / (self.done * stdevs * self.search.gain)
        return mean.view(*self.shape, *self.search.shape)
