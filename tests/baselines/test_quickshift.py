"""Quick shift against its definition, by brute force on a small picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

from xai_lib.baselines import LIME
from xai_lib.baselines.quickshift import quick_shift
from xai_lib.zoo import photos


def small() -> Tensor:
    """A picture without two equal distances."""
    source = torch.Generator().manual_seed(0)
    return torch.rand(3, 7, 9, generator=source)


def by_definition(image: Tensor, kernel: float, longest: float, ratio: float) -> Tensor:
    """Links to the nearest denser pixel of all; the root of each pixel."""
    height, width = image.shape[1:]
    colours = ratio * rgb2lab(image.permute(1, 2, 0).double().numpy())
    y, x = np.mgrid[:height, :width]
    points = np.dstack([colours, y, x]).reshape(height * width, 5)
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    density = np.exp(-(distance**2) / (2 * kernel**2)).sum(axis=1)
    root = np.arange(len(points))
    for i in np.argsort(-density):
        denser = np.flatnonzero(density > density[i])
        if len(denser):
            nearest = denser[distance[i, denser].argmin()]
            if distance[i, nearest] <= longest:
                root[i] = root[nearest]  # denser ones have theirs already
    return torch.from_numpy(root.reshape(height, width))


@pytest.mark.parametrize("longest", [2.0, 4.0, 200.0])
def test_pixels_follow_the_nearest_denser_one(longest: float) -> None:
    # A window of three times the kernel holds all of this picture.
    found = quick_shift(small(), 4, longest, 0.05)
    expected = by_definition(small(), 4, longest, 0.05)
    pairs = torch.stack([found.flatten(), expected.flatten()]).unique(dim=1)
    assert len(found.unique()) == len(expected.unique()) == pairs.shape[1]
    assert torch.equal(found.unique(), torch.arange(len(found.unique())))


def test_longer_links_leave_fewer_segments() -> None:
    counts = [
        len(quick_shift(small(), 4, longest, 0.05).unique()) for longest in (2, 4)
    ]
    assert counts[0] > counts[1]


def test_lime_takes_them() -> None:
    """All pixels of a segment share a weight, and segments have their own."""
    image = photos.load("chelsea").image[:, :, ::2, ::2]
    segments = quick_shift(image[0])
    count = len(segments.unique())
    assert count >= 5
    maps = LIME(
        lambda x: x.flatten(1).mean(1, keepdim=True), 40, feature_mask=segments
    ).attribute(image, 0)
    assert len(maps.unique()) == count


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_what_is_not_rgb_is_grey(channels: int) -> None:
    image = torch.rand(channels, 9, 9, generator=torch.Generator().manual_seed(1))
    grey = image.mean(0).expand(3, -1, -1)
    assert torch.equal(quick_shift(image, 4, 4), quick_shift(grey, 4, 4))
