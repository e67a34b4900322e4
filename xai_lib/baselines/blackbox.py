"""Black-box baselines from Captum: what the score loses when a part is hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.arguments import check_count, expand_baselines, pick
from xai_lib.attribution import BlackBoxAttribution, generator, progress
from xai_lib.extras import extra

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
        with extra("book"):
            import captum.attr
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
        baselines: float | Tensor = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.n_samples = check_count("n_samples", n_samples, at_least=2)
        self.n_segments = check_count("n_segments", n_segments, at_least=2)
        self.baselines = baselines
        self.seed = check_count("seed", seed, at_least=0)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        baselines = expand_baselines(self.baselines, inputs)
        triples = list(zip(inputs, target, baselines, strict=True))
        bar = progress(triples, show_progress, len(triples), "LIME")
        return torch.stack([self._of_one(*triple) for triple in bar])

    def _of_one(self, image: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
        """The map `[1, H, W]` of one image `[C, H, W]`."""
        with extra("book"):
            from captum._utils.models.linear_model import SkLearnRidge
            from captum.attr import Lime

        def score(images: Tensor) -> Tensor:
            return pick(self.blackbox(images), target.expand(len(images)))

        source = generator(self.seed)

        def samples(_: Tensor, num_interp_features: int, **__: Any) -> Iterator[Tensor]:
            yield torch.ones(1, num_interp_features, device=image.device)
            while True:
                seen = torch.rand(1, num_interp_features, generator=source) < 0.5
                yield seen.to(image.device, torch.float32)

        def weight(_: Tensor, __: Tensor, seen: Tensor, **___: Any) -> Tensor:
            distance = 1 - seen.mean().sqrt()
            return (-(distance**2) / (2 * 0.25**2)).exp()

        # Captum's data loader draws a number that nothing depends on.
        with torch.random.fork_rng(devices=[]):
            drawn = Lime(score, SkLearnRidge(alpha=1.0), weight, samples).attribute(
                image[None],
                baselines=baseline[None],
                feature_mask=superpixels(image, self.n_segments),
                n_samples=self.n_samples,
                perturbations_per_eval=QUERIES_PER_CALL,
            )
        return drawn[0, :1].to(image)


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
    pixels = image.permute(1, 2, 0).cpu().double().numpy()
    found = slic(pixels, n_segments=n_segments, start_label=0)
    numbered = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    return torch.from_numpy(numbered).to(image.device)[None, None]
