"""Right and wrong answers to the exercises of chapter 03."""

from __future__ import annotations

import math

import torch

from xai_book.exercises import chapter03


def mean_hinge(scores, c):
    return torch.relu(scores - scores[:, c : c + 1]).sum(dim=1).mean()


def ascend(gradient, d, lr, bound, n_steps):
    w = torch.zeros(d)
    for _ in range(n_steps):
        w = torch.minimum(torch.relu(w + lr * gradient(w)), torch.full_like(w, bound))
    return w


def clip_at_the_end(gradient, d, lr, bound, n_steps):
    w = torch.zeros(d)
    for _ in range(n_steps):
        w = w + lr * gradient(w)
    return w.clamp(0, bound)


def width(margin, penalty, bound):
    if penalty <= 4:
        return bound
    return min(bound, margin / math.sqrt(1 - 4 / penalty))


def flip(image, scores, tau, descending=False):
    order = scores.flatten().argsort(stable=True, descending=descending)
    flat = image.flatten()
    flat[order[: tau * len(order) // 100]] = 0.5
    return flat.view_as(image)


RIGHT = {
    chapter03.mean_hinge: mean_hinge,
    chapter03.ascend: ascend,
    chapter03.penalised_width: width,
    chapter03.flip: flip,
}

WRONG = {
    chapter03.mean_hinge: [
        lambda s, c: torch.relu(s - s[:, [c]]).mean(),
        lambda s, c: torch.relu(s[:, [c]] - s).sum(dim=1).mean(),
        lambda s, c: (s - s[:, [c]]).sum(dim=1).mean(),
        lambda s, c: torch.relu(s - s[:, [c]]).amax(dim=1).mean(),
    ],
    chapter03.ascend: [
        clip_at_the_end,
        lambda g, d, lr, b, n: ascend(lambda w: -g(w), d, lr, b, n),
        lambda g, d, lr, b, n: ascend(g, d, lr, 1.0, n),  # the bound ignored
        lambda g, d, lr, b, n: ascend(g, d, lr, b, n + 1),
    ],
    chapter03.penalised_width: [
        lambda m, p, b: min(m, b),  # the constraint itself
        lambda m, p, b: m / math.sqrt(1 - 4 / p) if p > 4 else b,  # no bound
        lambda m, p, b: None,
        lambda m, p, b: width(m, 4 * p, b),
    ],
    chapter03.flip: [
        lambda i, s, t: flip(i, s, t, True),  # as the caption has it
        lambda i, s, t: torch.where(s < s.quantile(t / 100), 0.5, i),  # ties stay
        lambda i, s, t: flip(i, s.mean(0, keepdim=True).expand_as(s), t),
        lambda i, s, t: torch.where(flip(i, s, t) == 0.5, 0.0, i),  # black, not grey
    ],
}
