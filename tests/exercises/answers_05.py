"""Right and wrong answers to the exercises of chapter 05."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from xai_book.exercises import chapter05


def gers(f, x, z, sigma):
    noise = interpolate(z, size=x.shape[1:], mode="bilinear")
    slopes = (f(x + sigma * noise) - f(x - sigma * noise)) / (2 * sigma * len(z))
    cells = z[0, 0].numel() / x[0].numel()
    return torch.einsum("m,mchw->chw", slopes, noise) * cells


def nearest(f, x, z, sigma):
    return gers(f, x, interpolate(z, size=x.shape[1:]), sigma)


def rounded_cells(f, x, z, sigma):
    a_side = x.shape[1] / z.shape[-1]
    return gers(f, x, z, sigma) * a_side**2 / int(a_side) ** 2


def one_round(f, x, V, h):
    return V @ (f(x + h * V.T) - f(x - h * V.T)) / (2 * h)


RIGHT = {
    chapter05.gers: gers,
    chapter05.dummy_shares: lambda U, p: (U @ U.T)[p] / (U @ U.T)[p, p],
    chapter05.dead_columns: lambda: "c",
    chapter05.one_round: one_round,
}

WRONG = {
    chapter05.gers: [
        lambda f, x, z, s: gers(f, x, z, s) * x[0].numel() / z[0, 0].numel(),  # no ρ
        lambda f, x, z, s: gers(f, x, z, s) * len(z),  # a sum
        nearest,  # cells with hard edges
        lambda f, x, z, s: gers(f, x, z, s) / s,
        rounded_cells,
        lambda f, x, z, s: gers(f, x, z[:, :1].expand_as(z), s),  # a mask for all
        lambda f, x, z, s: gers(f, x, z, s).sum(dim=0),
    ],
    chapter05.dummy_shares: [
        lambda U, p: (U @ U.T)[p],  # not relative
        lambda U, p: (U @ U.T)[p] / (U @ U.T).diag(),
        lambda U, p: torch.eye(len(U))[p],  # as if noise were on pixels
        lambda U, p: (U @ U.T)[p] / (U @ U.T)[p].sum(),
    ],
    chapter05.dead_columns: [
        lambda: "a",
        lambda: "b",
        lambda: "d",
        lambda: "C",
        lambda: 3,
    ],
    chapter05.one_round: [
        lambda f, x, V, h: one_round(f, x, V, h) / V.shape[1],  # a mean
        lambda f, x, V, h: V @ (f(x + h * V.T) - f(x[None])) / h,  # not mirrored
        lambda f, x, V, h: V.T @ one_round(f, x, V, h),  # in the subspace's axes
        lambda f, x, V, h: one_round(f, x, torch.eye(len(x)), h),  # all features
        lambda f, x, V, h: one_round(f, x, V, 0.1),  # a step of its own
        lambda f, x, V, h: one_round(f, x, V, 2 * h),
        lambda f, x, V, h: sum(one_round(f, x, V[:, [k]], h) for k in range(3)),
        lambda f, x, V, h: one_round(f, x, V, h) + 0 * f(x[None]),  # one query more
    ],
}
