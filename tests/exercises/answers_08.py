"""Right and wrong answers to the exercises of chapter 08."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import distance_transform_cdt, distance_transform_edt

from xai_book.exercises import chapter08
from xai_lib.aise import DirectSampler, gaussian_masks


def both(kept, left):
    return kept - left


def aise_map(
    f, image, n, widths, score=both, climb=None, centred=True, volume=True, new=True
):
    total, size, sampler = 0.0, image.shape[1:], DirectSampler()
    for sigma in widths:
        sampler = DirectSampler() if new else sampler
        answers = np.zeros((2, 0))
        while len(sampler.scores) < n:
            points = sampler.ask(n - len(sampler.scores))
            G = gaussian_masks(points, sigma, *size)[:, None]
            found = np.stack([f(image * mask).double() for mask in (G, 1 - G)])
            sampler.tell(points, (climb or score)(*found))
            answers = np.hstack([answers, found])
        scores = score(*answers) if new else sampler.scores
        weights = torch.from_numpy(scores - centred * scores.mean())
        G = gaussian_masks(sampler.points, sigma, *size).double()
        part = (weights[:, None, None] * G).mean(dim=0)
        total = total + part / (2 * math.pi * sigma**2 if volume else 1)
    return total


def asks_for_the_image(f, image, n, widths):
    f(image[None])
    return aise_map(f, image, n, widths)


def near_share(mask, tolerance):
    distances = distance_transform_edt(~mask.numpy())
    return ((distances < tolerance) | (distances == 0)).mean()


def two_of_three(images):
    a, b, c = images[:, 0, 5, 5], images[:, 0, 5, 34], images[:, 0, 34, 20]
    return a * b + b * c + a * c - 2 * a * b * c


RIGHT = {
    chapter08.hidden_from_both: two_of_three,
    chapter08.aise_map: aise_map,
    chapter08.chance: near_share,
}

WRONG = {
    chapter08.hidden_from_both: [
        lambda images: images.amax(dim=(1, 2, 3)),  # either: preserve sees it
        lambda images: images.amin(dim=(1, 2, 3)),  # both: delete sees it
        lambda images: images.mean(dim=(1, 2, 3)),  # a part for every spot
        lambda images: (images[:, 0, [5, 20, 34], 5] > 0.5).all(dim=1).float(),
        lambda images: images[:, 0, 20, 20],  # everything hangs on one place
        lambda images: torch.zeros(len(images)),
        lambda images: torch.ones(len(images)),  # sure of nothing at all
        lambda images: 2 * two_of_three(images),
        lambda images: two_of_three(images).max(),
    ],
    chapter08.aise_map: [
        lambda *case: aise_map(*case, score=lambda kept, left: kept),  # preserve alone
        lambda *case: aise_map(*case, score=lambda kept, left: -left),
        lambda *case: aise_map(*case, score=lambda kept, left: kept + left),
        lambda *case: aise_map(*case, climb=lambda kept, left: kept),
        lambda *case: aise_map(*case, climb=lambda kept, left: -left),
        asks_for_the_image,
        lambda *case: aise_map(*case, new=False),  # one search for all widths
        lambda *case: aise_map(*case, centred=False),
        lambda *case: aise_map(*case, volume=False),
        lambda f, x, n, widths: aise_map(f, x, n, widths) / len(widths),
        lambda f, x, n, widths: aise_map(f, x, n, (0.1, 0.175, 0.25)),
        lambda f, x, n, widths: aise_map(f, x, n + 1, widths),
        lambda *case: aise_map(*case)[None],
    ],
    chapter08.chance: [
        lambda mask, tolerance: mask.double().mean(),  # no tolerance
        lambda mask, tolerance: 1 - near_share(mask, tolerance),
        lambda mask, tolerance: near_share(mask.T, tolerance + 1),
        lambda mask, tolerance: (distance_transform_edt(~mask) <= tolerance).mean(),
        lambda mask, tolerance: (distance_transform_cdt(~mask) < tolerance).mean(),
        lambda mask, tolerance: (distance_transform_edt(~mask) < tolerance).mean(),
        lambda mask, tolerance: near_share(mask, tolerance) * mask.numel(),
        lambda mask, tolerance: mask,
    ],
}
