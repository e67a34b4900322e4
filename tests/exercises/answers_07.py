"""Right and wrong answers to the exercises of chapter 07."""

from __future__ import annotations

import math

import numpy as np
import torch

from xai_book.exercises import chapter07
from xai_lib.aise import gaussian_masks


def mask(x, y, sigma, height, width):
    return gaussian_masks([[x, y]], sigma, height, width)[0]


def pixel_corners(x, y, sigma, height, width):
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    squares = (rows[:, None] - y) ** 2 + (columns[None] - x) ** 2
    return (-squares / (2 * sigma**2)).exp()


def map_of(points, scores, sigma, height, width, centre=np.mean, peak=False):
    weights = torch.from_numpy(scores - centre(scores))
    kernels = gaussian_masks(points, sigma, height, width).double()
    if not peak:
        kernels = kernels / (2 * math.pi * sigma**2)
    return (weights[:, None, None] * kernels).mean(dim=0)


def hull(sizes, scores):
    return divided(sizes, scores, 0, lambda best: -math.inf)


def half_diagonal(sides):
    return np.hypot(*sides.T) / 2


def direct_round(
    score,
    centres,
    sides,
    scores,
    choose=hull,
    size=half_diagonal,
    rank=np.max,
    sign=-1,
    again=False,
):
    sides = sides.copy()
    for j in np.flatnonzero(choose(size(sides), scores)):
        longest = np.flatnonzero(np.isclose(sides[j], sides[j].max()))
        steps = np.eye(2)[longest] * sides[j].max() / 3
        pairs = [np.stack([centres[j] + s, centres[j] - s]) for s in steps]
        found = [score(pair) for pair in pairs]
        if again:
            score(centres[j][None])
        order = np.argsort([sign * rank(pair) for pair in found], kind="stable")
        for a in order:
            sides[j, longest[a]] /= 3
            centres = np.vstack([centres, pairs[a]])
            sides = np.vstack([sides, sides[[j, j]]])
            scores = np.append(scores, found[a])
    return centres, sides, scores


def divided(sizes, scores, eps, goal_of=None, strict=False, flat=False):
    goal = goal_of(scores.max()) if goal_of else scores.max() + eps * abs(scores.max())
    chosen = np.zeros(len(sizes), dtype=bool)
    for j, (d, s) in enumerate(zip(sizes, scores, strict=True)):
        smaller, equal, larger = sizes < d, sizes == d, sizes > d
        low = ((scores - s)[smaller] / (d - sizes)[smaller]).max(initial=0)
        high = ((s - scores)[larger] / (sizes - d)[larger]).min(initial=math.inf)
        between = low < high if strict else low <= high
        best = s >= scores[equal].max() and (flat or high > 0) and between
        chosen[j] = best and s + high * d >= goal
    return chosen


def best_of_size(sizes, scores):
    return np.array(
        [s == scores[sizes == d].max() for d, s in zip(sizes, scores, strict=True)]
    )


def better_than_larger(sizes, scores, eps):
    larger = [
        scores[sizes > d].max(initial=-math.inf) < s
        for d, s in zip(sizes, scores, strict=True)
    ]
    return best_of_size(sizes, scores) & np.array(larger)


def first_of_its_kind(sizes, scores):
    kinds = list(zip(sizes, scores, strict=True))
    return np.array([kinds.index(kind) == j for j, kind in enumerate(kinds)])


def winners(sizes, scores, eps):
    """The chapter's brute force: whoever wins for one of many l."""
    won = (scores + np.logspace(-3, 3, 5000)[:, None] * sizes).argmax(axis=1)
    return divided(sizes, scores, eps) & np.isin(np.arange(len(sizes)), won)


def bump(centre, width):
    def f(p):
        return np.exp(-((p - centre) ** 2).sum(axis=1) / (2 * width**2))

    return f


RIGHT = {
    chapter07.gaussian_mask: mask,
    chapter07.weights: lambda scores, density: scores / density,
    chapter07.mended_map: map_of,
    chapter07.one_round: direct_round,
    chapter07.promising: divided,
    chapter07.hidden_from_direct: bump(np.array([0.5, 1.5]) / 7, 0.01),
}

WRONG = {
    chapter07.gaussian_mask: [
        lambda x, y, s, h, w: mask(y, x, s, h, w),
        lambda x, y, s, h, w: mask(x, y, s, h, w) / (2 * math.pi * s**2),
        lambda x, y, s, h, w: mask(x, y, s, h, w) / mask(x, y, s, h, w).max(),
        lambda x, y, s, h, w: mask(x, y, s, h, w)[None],
        lambda x, y, s, h, w: mask(min(max(x, 0), 1), min(max(y, 0), 1), s, h, w),
        lambda x, y, s, h, w: mask(x, y, s / 2**0.5, h, w),  # no 2 in the exponent
        pixel_corners,
    ],
    chapter07.weights: [
        lambda s, p: s,  # the paper's sum
        lambda s, p: s * p,
        lambda s, p: (s / p) / (s / p).sum(),
        lambda s, p: (s / p).tolist(),
        lambda s, p: s / p / len(s),  # the mean is taken later
        lambda s, p: np.maximum(s, 0) / p,
    ],
    chapter07.mended_map: [
        lambda *case: map_of(*case, centre=np.min),  # the bug
        lambda *case: map_of(*case, centre=lambda scores: 0),  # the paper's sum
        lambda *case: map_of(*case, centre=np.median),
        lambda *case: map_of(*case, peak=True),
        lambda *case: map_of(*case) * len(case[1]),
        lambda p, *case: map_of(p[:, ::-1].copy(), *case),
    ],
    chapter07.one_round: [
        lambda *case: direct_round(*case, choose=lambda d, s: s == s.max()),
        lambda *case: direct_round(*case, choose=lambda d, s: s > -1),  # all
        lambda *case: direct_round(*case, choose=best_of_size),
        lambda *case: direct_round(*case, sign=1),  # the worst first
        lambda *case: direct_round(*case, sign=0),  # always the same axis first
        lambda *case: direct_round(*case, rank=np.mean),
        lambda *case: direct_round(*case, rank=np.min),
        lambda *case: direct_round(*case, size=lambda sides: sides.prod(axis=1)),
        lambda *case: direct_round(*case, size=lambda sides: sides.sum(axis=1)),
        lambda *case: direct_round(*case, size=lambda sides: sides.max(axis=1)),
        lambda *case: direct_round(*case, again=True),
        lambda *case: case[1:],
        lambda *case: direct_round(*case)[0],
    ],
    chapter07.promising: [
        lambda d, s, eps: divided(d, s, 0),  # eps forgotten
        lambda d, s, eps: divided(d, s, -eps),
        better_than_larger,
        lambda d, s, eps: divided(d, s, eps, strict=True),  # not those on one line
        lambda d, s, eps: divided(d, s, eps, flat=True),  # l = 0, too
        lambda d, s, eps: divided(d, s, eps) & first_of_its_kind(d, s),
        winners,
        lambda d, s, eps: s == s.max(),
        lambda d, s, eps: divided(d, s, eps).tolist(),
        lambda d, s, eps: divided(d, s, eps, lambda best: best + eps),
        lambda d, s, eps: divided(d, s, eps, lambda best: best + eps * best),
    ],
    chapter07.hidden_from_direct: [
        bump(np.array([3.5, 3.5]) / 7, 0.01),  # the middle, which both ask first
        bump(np.array([0.5, 1.5]) / 7, 0.2),  # too broad to miss
        lambda p: np.zeros(len(p)),
        lambda p: 2 * bump(np.array([0.5, 1.5]) / 7, 0.01)(p),
        lambda p: 0.0,
    ],
}
