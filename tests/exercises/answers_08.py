"""Right and wrong answers to the exercises of chapter 08."""

from __future__ import annotations

import math

import torch
from scipy.ndimage import distance_transform_edt

from xai_book.exercises import chapter08
from xai_lib.aise import DirectSampler, gaussian_masks


def both(f, image, G):
    return f(image * G) - f(image * (1 - G))


def aise_map(f, image, n, widths, score=both, centred=True, volume=True):
    total, size = 0.0, image.shape[1:]
    for sigma in widths:
        sampler = DirectSampler()
        while len(sampler.scores) < n:
            points = sampler.ask(n - len(sampler.scores))
            G = gaussian_masks(points, sigma, *size)[:, None]
            sampler.tell(points, score(f, image, G).double().numpy())
        weights = sampler.scores - centred * sampler.scores.mean()
        G = gaussian_masks(sampler.points, sigma, *size).double()
        part = (torch.from_numpy(weights)[:, None, None] * G).mean(dim=0)
        total = total + part / (2 * math.pi * sigma**2 if volume else 1)
    return total


def near_share(mask, tolerance):
    distances = distance_transform_edt(~mask.numpy())
    return ((distances < tolerance) | (distances == 0)).mean()


RIGHT = {
    chapter08.redundant: lambda images: images.amax(dim=(1, 2, 3)),
    chapter08.aise_map: aise_map,
    chapter08.chance: near_share,
}

WRONG = {
    chapter08.redundant: [
        lambda images: images.mean(dim=(1, 2, 3)),  # no spot convinces
        lambda images: images[:, 0, 20, 20],  # everything hangs on one place
        lambda images: torch.zeros(len(images)),
        lambda images: 2 * images.amax(dim=(1, 2, 3)),
        lambda images: images.amax(),
        lambda images: torch.ones(len(images)),  # sure of nothing at all
        lambda images: 1 - images.amin(dim=(1, 2, 3)),
    ],
    chapter08.aise_map: [
        lambda *case: aise_map(*case, score=lambda f, x, G: f(x * G)),  # preserve alone
        lambda *case: aise_map(*case, score=lambda f, x, G: -f(x * (1 - G))),
        lambda *case: aise_map(*case, score=lambda f, x, G: f(x * G) + f(x * (1 - G))),
        lambda *case: aise_map(  # a query for f(x) each time
            *case, score=lambda f, x, G: both(f, x, G) + f(x[None])
        ),
        lambda *case: aise_map(*case, centred=False),
        lambda *case: aise_map(*case, volume=False),
        lambda f, x, n, widths: aise_map(f, x, n, widths) / len(widths),
        lambda f, x, n, widths: aise_map(f, x, n + 1, widths),
        lambda *case: aise_map(*case)[None],
    ],
    chapter08.chance: [
        lambda mask, tolerance: mask.double().mean(),  # no tolerance
        lambda mask, tolerance: 1 - near_share(mask, tolerance),
        lambda mask, tolerance: near_share(mask.T, tolerance + 1),
        lambda mask, tolerance: (distance_transform_edt(~mask) <= tolerance).mean(),
        lambda mask, tolerance: mask,
    ],
}
