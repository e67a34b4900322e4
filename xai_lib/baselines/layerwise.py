"""White-box baselines that have a rule for each layer: GuidedBackprop, DeepLift, LRP.

Captum and zennit hold the rules. They work on a rewritten copy of the model (see
`xai_lib.baselines.rewrite`), because on the model itself they silently skip layers.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.modules import pooling

from xai_lib.baselines import rewrite
from xai_lib.core.arguments import check_baselines, check_number, expand_baselines, pick
from xai_lib.core.attribution import DRAWN, generator
from xai_lib.core.extras import extra
from xai_lib.core.gradients import (
    BatchwiseAttribution,
    checked_scores,
    gradient,
    no_raw_errors,
    target_scores,
)

# The gap that DeepLIFT may leave: this many roundings of the largest number in it.
# Right maps were measured to need at most 62 (InceptionV3, random weights).
ROUNDINGS = 1000

# Layers and functions (without "_") that GuidedBackprop refuses.
ACTIVATIONS = {
    *(name.lower() for name in nn.modules.activation.__all__),
    *("clamp", "clip", "maximum", "minimum", "lstm", "gru", "rnn"),
} - {"softmax", "softmax2d", "logsoftmax"}

WEIGHTED = (*rewrite.CONVOLUTIONS, nn.Linear)
# The bases of torch's pools in one, two and three dimensions.
AVERAGE_POOLS = (pooling._AvgPoolNd, pooling._AdaptiveAvgPoolNd)
MAX_POOLS = (pooling._MaxPoolNd, pooling._AdaptiveMaxPoolNd)
# Layers that LRP has rules for, or that only move numbers; functions that do so.
LRP_LAYERS = (
    *(*WEIGHTED, *rewrite.BATCH_NORMS, nn.ReLU, *AVERAGE_POOLS, *MAX_POOLS),
    *(rewrite.Add, rewrite.Sum, nn.Flatten, nn.Identity, nn.ZeroPad2d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
)
LRP_FUNCTIONS = {
    *("clone", "cat", "flatten", "view", "reshape", "dropout"),
    *("size", "getitem", "getattr"),
}


class LayerwiseAttribution(BatchwiseAttribution):
    """Base of the methods with a rule per layer: `forward_func` is an `nn.Module`.

    They work on a rewritten copy (see `xai_lib.baselines.rewrite`), made anew for every
    call, so that it never lags behind the model; its scores must equal the model's.
    Threads may call them at the same time, and wait for each other.

    Raises (when constructed):
        TypeError: not an `nn.Module`.
        ValueError: a model that torch.fx cannot trace, or that has layers for which
            the method has no rule.
    """

    def __init__(self, forward_func: nn.Module) -> None:
        super().__init__(forward_func)
        self._rewritten()  # refuse now what could not be explained later

    @abstractmethod
    def _rewritten(self) -> fx.GraphModule:
        """The copy to work on; raises ValueError on a layer without a rule."""

    def _prepare(self, inputs: Tensor) -> TargetScore:
        return TargetScore(self._rewritten())

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        cudnn = torch.backends.cudnn
        # On CUDA, convolutions round to 10 bits by default: the checks would fail.
        precise = cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        )
        with rewrite.TOOLS, precise, warnings.catch_warnings():
            # Captum warns that it sets hooks, which it does on our copy.
            warnings.filterwarnings("ignore", module="captum")
            return super()._attribute(inputs, target, show_progress)

    def _check_scores(self, scores: Tensor, inputs: Tensor) -> None:
        """Refuse a copy whose scores `[N, K]` are not those of the model."""
        with torch.no_grad():
            expected = checked_scores(self.forward_func, inputs)
        # −∞ may stand for a probability of 0: then on both sides.
        finite = expected.isfinite()
        gap = (scores - expected).masked_fill(scores == expected, 0).abs().max()
        # Half precision alone moves scores by a few of its roundings.
        rounding = 8 * torch.finfo(inputs.dtype).eps
        if not gap <= max(1e-3, rounding) * expected[finite].abs().max():
            raise ValueError(
                f"the rewritten copy of forward_func differs by {gap:.2g} from it; "
                "forward_func may branch on its inputs, or write into a view in place"
            )


class GuidedBackprop(LayerwiseAttribution):
    """The gradient, with negative gradients set to zero at every ReLU (Captum).

    Sharp pictures, which show edges more than evidence: they hardly change with the
    target or with random weights (Adebayo et al., 2018, https://arxiv.org/abs/1810.03292).
    The original is defined for ReLU; ReLU6 is treated alike: 1[0 < x < 6] max(g, 0).

    Source: Springenberg et al., "Striving for simplicity" (2015), figure 1,
    https://arxiv.org/abs/1412.6806.

    Raises (when constructed):
        ValueError: as `LayerwiseAttribution`; another activation, or no ReLU at all.
    """

    def _rewritten(self) -> fx.GraphModule:
        copied = rewrite.explicit_layers(self.forward_func)
        for name, layer in rewrite.operations(copied):
            parts = [] if layer is None else [type(m).__name__ for m in layer.modules()]
            for part in {name, *parts} - {"ReLU", "ReLU6"}:
                if part.replace("_", "").lower() in ACTIVATIONS:
                    raise ValueError(
                        "GuidedBackprop is defined for ReLU and ReLU6 only, but "
                        f"forward_func uses {part}"
                    )
        if not any(isinstance(layer, nn.ReLU) for layer in copied.modules()):
            raise ValueError("GuidedBackprop acts on ReLUs, and forward_func has none")
        return copied

    def _explain(self, inputs: Tensor, target: Tensor, prepared: TargetScore) -> Tensor:
        with extra("book"):
            import captum.attr
        with no_raw_errors():
            maps = captum.attr.GuidedBackprop(prepared).attribute(
                inputs, additional_forward_args=target
            )
        self._check_scores(prepared.scores, inputs)
        return maps


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
        return rewrite.windowed_max_pools(rewrite.explicit_layers(self.forward_func))

    def _explain(self, inputs: Tensor, target: Tensor, prepared: TargetScore) -> Tensor:
        with extra("book"):
            import captum.attr
            from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR, nonlinear
        SUPPORTED_NON_LINEAR[rewrite.ReLU6] = nonlinear
        SUPPORTED_NON_LINEAR[rewrite.MaxOverWindows] = rescale_maximum
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


class LRP(LayerwiseAttribution):
    """Layer-wise relevance propagation: the score, divided up layer by layer (zennit).

    The composite EpsilonPlusFlat: dense layers ε-rule, convolutions z⁺-rule without
    biases, the first convolution spread flat over its window, as a pixel's value is
    not evidence in itself. Batch norms are merged into convolutions before, others (a
    normalisation of the input) pass relevance on, as activations do; sums and average
    pools divide it by share; max pools give it to the winner.

    Relevance is conserved but for what ε, biases of dense layers, and units that only
    their bias switches on absorb. Depthwise convolutions have many of those: a few
    percent of the score reach the pixels of EfficientNet-Lite0. A first convolution
    with a stride leaves its grid in the map. With dense layers only, LRP is Input ×
    Gradient (Ancona et al., 2018, https://arxiv.org/abs/1711.06104). The z⁺-rule
    follows excitation only, so it hardly tells classes apart (Sixt et al., 2020,
    https://arxiv.org/abs/1912.09818).

    Args:
        forward_func: `nn.Module` that maps inputs to scores `[N, K]`, made of
            convolutions, dense layers, batch norms, ReLU or ReLU6, pools, sums and
            concatenations; give the logits.
        epsilon: stabilises the dense layers; larger values drop weak contributions.

    Source: Bach et al. (2015), equations 58 and 60,
    https://doi.org/10.1371/journal.pone.0130140; Montavon et al., "Layer-wise relevance
    propagation: an overview" (2019); Kohlbrenner et al. (2020),
    https://arxiv.org/abs/1910.09840, for the composite.

    Raises (when constructed):
        ValueError: as `LayerwiseAttribution`; an operation without a rule, by name.
    """

    def __init__(self, forward_func: nn.Module, epsilon: float = 1e-6) -> None:
        self.epsilon = check_number("epsilon", epsilon, 0)
        super().__init__(forward_func)

    def _rewritten(self) -> fx.GraphModule:
        copied = rewrite.explicit_layers(self.forward_func)
        copied = rewrite.explicit_sums(rewrite.merge_batch_norms(copied))
        for name, layer in rewrite.operations(copied):
            if not isinstance(layer, LRP_LAYERS) and name not in LRP_FUNCTIONS:
                raise ValueError(
                    f"LRP has no rule for {name}, which forward_func uses; it knows "
                    "convolutional networks with ReLU or ReLU6"
                )
            if isinstance(layer, WEIGHTED) and not is_additive(layer):
                raise ValueError(
                    f"LRP has no rule for {name}, which forward_func uses: its output "
                    "is not the sum of what its positive and negative weights give"
                )
        return copied

    def _explain(self, inputs: Tensor, target: Tensor, prepared: TargetScore) -> Tensor:
        with extra("book"):
            from zennit.composites import SpecialFirstLayerMapComposite
            from zennit.rules import Epsilon, Flat, Norm, Pass, ZPlus
        rules = [
            (nn.ReLU, Pass()),
            (rewrite.Sum, Norm()),
            (AVERAGE_POOLS, Norm()),
            (rewrite.BATCH_NORMS, Pass()),
            (rewrite.CONVOLUTIONS, ZPlus(zero_params="bias")),
            (nn.Linear, Epsilon(self.epsilon)),
        ]
        composite = SpecialFirstLayerMapComposite(
            layer_map=rules, first_map=[(rewrite.CONVOLUTIONS, Flat())]
        )
        with composite.context(prepared):
            score = prepared(inputs.requires_grad_(), target)
            relevance = gradient(score, inputs, score.detach())
        self._check_scores(prepared.scores, inputs)
        return relevance


class TargetScore(nn.Module):
    """f_t as a module, for tools that want one: (inputs, target) -> `[N]`.

    Attributes:
        scores: the scores `[N, K]` of the last call.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        self.scores = checked_scores(self.model, inputs)
        return pick(self.scores, target)


def is_additive(layer: Any) -> bool:
    """Do the outputs for positive and for negative weights add up to the output?

    The rules of LRP exchange weights. A layer of a user that computes something else
    from its weight first, such as its standardised values, would answer wrongly.
    """
    if type(layer) in WEIGHTED:
        return True
    weight, bias = layer.weight.detach(), layer.bias
    channels = weight.shape[1] * getattr(layer, "groups", 1)
    sides = [2 * size for size in weight.shape[2:]]
    inputs = torch.rand(1, channels, *sides, generator=generator(0), **DRAWN).to(weight)
    unbiased = {} if bias is None else {"bias": torch.zeros_like(bias)}
    whole, plus, minus = (
        functional_call(layer, {"weight": part, **unbiased}, inputs)
        for part in (weight, weight.clamp(min=0), weight.clamp(max=0))
    )
    gap = (whole - plus - minus).abs().max()
    return bool(gap <= 1e-2 * whole.abs().max())


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
