"""Right and wrong answers to the exercises of chapter 08."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from xai_book.exercises import chapter08


def far_share(points, sigma, size, at=0.5):
    g = (np.arange(size) + at) / size
    pixels = np.stack([a.ravel() for a in np.meshgrid(g, g)], axis=1)
    return (KDTree(points).query(pixels)[0] > sigma).mean()


def square(best, sigma, reach):
    half = reach * sigma
    return (best - half).clip(0, 1), (best + half).clip(0, 1)


def near_share(mask, tolerance):
    distances = distance_transform_edt(~mask.numpy())
    return ((distances < tolerance) | (distances == 0)).mean()


RIGHT = {
    chapter08.combined: lambda preserved, deleted: preserved - deleted,
    chapter08.redundant: lambda images: images.amax(dim=(1, 2, 3)),
    chapter08.uncovered: far_share,
    chapter08.next_bounds: square,
    chapter08.chance: near_share,
}

WRONG = {
    chapter08.combined: [
        lambda preserved, deleted: preserved + deleted,
        lambda preserved, deleted: preserved + 1 - deleted,
        lambda preserved, deleted: (preserved - deleted) / 2,
        lambda preserved, deleted: (preserved - deleted)[None],
        lambda preserved, deleted: (preserved - deleted).tolist(),
    ],
    chapter08.redundant: [
        lambda images: images.mean(dim=(1, 2, 3)),  # no spot convinces
        lambda images: images[:, 0, 20, 20],  # everything hangs on one place
        lambda images: torch.zeros(len(images)),
        lambda images: 2 * images.amax(dim=(1, 2, 3)),
        lambda images: images.amax(),
        lambda images: torch.ones(len(images)),  # sure of nothing at all
        lambda images: 1 - images.amin(dim=(1, 2, 3)),
    ],
    chapter08.uncovered: [
        lambda points, sigma, size: 1 - far_share(points, sigma, size),
        lambda points, sigma, size: far_share(points[:1], sigma, size),
        lambda points, sigma, size: far_share(points, sigma, size, at=0),
        lambda points, sigma, size: far_share(points, sigma / 2, size),
        lambda points, sigma, size: None,
    ],
    chapter08.next_bounds: [
        lambda best, sigma, reach: (best - reach * sigma, best + reach * sigma),
        lambda best, sigma, reach: square(best, sigma, reach / 2),
        lambda best, sigma, reach: square(best[::-1], sigma, reach),
        lambda best, sigma, reach: np.concatenate(square(best, sigma, reach)),
        lambda best, sigma, reach: None,
    ],
    chapter08.chance: [
        lambda mask, tolerance: mask.double().mean(),  # no tolerance
        lambda mask, tolerance: 1 - near_share(mask, tolerance),
        lambda mask, tolerance: near_share(mask.T, tolerance + 1),
        lambda mask, tolerance: (distance_transform_edt(~mask) <= tolerance).mean(),
        lambda mask, tolerance: mask,
    ],
}
