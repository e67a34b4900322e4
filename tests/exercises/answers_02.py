"""Right and wrong answers to the exercises of chapter 02."""

import torch

from xai_book.exercises import chapter02


def narrow_dip(r, at, width):
    """Right but for a hole that a coarse grid steps over."""
    hole = torch.exp(-((r - torch.tensor(at)) ** 2).sum() / (2 * width**2))
    return torch.exp(2 * r.sum()) - 20 * hole


def plunge(r):
    """Steep at 0, by a dip beside it that is below zero."""
    return 1 - 1000 * r.sum() * torch.exp(-((200 * r) ** 2).sum())


def fill(h, g, bound, descending=False):
    w = torch.zeros_like(g)
    for i in g.abs().argsort(descending=descending):
        w[i] = min(bound, h / float(g[i].abs()))
        h -= float(w[i] * g[i].abs())
    return w


RIGHT = {
    chapter02.worst_corner: lambda g, w: torch.where(g > 0, -w, w),
    chapter02.largest_box: fill,
    chapter02.timid: lambda r: 1 / (1.2 + torch.tanh(5 * r.sum())),
}

WRONG = {
    chapter02.worst_corner: [
        lambda g, w: w * g.sign(),  # the best corner
        lambda g, w: -g * w,
        lambda g, w: -w,
        lambda g, w: -w * g / g.abs(),  # not a number where a slope is zero
        lambda g, w: -(g.abs() * w).sum(),  # the value, not the place
    ],
    chapter02.largest_box: [
        lambda h, g, b: fill(h, g, b, descending=True),
        lambda h, g, b: fill(h, g, torch.inf),
        lambda h, g, b: (h / g.abs() / len(g)).clamp(max=b),  # equal shares
        lambda h, g, b: fill(h, g.clamp(min=1e-9), b),  # negative slopes are free
        lambda h, g, b: fill(h, g, 0.7),
        lambda h, g, b: fill(h, g, min(b, 1)),
    ],
    chapter02.timid: [
        lambda r: 1 - r.sum(),  # as large as it may be
        lambda r: torch.exp(0.1 * r.sum()),  # the linear box is the whole square
        lambda r: r.sum() * 0 + 1,
        lambda r: torch.exp(r.sum()) - 1,  # no margin at all
        lambda r: 1.0,
        lambda r: narrow_dip(r, (0.025, -0.525), 0.01),
        lambda r: narrow_dip(r, (0.313, 0.117), 0.01),
        plunge,
        lambda r: torch.clamp(1 + 10 * r.sum(), min=1),  # a kink at 0
        lambda r: torch.maximum(1 + 10 * r.sum(), torch.ones(()).double()),
        lambda r: 1 + 10 * (r - r.detach()).sum(),  # steep for autograd only
        lambda r: torch.exp(2 * r.sum()) - 1e-3 * r.sum().sqrt(),  # not a number
    ],
}
