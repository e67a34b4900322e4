"""Linear PertMap: the largest invariant box of the linearised model.

Hara, Ikeno, Soma and Maehara, "Maximally invariant data perturbation as explanation"
(2018), https://arxiv.org/abs/1806.07004, derived here in five steps:

1. Near a point p, f_c(x + r) - f_j(x + r) ≈ h_j + g_j · (x + r - p), with the margin
   h_j = f_c(p) - f_j(p) and its slope g_j = ∇f_c(p) - ∇f_j(p). The plain program takes
   p = x; the smoothed one also p = x + ε for noisy copies, and all must hold.
2. Over -u <= r <= v the right-hand side is smallest at the worst corner, r_i = -u_i
   where g_ji > 0 and r_i = v_i where g_ji < 0, so that "for all r" is one linear row:
   Σ_i max(0, g_ji) u_i + max(0, -g_ji) v_i <= h_j - g_j · (p - x).
   With u = v = w its left-hand side is Σ_i |g_ji| w_i.
3. Softened: the rows may be missed by up to ξ >= 0, at the price λ.
4. Shared: one u and one v for the features of a patch; a row then needs only the sums
   of max(0, ±g_ji) over each patch.
5. maximise  Σ_i (u_i + v_i) / 2 - λ ξ  subject to the rows and  0 <= u, v <= δ: beyond
   δ the linearisation is not trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linprog
from torch import Tensor

from xai_lib.core.arguments import (
    Target,
    check_count,
    check_flag,
    check_number,
    check_seed,
)
from xai_lib.core.attribution import progress
from xai_lib.core.blackbox import NonFiniteOutput
from xai_lib.core.gradients import batch_rows, gradient, gradients_enabled, graph_scores
from xai_lib.kernels import philox
from xai_lib.pertmap.box import Box, PertMap, check_positive

ROWS_PER_ROUND = 16
# HiGHS keeps the rows it is given to 1e-7; the others are held to the same.
TOLERANCE = 1e-7


@dataclass(frozen=True)
class LinearSolution(Box):
    """The optimal box of the linear program; its sides lie where the inputs do.

    Attributes:
        target: the class c that was to be kept, `[N]`, on the CPU.
        objective: Σ_i (u_i + v_i) / 2 - λ ξ, `[N]`, float64, on the CPU.
        slack: ξ, in units of the scores, likewise.
        n_rows: how many of the (n_smooth + 1) (K - 1) rows HiGHS was given, likewise.
    """

    target: Tensor
    objective: Tensor
    slack: Tensor
    n_rows: Tensor


class LinearPertMap(PertMap):
    """The largest box in which the linearised model keeps its decision; the map is -ŵ.

    Solved exactly by SciPy's HiGHS. Rows that hold anyway are left out: the program
    starts with none, and gets the worst violated ones until no row is violated, so
    that its optimum is that of the program with all rows.

    λ is in units of w per unit of score, so it belongs to the outputs of
    `forward_func`; the authors use logits here. `penalty=math.inf` allows no slack:
    for a linear model the box then keeps the decision everywhere.

    Args:
        forward_func: model that maps inputs to scores `[N, K]`, in torch; each input by
            itself, as in eval mode.
        bound: δ, the largest u_i and v_i, in input units.
        patch: side, in pixels, of the squares whose features share a score, channel
            by channel, from the top left; at the right and the bottom edge they may
            be cut off. 1 for inputs `[N, d]`.
        n_smooth: noisy copies whose rows join the program: LP(Smooth), published 10.
            Memory grows with it: 2 GB for 10 copies, 1,000 classes and 3 × 224².
        stdevs: standard deviation of ε, in input units. x + ε is not clipped. All
            inputs share the noise.
        penalty: λ. 16 is the published 0.5 in units of Hara et al., who count one per
            side of an 8 × 8 patch: 0.5 · 64 / 2.
        two_sided: u and v of their own, as in Hara et al., instead of u = v = w.
        seed: of the noise.
    """

    def __init__(
        self,
        forward_func: Callable,
        bound: float = 0.1,
        patch: int = 8,
        n_smooth: int = 0,
        stdevs: float = 0.05,
        penalty: float = 16.0,
        two_sided: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.bound = check_positive("bound", bound)
        self.patch = check_count("patch", patch)
        self.n_smooth = check_count("n_smooth", n_smooth, 0)
        self.stdevs = check_number("stdevs", stdevs, 0)
        infinite = penalty == math.inf
        self.penalty = penalty if infinite else check_positive("penalty", penalty)
        self.two_sided = check_flag("two_sided", two_sided)
        self.seed = check_seed(seed)

    def solve(
        self, inputs: Tensor, target: Target = None, *, show_progress: bool = False
    ) -> LinearSolution:
        """The optimal box for each image; arguments as in `attribute`.

        Raises:
            ValueError: no box keeps the target, with `penalty=math.inf`.
        """
        return self._solve(*self._checked(inputs, target), show_progress)

    def _solve(
        self, inputs: Tensor, target: Tensor, show_progress: bool
    ) -> LinearSolution:
        if inputs.ndim == 2 and self.patch != 1:
            raise ValueError(
                f"patch must be 1 for inputs [N, d], which have no neighbours to share "
                f"a score with, got {self.patch}"
            )
        n_classes = self._check_model(inputs, target)
        # How many features share each length.
        counts = self._patch_sums(torch.ones_like(inputs[:1]))[0].cpu().double().numpy()
        boxes, objective, slack, n_rows = [], [], [], []
        programs = self._linearise(inputs, target, n_classes, show_progress)
        for image, (limits, falls, rises) in enumerate(programs):
            if self.penalty == math.inf and limits.min() < 0:
                raise ValueError(
                    f"target {int(target[image])} cannot be kept for image {image}: "
                    f"without a perturbation another class leads by "
                    f"{-limits.min():.3g}; use a finite penalty"
                )
            # Unknown are u and v, or one w that meets falls and rises alike.
            rows = np.hstack([falls, rises]) if self.two_sided else falls + rises
            gains = np.tile(counts / 2, 2) if self.two_sided else counts
            lengths, missed, used = largest_box(
                rows, limits, gains, self.bound, self.penalty
            )
            sides = torch.from_numpy(lengths).view(-1, len(counts))
            boxes.append((sides[0], sides[-1]))
            price = self.penalty * missed if missed else 0.0
            objective.append(float(gains @ lengths) - price)
            slack.append(missed)
            n_rows.append(used)
        lower, upper = (
            self._spread(torch.stack(side), inputs) for side in zip(*boxes, strict=True)
        )
        return LinearSolution(
            lower,
            upper,
            target,
            torch.tensor(objective, dtype=torch.float64, device="cpu"),
            torch.tensor(slack, dtype=torch.float64, device="cpu"),
            torch.tensor(n_rows, device="cpu"),
        )

    def _linearise(
        self, inputs: Tensor, target: Tensor, n_classes: int, show_progress: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Each image's program: right-hand sides `[J]`, and the patch sums of
        max(0, g) and of max(0, -g), `[J, P]`, with J = (n_smooth + 1) (K - 1).

        Only the sums are kept: 4,704 numbers a row for 8 × 8 patches at 3 × 224², where
        g itself has 150,528.
        """
        device = self._queried.device or inputs.device
        at_once = batch_rows(inputs, device)
        for image, c in enumerate(target.tolist()):
            all_but_c = [j for j in range(n_classes) if j != c]
            others = torch.tensor(all_but_c, device="cpu")
            rows = []
            for first in range(0, self.n_smooth + 1, at_once):
                n = min(at_once, self.n_smooth + 1 - first)
                offsets = self._offsets(inputs, first, n, device)
                # A reverse pass serves as many classes as there are copies of a point.
                n_passes = math.ceil(len(others) / max(1, at_once // n))
                n_copies = math.ceil(len(others) / n_passes)
                with gradients_enabled():
                    # A clone: inference-mode tensors cannot be differentiated.
                    points = inputs[image].clone().to(device) + offsets
                    points = points.repeat(n_copies, *[1] * (points.ndim - 1))
                    scores = graph_scores(self.forward_func, points.requires_grad_())
                passes = others.split(n_copies)
                name = f"LinearPertMap, image {image + 1} of {len(inputs)}"
                for classes in progress(passes, show_progress, len(passes), name):
                    slopes = margin_gradients(scores, points, c, classes, n)
                    margins = (scores[:n, [c]] - scores[:n, classes.to(device)]).T
                    limits = margins.detach() - (slopes * offsets).flatten(2).sum(dim=2)
                    halves = [slopes.clamp(min=0), (-slopes).clamp(min=0)]
                    rows.append((limits, *(self._patch_sums(half) for half in halves)))
            sides, falls, rises = (
                np.concatenate([t.flatten(0, 1).cpu().double().numpy() for t in ts])
                for ts in zip(*rows, strict=True)
            )
            # A class at −∞ never wins: a row that always holds.
            never = sides == np.inf
            sides[never], falls[never], rises[never] = 0, 0, 0
            if not np.isfinite([sides.sum(), falls.sum(), rises.sum()]).all():
                raise NonFiniteOutput(
                    "forward_func has NaN or infinite scores or gradients at "
                    f"image {image} or its noisy copies"
                )
            yield sides, falls, rises

    def _offsets(
        self, inputs: Tensor, first: int, n: int, device: torch.device
    ) -> Tensor:
        """Of copies first ... first + n − 1, 0 for copy 0, else ε: `[n, *shape]`."""
        e = philox.normals(self.seed, first, n, inputs[0].numel(), device=device)
        if first == 0:
            e[0] = 0
        return e.mul_(self.stdevs).to(inputs.dtype).view(n, *inputs.shape[1:])

    def _patch_sums(self, values: Tensor) -> Tensor:
        """Sums over patches: `[..., C, H, W]` -> `[..., P]`; `[..., d]` as it is."""
        if self.patch == 1:
            return values.flatten(-3) if values.ndim > 3 else values
        sums = F.avg_pool2d(
            values.flatten(0, -4), self.patch, ceil_mode=True, divisor_override=1
        )
        return sums.unflatten(0, values.shape[:-3]).flatten(-3)

    def _spread(self, lengths: Tensor, inputs: Tensor) -> Tensor:
        """Lengths `[N, P]` to all features of their patches: shaped like the inputs."""
        lengths = lengths.to(inputs)
        if self.patch == 1:
            return lengths.view_as(inputs)
        channels, height, width = inputs.shape[1:]
        grid = lengths.unflatten(1, (channels, -(-height // self.patch), -1))
        for axis in (2, 3):
            grid = grid.repeat_interleave(self.patch, dim=axis)
        return grid[..., :height, :width].contiguous()


def largest_box(
    rows: np.ndarray,
    limits: np.ndarray,
    gains: np.ndarray,
    bound: float,
    penalty: float,
) -> tuple[np.ndarray, float, int]:
    """maximise gains · w - penalty ξ subject to rows w <= limits + ξ, 0 <= w <= bound.

    Args:
        rows: `[J, P]`, not negative.
        limits: `[J]`; not negative where the penalty is infinite, which means ξ = 0.
        gains: `[P]`, above zero.
        bound, penalty: above zero.

    Returns:
        w `[P]`, ξ >= 0, and how many rows HiGHS was given.

    Raises:
        ValueError: HiGHS gives up.
    """
    # HiGHS knows absolute tolerances only, and drops entries below 1e-9: so the
    # unknowns are w / bound and ξ / unit, and each row's largest entry is 1.
    scale = rows.max(axis=1) * bound
    scale[scale == 0] = 1
    rows, limits = rows * (bound / scale)[:, None], limits / scale
    unit = scale.max()
    slopes = unit / scale
    w, slack, used = np.ones(len(gains)), 0.0, np.zeros(len(limits), dtype=bool)
    while True:
        over = np.where(used, -np.inf, rows @ w - limits - slopes * slack)
        worst = np.argsort(-over, kind="stable")[:ROWS_PER_ROUND]
        worst = worst[over[worst] > TOLERANCE]
        if not len(worst):
            return bound * w, float(slack * unit), int(used.sum())
        used[worst] = True
        price = 0 if penalty == math.inf else penalty * unit / (gains.max() * bound)
        answer = linprog(
            np.append(-gains / gains.max(), price),
            A_ub=np.column_stack([rows[used], -slopes[used]]),
            b_ub=limits[used],
            bounds=[(0, 1)] * len(w) + [(0, None if price else 0)],
            method="highs",
        )
        if answer.status != 0:
            raise ValueError(
                f"HiGHS found no optimum ({answer.message}); forward_func's scores or "
                "gradients may be too large or too small for it: scale them"
            )
        w, slack = answer.x[:-1].clip(0, 1), max(0.0, answer.x[-1])


def margin_gradients(
    scores: Tensor, points: Tensor, target: int, others: Tensor, n_points: int
) -> Tensor:
    """∂(f_c - f_j) / ∂points for each other class j and each point: `[B, N, ...]`.

    One reverse pass, in which every copy of the points has a class of its own. On a CPU
    that is faster than the batched gradients of torch, see `benchmarks/pertmap.py`.

    The scores `[R N, K]` were computed from the points, R copies of N points one after
    the other, `[R N, ...]`; c is the target, and the other classes are `[B]`, B <= R.
    """
    seeds = torch.zeros_like(scores).unflatten(0, (-1, n_points))
    seeds[: len(others), :, target] = 1
    seeds[torch.arange(len(others), device="cpu"), :, others] = -1
    slopes = gradient(scores, points, seeds.flatten(0, 1), again=True)
    return slopes.unflatten(0, (-1, n_points))[: len(others)]
