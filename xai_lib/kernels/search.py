"""GEEX's search: queries x ± σε, and Σ (f₊ − f₋) ε, with ε from the counter.

On a GPU ε is made where it is used, twice, and never lies in memory: a query is
written once, and the sum reads nothing but its weights. Elsewhere ε is made by
`philox.normals`, once for a chunk. The numbers are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xai_lib.kernels import kernels_run_on, philox

FEW_ROWS = 16  # above it, a product of matrices with ε in memory makes ε only once


def queries(
    inputs: Tensor,
    stdevs: float,
    mirrored: bool,
    seed: int,
    first: int,
    count: int,
    path: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """x + σε_i, and for mirrored noise behind them x − σε_i, in the dtype of x.

    Args:
        inputs: x `[N, *shape]`; all share the noise.
        stdevs: σ, in input units.
        mirrored: ask each direction twice.
        seed, first, count: directions first ... first + count − 1 of `philox.normals`.
        path: for iGEEX α `[count]` and x' `shape`: x' + α (x − x') in place of x.

    Returns:
        `[N, count, *shape]`, or `[N, 2 count, *shape]`.
    """
    if kernels_run_on(inputs.device):
        from xai_lib.kernels.triton import search

        return search.queries(inputs, stdevs, mirrored, seed, first, count, path)
    return plain_queries(inputs, stdevs, mirrored, seed, first, count, path)


def plain_queries(
    inputs: Tensor,
    stdevs: float,
    mirrored: bool,
    seed: int,
    first: int,
    count: int,
    path: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """As `queries`, in torch."""
    shape = inputs.shape[1:]
    noise = philox.normals(seed, first, count, shape.numel(), device=inputs.device)
    return around(inputs, stdevs, mirrored, noise.view(count, *shape), path)


def around(
    inputs: Tensor,
    stdevs: float,
    mirrored: bool,
    noise: Tensor,
    path: tuple[Tensor, Tensor] | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """As `queries`, of ε `[count, *shape]` in memory, written to `out` if given."""
    shape, noise = inputs.shape[1:], noise.to(inputs.dtype)
    if out is None:
        out = inputs.new_empty(len(inputs), (1 + mirrored) * len(noise), *shape)
    points, plus = inputs[:, None], out[:, : len(noise)]
    if path is not None:
        alpha = path[0].to(inputs.dtype).view(-1, *[1] * len(shape))
        points = torch.lerp(path[1], points, alpha, out=out[:, -len(noise) :])
    torch.add(points, noise, alpha=stdevs, out=plus)
    if mirrored:
        torch.sub(points, noise, alpha=stdevs, out=out[:, len(noise) :])
    return out


def weighted_noise(
    weights: Tensor, size: int, seed: int, first: int, squared: bool = False
) -> Tensor:
    """Σ_i w_i ε_i, float32 `[R, size]`, or Σ_i w_i ε_i² if `squared`.

    With w = (f₊ − f₋) / 2 it is the sum in GEEX's estimate.

    Args:
        weights: w `[R, count]`, a row for each image and score.
        size: numbers in ε.
        seed, first: as in `queries`; the columns are directions first, first + 1, ...
    """
    if kernels_run_on(weights.device) and len(weights) <= FEW_ROWS:
        from xai_lib.kernels.triton import search

        return search.weighted_noise(weights, size, seed, first, squared)
    return plain_weighted_noise(weights, size, seed, first, squared)


def plain_weighted_noise(
    weights: Tensor, size: int, seed: int, first: int, squared: bool = False
) -> Tensor:
    """As `weighted_noise`, in torch."""
    noise = philox.normals(seed, first, weights.shape[1], size, device=weights.device)
    return weights.float() @ (noise.square_() if squared else noise)
