"""Superpixels by quick shift, as the program of LIME's authors makes them.

Each pixel is linked to the nearest one where colours and places lie denser; the trees
that the links make are the segments, so that their number follows from the picture.

Vedaldi and Soatto, "Quick shift and kernel methods for mode seeking" (2008).
"""

import torch
from torch import Tensor

from xai_lib.core.extras import extra


def quick_shift(
    image: Tensor,
    kernel_size: float = 4,
    max_dist: float = 200,
    ratio: float = 0.2,
) -> Tensor:
    """Which segment each pixel is in: int64 `[H, W]`, a `feature_mask` for `LIME`.

    The defaults are those of https://github.com/marcotcr/lime.

    Args:
        image: `[C, H, W]`, values about 0 to 1; what is not RGB is taken as grey.
        kernel_size: of the density, a standard deviation in pixels.
        max_dist: the longest link; the larger, the fewer segments.
        ratio: from 0 to 1, the weight of colours beside that of places.
    """
    with extra("book"):
        from skimage.segmentation import quickshift
    if len(image) != 3:
        image = image.mean(dim=0).expand(3, -1, -1)
    pixels = image.permute(1, 2, 0).cpu().double().numpy()
    found = quickshift(pixels, ratio, kernel_size, max_dist)  # numbered without gaps
    return torch.from_numpy(found).long().to(image.device)
