"""How far apart two maps of one image are, as the GEEX paper measures it."""

import torch
from torch import Tensor

from xai_lib.core.arguments import check_inputs
from xai_lib.core.attribution import accumulator
from xai_lib.core.blocks import groups, joined


def map_distance(first: Tensor, second: Tensor) -> Tensor:
    """The L2,1 norm of the difference of two maps, per pixel: `[N]`, symmetric in them.

    Each map is first divided by its largest absolute value, as methods have scales of
    their own; a map that is zero everywhere stays so. The L2,1 norm is the sum over
    the columns of a matrix of the columns' Euclidean lengths. It depends on the image's
    height: the same difference in every pixel weighs 1/√H in it.

    Args:
        first, second: `[N, C, H, W]`, or with one channel `[N, 1, H, W]`. Channels are
            summed, as in `deletion`.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Source: Cai and Wunder, "On gradient-like explanation under a black-box setting",
    first arXiv version, section 4, "Comparison to white-box explanation".
    """
    check_inputs(first, "first")
    check_inputs(second, "second")
    if first[:, 0].shape != second[:, 0].shape:
        raise ValueError(
            "first and second must be maps of the same images, got shapes "
            f"{list(first.shape)} and {list(second.shape)}"
        )

    def distances(a: Tensor, b: Tensor) -> Tensor:
        difference = _scaled(a) - _scaled(b.to(a.device))
        columns = torch.linalg.vector_norm(difference, dim=1)
        return columns.sum(dim=1) / difference[0].numel()

    return joined(len(first), (distances(*part) for part in groups(first, second)))


def _scaled(maps: Tensor) -> Tensor:
    """Summed over the channels, and with a largest absolute value of 1: `[N, H, W]`."""
    summed = maps.sum(dim=1, dtype=accumulator(maps))
    largest = summed.abs().amax(dim=(1, 2), keepdim=True)
    return summed / torch.where(largest > 0, largest, 1)
