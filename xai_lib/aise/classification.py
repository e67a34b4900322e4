"""AISE: adaptive input sampling for explanation of black-box models, for classifiers.

Tsykunov, Lee and Park; their supplement gives the numbers. A kernel G (8) at p shows a
part of the image or hides it, and the score of p is

    s(p) = f(x ⊙ G) - f(x ⊙ (1 - G))

for the class f: *preserve* asks what the part says alone, *delete* how far the class
drops without it. The drop is f(x) - f(x ⊙ (1 - G)), but f(x) is the same for all
kernels, so it cancels in the map (`density`) and needs no query. A sample is one place
and costs a query for each paradigm: "50 samples (100 inferences)". So the paradigms
share a search, which maximises their sum, and there is a search for each image and
width. The map is the sum over the widths of the weighted kernel densities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.aise import density
from xai_lib.aise.kernels import gaussian, profiles
from xai_lib.aise.samplers import SAMPLERS, UNIT_SQUARE, Bounds, Sampler, search
from xai_lib.core import blackbox
from xai_lib.core.arguments import (
    Target,
    check_choice,
    check_count,
    check_flag,
    check_number,
    check_numbers,
    check_seed,
    pick,
)
from xai_lib.core.attribution import BlackBoxAttribution

PRESETS: dict[str, dict[str, Any]] = {
    "150": {"n_kernels": 25, "kernel_widths": (0.1, 0.175, 0.25)},
    "300": {"n_kernels": 50, "kernel_widths": (0.1, 0.175, 0.25)},
    "700": {"n_kernels": 87, "kernel_widths": (0.075, 0.13, 0.19, 0.25)},
}
"""The paper's settings, by their names; "700" is 87 · 4 · 2 = 696 queries."""


@dataclass(frozen=True)
class Samples:
    """What AISE has seen of N images with W widths and n samples, and its maps.

    Attributes:
        target: the class of each image, `[N]`.
        widths: σ, `[W]`, in units of the image's sides.
        centres: `[N, W, n, 2]`, columns (x, y), in the order of asking.
        scores: s of each centre, `[N, W, n]`.
        maps: of each width, `[N, W, H, W']`; the saliency map is their sum.
    """

    target: Tensor
    widths: Tensor
    centres: Tensor
    scores: Tensor
    maps: Tensor


class AISE(BlackBoxAttribution):
    """AISE for classifiers; maps `[N, 1, H, W]`.

    It asks exactly n_kernels · widths · paradigms queries per image (and one more for
    the class, if no target is given). The same seed gives the same map, whatever other
    images are explained and however queries are batched, as long as the model's answers
    do not depend on the batch.

    Args:
        forward_func: any callable from images to scores; use probabilities.
        sampler: "direct", "lipo", "random", "lattice", or a function that makes a
            sampler from (bounds, n_kernels, seed).
        kernel_widths: σ, in units of the image's sides.
        n_kernels: kernels per width.
        preserve, delete: the paradigms; at least one.
        seed: of the samplers that draw.
        eps: precision of the search, for "direct" and "lipo" (section 9: 0.1).
        normalise: divide by the density of the centres; see `density`.
        bounds: the search area, ((x0, y0), (x1, y1)), in units of the image's sides.
        kernel: what a mask shows along each axis, in [0, 1], by the distance from its
            centre in units of σ. The densities that make the map stay Gaussian.

    Example: a model that looks at the left half alone.

        >>> import torch, xai_lib
        >>> left = lambda x: x[..., :16].mean(dim=(1, 2, 3))
        >>> image = torch.ones(1, 1, 32, 32)
        >>> heat = xai_lib.AISE(left, n_kernels=25).attribute(image, target=0)
        >>> bool(heat[..., :16].mean() > heat[..., 16:].mean())
        True
    """

    def __init__(
        self,
        forward_func: Callable,
        sampler: str | Callable[[Bounds, int, int], Sampler] = "direct",
        kernel_widths: Sequence[float] = (0.1, 0.175, 0.25),
        n_kernels: int = 50,
        preserve: bool = True,
        delete: bool = True,
        seed: int = 0,
        eps: float = 0.1,
        normalise: bool = False,
        bounds: Bounds = UNIT_SQUARE,
        kernel: Callable[[Tensor], Tensor] = gaussian,
    ) -> None:
        super().__init__(forward_func)
        if not callable(sampler):
            check_choice("sampler", sampler, tuple(SAMPLERS))
        self.sampler = sampler
        self.kernel_widths = check_numbers("kernel_widths", kernel_widths, 0)
        if 0 in self.kernel_widths:
            raise ValueError(f"kernel_widths must be above 0, got {kernel_widths}")
        self.n_kernels = check_count("n_kernels", n_kernels)
        self.preserve = check_flag("preserve", preserve)
        self.delete = check_flag("delete", delete)
        if not (preserve or delete):
            raise ValueError("preserve and delete must not both be False: no query")
        self.seed = check_seed(seed)
        self.eps = check_number("eps", eps, 0)
        self.normalise = check_flag("normalise", normalise)
        self.bounds = bounds
        if not callable(kernel):
            raise TypeError(f"kernel must be callable, got {type(kernel).__name__}")
        self.kernel = kernel
        self._samplers()  # wrong bounds and a missing dlib are noticed here

    @classmethod
    def preset(cls, forward_func: Callable, name: str, **settings: Any) -> AISE:
        """AISE-150, AISE-300 or AISE-700: 150, 300 or 696 queries per image."""
        check_choice("name", name, tuple(PRESETS))
        return cls(forward_func, **(PRESETS[name] | settings))

    def sample(
        self, inputs: Tensor, target: Target = None, *, show_progress: bool = False
    ) -> Samples:
        """The centres, scores and maps behind `attribute`, which see."""
        return self._sample(*self._checked(inputs, target), show_progress)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        maps = self._sample(inputs, target, show_progress).maps
        return maps.sum(dim=1, keepdim=True).to(inputs)

    def _sample(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Samples:
        n, w = len(inputs), len(self.kernel_widths)
        samplers = [sampler for _ in range(n) for sampler in self._samplers()]
        image = torch.arange(n, device="cpu").repeat_interleave(w)
        widths = torch.tensor(self.kernel_widths, dtype=torch.float64, device="cpu")
        width, (size_y, size_x) = widths.repeat(n), inputs.shape[2:]
        ask = self._masked_scores(inputs, target)

        def evaluate(owners: np.ndarray, points: np.ndarray) -> Tensor:
            return ask(image[owners], points, width[owners])

        def maps() -> Tensor:
            found = [
                density.saliency(
                    s.points, s.scores, sigma, size_y, size_x, self.normalise
                )
                for s, sigma in zip(samplers, width.tolist(), strict=True)
            ]
            return torch.stack(found).unflatten(0, (n, w))

        def so_far() -> Tensor | None:
            all_asked = all(len(s.scores) for s in samplers)
            return maps().sum(dim=1, keepdim=True) if all_asked else None

        with blackbox.keeping(so_far):
            search(samplers, self.n_kernels, evaluate, show_progress, "AISE")
        centres = torch.from_numpy(np.stack([s.points for s in samplers]))
        scores = torch.from_numpy(np.stack([s.scores for s in samplers]))
        return Samples(
            target,
            widths,
            centres.unflatten(0, (n, w)),
            scores.unflatten(0, (n, w)),
            maps(),
        )

    def _samplers(self) -> list[Sampler]:
        """A new search for each width of one image, with a seed of its own."""
        make = self.sampler
        if not callable(make):
            make = partial(SAMPLERS[make], self.eps)
        samplers = []
        for w in range(len(self.kernel_widths)):
            seed = np.random.SeedSequence([self.seed, w]).generate_state(1)[0]
            samplers.append(make(self.bounds, self.n_kernels, int(seed)))
        return samplers

    def _masked_scores(
        self, inputs: Tensor, target: Tensor
    ) -> Callable[[Tensor, np.ndarray, Tensor], Tensor]:
        """A function that asks for s of k kernels: (images `[k]`, centres `[k, 2]`,
        widths `[k]`) -> `[k]`, on the CPU."""
        signs = [1.0] * self.preserve + [-1.0] * self.delete
        sign = torch.tensor(signs, dtype=torch.float64, device="cpu")
        most = max(1, blackbox.BLOCK // (len(sign) * inputs[0].numel()))
        # All queries are made in the same memory: fresh pages would cost more time
        # than the products in them.
        memory = inputs.new_empty(most * len(sign), *inputs.shape[1:])

        def ask(image: Tensor, centres: np.ndarray, widths: Tensor) -> Tensor:
            height, width = inputs.shape[2:]
            rows, columns = profiles(centres, widths, height, width, self.kernel)
            # Copied without waiting: the search, which decides here, waits for scores.
            rows, columns, owner = (
                t.to(inputs.device, non_blocking=True)
                for t in (rows.to(inputs.dtype), columns.to(inputs.dtype), image)
            )
            parts = []
            for start in range(0, len(image), most):
                block = slice(start, start + most)
                mask = (rows[block, :, None] * columns[block, None, :])[:, None]
                masks = [mask] * self.preserve + [1 - mask] * self.delete
                x = inputs[owner[block]]
                shown = memory[: len(x) * len(sign)]
                for half, factor in zip(shown.chunk(len(sign)), masks, strict=True):
                    torch.mul(x, factor, out=half)
                classes = target[image[block]].repeat(len(sign))
                scores = pick(self.blackbox(shown), classes)
                parts.append(sign @ scores.cpu().double().view(len(sign), -1))
            return torch.cat(parts)

        return ask
