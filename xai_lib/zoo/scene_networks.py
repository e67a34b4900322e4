"""The networks for scenes: a multi-label classifier and an anchor-free detector."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 4
"""Pixels of the image per cell of the detector's maps."""


def _block(channels: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False),
            norm=nn.BatchNorm2d(out),
            relu=nn.ReLU(),
        )
    )


def scenes_cnn(categories: int = 10) -> nn.Sequential:
    """Six convolutions, then the mean over places: `[N, 1, H, W]` to logits `[N, 10]`.

    A cell of the last map, `block6`, stands for 8 × 8 pixels and sees 57 × 57, about
    as much as the largest article. Grad-CAM looks there. Every activation is a module
    of its own.
    """
    return nn.Sequential(
        OrderedDict(
            block1=_block(1, 16, kernel=5, stride=2),
            block2=_block(16, 32, stride=2),
            block3=_block(32, 48),
            block4=_block(48, 64, stride=2),
            block5=_block(64, 96),
            block6=_block(96, 128),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dense=nn.Linear(128, categories),
        )
    )


class CentreNetwork(nn.Module):
    """For every cell of 4 × 4 pixels: is here the centre of an object, and where are
    its edges? `[N, 1, H, W]` to `[N, 10 + 4, H / 4, W / 4]`; H and W in multiples of 8.

    Objects as points (Zhou et al., 2019), edges by their distances from the point
    (Tian et al., 2019). The first ten channels are logits, one per class; the others
    the distances to the left, upper, right and lower edge in pixels, all positive.
    The first blocks are those of `scenes_cnn`.
    """

    def __init__(self, categories: int = 10) -> None:
        super().__init__()
        self.categories = categories
        layers = scenes_cnn(categories)
        self.fine, self.coarse = layers[:3], layers[3:6]
        self.lateral = nn.Conv2d(48, 64, 1)
        self.top = nn.Conv2d(128, 64, 1)
        self.merge = _block(64, 64)
        self.heatmap = nn.Conv2d(64, categories, 1)
        self.edges = nn.Conv2d(64, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        coarse = F.interpolate(self.top(self.coarse(fine)), scale_factor=2.0)
        shared = self.merge(self.lateral(fine) + coarse)
        # In units of 16 pixels the logarithms lie around 0.
        edges = 16 * self.edges(shared).exp()
        return torch.cat([self.heatmap(shared), edges], dim=1)


def boxes_around(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes `[k, 4]` from points (x, y) `[k, 2]` and their distances to the left,
    upper, right and lower edge `[k, 4]`."""
    return torch.cat([points - distances[:, :2], points + distances[:, 2:]], dim=1)
