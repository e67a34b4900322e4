"""Segments of an image that are shown or hidden as a whole, as in LIME and KernelSHAP.

v(z) is the score of the image that shows the segments with z_i = 1 and the baseline
elsewhere. A method asks for v at some z and gives each segment a value, which all of
its pixels share.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
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
from xai_lib.core.attribution import BlackBoxAttribution, progress
from xai_lib.core.blackbox import BudgetExceeded
from xai_lib.core.blocks import of_target
from xai_lib.core.extras import extra

CHUNK = 256  # samples asked for at once, an even number

Score = Callable[[Tensor], Tensor]
"""v: bool z `[n, M]` -> float64 `[n, K]` on the CPU, or `[n, 1]` for one target."""


class SegmentAttribution(BlackBoxAttribution):
    """Base of the methods that value segments; settings as for `LIME`."""

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int,
        n_segments: int,
        baselines: float | Tensor,
        feature_mask: Tensor | None,
        seed: int,
    ) -> None:
        super().__init__(forward_func)
        self.n_samples = check_count("n_samples", n_samples, at_least=2)
        self.n_segments = check_count("n_segments", n_segments, at_least=2)
        self.baselines = check_baselines(baselines)
        self.feature_mask = feature_mask
        if feature_mask is not None:
            self.feature_mask = _checked_mask(feature_mask)
        self.seed = check_seed(seed)

    @abstractmethod
    def _values(self, v: Score, m: int, bar: Callable[..., Iterable[Any]]) -> Tensor:
        """The values `[M, K]` of the m segments of one image.

        `bar(items, total=…)` shows progress; `keeping` carries the values so far.
        """

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        return self._maps(inputs, target, show_progress)

    def _maps(
        self, inputs: Tensor, target: Tensor | None, show_progress: bool
    ) -> Tensor:
        """The maps of a target `[N]`, or of all classes, `[N, K, H, W]`."""
        maps: list[Tensor] = []
        for i, x in enumerate(inputs.split(1)):
            segments = self._segments(x[0]).to(x.device)
            score = partial(
                self._score, x, segments, None if target is None else target[[i]]
            )
            name = f"{type(self).__name__}, image {i + 1} of {len(inputs)}"
            bar = partial(progress, show=show_progress, name=name)
            try:
                values = self._values(score, int(segments.max()) + 1, bar)
            except BudgetExceeded as error:
                if error.partial is not None:  # what is known of this image's segments
                    maps.append(error.partial.T[:, segments.cpu()])
                if maps:  # nothing is known of the images after it
                    maps += [torch.zeros_like(maps[0])] * (len(inputs) - len(maps))
                    error.partial = torch.stack(maps).to(inputs)
                raise
            maps.append(values.T[:, segments.cpu()])
        return torch.stack(maps).to(inputs)

    def _score(
        self, image: Tensor, segments: Tensor, target: Tensor | None, z: Tensor
    ) -> Tensor:
        """v(z) of an image `[1, C, H, W]`."""
        baseline = expand_baselines(self.baselines, image)[0]
        z = z.to(image.device, non_blocking=True)  # drawn where the regression is

        def shown(_: slice, j: slice) -> Tensor:
            return torch.where(z[j, segments][:, None], image[0], baseline)[None]

        scores = self.blackbox.versions(1, len(z), shown, of_target(target))
        return scores[0].cpu().double()

    def _segments(self, image: Tensor) -> Tensor:
        """Which segment each pixel is in, numbered without gaps: int64 `[H, W]`."""
        if self.feature_mask is None:
            return superpixels(image, self.n_segments)[0, 0]
        if self.feature_mask.shape != image.shape[1:]:
            raise ValueError(
                f"feature_mask must have the images' {list(image.shape[1:])} pixels, "
                f"got {list(self.feature_mask.shape)}"
            )
        return self.feature_mask


def _checked_mask(feature_mask: Any) -> Tensor:
    """A user's segments `[H, W]` or `[1, 1, H, W]`, numbered without gaps."""
    if not isinstance(feature_mask, Tensor) or feature_mask.is_floating_point():
        raise TypeError(
            "feature_mask must be a tensor of integers, the number of each pixel's "
            f"segment, got {getattr(feature_mask, 'dtype', type(feature_mask))}"
        )
    if feature_mask.ndim != 2 and feature_mask.shape[:-2] != (1, 1):
        raise ValueError(
            "feature_mask must be [H, W] or [1, 1, H, W], the same for all images, got "
            f"{list(feature_mask.shape)}"
        )
    numbers, numbered = feature_mask.unique(return_inverse=True)
    if len(numbers) < 2:
        raise ValueError("feature_mask must have at least two segments")
    return numbered.view(feature_mask.shape[-2:])


class _Doubled:
    """An image in double precision, made when SLIC asks: it works on its own copy, and
    an array in the caller's hands would lie there all the time."""

    def __init__(self, image: Tensor) -> None:
        self.image, self.ndim, self.shape = image, image.ndim, image.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.image.cpu().double().numpy()


def superpixels(image: Tensor, n_segments: int) -> Tensor:
    """Which of about `n_segments` regions each pixel is in: int64 `[1, 1, H, W]`.

    Of an image `[C, H, W]`, values about 0 to 1. Grey images, and any that are not RGB,
    are divided by their brightness.
    """
    with extra("book"):
        from skimage.segmentation import slic
    if len(image) != 3:
        image = image.mean(dim=0).expand(3, -1, -1)
    found = slic(_Doubled(image.permute(1, 2, 0)), n_segments, start_label=0)
    numbered = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    return torch.from_numpy(numbered).to(image.device)[None, None]
