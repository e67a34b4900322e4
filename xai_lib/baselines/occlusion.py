"""Occlusion: what the score loses when a square of the image is hidden."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from xai_lib.core.arguments import check_baselines, check_count, expand_baselines
from xai_lib.core.attribution import BlackBoxAttribution, progress
from xai_lib.core.blackbox import keeping
from xai_lib.core.blocks import of_target

QUERIES_PER_CALL = 64  # squares whose answers are kept before they enter the map


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
        baselines: float | Tensor = 0.0,
    ) -> None:
        super().__init__(forward_func)
        self.window = check_count("window", window)
        self.stride = self.window if stride is None else check_count("stride", stride)
        if self.stride > self.window:
            raise ValueError(
                f"stride must be at most window ({self.window}), or pixels between "
                f"two squares are never hidden; got {self.stride}"
            )
        self.baselines = check_baselines(baselines)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        height, width = inputs.shape[2:]
        if self.window > min(height, width):
            raise ValueError(
                f"window must be at most the image's side, got {self.window} for "
                f"images of {height} x {width} pixels"
            )

        shown = expand_baselines(self.baselines, inputs)
        keep, n = of_target(target), len(inputs)
        # Rows and columns of each square; slices end where the image does.
        squares = [
            (..., slice(y, y + self.window), slice(x, x + self.window))
            for y in range(0, height - self.window + self.stride, self.stride)
            for x in range(0, width - self.window + self.stride, self.stride)
        ]
        whole = self.blackbox.versions(n, 1, lambda i, _: inputs[i, None], keep)
        total = whole.new_zeros(n, 1, height, width)
        seen = whole.new_zeros(height, width)
        parts = range(0, len(squares), QUERIES_PER_CALL)
        # Squares that a budget left out have no evidence: 0 / 1 = 0.
        with keeping(lambda: total / seen.clamp_min(1)):
            for start in progress(parts, show_progress, len(parts), "Occlusion"):
                some = squares[start : start + QUERIES_PER_CALL]

                def hidden(i: slice, j: slice, some: list = some) -> Tensor:
                    images = inputs[i, None].repeat(1, len(some[j]), 1, 1, 1)
                    for k, square in enumerate(some[j]):
                        images[:, k][square] = shown[i][square]
                    return images

                drops = whole - self.blackbox.versions(n, len(some), hidden, keep)
                for drop, square in zip(drops.unbind(1), some, strict=True):
                    total[square] += drop[:, :, None, None]
                    seen[square] += 1
        return total.div_(seen).to(inputs)
