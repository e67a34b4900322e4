"""Right and wrong answers to the exercises of chapter 06."""

import math

import torch

from xai_book.exercises import chapter06


def spread(score, x, baseline, eps, sigma, share=1.0, offset=0.5):
    m = len(eps)
    alpha = share * (torch.arange(m) + offset)[:, None] / m
    points = baseline + alpha * (x - baseline)
    slopes = (score(points + sigma * eps) - score(points - sigma * eps)) / (2 * sigma)
    return (x - baseline) * (slopes[:, None] * eps).mean(dim=0)


def error_of_sum(slopes, eps, difference):
    return (slopes * (eps @ difference)).std() / len(eps) ** 0.5


def errors_as_if_independent(slopes, eps, difference):
    of_each = (slopes[:, None] * eps * difference).std(dim=0) / len(eps) ** 0.5
    return of_each.square().sum().sqrt()


def wave(z):
    shrinks_to = math.exp(-((math.pi * 0.5) ** 2) / 2)
    return 2 * shrinks_to * z + torch.cos(math.pi * z)


def bump(z, width=0.01):
    """Narrow and high at 1, as good as nothing once it is smoothed."""
    return torch.relu(1 - (z - 1).abs() / width)


RIGHT = {
    chapter06.spread: spread,
    chapter06.caught: lambda z: z.square().sum(dim=1),
    chapter06.error_of_sum: error_of_sum,
    chapter06.hidden_difference: bump,
}

WRONG = {
    chapter06.spread: [
        lambda f, x, b, e, s: spread(f, x, b, e, s, share=0.5),  # half of the path
        lambda f, x, b, e, s: spread(f, x, b, e, s, offset=0.0),  # left ends
        lambda f, x, b, e, s: 2 * spread(f, x, b, e, s),  # divided by sigma
        lambda f, x, b, e, s: spread(f, x, b, e, s) / (x - b),
        lambda f, x, b, e, s: spread(f, x, x, e, s) + spread(f, x, b, e, s) * 0,
    ],
    chapter06.caught: [
        lambda z: 2 * z.sum(dim=1),  # linear
        lambda z: z[:, 0] - 3 * z[:, 1],
        lambda z: 0 * z[:, 0],
        lambda z: ((z - 0.5) ** 3).sum(dim=1),  # half of the gain is half of the way
        lambda z: z.sum(),
        lambda z: 1000 * (z[:, 0] - z[:, 1]),  # linear, gains nothing, much noise
        lambda z: 1e4 * torch.sin(50 * z[:, 0]),  # smoothed away; noise is left
        lambda z: (z[:, 0] - z[:, 1]).square(),  # constant on the path
        lambda z: torch.sigmoid(5 * (z[:, 0] - 0.5)),  # the same from both ends
    ],
    chapter06.error_of_sum: [
        errors_as_if_independent,
        lambda s, e, x: (s * (e @ x)).std(),
        lambda s, e, x: (s * (e @ x)).std() / len(e),
        lambda s, e, x: (s * (e @ x)).mean(),
        lambda s, e, x: None,
    ],
    chapter06.hidden_difference: [
        lambda z: z,  # smoothing leaves it alone
        lambda z: torch.cos(math.pi * z),  # smoothed, but not away
        lambda z: z * 0,
        lambda z: (z == 1).double(),  # not continuous
        lambda z: ((z - 1).abs() < 1e-3).double(),  # nor at the needle's sides
        lambda z: bump(z, width=0.2),  # too wide to be smoothed away
        wave,  # of the text, and not in [0, 1]
        lambda z: -bump(z),
        lambda z: 1.0,
    ],
}
