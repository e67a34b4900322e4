"""The score-function estimate of a gradient, and its standard error.

Cai and Wunder, first arXiv version, equation 1: with ε ~ N(0, 1),

    g = (1 / nσ) Σ_i f(x + σ ε_i) ε_i.

By the log-likelihood trick (or Stein's lemma) its expectation is the gradient of the
smoothed function f_σ(x) = E f(x + σε), which is the expectation of SmoothGrad.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xai_lib.geex.noise import SearchNoise


class Estimate(NamedTuple):
    """An estimated gradient, shaped like the inputs."""

    gradient: Tensor
    standard_error: Tensor
    """Of the Monte Carlo mean, per feature; NaN if a single pair was asked."""


class ScoreFunctionMean:
    """Running sums over chunks of queries, for N images and K scores at once.

    Args:
        search: the noise that the queries come from.
        like: inputs `[N, *shape]`, for shape, type and device.
        with_error: keep the sums of squares too.
    """

    def __init__(
        self, search: SearchNoise, like: Tensor, with_error: bool = True
    ) -> None:
        self.search, self.like, self.with_error = search, like, with_error
        # One block alone cannot be compared with others: then its pairs are.
        n, block = search.n_directions, search.block
        self.unit = block if n > block else 1
        self.asked = 0
        self.score_sum: Tensor | float = 0.0

    def add(self, scores: Tensor, noise: Tensor) -> None:
        """Scores `[N, m, K]` of all inputs at the chunk's noise `[m, *shape]`."""
        weights = self._weights(scores).transpose(1, 2).flatten(0, 1)
        directions = noise[: weights.shape[1]].flatten(1)
        if self.asked == 0:
            zeros = weights.new_zeros(len(weights), directions.shape[1])
            self.n_scores, self.total = scores.shape[2], zeros
            if self.with_error:
                self.squares, self.open = zeros.clone(), zeros.clone()
        self.asked += len(directions)
        if not self.with_error or self.unit == 1:
            self.total.addmm_(weights, directions)
            if self.with_error:
                self.squares.addmm_(weights.square(), directions.square())
            return
        self._add_blocks(weights, directions)

    def _weights(self, scores: Tensor) -> Tensor:
        """What each direction is multiplied by, `[N, h, K]`."""
        if self.search.mirrored:
            plus, minus = scores.chunk(2, dim=1)
            return (plus - minus) / 2
        self.score_sum = self.score_sum + scores.sum(dim=1, keepdim=True)
        n = self.asked + scores.shape[1]
        return (scores - self.score_sum / n) * (n / (n - 1))

    def _add_blocks(self, weights: Tensor, directions: Tensor) -> None:
        start = 0
        while start < len(directions):
            done = (self.asked - len(directions) + start) % self.unit
            part = slice(start, start + self.unit - done)
            self.open.addmm_(weights[:, part], directions[part])
            start = part.stop
            if start <= len(directions):
                self.total += self.open
                self.squares += self.open.square()
                self.open.zero_()

    def estimate(self, stdevs: float) -> Estimate:
        """The estimate, `[N, K, *shape]` each."""
        n, unit = self.asked, self.unit
        shape = (len(self.like), self.n_scores, *self.like.shape[1:])
        scale = 1 / (stdevs * self.search.gain)
        if not self.with_error:
            gradient = (self.total / n * scale).view(shape)
            return Estimate(gradient, torch.full_like(gradient, float("nan")))
        rest = n % unit
        total = self.total + self.open
        mean = total / n
        squares = self.squares + self.open.square()
        cross = unit * self.total + rest * self.open
        sizes = n // unit * unit**2 + rest**2
        units = -(-n // unit)
        spread = squares - 2 * mean * cross + mean.square() * sizes
        factor = units / (units - 1) if units > 1 else float("nan")
        error = (spread.clamp_min(0) * factor).sqrt() / n
        return Estimate((mean * scale).view(shape), (error * scale).view(shape))
