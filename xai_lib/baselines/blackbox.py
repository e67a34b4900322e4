"""Black-box baselines from Captum: what the score loses when a part is hidden."""

from __future__ import annotations

from collections.abc import Callable

import captum.attr
import torch
from torch import Tensor

from xai_lib.arguments import check_count, expand_baselines, pick
from xai_lib.attribution import BlackBoxAttribution, progress

# Queries handed to the black box at once; it splits them as the hardware likes.
QUERIES_PER_CALL = 64


class Occlusion(BlackBoxAttribution):
    """f_t(x) − f_t(x with a square hidden), averaged over the squares on a pixel.

    The square hides all channels, so a map is `[N, 1, H, W]`. Squares start at the
    upper left corner; the last of a row or column is cut off where it does not fit.
    One square at a time: parts that can stand in for each other all look unimportant,
    and an object much larger than the square may too.

    Costs 1 + ⌈(H − window)/stride + 1⌉ · ⌈(W − window)/stride + 1⌉ queries per image.

    Args:
        forward_func: callable from images to scores `[N, K]`, or a `BlackBox`.
        window: side of the square in pixels.
        stride: pixels from one square to the next, at most `window`; None is
            `window`: squares side by side, the fewest queries.
        baselines: what the square shows, a number or an image `[C, H, W]`.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks"
    (2014), section 4.2, https://arxiv.org/abs/1311.2901, with the score's loss as in
    Ancona et al. (2018), https://arxiv.org/abs/1711.06104.
    """

    def __init__(
        self,
        forward_func: Callable,
        window: int = 12,
        stride: int | None = None,
        baselines: float | Tensor = 0,
    ) -> None:
        super().__init__(forward_func)
        self.window = check_count("window", window)
        self.stride = self.window if stride is None else check_count("stride", stride)
        if self.stride > self.window:
            raise ValueError(
                f"stride must be at most window ({self.window}), or pixels between "
                f"two squares are never hidden; got {self.stride}"
            )
        self.baselines = baselines

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        channels, height, width = inputs.shape[1:]
        if self.window > min(height, width):
            raise ValueError(
                f"window must be at most the image's side, got {self.window} for "
                f"images of {height} x {width} pixels"
            )

        def score(images: Tensor, classes: Tensor) -> Tensor:
            return pick(self.blackbox(images), classes)

        # As many images at once as one call holds, with as many squares as fit.
        together = inputs.split(QUERIES_PER_CALL)
        classes = target.split(QUERIES_PER_CALL)
        pairs = list(zip(together, classes, strict=True))
        maps = [
            captum.attr.Occlusion(score).attribute(
                images,
                sliding_window_shapes=(channels, self.window, self.window),
                strides=(channels, self.stride, self.stride),
                baselines=expand_baselines(self.baselines, images),
                additional_forward_args=chosen,
                perturbations_per_eval=max(1, QUERIES_PER_CALL // len(images)),
                show_progress=False,
            )[:, :1]
            for images, chosen in progress(
                pairs, show_progress, len(pairs), "Occlusion"
            )
        ]
        return torch.cat(maps).to(inputs)  # Captum ends in float32
