"""The pointing game: does the map point at the object?

Zhang et al., "Top-down neural attention by excitation backprop" (2016/2018),
https://arxiv.org/abs/1608.00507: each pair of an image and a class in it is a hit if
the map's maximum lies on an object of the class, or close to one. The score is the mean
over classes of the share of hits. The rules here are those of TorchRay, which the AISE
paper uses, except in two cases:

- Several maxima: each of them is tested, and the pair counts as the share that hits, so
  that a flat map scores what a random point would. TorchRay takes the first one in row
  order, so a flat map points at the upper left corner.
- Classes without a pair have no accuracy and do not enter the mean. TorchRay enters 0.

TorchRay measures the 15 pixels in the original image, to whose size it brings the map.

The energy-based variant (Wang et al., Score-CAM, 2020,
https://arxiv.org/abs/1910.01279) asks for the share of the map's positive mass on the
object or in its box, and so looks at the whole map.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from xai_lib.core.arguments import check_count, check_inputs, check_number, check_seed
from xai_lib.core.blocks import groups, joined
from xai_lib.metrics.intervals import image_mean, times_drawn


def pointing_hits(attributions: Tensor, masks: Tensor, tolerance: float = 15) -> Tensor:
    """Whether the maximum of each map lies on its mask, or nearer than `tolerance`.

    Args:
        attributions: `[M, 1, H, W]`, one map per pair of an image and a class in it.
        masks: bool `[M, H, W]`: the pixels of all objects of the class.
        tolerance: in pixels of the masks, from pixel centre to pixel centre; 0 counts
            a maximum on the mask only.

    Returns:
        Float64 `[M]`: 1 or 0; where several pixels share the maximum, the share of
        them that hit.

    Raises:
        TypeError, ValueError: a wrong argument, by name; an empty mask, which nothing
            can hit.
    """
    _check_regions(attributions, masks)
    check_number("tolerance", tolerance, 0)
    hits = []
    for values, mask in zip(attributions[:, 0].cpu(), masks.cpu().numpy(), strict=True):
        distances = torch.from_numpy(distance_transform_edt(~mask))
        at_maximum = distances[values == values.max()]
        hit = (at_maximum < tolerance) | (at_maximum == 0)
        hits.append(hit.double().mean())
    return torch.stack(hits)


def energy_inside(attributions: Tensor, masks: Tensor) -> Tensor:
    """The share of each map's positive mass on its mask: float64 `[M]` in [0, 1].

    A map with no positive value counts as a flat one: the mask's share of the area,
    which is what a map that knows nothing gets.

    Args:
        attributions: `[M, 1, H, W]`.
        masks: bool `[M, H, W]`; see `boxes.box_masks` for boxes.

    Raises:
        TypeError, ValueError: as `pointing_hits`.
    """
    _check_regions(attributions, masks)

    def shares(maps: Tensor, inside: Tensor) -> Tensor:
        mass = maps[:, 0].detach().cpu().double().clamp_min(0).flatten(1)
        mass[mass.amax(dim=1) == 0] = 1
        # Divided by the maximum first: sums of tiny or huge values stay finite.
        mass /= mass.amax(dim=1, keepdim=True)
        whole = mass.sum(dim=1)
        return mass.mul_(inside.cpu().flatten(1)).sum(dim=1) / whole

    parts = groups(attributions, masks)
    return joined(len(masks), (shares(*part) for part in parts))


class PointingGame(NamedTuple):
    """The score of the pairs of an image and a class: `hits` and what they belong to.

    Two methods on the same pairs share the resamples of `bootstrap`, so that the
    differences of the two are those of a paired comparison.
    """

    hits: Tensor
    """In [0, 1], `[M]`, from `pointing_hits`."""
    target: Tensor
    """The class of each pair, int64 `[M]`."""
    image: Tensor
    """The image of each pair, int64 `[M]`: any numbers, equal for the same image."""

    @property
    def per_class(self) -> dict[int, float]:
        """The share of hits of each class that occurs, by class."""
        return {
            int(c): float(image_mean(self.hits[self.target == c]))
            for c in self.target.unique()
        }

    @property
    def accuracy(self) -> float:
        """The mean of `per_class`."""
        check_count("the number of pairs", len(self.hits))
        shares = self.hits.new_tensor([*self.per_class.values()], dtype=torch.float64)
        return float(image_mean(shares))

    def subset(self, keep: Tensor) -> PointingGame:
        """The pairs that a bool `[M]` selects, such as the difficult ones.

        Zhang et al. call a pair difficult if the objects of its class cover less than
        a quarter of the image, and there is an object of another class.
        """
        return PointingGame(*(part[keep] for part in self))

    def bootstrap(self, n_resamples: int = 2000, seed: int = 0) -> Tensor:
        """The accuracy in resamples of the images: float64 `[n_resamples]`.

        All pairs of an image are drawn together. A class that a resample misses does
        not enter its mean.
        """
        check_count("n_resamples", n_resamples)
        check_seed(seed)
        images, row = self.image.unique(return_inverse=True)
        classes, column = self.target.unique(return_inverse=True)
        n = check_count("the number of pairs", len(images))
        hits = self.hits.double()
        empty = hits.new_zeros(n, len(classes))
        # Less the first, so that equal hits are exactly their mean.
        more = empty.index_put((row, column), hits - hits[0], accumulate=True)
        pairs = empty.index_put((row, column), torch.ones_like(hits), accumulate=True)
        times = times_drawn(n, n_resamples, seed)
        return hits[0] + ((times @ more) / (times @ pairs)).nanmean(dim=1)

    def interval(
        self, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
    ) -> tuple[float, float]:
        """The percentile bootstrap interval of the accuracy, over images."""
        tail = (1 - check_number("level", level, 0, 1)) / 2
        drawn = self.bootstrap(n_resamples, seed)
        low, high = drawn.quantile(drawn.new_tensor([tail, 1 - tail]))
        return float(low), float(high)


def _check_regions(attributions: Tensor, masks: Tensor) -> None:
    """Refuse maps that are not `[M, 1, H, W]`, and masks that do not belong to them."""
    check_inputs(attributions, "attributions")
    m, channels, height, width = attributions.shape
    if channels != 1:
        raise ValueError(
            f"attributions must be [M, 1, H, W], got {list(attributions.shape)}; "
            "reduce the channels first, e.g. .abs().amax(dim=1, keepdim=True) for a "
            "gradient"
        )
    if not isinstance(masks, Tensor) or masks.dtype is not torch.bool:
        got = masks.dtype if isinstance(masks, Tensor) else type(masks).__name__
        raise TypeError(f"masks must be a bool tensor [M, H, W], got {got}")
    if masks.shape != (m, height, width):
        raise ValueError(
            f"masks must be {[m, height, width]} for attributions of shape "
            f"{list(attributions.shape)}, got {list(masks.shape)}"
        )
    empty = (~masks.flatten(1).any(dim=1)).nonzero()
    if len(empty):
        raise ValueError(
            f"masks must not be empty, but mask {int(empty[0])} has no pixel, so that "
            "no map can hit it; leave the pair out"
        )
