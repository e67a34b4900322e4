"""RISE: randomized input sampling for explanation of black-box models.

Petsiuk, Das and Saenko, BMVC 2018. The saliency of a pixel is the score the model is
expected to give when that pixel is visible (their eq. 3), estimated from random masks
m_1 ... m_n:

    S(pixel) = E[f(x * m) | m(pixel) = 1]  ~  sum_i f(x * m_i) m_i / sum_i m_i

Their eq. 6 divides by n p, the expectation of the last sum, instead of the sum. With
the sum itself a constant model gets a flat map; with n p it gets the noise of the
masks, multiplied by the constant.

A mask is a small random grid, upsampled bilinearly and shifted. Bilinear upsampling
acts on rows and columns apart, so a mask is a product of three small matrices,

    m_i = A[y_i : y_i + H] @ grid_i @ A[x_i : x_i + W].T,

and a batch of masks is two batched matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_lib.core.arguments import check_count, check_inputs, check_number, check_seed
from xai_lib.core.attribution import (
    DRAWN,
    BlackBoxAttribution,
    accumulator,
    as_maps,
    chunks,
    generator,
    progress,
)
from xai_lib.core.blackbox import keeping
from xai_lib.core.blocks import at_once, groups, joined, of_target
from xai_lib.core.image_range import check_range

CHUNK = 64  # masks drawn at once


class RISE(BlackBoxAttribution):
    """RISE (Petsiuk et al., 2018, section 3).

    Args:
        forward_func: any callable from images to scores; use probabilities.
        n_samples: masks, and so queries, per image. The same masks serve all images.
        mask_size: cells per side of the small random grid.
        p: the probability that a cell is visible.
        seed: of the masks; the same seed gives the same map.

    Example: a model that looks at the left half alone.

        >>> import torch, xai_lib
        >>> left = lambda x: x[..., :4].mean(dim=(1, 2, 3))
        >>> image = torch.ones(1, 1, 8, 8)
        >>> heat = xai_lib.RISE(left, n_samples=500).attribute(image, target=0)
        >>> bool(heat[..., :4].mean() > heat[..., 4:].mean())
        True
    """

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 4000,
        mask_size: int = 7,
        p: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.n_samples = check_count("n_samples", n_samples)
        self.mask_size = check_count("mask_size", mask_size)
        self.p = check_number("p", p, 0, 1)
        if p in (0, 1):
            raise ValueError(f"p must be above 0 and below 1, got {p}: no mask varies")
        self.seed = check_seed(seed)

    def attribute_all(self, inputs: Tensor, *, show_progress: bool = False) -> Tensor:
        """The maps of all K classes, `[N, K, H, W]`, from one set of queries."""
        check_inputs(inputs)
        check_range(self.forward_func, inputs)
        maps = (
            as_maps(self._average(x, of_target(None), show_progress), x)
            for (x,) in groups(inputs.detach())
        )
        return joined(len(inputs), maps)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        return self._average(inputs, of_target(target), show_progress)

    def _average(
        self,
        inputs: Tensor,
        keep: Callable[[slice, Tensor], Tensor],
        show_progress: bool,
    ) -> Tensor:
        """Propose masks, query the model, aggregate the answers."""
        n, _, height, width = inputs.shape
        coverage = inputs.new_zeros(height, width, dtype=accumulator(inputs))
        total = coverage.new_zeros(0)
        rows = at_once(height * width)
        counts = chunks(self.n_samples, CHUNK)
        blocks = sum(math.ceil(count / rows) for count in counts)
        masks_of = self.masks(height, width)

        def average() -> Tensor:
            # A pixel that no mask showed has no evidence: 0 / tiny = 0.
            return total.div_(coverage.clamp_min(torch.finfo(coverage.dtype).tiny))

        with keeping(average):
            for masks in progress(masks_of, show_progress, blocks, "RISE"):
                masks = masks.to(total)
                shown = masks.to(inputs)

                def masked(i: slice, j: slice, shown: Tensor = shown) -> Tensor:
                    return inputs[i, None] * shown[None, j, None]

                scores = self.blackbox.versions(n, len(masks), masked, keep).to(masks)
                if not len(total):
                    total = coverage.new_zeros(n, scores.shape[2], height, width)
                weights = scores.transpose(1, 2).flatten(0, 1).split(rows)
                sums = total.flatten(0, 1).split(rows)
                for part, w in zip(sums, weights, strict=True):
                    part += (w @ masks.flatten(1)).view_as(part)
                coverage += masks.sum(dim=0)
        return average()

    def masks(self, height: int, width: int) -> Iterator[Tensor]:
        """Yield the masks in chunks `[m, height, width]`, values in [0, 1].

        Memory does not grow with `n_samples`.
        """
        rng = generator(self.seed)
        rows, columns = (upsampling(self.mask_size, size) for size in (height, width))
        size = at_once(height * width)
        for m in chunks(self.n_samples, CHUNK):
            cells = (
                torch.rand(m, self.mask_size, self.mask_size, generator=rng, **DRAWN)
                < self.p
            ).float()
            # All shifts are drawn, the last valid one included.
            down, right = len(rows) - height + 1, len(columns) - width + 1
            y = torch.randint(down, (m, 1), generator=rng, device="cpu")
            x = torch.randint(right, (m, 1), generator=rng, device="cpu")
            for start in range(0, m, size):
                part = slice(start, start + size)
                top = rows[y[part] + torch.arange(height, device="cpu")]
                left = columns[x[part] + torch.arange(width, device="cpu")]
                yield top @ cells[part] @ left.transpose(1, 2)


def upsampling(mask_size: int, size: int) -> Tensor:
    """The matrix A of one-dimensional linear upsampling, `[(s + 1) * cell, s]`.

    s is `mask_size` and `cell` is ceil(size / s), so that A is at least a cell longer
    than an image of `size` and the mask can be shifted by that much (Petsiuk et al.,
    section 3.2).
    """
    length = (mask_size + 1) * math.ceil(size / mask_size)
    cells = torch.eye(mask_size, dtype=torch.float32, device="cpu")[None]
    return F.interpolate(cells, size=length, mode="linear")[0].T
