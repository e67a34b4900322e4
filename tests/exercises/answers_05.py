"""Right and wrong answers to the exercises of chapter 05."""

from __future__ import annotations

import math

import torch

from xai_book.exercises import chapter05


def queries(d, error):
    return 2 * math.ceil((d + 1) / error)


def enlarge(size, cells):
    at = ((torch.arange(size) + 0.5) * cells / size - 0.5).clamp(0, cells - 1)
    left = at.floor().long().clamp(max=max(cells - 2, 0))
    right = (left + 1).clamp(max=cells - 1)
    weights = torch.zeros(size, cells)
    rows = torch.arange(size)
    weights[rows, right] += at - left
    weights[rows, left] += 1 - (at - left)
    return weights


def tents_without_a_border(size, cells):
    at = (torch.arange(size) + 0.5) * cells / size - 0.5
    return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def corners_aligned(size, cells):
    at = torch.linspace(0, cells - 1, size)
    return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def one_round(f, x, V, h):
    return V @ (f(x + h * V.T) - f(x - h * V.T)) / (2 * h)


def best_size(energy, n):
    s = torch.arange(1, len(energy) + 1)
    return int((energy * (n / (2 * s**2)).clamp(max=1)).argmax()) + 1


RIGHT = {
    chapter05.queries_needed: queries,
    chapter05.enlarge: enlarge,
    chapter05.dummy_shares: lambda U, p: (U @ U.T)[p] / (U @ U.T)[p, p],
    chapter05.one_round: one_round,
    chapter05.best_size: best_size,
}

WRONG = {
    chapter05.queries_needed: [
        lambda d, e: math.ceil(2 * (d + 1) / e),  # may be odd
        lambda d, e: math.ceil((d + 1) / e),  # pairs
        lambda d, e: 2 * math.ceil((d + 1) / e**2),  # error is squared already
        lambda d, e: 2 ** min(d, 60),  # exponential
    ],
    chapter05.enlarge: [
        tents_without_a_border,
        corners_aligned,
        lambda size, cells: enlarge(size, cells).T,
        lambda size, cells: enlarge(size, cells).round(),  # the nearest cell
    ],
    chapter05.dummy_shares: [
        lambda U, p: (U @ U.T)[p],  # not relative
        lambda U, p: (U @ U.T)[p] / (U @ U.T).diag(),
        lambda U, p: torch.eye(len(U))[p],  # as if noise were on pixels
        lambda U, p: (U @ U.T)[p] / (U @ U.T)[p].sum(),
    ],
    chapter05.one_round: [
        lambda f, x, V, h: one_round(f, x, V, h) / V.shape[1],  # a mean
        lambda f, x, V, h: V @ (f(x + h * V.T) - f(x[None])) / h,  # not mirrored
        lambda f, x, V, h: V.T @ one_round(f, x, V, h),  # in the subspace's axes
        lambda f, x, V, h: one_round(f, x, torch.eye(len(x)), h),  # all features
        lambda f, x, V, h: one_round(f, x, V, 0.1),  # a step of its own
        lambda f, x, V, h: one_round(f, x, V, 2 * h),
        lambda f, x, V, h: one_round(f, x, V, h) + 0 * f(x[None]),  # one query more
    ],
    chapter05.best_size: [
        lambda e, n: math.isqrt(n // 2),  # the rule, without looking at the energy
        lambda e, n: best_size(e, n) - 1,
        lambda e, n: int(e.argmax()) + 1,  # as if queries were free
        lambda e, n: best_size(e, 2 * n),  # pairs for queries
    ],
}
