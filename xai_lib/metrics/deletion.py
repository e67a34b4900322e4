"""Deletion and insertion curves: is the map's order the model's order?

Deletion takes the pixels away from the top of the map downwards and watches the
probability of the class fall; insertion brings them back in the same order. The names
are those of Petsiuk, Das and Saenko (RISE, 2018, section 4.1). The normalised area
over the perturbation curve is Cai and Wunder's ("Quantitative Evaluation for
Effectiveness"), after Samek et al. (2016).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from xai_lib.core.arguments import Target, check_count, check_number, resolve_target
from xai_lib.core.blackbox import as_blackbox
from xai_lib.core.blocks import groups, joined, of_target
from xai_lib.core.image_range import check_range
from xai_lib.metrics.sweep import check_maps, ranks, sweep


class PerturbationCurve(NamedTuple):
    """The target's probability while pixels are deleted or inserted."""

    fractions: Tensor
    """The share of pixels changed, from 0 to 1, `[T + 1]`."""
    scores: Tensor
    """The target's probability, `[N, T + 1]`."""

    @property
    def auc(self) -> Tensor:
        """The area under each curve, `[N]`: a good map deletes low, inserts high."""
        return torch.trapezoid(self.scores, self.fractions, dim=1)

    @property
    def aopc(self) -> Tensor:
        """The normalised area over each deletion curve, `[N]`; high is good.

        The mean over steps k = 1 ... T of the drop (f(x) - f(x_k)) / f(x), which with
        T = the number of pixels is Cai and Wunder's score.

        Raises:
            ValueError: a probability of 0 at the input, which cannot drop.
        """
        if bool((self.scores[:, 0] == 0).any()):
            raise ValueError("aopc needs target probabilities above 0 at the inputs")
        return (1 - self.scores[:, 1:] / self.scores[:, :1]).mean(dim=1)


def deletion(
    forward_func: Callable,
    inputs: Tensor,
    attributions: Tensor,
    target: Target = None,
    n_steps: int | None = None,
    baseline: float = 0.0,
) -> PerturbationCurve:
    """Replace the pixels by `baseline`, those with the largest scores first.

    Args:
        forward_func: images `[N, C, H, W]` to probabilities `[N, K]`.
        inputs: `[N, C, H, W]`.
        attributions: `[N, 1, H, W]`, or `[N, C, H, W]` which is summed over C, since
            whole pixels are deleted. Ties go in the order of the pixels.
        target: an int, a tensor `[N]`, or None for the class predicted at inputs.
        n_steps: deletions in equal steps; None is pixel by pixel, as in the paper.
        baseline: the value of a deleted pixel; 0 in the paper.

    Raises:
        TypeError, ValueError: a wrong argument, by name; answers that are no
            probabilities, since ratios of logits mean nothing.
    """
    return _curve(True, forward_func, inputs, attributions, target, n_steps, baseline)


def insertion(
    forward_func: Callable,
    inputs: Tensor,
    attributions: Tensor,
    target: Target = None,
    n_steps: int | None = None,
    baseline: float = 0.0,
) -> PerturbationCurve:
    """Start from `baseline` and bring the pixels back, the largest scores first.

    Arguments and errors are those of `deletion`.
    """
    return _curve(False, forward_func, inputs, attributions, target, n_steps, baseline)


def _curve(
    delete: bool,
    forward_func: Callable,
    inputs: Tensor,
    attributions: Tensor,
    target: Target,
    n_steps: int | None,
    baseline: float,
) -> PerturbationCurve:
    check_maps(attributions, inputs)
    check_range(forward_func, inputs)
    check_number("baseline", baseline, float("-inf"))
    n_pixels = inputs[0, 0].numel()
    steps = n_pixels if n_steps is None else check_count("n_steps", n_steps)
    if steps > n_pixels:
        raise ValueError(f"n_steps must be at most {n_pixels} pixels, got {n_steps}")
    blackbox = as_blackbox(forward_func)
    classes = resolve_target(blackbox, inputs, target)
    counts = torch.arange(steps + 1, device="cpu") * n_pixels // steps

    def curves(images: Tensor, maps: Tensor, target: Tensor) -> Tensor:
        rank = ranks(maps.sum(dim=1, keepdim=True), descending=True)
        empty = images.new_full((), baseline).expand_as(images)
        start, end = (images, empty) if delete else (empty, images)
        chosen = of_target(target)

        def keep(i: slice, scores: Tensor) -> Tensor:
            low, high = (float(end) for end in scores.aminmax())
            if low < -1e-6 or high > 1 + 1e-6:
                raise ValueError(
                    "forward_func must return probabilities for deletion and "
                    f"insertion, got scores from {low:.3g} to {high:.3g}; add a "
                    "softmax, e.g. zoo.models.probabilities(model)"
                )
            return chosen(i, scores)[..., 0]

        return sweep(blackbox, start, end, rank, counts, keep)

    parts = groups(inputs, attributions, classes)
    scores = joined(len(inputs), (curves(*part) for part in parts))
    return PerturbationCurve(counts.to(scores) / n_pixels, scores)
