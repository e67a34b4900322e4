"""The box of invariant perturbations, and how well it keeps its promise.

R(w) = [-w_1, w_1] × … × [-w_d, w_d] is to hold only perturbations r that leave the
decision alone: f_c(x + r) >= f_j(x + r) for every class j (Ikeno & Hara 2018,
section 2, https://arxiv.org/abs/1807.05077). Hara et al. (2018) give the two sides of
a feature lengths of their own, r_i in [-u_i, v_i]; a `Box` holds both forms.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xai_lib.core.arguments import (
    Target,
    check_classes,
    check_count,
    check_inputs,
    check_number,
    check_seed,
    pick,
    resolve_target,
)
from xai_lib.core.blackbox import BlackBox, as_blackbox
from xai_lib.core.blocks import at_once
from xai_lib.core.gradients import (
    WhiteBoxAttribution,
    batch_rows,
    gradient,
    gradients_enabled,
    graph_scores,
    target_gradient,
)
from xai_lib.core.image_range import check_range
from xai_lib.kernels import philox

CHUNK = 64  # perturbations made at once


@dataclass(frozen=True)
class Box:
    """All perturbations r with -lower <= r <= upper, one box per image.

    Attributes:
        lower: u, lengths of the sides below zero, >= 0, shaped like the inputs
            `[N, C, H, W]` or `[N, d]` and in their units.
        upper: v, lengths of the sides above zero, likewise.

    Raises:
        TypeError, ValueError: not float tensors of one shape, finite and >= 0.
    """

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        for name, side in (("lower", self.lower), ("upper", self.upper)):
            check_inputs(side, name, dims=(2, 4))
            if bool((side < 0).any()):
                raise ValueError(
                    f"{name} must not be negative, got {side.min().item()}; it is "
                    "the length of a side, not its end"
                )
        if self.lower.shape != self.upper.shape:
            raise ValueError(
                f"lower and upper must have one shape, got {list(self.lower.shape)} "
                f"and {list(self.upper.shape)}"
            )

    @property
    def w(self) -> Tensor:
        """(u + v) / 2, half the length of each side; w itself where u = v = w."""
        return (self.lower + self.upper) / 2

    def at(self, t: Tensor) -> Tensor:
        """r for t in [-1, 1]: t = ±1 are the ends, uniform t gives uniform r.

        With u = v = w it is t ⊙ w. t broadcasts with the sides, `[N, ...]`.
        """
        return (self.upper - self.lower) / 2 + t * self.w

    def __getitem__(self, images: slice) -> Box:
        return Box(self.lower[images], self.upper[images])


class PertMap(WhiteBoxAttribution):
    """Base of the explainers that look for the largest invariant box.

    A feature that may change a lot without changing the decision is irrelevant to it,
    so the map is -w.
    """

    side_by_side = True

    @abstractmethod
    def _solve(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Box:
        """The box, where the inputs are; target classes `[N]`, on the CPU."""

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        return -self._solve(inputs, target, show_progress).w

    def _check_model(self, inputs: Tensor, target: Tensor) -> int:
        """How many classes the model has, if the constraint and its gradient exist.

        Raises:
            ValueError: one score, a target out of range, or no gradient at the first
                input, or only that of a part of the model.
        """
        scores = self._scores(inputs)
        check_scores(scores, target)
        with gradients_enabled():
            first = inputs[:1].clone().to(self._queried.device or inputs.device)
            target_gradient(self.forward_func, first, target[:1].clone())
        return scores.shape[1]


class ViolationRates(NamedTuple):
    """Shares in [0, 1], one per image `[N]`, of perturbations that break (2.1)."""

    uniform: Tensor
    """Of points uniform in the box: what the expectation in (3.1) sees."""
    corners: Tensor
    """Of corners, each with the same probability."""


def violation_rates(
    forward_func: Callable,
    inputs: Tensor,
    box: Box,
    target: Target = None,
    n_samples: int = 1000,
    seed: int = 0,
) -> ViolationRates:
    """How often random perturbations from the box change the decision.

    A perturbation breaks the constraint of Problem 2.1 if some f_j(x + r) > f_c(x + r);
    a tie does not.

    Args:
        forward_func: any callable from inputs to scores `[N, K]`, or a `BlackBox`;
            each input costs 2 n_samples queries.
        inputs: x, float `[N, C, H, W]` or `[N, d]`.
        box: with sides shaped like the inputs.
        target: the class c to keep; None for the class predicted at the inputs.
        n_samples: random points, and random corners, per input; shared by all inputs.
        seed: of the points and corners.

    Raises:
        TypeError, ValueError: a wrong argument, by name.
    """
    blackbox = as_blackbox(forward_func)
    classes = _check_box(blackbox, inputs, box, target)
    n_samples = check_count("n_samples", n_samples)
    broken = inputs.new_zeros(2, len(inputs), dtype=torch.float32)
    most = min(CHUNK, at_once(inputs[0].numel()))
    for first in range(0, n_samples, most):
        size = min(most, n_samples - first)
        t = draws(inputs, seed, first, size)
        both = torch.cat([t, torch.where(t < 0, -1.0, 1.0).to(t)])

        def perturbed(i: slice, j: slice, t: Tensor = both) -> Tensor:
            return (inputs[i] + box[i].at(t[j, None])).transpose(0, 1)

        scores = blackbox.versions(len(inputs), 2 * size, perturbed)
        lead = excess(scores, classes[:, None].expand(-1, 2 * size))
        broken += (lead > 0).unflatten(1, (2, size)).sum(dim=2).T
    return ViolationRates(*(broken / n_samples))


class WorstPoint(NamedTuple):
    """The worst perturbation found for each image; positive `excess` is a violation."""

    excess: Tensor
    """max_{j≠c} f_j(x + r) - f_c(x + r), in units of the scores, `[N]`."""
    perturbation: Tensor
    """r, inside the box, shaped like the inputs."""


def worst_point(
    forward_func: Callable,
    inputs: Tensor,
    box: Box,
    target: Target = None,
    n_steps: int = 40,
    n_starts: int = 4,
    seed: int = 0,
) -> WorstPoint:
    """Search the box for the perturbation that favours another class most.

    Projected gradient ascent on max_{j≠c} f_j - f_c (Madry et al. 2018, section 2.1,
    https://arxiv.org/abs/1706.06083) in t, where the box is the cube [-1, 1]^d: steps
    of 2.5 / n_steps along the signs of the gradient, clipped to the cube. From the
    centre first, then from random points. The best point seen is a lower bound of the
    true worst; for a linear model it is the worst corner.

    Args:
        forward_func, inputs, box, target: as in `violation_rates`, differentiable.
        n_steps: gradient steps from each start.
        n_starts: starts, the centre included.
        seed: of the random starts, which all inputs share.

    Raises:
        TypeError, ValueError: a wrong argument, by name.
    """
    blackbox = forward_func
    if not isinstance(blackbox, BlackBox):
        # Asked once: the rest are gradients.
        blackbox = BlackBox(blackbox, backend="torch")
    classes = _check_box(blackbox, inputs, box, target)
    n_steps = check_count("n_steps", n_steps)
    n_starts = check_count("n_starts", n_starts)
    inputs, device = inputs.detach(), blackbox.device or inputs.device
    found = inputs.new_full((len(inputs),), -torch.inf)
    best = torch.zeros_like(inputs)
    rows = batch_rows(inputs, device)
    for start in range(n_starts):
        first = draws(inputs, seed, start, 1)[0]
        first = first if start else torch.zeros_like(first)
        for i in range(0, len(inputs), rows):
            part = slice(i, i + rows)
            t = first.expand_as(inputs[part]).to(device)
            sides = Box(box.lower[part].to(device), box.upper[part].to(device))
            x, c = inputs[part].to(device), classes[part].to(device)
            for step in range(n_steps + 1):
                lead, slope, there = _ascent(blackbox.forward_func, x, sides, c, t)
                better = (lead > found[part].to(device)).to(inputs.device)
                found[part] = torch.where(better, lead.to(found), found[part])
                best[part][better] = there.to(best)[better]
                if step < n_steps:
                    t = slope.sign_().mul_(2.5 / n_steps).add_(t).clamp_(-1, 1)
    return WorstPoint(found, best)


def draws(inputs: Tensor, seed: int, first: int, count: int) -> Tensor:
    """t uniform in [-1, 1], numbers first ... first + count − 1: `[count, *shape]`."""
    place = check_seed(seed), first, count, inputs[0].numel()
    t = philox.uniforms(*place, device=inputs.device)
    return t.to(inputs.dtype).view(count, *inputs.shape[1:])


def excess(scores: Tensor, target: Tensor) -> Tensor:
    """max_{j≠c} f_j - f_c: scores `[..., K]`, target `[...]` -> `[...]`."""
    target = target.to(scores.device)[..., None]
    others = scores.scatter(-1, target, -torch.inf)
    return others.amax(dim=-1) - scores.gather(-1, target)[..., 0]


def check_scores(scores: Tensor, target: Tensor) -> None:
    """Refuse scores `[N, K]` without two classes, or without one of the targets."""
    check_classes(scores)
    pick(scores, target)


def check_positive(name: str, value: Any) -> float:
    """Return `value` if it is a finite number above zero, else raise."""
    if check_number(name, value, 0) == 0:
        raise ValueError(f"{name} must be above 0, got {value}")
    return float(value)


def _check_box(blackbox: BlackBox, inputs: Tensor, box: Box, target: Target) -> Tensor:
    check_inputs(inputs, dims=(2, 4))
    check_range(blackbox, inputs)
    if box.lower.shape != inputs.shape:
        raise ValueError(
            f"box must have the shape of inputs, {list(inputs.shape)}, got "
            f"{list(box.lower.shape)}"
        )
    scores = blackbox(inputs)
    classes = resolve_target(lambda _: scores, inputs, target)
    check_scores(scores, classes)
    return classes


def _ascent(
    forward_func: Callable, inputs: Tensor, box: Box, target: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The excess `[N]` at box.at(t), its gradient by t, and box.at(t)."""
    with gradients_enabled():
        t = t.clone().requires_grad_()
        # No name holds the points, which would outlive their use.
        there = box.at(t)
        lead = excess(graph_scores(forward_func, inputs + there), target.clone())
        return lead.detach(), gradient(lead, t), there.detach()
