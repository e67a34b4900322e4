"""Black-box baselines: what the score loses when a part of the image is hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.core.arguments import (
    check_baselines,
    check_count,
    check_seed,
    expand_baselines,
)
from xai_lib.core.attribution import DRAWN, BlackBoxAttribution, generator, progress
from xai_lib.core.blackbox import keeping
from xai_lib.core.blocks import of_target
from xai_lib.core.extras import extra

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


class LIME(BlackBoxAttribution):
    """The weights of a linear model that imitates f_t on an image with parts hidden.

    The parts are superpixels (scikit-image's SLIC). A sample shows each of them with
    probability 1/2; the first sample shows all. Ridge regression (penalty 1) on which
    parts are seen, with samples weighted by exp(−D² / 2 · 0.25²), D being one minus the
    cosine between a sample and the whole image, gives each superpixel a weight, which
    all of its pixels share: a map is `[N, 1, H, W]`. These are the choices of the
    authors' own program, but for its superpixels, whose number cannot be set.

    Costs n_samples queries per image.

    Args:
        forward_func: callable from images to scores `[N, K]`, or a `BlackBox`.
        n_samples: samples, each of them one query.
        n_segments: superpixels to aim at; SLIC may find some more or fewer.
        baselines: what a hidden superpixel shows, a number or an image `[C, H, W]`.
        seed: of the samples; superpixels are not random.

    Source: Ribeiro, Singh, Guestrin, "Why should I trust you?" (2016), sections 3.3
    and 3.4, https://arxiv.org/abs/1602.04938.
    """

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 1000,
        n_segments: int = 50,
        baselines: float | Tensor = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.n_samples = check_count("n_samples", n_samples, at_least=2)
        self.n_segments = check_count("n_segments", n_segments, at_least=2)
        self.baselines = check_baselines(baselines)
        self.seed = check_seed(seed)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        baselines = expand_baselines(self.baselines, inputs)
        triples = list(zip(inputs, target, baselines, strict=True))
        bar = progress(triples, show_progress, len(triples), "LIME")
        return torch.stack([self._of_one(*triple) for triple in bar])

    def _of_one(self, image: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
        """The map `[1, H, W]` of one image `[C, H, W]`."""
        with extra("book"):
            from sklearn.linear_model import Ridge

        segments = superpixels(image, self.n_segments)[0, 0]
        shape, source = (self.n_samples, int(segments.max()) + 1), generator(self.seed)
        z = torch.ones(shape, dtype=torch.bool, device="cpu")
        z[1:] = torch.rand(shape[0] - 1, shape[1], generator=source, **DRAWN) < 0.5
        scores = self.blackbox.versions(
            1,
            len(z),
            partly_shown(image, baseline, segments, z),
            of_target(target[None]),
        )
        seen = z.float()
        distance = 1 - seen.mean(dim=1).sqrt()
        weights = (-(distance**2) / (2 * 0.25**2)).exp()
        ridge = Ridge(alpha=1.0)
        ridge.fit(seen.numpy(), scores[0, :, 0].float().cpu().numpy(), weights.numpy())
        return torch.from_numpy(ridge.coef_).to(image)[segments][None]


def partly_shown(
    image: Tensor, baseline: Tensor, segments: Tensor, z: Tensor
) -> Callable[[slice, slice], Tensor]:
    """For `BlackBox.versions`: an image `[C, H, W]` whose part p, of those numbered in
    segments `[H, W]`, sample j shows if bool z[j, p] says so, else its baseline."""
    z = z.to(image.device)

    def make(_: slice, j: slice) -> Tensor:
        return torch.where(z[j, segments][:, None], image, baseline)[None]

    return make


class _Doubled:
    """An image in double precision, made when SLIC asks: it works on its own copy, and
    an array in the caller's hands would lie there all the time."""

    def __init__(self, image: Tensor) -> None:
        self.image, self.ndim, self.shape = image, image.ndim, image.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.image.cpu().double().numpy()


def superpixels(image: Tensor, n_segments: int) -> Tensor:
    """Which of about `n_segments` regions each pixel is in: int64 `[1, 1, H, W]`.

    Grey images, and any that are not RGB, are divided by their brightness.

    Args:
        image: `[C, H, W]`, values about 0 to 1.
    """
    with extra("book"):
        from skimage.segmentation import slic
    if len(image) != 3:
        image = image.mean(dim=0).expand(3, -1, -1)
    found = slic(_Doubled(image.permute(1, 2, 0)), n_segments, start_label=0)
    numbered = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    return torch.from_numpy(numbered).to(image.device)[None, None]
