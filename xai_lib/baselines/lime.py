"""LIME: the weights of a linear model that imitates the score on segments.

Ribeiro, Singh and Guestrin, "Why should I trust you?" (2016), sections 3.3 and 3.4,
https://arxiv.org/abs/1602.04938.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from xai_lib.baselines.segments import CHUNK, Score, SegmentAttribution
from xai_lib.core.blackbox import keeping
from xai_lib.core.extras import extra
from xai_lib.kernels import philox


class LIME(SegmentAttribution):
    """The weights of a linear model that imitates f_t on an image with parts hidden.

    The parts are superpixels (scikit-image's SLIC). A sample shows each of them with
    probability 1/2; the first sample shows all. Ridge regression (penalty 1) on which
    parts are seen, with samples weighted by exp(−D² / 2 · 0.25²), D being one minus the
    cosine between a sample and the whole image, gives each superpixel a weight, which
    all of its pixels share: a map is `[N, 1, H, W]`. These are the choices of the
    authors' own program, but for its superpixels, whose number cannot be set.

    Args:
        forward_func: callable from images to scores `[N, K]`, or a `BlackBox`.
        n_samples: samples, each of them one query per image.
        n_segments: superpixels to aim at; SLIC may find some more or fewer.
        baselines: what a hidden superpixel shows, a number or an image `[C, H, W]`.
        seed: of the samples; superpixels are not random.
        feature_mask: segments in place of superpixels, the same for all images: the
            number of each pixel's segment, integers `[H, W]` or `[1, 1, H, W]`.
    """

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 1000,
        n_segments: int = 50,
        baselines: float | Tensor = 0.0,
        seed: int = 0,
        feature_mask: Tensor | None = None,
    ) -> None:
        super().__init__(
            forward_func, n_samples, n_segments, baselines, feature_mask, seed
        )

    def _values(self, v: Score, m: int, bar: Callable[..., Iterable[Any]]) -> Tensor:
        with extra("book"):
            from sklearn.linear_model import Ridge
        z = torch.ones(self.n_samples, m, dtype=torch.bool, device="cpu")
        z[1:] = philox.uniforms(self.seed, 0, self.n_samples - 1, m) < 0
        scores = torch.empty(0, dtype=torch.float64, device="cpu")

        def weights() -> Tensor:
            seen = z[: len(scores)].float()
            distance = 1 - seen.mean(dim=1).sqrt()
            near = (-(distance**2) / (2 * 0.25**2)).exp()
            ridge = Ridge(alpha=1.0)
            ridge.fit(seen.numpy(), scores.float().numpy(), near.numpy())
            return torch.from_numpy(ridge.coef_)[:, None]

        parts = z.split(CHUNK)
        with keeping(lambda: weights() if len(scores) else None):
            for part in bar(parts, total=len(parts)):
                scores = torch.cat([scores, v(part)[:, 0]])
        return weights()
