"""Extremal perturbations: the small part of an image that the class needs most.

Fong, Patrick and Vedaldi, "Understanding deep networks via extremal perturbations and
smooth masks" (2019), section 3, https://arxiv.org/abs/1910.08485. A mask m in [0, 1]
keeps the image where it is 1 and blurs it where it is 0. Of all smooth masks of a given
area a, the extremal one gives the class its highest score Φ:

    m_a = argmax Φ(m ⊗ x)   over smooth m of area a.

Four ideas make that a problem for gradient ascent.

*Area.* Sorted, a mask of n values that is 0 or 1 everywhere and has the area a has
(1 − a)n zeros and then a·n ones: the template r_a. So the distance of the sorted mask
from r_a is zero exactly for the masks that are allowed. Not to sort m but to unsort r_a
gives the same: it is the distance from the nearest allowed mask w, which has its ones
where m is largest. Its gradient pushes these values up and the others down:

    m_a = argmax Φ(m ⊗ x) − λ_t · mean (m − w(m))²,   λ_t = λ₀ · 1.0035^t.

*Smoothness.* m is no free image but made of parameters p in [0, 1], one per cell of
step × step pixels, by a convolution with a maximum in place of the sum,

    m(u) = max_v k(|u − v|) p(v),

with a bell-shaped k, k(0) = 1, so that spots may be as bright as 1 but no smaller than
k. A soft maximum Σ_v e^(y_v/T) y_v / Σ_v e^(y_v/T) lets gradients reach all p.

*Blur.* Levels of a pyramid, from strongly blurred to sharp; m chooses the level of each
pixel, and values between two levels mix them.

*Several areas* are searched side by side; the sum of their masks ranks the pixels.

Different from the authors' TorchRay: the maximum is taken at the cells and then
upsampled bilinearly, instead of at every pixel, which needs step² times fewer numbers;
beyond the edges p goes on as at the edge, and areas are shares of the image, where
theirs are shares of the image with a margin, 1.35 times as large at 224 × 224; equal
values share the ones of w; the image is not mirrored in every second step; step and
blur grow with the image, and are theirs at 224 × 224.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from xai_lib.core.arguments import (
    Target,
    check_choice,
    check_count,
    check_number,
    check_numbers,
)
from xai_lib.core.attribution import accumulator, progress
from xai_lib.core.blackbox import NonFiniteOutput
from xai_lib.core.blocks import at_once
from xai_lib.core.gradients import (
    WhiteBoxAttribution,
    batch_rows,
    gradients_enabled,
    graph_scores,
    target_gradient,
)

CELLS = 32  # along the shorter side: cells of 7 × 7 pixels at 224 × 224
SIGMA = 3  # width of k, in cells
RADIUS = 4  # where k is cut off, in cells
COLDNESS = 20  # 1 / T of the soft maximum
LEVELS = 8  # of the blur pyramid
BLUR = 20 / 224  # its largest standard deviation, as a share of the shorter side
AREA_WEIGHT, AREA_GROWTH = 300, 1.0035  # λ₀, and λ's growth per step


class ExtremalPerturbation(WhiteBoxAttribution):
    """Extremal perturbations that preserve the class (Fong, Patrick, Vedaldi, 2019).

    The map is the sum of the masks of all areas, smoothed: `[N, 1, H, W]`. There is
    nothing random in it. The defaults are those of the authors for the pointing game
    on VOC; for COCO they take the areas 0.018, 0.025, 0.05, 0.1.

    Costs n_iterations forward and backward passes per image and area, and one more per
    image that finds out whether the model has gradients.

    Args:
        forward_func: model that maps images to scores `[N, K]`, in torch. Give the
            logits: λ₀ is in units of the score.
        areas: shares of the image, each in (0, 1).
        perturbation: what the mask hides is shown as "blur", or "fade"s to 0.
        n_iterations: steps of gradient ascent.
        lr: its learning rate; the momentum is 0.9, with dampening 0.9.
        smooth: standard deviation of the smoothing of the map, as a share of the
            shorter side; 0 is none.
    """

    input_dims = (4,)
    side_by_side = True

    def __init__(
        self,
        forward_func: Callable,
        areas: Sequence[float] = (0.025, 0.05, 0.1, 0.2),
        perturbation: str = "blur",
        n_iterations: int = 800,
        lr: float = 0.01,
        smooth: float = 0.09,
    ) -> None:
        super().__init__(forward_func)
        self.areas = check_numbers("areas", areas, 0, 1)
        if not all(0 < area < 1 for area in self.areas):
            raise ValueError(f"areas must be shares above 0 and below 1, got {areas}")
        self.perturbation = check_choice("perturbation", perturbation, ("blur", "fade"))
        self.n_iterations = check_count("n_iterations", n_iterations)
        self.lr = check_number("lr", lr, 0)
        self.smooth = check_number("smooth", smooth, 0)

    def masks(
        self, inputs: Tensor, target: Target = None, *, show_progress: bool = False
    ) -> Tensor:
        """The mask of each area, `[N, len(areas), H, W]`; arguments as `attribute`."""
        found = self._masks(*self._checked(inputs, target), show_progress)
        return found.to(inputs.dtype)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        maps = self._masks(inputs, target, show_progress).sum(dim=1, keepdim=True)
        sigma = self.smooth * min(inputs.shape[2:])
        maps = blurred(maps, sigma, mode="constant") if sigma else maps
        return maps.to(inputs.dtype)

    def _masks(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        device = self._queried.device or inputs.device
        together = max(1, batch_rows(inputs, device) // len(self.areas))
        parts = []
        with gradients_enabled():
            for x, classes in zip(
                inputs.split(together), target.split(together), strict=True
            ):
                # Clones: tensors made in inference mode cannot be differentiated.
                x, classes = x.to(device), classes.clone().to(device)
                target_gradient(self.forward_func, x.clone(), classes)  # or refuses
                # As pixels only here, where all that the search has held is free.
                found = self._search(x, classes, show_progress)
                parts.append(upsampled(found, *inputs.shape[2:]))
        return torch.cat(parts).to(inputs.device)

    def _search(self, x: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        """Masks of a few images, by cell. Nothing in the loop waits for the device."""
        # Half precision would lose the small steps.
        dtype, x = x.dtype, x.to(accumulator(x))
        step = cell_size(*x.shape[2:])
        cells = tuple(math.ceil(side / step) for side in x.shape[2:])
        hidden = pyramid(x, self.perturbation)
        counts = self._counts(math.prod(cells)).to(x.device)
        # Areas do not know of each other; of large images each has passes of its own.
        parts = [
            self._ascend(x, hidden, dtype, target, some, cells, show_progress)
            for some in counts.split(batch_rows(x, x.device))
        ]
        return torch.cat(parts, dim=1)

    def _ascend(
        self,
        x: Tensor,
        hidden: Tensor,
        dtype: torch.dtype,
        target: Tensor,
        counts: Tensor,
        cells: tuple[int, ...],
        show_progress: bool,
    ) -> Tensor:
        """The masks of the areas of so many cells, for a model of this dtype."""
        classes = target.repeat_interleave(len(counts))[:, None]
        p = x.new_ones(len(x), len(counts), *cells).requires_grad_()
        optimizer = torch.optim.SGD([p], lr=self.lr, momentum=0.9, dampening=0.9)
        steps = range(self.n_iterations)
        for t in progress(steps, show_progress, len(steps), "ExtremalPerturbation"):
            m = smooth_masks(p)
            # No name holds what is as large as an image, which would outlive its use.
            scores = graph_scores(
                self.forward_func,
                perturbed_in_strips(x, hidden, upsampled(m, *x.shape[2:]))
                .flatten(0, 1)
                .to(dtype),
            )
            distances = (m - nearest_allowed(m.detach(), counts)).square().mean((2, 3))
            area_weight = AREA_WEIGHT * AREA_GROWTH**t
            energy = scores.gather(1, classes).sum() - area_weight * distances.sum()
            (p.grad,) = torch.autograd.grad(-energy, p)
            del scores, energy  # their graph holds the masks
            optimizer.step()
            p.detach().clamp_(0, 1)
        if not bool(p.isfinite().all()):
            raise NonFiniteOutput("forward_func answered NaN or infinity for a mask")
        return smooth_masks(p.detach())

    def _counts(self, n_cells: int) -> Tensor:
        """How many cells each area covers, int64 `[A]`."""
        cells = [round(area * n_cells) for area in self.areas]
        counts = torch.tensor(cells, device="cpu")
        if int(counts.min()) < 1:
            raise ValueError(
                f"areas must cover at least one of the {n_cells} cells of a mask for "
                f"images of this size, got {min(self.areas)}"
            )
        return counts


def cell_size(height: int, width: int) -> int:
    """The side of a cell of the masks, in pixels."""
    return max(1, round(min(height, width) / CELLS))


def smooth_masks(p: Tensor) -> Tensor:
    """m(u) = softmax_v k(|u − v|) p(v), over the cells: `[n, A, h, w]` -> the same."""
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=p.dtype, device=p.device)
    distances = torch.hypot(offsets[:, None], offsets[None]) / SIGMA
    kernel = torch.exp(-2 * (distances - 0.5).clamp_min(0) ** 2).flatten()[:, None]
    padded = F.pad(p.flatten(0, 1)[:, None], [RADIUS] * 4, mode="replicate")
    near = F.unfold(padded, 2 * RADIUS + 1)
    y = kernel * near
    return (y * (COLDNESS * y).softmax(dim=1)).sum(dim=1).view_as(p)


def upsampled(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks of cells as masks of pixels: `[n, A, h, w]` -> `[n, A, height, width]`."""
    step = cell_size(height, width)
    pixels = F.interpolate(masks, scale_factor=step, mode="bilinear")
    return pixels[:, :, :height, :width]


def nearest_allowed(m: Tensor, counts: Tensor) -> Tensor:
    """The masks of `counts[a]` ones and else zeros that are nearest to m: `[n, A, …]`.

    The ones are where the largest values are. Values that tie for the last ones share
    them, so that the order of the cells has no say.
    """
    values = m.flatten(2)
    ranked = values.sort(dim=2, descending=True).values
    smallest = ranked.gather(2, (counts - 1).expand(len(m), -1)[:, :, None])
    above, tied = values > smallest, values == smallest
    left = counts[:, None] - above.sum(dim=2, keepdim=True)
    share = left / tied.sum(dim=2, keepdim=True)
    return (above + tied * share).to(m).view_as(m)


def pyramid(images: Tensor, perturbation: str) -> Tensor:
    """What hides the images, level by level, which end below the images themselves:
    `[n, C, H, W]` -> `[n, L, C, H, W]`."""
    if perturbation == "fade":
        return torch.zeros_like(images)[:, None]
    largest = BLUR * min(images.shape[2:])
    sigmas = torch.linspace(
        largest, 0, LEVELS, dtype=torch.float32, device="cpu"
    ).tolist()
    hidden = images.new_empty(len(images), LEVELS - 1, *images.shape[1:])
    for level, sigma in enumerate(sigmas[:-1]):
        hidden[:, level] = blurred(images, sigma, mode="nearest")
    return hidden


def perturbed(images: Tensor, hidden: Tensor, masks: Tensor) -> Tensor:
    """m ⊗ x of images `[n, C, H, W]`, their levels `[n, L, C, H, W]`, of which a mask
    of 0 shows the first and 1 the image, and masks `[n, A, H, W]`: `[n, A, C, H, W]`.
    """
    last = hidden.shape[1]
    position = last * masks[:, :, None]
    below = position.detach().floor().clamp_(max=last - 1)
    # A NaN is no index, so some level is shown; the image becomes NaN all the same.
    level = below.long().clamp_(0, last - 1)
    lower, upper = (
        hidden.gather(1, index.expand(-1, -1, images.shape[1], -1, -1))
        for index in (level, (level + 1).clamp_(max=last - 1))
    )
    # 1 where the image itself is above, else 0: to the bit what `where` gives, faster.
    top = (below - (last - 2)).clamp_(min=0)
    upper.lerp_(images[:, None].expand_as(upper), top)
    # A value between two levels is a mixture of the two.
    return torch.lerp(lower, upper, position - below)


def perturbed_in_strips(images: Tensor, hidden: Tensor, masks: Tensor) -> Tensor:
    """`perturbed`, whose parts are made again for the gradient if images are large."""
    row = masks.shape[0] * masks.shape[1] * images[0, :, 0].numel()
    if images.shape[2] <= at_once(row):
        return perturbed(images, hidden, masks)
    rows = at_once(32 * row)  # small beside an image of any size
    return _Strips.apply(images, hidden, masks, rows)


class _Strips(torch.autograd.Function):
    """Parts are written where they belong: in a list, what is made on the way would lie
    between them, and the memory would not be free when it is."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, hidden: Tensor, masks: Tensor, rows: int
    ) -> Tensor:
        # Not `save_for_backward`, which takes no tensor made in inference mode.
        ctx.whole, ctx.rows = (images, hidden, masks), rows
        shown = masks.new_empty(*masks.shape[:2], *images.shape[1:])
        for part, *strip in _strips(rows, shown, *ctx.whole):
            part.copy_(perturbed(*strip))
        return shown

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[None, None, Tensor, None]:
        found = torch.empty_like(ctx.whole[2])
        for part, slope, images, hidden, masks in _strips(
            ctx.rows, found, slopes, *ctx.whole
        ):
            with torch.enable_grad():
                masks = masks.detach().requires_grad_()
                shown = perturbed(images, hidden, masks)
            part.copy_(torch.autograd.grad(shown, masks, slope)[0])
        return None, None, found, None


def _strips(rows: int, *wholes: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The same rows of several tensors `[..., H, W]`, side by side."""
    return zip(*(whole.split(rows, dim=-2) for whole in wholes), strict=True)


def blurred(images: Tensor, sigma: float, mode: str) -> Tensor:
    """A Gaussian blur of each channel; `mode` is SciPy's, for beyond the edges."""
    array = gaussian_filter(images.cpu().numpy(), (0, 0, sigma, sigma), mode=mode)
    return torch.from_numpy(array).to(images)
