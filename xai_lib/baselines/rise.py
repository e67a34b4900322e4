"""RISE: randomized input sampling for explanation of black-box models.

Petsiuk, Das and Saenko, BMVC 2018. The saliency of a pixel is the score the model is
expected to give when that pixel is visible (their eq. 3), estimated from random masks
m_1 ... m_n:

    S(pixel) = E[f(x * m) | m(pixel) = 1]  ~  sum_i f(x * m_i) m_i / sum_i m_i

Their eq. 6 divides by n p, the expectation of the last sum, instead of the sum. With
the sum itself a constant model gets a flat map; with n p it gets the noise of the
masks, multiplied by the constant. Regression needs fewer queries than both: see
`estimators`.

A mask is a small random grid, upsampled bilinearly and shifted (`kernels.masks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from xai_lib.baselines.estimators import Estimate, Mean, Ridge
from xai_lib.core.arguments import check_choice, check_count, check_number, check_seed
from xai_lib.core.attribution import BlackBoxAttribution, accumulator, progress
from xai_lib.core.blackbox import keeping
from xai_lib.core.blocks import at_once, of_target
from xai_lib.kernels import kernels_run_on, philox
from xai_lib.kernels import masks as kernel

CHUNK = 64  # masks made at once
ESTIMATORS = ("plain", "self-normalised", "ridge")


class RISE(BlackBoxAttribution):
    """RISE (Petsiuk et al., 2018, section 3).

    Args:
        forward_func: any callable from images to scores; use probabilities.
        n_samples: masks, and so queries, per image. The same masks serve all images.
        mask_size: cells per side of the small random grid.
        p: the probability that a cell is visible.
        seed: of the masks; the same seed gives the same map, on every device.
        estimator: of the expectation. "plain" is the paper's, "self-normalised" divides
            by the sum of masks, "ridge" asks pairs of masks and fits a linear model,
            for the map that the others have with several times as many queries; it
            needs at least 4.

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
        estimator: str = "self-normalised",
    ) -> None:
        super().__init__(forward_func)
        self.estimator = check_choice("estimator", estimator, ESTIMATORS)
        self.paired = estimator == "ridge"
        self.n_samples = check_count("n_samples", n_samples, 4 if self.paired else 1)
        self.mask_size = check_count("mask_size", mask_size)
        self.p = check_number("p", p, 0, 1)
        if p in (0, 1):
            raise ValueError(f"p must be above 0 and below 1, got {p}: no mask varies")
        self.seed = check_seed(seed)

    def attribute_all(self, inputs: Tensor, *, show_progress: bool = False) -> Tensor:
        """The maps of all K classes, `[N, K, H, W]`, from one set of queries."""
        keep = of_target(None)
        return self._of_all_classes(
            inputs, lambda x: self._average(x, keep, show_progress)
        )

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
        like = inputs.new_empty(height, width, dtype=accumulator(inputs))
        estimate = self._estimate(inputs)
        draws = self._draws(height, width, inputs.device)
        blocks = -(-self.n_samples // min(CHUNK, at_once(height * width)))
        with keeping(estimate.maps):
            for cells, shifts in progress(draws, show_progress, blocks, "RISE"):
                masks = self._masks(cells, shifts, like)

                def masked(i: slice, j: slice, m: Tensor = masks) -> Tensor:
                    return inputs[i, None] * m[None, j, None].to(inputs.dtype)

                scores = self.blackbox.versions(n, len(cells), masked, keep)
                estimate.add(masks, scores)
        maps = estimate.maps()
        assert maps is not None
        return maps

    def _estimate(self, inputs: Tensor) -> Estimate:
        if self.estimator == "ridge":
            return Ridge(inputs, self.p, self.mask_size)
        return Mean(inputs, self.p if self.estimator == "plain" else None)

    def masks(self, height: int, width: int) -> Iterator[Tensor]:
        """Yield the masks, a chunk at a time: `[m, height, width]`, in [0, 1]."""
        like = torch.empty(height, width, dtype=torch.float32, device="cpu")
        for cells, shifts in self._draws(height, width, like.device):
            yield self._masks(cells, shifts, like)

    def _masks(self, cells: Tensor, shifts: Tensor, like: Tensor) -> Tensor:
        if kernels_run_on(cells.device):
            return kernel.shown(torch.ones_like(like)[None, None], cells, shifts)[
                0, :, 0
            ]
        return kernel.plain_masks(cells, shifts, like)

    def _draws(
        self, height: int, width: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Cells `[m, s, s]` and shifts `[m, 2]` of some masks after the others."""
        size, s = min(CHUNK, at_once(height * width)), self.mask_size
        # All shifts are drawn, the last valid one included.
        most = [kernel.most_shift(s, side) for side in (height, width)]
        below = torch.tensor(most, device="cpu").to(device) + 1
        for first in range(0, self.n_samples, size):
            last = min(first + size, self.n_samples)
            # Of a pair, both masks have the same draw, the second its negative.
            each = 2 if self.paired else 1
            place = self.seed, first // each, -(-last // each) - first // each
            drawn = philox.uniforms(*place, s * s, device=device)
            shifts = philox.integers(*place, 2, below, 1, device)
            if self.paired:
                part = slice(first % 2, first % 2 + last - first)
                drawn = torch.stack([drawn, -drawn], dim=1).flatten(0, 1)[part]
                shifts = shifts.repeat_interleave(2, dim=0)[part]
            visible = (drawn < 2 * self.p - 1).to(torch.float32)
            yield visible.view(-1, s, s), shifts
