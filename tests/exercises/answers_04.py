"""Right and wrong answers to the exercises of chapter 04."""

from __future__ import annotations

import math

import torch

from xai_book.exercises import chapter04


def centred(scores, noise, sigma):
    n = len(scores)
    return (scores - scores.mean()) @ noise / ((n - 1) * sigma)


def pair_error(up, down, noise, sigma):
    votes = ((up - down) / (2 * sigma))[:, None] * noise
    return votes.std(dim=0) / math.sqrt(len(votes))


def single_votes_error(up, down, noise, sigma):
    votes = torch.cat([up[:, None] * noise, -down[:, None] * noise]) / sigma
    return votes.std(dim=0) / math.sqrt(len(votes))


def needed(d, error):
    return 2 * math.ceil((d + 1) / error**2)


def loss_gradient(logits, jacobian):
    return (logits.softmax(dim=0) - 1 / len(logits)) @ jacobian


def contrary(z):
    return torch.sin(20 * z) / 5 - 2 * z


RIGHT = {
    chapter04.centred_estimate: centred,
    chapter04.standard_error: pair_error,
    chapter04.queries_needed: needed,
    chapter04.loss_gradient: loss_gradient,
    chapter04.contrary: contrary,
}

WRONG = {
    chapter04.centred_estimate: [
        lambda f, e, s: f @ e / (len(f) * s),  # the plain formula (1)
        lambda f, e, s: centred(f, e, s) * (len(f) - 1) / len(f),  # biased
        lambda f, e, s: centred(f, e, s) * s,
        lambda f, e, s: centred(f, e, s)[None],
    ],
    chapter04.standard_error: [
        single_votes_error,
        lambda u, d, e, s: pair_error(u, d, e, s) / math.sqrt(2),  # n for m
        lambda u, d, e, s: pair_error(u, d, e, s) * math.sqrt(len(e)),  # a deviation
        lambda u, d, e, s: pair_error(u, d, e, s) * 2,
    ],
    chapter04.queries_needed: [
        lambda d, error: needed(d, error) // 2,  # pairs
        lambda d, error: math.ceil(2 * (d + 1) / error),  # the error not squared
        lambda d, error: needed(d - 1, error),
        lambda d, error: 2 ** min(d, 30),  # exponential
        lambda d, error: float(needed(d, error)),
    ],
    chapter04.loss_gradient: [
        lambda f, j: -loss_gradient(f, j),
        lambda f, j: f.softmax(dim=0) @ j,
        lambda f, j: j[f.argmax()] - j.mean(dim=0),  # right only for a sure model
        lambda f, j: (f - f.mean()) @ j,
    ],
    chapter04.contrary: [
        lambda z: 2 * z,
        lambda z: -2 * z,
        lambda z: torch.sin(2 * z),
        lambda z: contrary(z).sum(),
        lambda z: contrary(z.detach()),
        lambda z: torch.where(z.abs() < 0.1, 2 * z, 2 * z),
        lambda z: 2 * z - 3 * z.sign(),  # a jump, which has no slope
        lambda z: torch.where(z.abs() < 1e-9, 2 * z, -2 * z - z.sign()),
    ],
}
