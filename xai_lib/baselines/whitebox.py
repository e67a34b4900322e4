"""White-box baselines from gradients alone: Gradient, SmoothGrad, IntegratedGradients.

Thin adapters over autograd and Captum; what they add is said at each. All maps are
signed and unscaled, and have the shape of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from xai_lib.core.arguments import (
    check_baselines,
    check_count,
    check_number,
    check_seed,
    expand_baselines,
)
from xai_lib.core.attribution import accumulator, default_device, progress
from xai_lib.core.extras import extra
from xai_lib.core.gradients import BatchwiseAttribution, batch_rows, target_gradient
from xai_lib.kernels import philox


class Gradient(BatchwiseAttribution):
    """The derivative of the target's score by each input: ∂f_t(x) / ∂x.

    Signed, where Simonyan et al. draw its absolute value. It says how the score reacts
    to infinitely small changes, not which pixels the score is made of: where a score
    saturates it is near zero, and between images a pixel apart it varies wildly.

    Source: Simonyan, Vedaldi, Zisserman, "Deep inside convolutional networks" (2014),
    section 3, https://arxiv.org/abs/1312.6034.
    """

    def _explain(self, inputs: Tensor, target: Tensor, prepared: Any) -> Tensor:
        return target_gradient(prepared, inputs, target)


class SmoothGrad(BatchwiseAttribution):
    """The mean gradient at noisy copies: (1/n) Σ ∂f_t(x + ε)/∂x, ε ~ N(0, stdev²).

    Captum's NoiseTunnel does this with global random state. Here the noise comes from
    the seed alone and is shared by all inputs, so that a map depends neither on the
    batch it is computed in, nor on the images beside it, nor on the device.

    Args:
        forward_func: model that maps inputs to scores `[N, K]`, in torch.
        n_samples: noisy copies of each input, each one forward and backward pass.
        stdevs: of the noise, in input units: 0.15 is 15 % of a range [0, 1], where
            Smilkov et al. recommend 10 to 20 %.
        seed: of the noise.

    Source: Smilkov et al., "SmoothGrad: removing noise by adding noise" (2017),
    https://arxiv.org/abs/1706.03825.
    """

    side_by_side = True

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 50,
        stdevs: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.n_samples = check_count("n_samples", n_samples)
        self.stdevs = check_number("stdevs", stdevs, 0)
        self.seed = check_seed(seed)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        copies = max(1, batch_rows(inputs, inputs.device) // len(inputs))
        total = torch.zeros_like(inputs, dtype=accumulator(inputs))
        starts, size = range(0, self.n_samples, copies), inputs[0].numel()
        for first in progress(starts, show_progress, len(starts), "SmoothGrad"):
            count = min(copies, self.n_samples - first)
            noise = philox.normals(self.seed, first, count, size, device=inputs.device)
            noise = noise.to(inputs.dtype).view(count, 1, *inputs.shape[1:])
            noisy = (inputs + noise.mul_(self.stdevs)).flatten(0, 1)
            maps = super()._attribute(noisy, target.repeat(count), False)
            total += maps.view(count, *inputs.shape).sum(dim=0)
        return total.div_(self.n_samples).to(inputs.dtype)

    def _explain(self, inputs: Tensor, target: Tensor, prepared: Any) -> Tensor:
        return target_gradient(prepared, inputs, target)


class IntegratedGradients(BatchwiseAttribution):
    """(x − x') ∫₀¹ ∂f_t(x' + α(x − x'))/∂x dα, by Gauss-Legendre quadrature (Captum).

    Complete: a map sums to f_t(x) − f_t(x'), up to the error of the quadrature, which
    is exact for polynomials of degree below 2 n_steps and visible for deep ReLU
    networks. Pixels that equal the baseline get zero, whatever they mean.

    Args:
        forward_func: model that maps inputs to scores `[N, K]`, in torch.
        baselines: x', a number, or a tensor of the shape of one input.
        n_steps: points on the path, each one forward and backward pass.

    Source: Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks" (2017),
    equation 1, https://arxiv.org/abs/1703.01365.
    """

    side_by_side = True

    def __init__(
        self, forward_func: Callable, baselines: float | Tensor = 0.0, n_steps: int = 50
    ) -> None:
        super().__init__(forward_func)
        self.baselines = check_baselines(baselines)
        self.n_steps = check_count("n_steps", n_steps)

    def _explain(self, inputs: Tensor, target: Tensor, prepared: Any) -> Tensor:
        with extra("book"):
            import captum.attr
        users = torch.get_default_device()

        def slopes(
            inputs: tuple[Tensor], additional_forward_args: tuple[Tensor], **_: Any
        ) -> tuple[Tensor]:
            with default_device(users):
                classes = additional_forward_args[0]
                return (target_gradient(prepared, inputs[0], classes),)

        explainer = captum.attr.IntegratedGradients(prepared)
        explainer.gradient_func = slopes  # Captum's does not refuse what ours does
        with default_device("cpu"):
            return explainer.attribute(
                inputs,
                expand_baselines(self.baselines, inputs),
                additional_forward_args=target,
                n_steps=self.n_steps,
                internal_batch_size=batch_rows(inputs, inputs.device),
            )
