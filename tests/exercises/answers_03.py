"""Right and wrong answers to the exercises of chapter 03."""

from __future__ import annotations

import math

import torch

from xai_book.exercises import chapter03


def perturbations(w, M, rng, features=None, low=-1.0):
    t = torch.empty(M, features or len(w)).uniform_(low, 1, generator=rng)
    return t * w


def step(model, x, c, w, t, penalty, lr, bound, best=torch.sum):
    v = w.clone().requires_grad_()
    scores = model(x + t * v)
    leads = best(torch.relu(scores - scores[:, c : c + 1]), dim=1)
    (v.sum() - penalty * leads.mean()).backward()
    return torch.clamp(w + lr * v.grad, 0, bound)


def width(margin, penalty, bound):
    if penalty <= 4:
        return bound
    return min(bound, margin / math.sqrt(1 - 4 / penalty))


RIGHT = {
    chapter03.perturbations: perturbations,
    chapter03.penalised_width: width,
    chapter03.stochastic_step: step,
}

WRONG = {
    chapter03.perturbations: [
        lambda w, M, rng: torch.rand(M, 1, generator=rng) * w,  # with its bugs
        lambda w, M, rng: perturbations(w, M, rng, low=0.0),  # only upwards
        lambda w, M, rng: perturbations(w, M, rng, features=1),  # on a line
        lambda w, M, rng: perturbations(w, M, rng).sign() * w,  # the corners
        lambda w, M, rng: perturbations(w, M, rng) / w,  # t, and not r
        lambda w, M, rng: (2 * torch.rand(M, len(w)) - 1) * w,  # not with rng
        lambda w, M, rng: perturbations(w, M, rng)[0],
        lambda w, M, rng: perturbations(w, M // 2, rng).repeat(2, 1),  # each twice
    ],
    chapter03.penalised_width: [
        lambda m, p, b: min(m, b),  # the constraint itself
        lambda m, p, b: m / math.sqrt(1 - 4 / p) if p > 4 else b,  # no bound
        lambda m, p, b: None,
        lambda m, p, b: m if p == 4 else width(m, p, b),  # at the edge
        lambda m, p, b: width(m, 4 * p, b),
    ],
    chapter03.stochastic_step: [
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, -p, lr, b),  # downhill
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, p, lr, math.inf),
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, p, lr, b, torch.amax),
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, p, lr, b, torch.mean),
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t.abs(), p, lr, b),
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, 0 * w, t, p, lr, b),  # not at w
    ],
}
