"""Right and wrong answers to the exercises of chapter 04."""

from __future__ import annotations

import math

import torch

from xai_book.exercises import chapter04


def geex(f, x, noise, sigma):
    slopes = (f(x + sigma * noise) - f(x - sigma * noise)) / (2 * sigma)
    return torch.einsum("m,mchw->chw", slopes, noise) / len(noise)


def one_sided(f, x, noise, sigma):
    return torch.einsum("m,mchw->chw", f(x + sigma * noise), noise) / (
        len(noise) * sigma
    )


def lengths():
    return [6.25, 1.5625, 25.0]


def pair_error(up, down, noise, sigma):
    votes = ((up - down) / (2 * sigma))[:, None] * noise
    return votes.std(dim=0) / math.sqrt(len(votes))


def single_votes_error(up, down, noise, sigma):
    votes = torch.cat([up[:, None] * noise, -down[:, None] * noise]) / sigma
    return votes.std(dim=0) / math.sqrt(len(votes))


def needed(d, level, length, sigma, error, slope_power=2):
    vote = (d + 1) * length**slope_power + d * level**2 / sigma**2
    return math.ceil(vote / (error * length) ** 2)


def contrary(z):
    return torch.sin(20 * z) / 5 - 2 * z


RIGHT = {
    chapter04.contrary: contrary,
    chapter04.squared_lengths: lengths,
    chapter04.geex: geex,
    chapter04.queries_needed: needed,
    chapter04.standard_error: pair_error,
}

WRONG = {
    chapter04.contrary: [
        lambda z: 2 * z,
        lambda z: -2 * z,
        lambda z: torch.sin(2 * z),
        lambda z: contrary(z).sum(),
        lambda z: contrary(z.detach()),
        lambda z: torch.where(z.abs() < 0.1, 2 * z, 2 * z),
        lambda z: 2 * z - 3 * z.sign(),  # a jump, which has no slope
        lambda z: torch.where(z.abs() < 1e-9, 2 * z, -2 * z - z.sign()),
        lambda z: torch.where(z.abs().max() < 0.01, 2 * z, -5 * z),  # not by value
    ],
    chapter04.squared_lengths: [
        lambda: [2.5, 1.25, 5.0],  # not squared
        lambda: [6.25, 3.125, 12.5],  # as if the length went like 1 / n
        lambda: [0.0, 0.0, 0.0],  # the map of a constant, as one might hope
        lambda: [6.25, 1.5625, 6.25],  # as if sigma did not matter
        lambda: [6.25, 1.5625],
        lambda: 6.25,
    ],
    chapter04.geex: [
        one_sided,  # formula (1), and half of the queries
        lambda f, x, e, s: 2 * geex(f, x, e, s),  # over sigma instead of 2 sigma
        lambda f, x, e, s: geex(f, x, e, s) * len(e),  # a sum
        lambda f, x, e, s: geex(f, x, e, s) * s,
        lambda f, x, e, s: geex(f, x, e, s).sum(dim=0),
        lambda f, x, e, s: geex(f, x, e, s) + 0 * f(x[None]).sum(),  # asks for x too
    ],
    chapter04.queries_needed: [
        lambda d, level, length, s, e: math.ceil(2 * (d + 1) / e**2),  # mirrored
        lambda d, level, *rest: needed(d, 0.0, *rest),  # centred
        lambda d, level, length, s, e: needed(d, level, length, s, e**0.5),
        lambda d, level, length, s, e: needed(d, level, length, s**0.5, e),
        lambda d, level, length, s, e: needed(d, level, 1.0, s, e),
        lambda *case: needed(*case, slope_power=1),
        lambda d, *rest: needed(d - 1, *rest),
        lambda *case: needed(*case) + needed(*case) % 2,  # as if pairs were asked
        lambda *case: needed(*case) - 1,
        lambda *case: float(needed(*case)),
    ],
    chapter04.standard_error: [
        single_votes_error,
        lambda u, d, e, s: pair_error(u, d, e, s) / math.sqrt(2),  # n for m
        lambda u, d, e, s: pair_error(u, d, e, s) * math.sqrt(len(e)),  # a deviation
        lambda u, d, e, s: pair_error(u, d, e, s) * 2,
    ],
}
