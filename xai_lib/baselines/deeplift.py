"""DeepLIFT: finite differences instead of derivatives, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from xai_lib.baselines.layerwise import LayerwiseAttribution, TargetScore
from xai_lib.baselines.rewrite import ReLU6, explicit_layers, finish, layers, replace
from xai_lib.core.arguments import check_baselines, expand_baselines
from xai_lib.core.extras import extra
from xai_lib.core.gradients import no_raw_errors, target_scores

# The gap that DeepLIFT may leave: this many roundings of the largest number in it.
# Right maps were measured to need at most 62 (InceptionV3, random weights).
ROUNDINGS = 1000


class DeepLift(LayerwiseAttribution):
    """DeepLIFT's rescale rule: finite differences instead of derivatives (Captum).

    Complete: a map sums to f_t(x) − f_t(x'). Products of activations (squeeze and
    excitation, attention) and activations without a rule (GELU, SiLU) break that, and
    are found out: every map is summed. Not implementation-invariant: two networks that
    compute the same function may get different maps.

    Args:
        forward_func: `nn.Module` that maps inputs to scores `[N, K]`; give the logits,
            as a softmax has no rule either.
        baselines: x', a number, or a tensor of the shape of one input.

    Source: Shrikumar, Greenside, Kundaje, "Learning important features through
    propagating activation differences" (2017), section 3.5.2,
    https://arxiv.org/abs/1704.02685; max-pooling as in Captum.

    Raises (when called):
        ValueError: a map that does not sum to f_t(x) − f_t(x').
    """

    def __init__(
        self, forward_func: nn.Module, baselines: float | Tensor = 0.0
    ) -> None:
        super().__init__(forward_func)
        self.baselines = check_baselines(baselines)

    def _rewritten(self) -> fx.GraphModule:
        return windowed_max_pools(explicit_layers(self.forward_func))

    def _explain(self, inputs: Tensor, target: Tensor, prepared: TargetScore) -> Tensor:
        with extra("book"):
            import captum.attr
            from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR, nonlinear
        SUPPORTED_NON_LINEAR[ReLU6] = nonlinear
        SUPPORTED_NON_LINEAR[MaxOverWindows] = rescale_maximum
        baselines = expand_baselines(self.baselines, inputs)
        # Captum's 1e-10 is zero in float16, where equal activations then give 0 / 0.
        eps = max(1e-10, torch.finfo(inputs.dtype).tiny)
        with no_raw_errors():
            maps = captum.attr.DeepLift(prepared, eps=eps).attribute(
                inputs, baselines, additional_forward_args=target
            )
        with torch.no_grad():
            change = target_scores(self.forward_func, inputs, target)
            change -= target_scores(self.forward_func, baselines, target)
        gap = (maps.flatten(1).sum(dim=1) - change).abs()
        sizes = prepared.scores.abs().nan_to_num(posinf=0)
        scale = maps.flatten(1).abs().sum(dim=1) + sizes.max()
        excess = gap - ROUNDINGS * torch.finfo(maps.dtype).eps * scale
        worst = int(excess.argmax())
        if excess[worst] > 0:
            raise ValueError(
                "DeepLift has no rule for some operation of forward_func: a map sums "
                f"to {maps[worst].sum():.4g} where the score changes by "
                f"{change[worst]:.4g} (a gap of {gap[worst]:.2g}). Softmax, GELU, SiLU "
                "and products of activations are such operations; explain logits, or "
                "use IntegratedGradients"
            )
        return maps


class MaxOverWindows(nn.Module):
    """The maximum over the last axis: `[N, C, H, W, kernel]` -> `[N, C, H, W]`."""

    def forward(self, windows: Tensor) -> Tensor:
        return windows.max(dim=-1).values


class WindowedMaxPool(nn.Module):
    """`MaxPool2d` in two steps: copy every window, then take the maximum of each.

    Windows that overlap share no copy, so a rule for the maximum can say what every
    window owes to an input. Captum's own rule keeps one window per input, and reads
    the first image's gradient where an input equals its baseline.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
        self.settings: list[Any] = [
            s if isinstance(s, tuple) else (s, s) for s in settings
        ]
        # In a tuple, as tools must not see it as a layer of the model.
        self._pool = (pool,)
        self.maximum = MaxOverWindows()

    def forward(self, input: Tensor) -> Tensor:
        _, strides, (top, left), _ = self.settings
        size = self._pool[0](input[:1, :1]).shape[2:]
        # One stride more at the far end than asked for is all that ceil_mode needs.
        sides = (left, left + strides[1], top, top + strides[0])
        windows = F.pad(input, sides, value=torch.finfo(input.dtype).min)
        for axis in (0, 1):
            kernel, stride, _, dilation = (setting[axis] for setting in self.settings)
            span = dilation * (kernel - 1) + 1
            windows = windows.unfold(2 + axis, span, stride)[..., ::dilation]
            windows = windows.narrow(2 + axis, 0, size[axis])
        return self.maximum(windows.flatten(4))


def windowed_max_pools(copied: fx.GraphModule) -> fx.GraphModule:
    """Write every `MaxPool2d` as `WindowedMaxPool` (in place; returns its argument)."""
    for node, layer in layers(copied):
        if type(layer) is nn.MaxPool2d and not layer.return_indices:
            replace(copied, node, WindowedMaxPool(layer), node.args)
    return finish(copied)


def rescale_maximum(
    module: nn.Module,
    windows: Tensor,
    maxima: Tensor,
    grad_input: Tensor,
    grad_output: Tensor,
    eps: float = 1e-10,
) -> Tensor:
    """DeepLIFT's multipliers of a maximum, in the call shape of Captum's rules.

    As in Captum's max-pool: with m = max(y, y'), the input's winner is owed m − y' and
    the baseline's winner y − m. The first half of each tensor is the input's, the
    second the baseline's.
    """
    window, reference = windows.chunk(2)
    maximum, lowest = maxima.chunk(2)
    gain = (maximum - lowest)[..., None]
    owed = torch.zeros_like(window)
    owed.scatter_add_(-1, window.argmax(-1, keepdim=True), gain.clamp(min=0))
    owed.scatter_add_(-1, reference.argmax(-1, keepdim=True), gain.clamp(max=0))
    owed, change = owed.repeat(2, *[1] * (owed.ndim - 1)), window - reference
    change = change.repeat(2, *[1] * (change.ndim - 1))
    multipliers = grad_output[..., None] * owed / change
    return torch.where(change.abs() < eps, grad_input, multipliers)
