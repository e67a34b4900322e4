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


def distances(p, points):
    return np.linalg.norm(p[:, None] - points[None], axis=2)


def bound(p, points, scores, constant):
    return (scores + constant * distances(p, points)).min(axis=1)


def divided(sizes, scores, eps, goal_of=None):
    goal = goal_of(scores.max()) if goal_of else scores.max() + eps * abs(scores.max())
    chosen = np.zeros(len(sizes), dtype=bool)
    for j, (d, s) in enumerate(zip(sizes, scores, strict=True)):
        smaller, equal, larger = sizes < d, sizes == d, sizes > d
        low = ((scores - s)[smaller] / (d - sizes)[smaller]).max(initial=0)
        high = ((s - scores)[larger] / (sizes - d)[larger]).min(initial=math.inf)
        best = s >= scores[equal].max() and high > 0 and low <= high
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


def bump(centre, width):
    def f(p):
        return np.exp(-((p - centre) ** 2).sum(axis=1) / (2 * width**2))

    return f


RIGHT = {
    chapter07.gaussian_mask: mask,
    chapter07.weights: lambda scores, density: scores / density,
    chapter07.upper_bound: bound,
    chapter07.promising: divided,
    chapter07.hidden_from_direct: bump(np.array([0.5, 1.5]) / 7, 0.01),
}

WRONG = {
    chapter07.gaussian_mask: [
        lambda x, y, s, h, w: mask(y, x, s, h, w),
        lambda x, y, s, h, w: mask(x, y, s, h, w) / (2 * math.pi * s**2),
        lambda x, y, s, h, w: mask(x, y, s, h, w) / mask(x, y, s, h, w).max(),
        lambda x, y, s, h, w: mask(x, y, s, h, w)[None],
        pixel_corners,
    ],
    chapter07.weights: [
        lambda s, p: s,  # the paper's sum
        lambda s, p: s * p,
        lambda s, p: (s / p) / (s / p).sum(),
        lambda s, p: (s / p).tolist(),
    ],
    chapter07.upper_bound: [
        lambda p, x, s, k: (s + k * distances(p, x) ** 2).min(axis=1),  # as printed
        lambda p, x, s, k: (s + k * distances(p, x)).max(axis=1),
        lambda p, x, s, k: (s - k * distances(p, x)).max(axis=1),  # the lower bound
        lambda p, x, s, k: (s + k * distances(p, x)).min(axis=0),
    ],
    chapter07.promising: [
        lambda d, s, eps: divided(d, s, 0),  # eps forgotten
        lambda d, s, eps: divided(d, s, -eps),
        better_than_larger,
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
