"""Right and wrong answers to the exercises of chapter 03."""

from __future__ import annotations

import math

import torch

from xai_book.exercises import chapter03


def perturbations(w, M, rng, features=None, low=-1.0):
    t = torch.empty(M, features or len(w)).uniform_(low, 1, generator=rng)
    return t * w


def mirrored(w, M, rng):
    half = perturbations(w, M // 2, rng)
    return torch.stack([half, -half], dim=1).flatten(0, 1)


def lagged(w, M, rng, order=torch.roll):
    t = perturbations(torch.ones(1), M, rng)[:, 0]
    return torch.stack([order(t, k) for k in range(len(w))], dim=1) * w


def step(model, x, c, w, t, penalty, lr, bound, best=torch.sum):
    v = w.clone().requires_grad_()
    scores = model(x + t * v)
    leads = best(torch.relu(scores - scores[:, c : c + 1]), dim=1)
    (v.sum() - penalty * leads.mean()).backward()
    return torch.clamp(w + lr * v.grad, 0, bound)


def width(margin, penalty, bound):
    if penalty <= 2:
        return bound
    return min(bound, margin / math.sqrt(1 - 2 / penalty))


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
        mirrored,
        lagged,
        lambda w, M, rng: lagged(w, M, rng, lambda t, k: t[torch.randperm(M)]),
        lambda w, M, rng: lagged(w, M, rng, lambda t, k: (-1) ** k * t.roll(7 * k)),
        lambda w, M, rng: perturbations(w, M, rng).sort(dim=0).values,
    ],
    chapter03.penalised_width: [
        lambda m, p, b: min(m, b),  # the constraint itself
        lambda m, p, b: m / math.sqrt(1 - 2 / p) if p > 2 else b,  # no bound
        lambda m, p, b: None,
        lambda m, p, b: m if p == 2 else width(m, p, b),  # at the edge
        lambda m, p, b: width(m, p / 2, b),  # the formula of the text
        lambda m, p, b: width(m, 2 * p, b),
        lambda m, p, b: 1.0 if p <= 2 else width(m, p, b),  # as if C were always 1
        lambda m, p, b: width(m, p, min(b, 1)),
    ],
    chapter03.stochastic_step: [
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, -p, lr, b),  # downhill
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, p, lr, math.inf),
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, p, lr, b, torch.amax),
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, p, lr, b, torch.mean),
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t.abs(), p, lr, b),
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, 0 * w, t, p, lr, b),  # not at w
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, p, lr, 1),
        lambda m, x, c, w, t, p, lr, b: step(m, x, c, w, t, p, 0.1, b),
    ],
}
