"""White-box baselines: explanations that look inside the model, through autograd.

Each is a thin adapter over autograd, Captum or zennit; what the adapters add is said
at each. All maps are signed and unscaled, and have the shape of the inputs.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import captum.attr
import torch
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR, nonlinear
from torch import Tensor, fx, nn
from zennit.composites import SpecialFirstLayerMapComposite
from zennit.rules import Epsilon, Flat, Norm, Pass, ZPlus
from zennit.types import AvgPool, BatchNorm, ConvolutionStandard, MaxPool

from xai_lib.arguments import check_count, check_number, expand_baselines, pick
from xai_lib.attribution import Attribution, chunks, generator, progress
from xai_lib.baselines import rewrite
from xai_lib.blackbox import BlackBox, NonFiniteOutput

# Numbers per forward and backward pass: 6 photographs at 224² on a CPU, where larger
# batches are slower per image (page faults), and 27 on an accelerator.
BATCH_NUMBERS = {"cpu": 2**20, "accelerator": 2**22}

# The gap that DeepLIFT may leave: this many roundings of the largest number in it.
# Right maps were measured to need at most 62 (InceptionV3, random weights).
ROUNDINGS = 1000

# Layers and functions (without "_") that GuidedBackprop refuses.
ACTIVATIONS = {
    *(name.lower() for name in nn.modules.activation.__all__),
    *("clamp", "clip", "maximum", "minimum", "lstm", "gru", "rnn"),
} - {"softmax", "softmax2d", "logsoftmax"}

# Layers that LRP has rules for, or that only move numbers; functions that do so.
LRP_LAYERS = (
    *(ConvolutionStandard, nn.Linear, BatchNorm, nn.ReLU, AvgPool, MaxPool),
    *(rewrite.Add, rewrite.Sum, nn.Flatten, nn.Identity, nn.ZeroPad2d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
)
LRP_FUNCTIONS = (
    *("clone", "cat", "flatten", "view", "reshape", "size", "getitem", "getattr"),
    "dropout",
)


class WhiteBoxAttribution(Attribution):
    """Base of the methods that need gradients: `forward_func` works in torch.

    A method implements `_explain` for a batch that fits in memory. It may be called
    under `torch.no_grad()`, on inputs of any device; the model runs on its own one.
    Inputs, parameters, their `.grad` and the model's hooks are left as they were.

    Raises (when constructed):
        TypeError: `forward_func` is a `BlackBox`, which gives no gradients.
        ValueError: a module in training mode.
    """

    input_dims = (2, 4)

    def __init__(self, forward_func: Callable) -> None:
        if isinstance(forward_func, BlackBox):
            raise TypeError(
                f"forward_func is a BlackBox, which gives no gradients; "
                f"{type(self).__name__} needs the model itself (.forward_func)"
            )
        super().__init__(forward_func)
        self._queried = BlackBox(forward_func, backend="torch")

    def _scores(self, inputs: Tensor) -> Tensor:
        return self._queried(inputs)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        batches = self._batches(inputs, target)
        bar = progress(batches, show_progress, len(batches), type(self).__name__)
        with _gradients():
            # Clones: tensors made in inference mode cannot be differentiated.
            maps = [self._explain(x.clone(), classes.clone()) for x, classes in bar]
        return torch.cat(maps).to(inputs.device)

    @abstractmethod
    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        """The maps of one batch; both arguments lie on the model's device."""

    def _batches(self, inputs: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor]]:
        device = self._queried.device or inputs.device
        rows = batch_rows(inputs, device)
        split = zip(inputs.split(rows), target.split(rows), strict=True)
        return [(x.to(device), classes.to(device)) for x, classes in split]


class Gradient(WhiteBoxAttribution):
    """The derivative of the target's score by each input: ∂f_t(x) / ∂x.

    Signed, where Simonyan et al. draw its absolute value. It says how the score reacts
    to infinitely small changes, not which pixels the score is made of: where a score
    saturates it is near zero, and between images a pixel apart it varies wildly.

    Source: Simonyan, Vedaldi, Zisserman, "Deep inside convolutional networks" (2014),
    section 3, https://arxiv.org/abs/1312.6034.
    """

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        return target_gradient(self.forward_func, inputs, target)


class SmoothGrad(WhiteBoxAttribution):
    """The mean gradient at noisy copies: (1/n) Σ ∂f_t(x + ε)/∂x, ε ~ N(0, stdev²).

    Captum's NoiseTunnel does this with global random state. Here the noise comes from
    the seed alone and is shared by all inputs, so that a map depends neither on the
    batch it is computed in nor on the images beside it.

    Args:
        forward_func: model that maps inputs to scores `[N, K]`, in torch.
        n_samples: noisy copies of each input, each one forward and backward pass.
        stdev: of the noise, in input units: 0.15 is 15 % of a range [0, 1], where
            Smilkov et al. recommend 10 to 20 %.
        seed: of the noise.

    Source: Smilkov et al., "SmoothGrad: removing noise by adding noise" (2017),
    https://arxiv.org/abs/1706.03825.
    """

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 50,
        stdev: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.n_samples = check_count("n_samples", n_samples)
        self.stdev = check_number("stdev", stdev, 0)
        self.seed = seed

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        source = generator(self.seed)
        copies = max(1, batch_rows(inputs, inputs.device) // len(inputs))
        total = torch.zeros_like(inputs)
        counts = list(chunks(self.n_samples, copies))
        for count in progress(counts, show_progress, len(counts), "SmoothGrad"):
            # One draw per copy: the same numbers however many go into one pass.
            draws = [
                torch.randn(inputs.shape[1:], generator=source) for _ in range(count)
            ]
            noise = self.stdev * torch.stack(draws).to(inputs)
            noisy = (inputs + noise[:, None]).flatten(0, 1)
            maps = super()._attribute(noisy, target.repeat(count), False)
            total += maps.view(count, *inputs.shape).sum(dim=0)
        return total / self.n_samples

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        return target_gradient(self.forward_func, inputs, target)


class IntegratedGradients(WhiteBoxAttribution):
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

    def __init__(
        self, forward_func: Callable, baselines: float | Tensor = 0, n_steps: int = 50
    ) -> None:
        super().__init__(forward_func)
        self.baselines = baselines
        self.n_steps = check_count("n_steps", n_steps)

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        def score(points: Tensor, classes: Tensor) -> Tensor:
            return target_scores(self.forward_func, points, classes)

        return captum.attr.IntegratedGradients(score).attribute(
            inputs,
            expand_baselines(self.baselines, inputs),
            additional_forward_args=target,
            n_steps=self.n_steps,
            internal_batch_size=batch_rows(inputs, inputs.device),
        )


class LayerwiseAttribution(WhiteBoxAttribution):
    """Base of the methods with a rule per layer: `forward_func` is an `nn.Module`.

    They work on a rewritten copy (see `xai_lib.baselines.rewrite`), made anew for every
    call, so that it never lags behind the model; its scores must equal the model's.

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

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        with _gradients():
            self._copy = TargetScore(self._rewritten())
        cudnn = torch.backends.cudnn
        # On CUDA, convolutions round to 10 bits by default: the checks would fail.
        with cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        ):
            return super()._attribute(inputs, target, show_progress)

    def _check_scores(self, inputs: Tensor) -> None:
        """Refuse a copy that did not compute what the model does."""
        with torch.no_grad():
            expected = checked_scores(self.forward_func, inputs)
        gap = (self._copy.scores - expected).abs().max()
        if gap > 1e-3 * expected.abs().max():
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

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        explainer = captum.attr.GuidedBackprop(self._copy)
        maps = explainer.attribute(inputs, additional_forward_args=target)
        self._check_scores(inputs)
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

    def __init__(self, forward_func: nn.Module, baselines: float | Tensor = 0) -> None:
        super().__init__(forward_func)
        self.baselines = baselines

    def _rewritten(self) -> fx.GraphModule:
        return rewrite.windowed_max_pools(rewrite.explicit_layers(self.forward_func))

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        baselines = expand_baselines(self.baselines, inputs)
        maps = captum.attr.DeepLift(self._copy).attribute(
            inputs, baselines, additional_forward_args=target
        )
        with torch.no_grad():
            change = target_scores(self.forward_func, inputs, target)
            change -= target_scores(self.forward_func, baselines, target)
        gap = (maps.flatten(1).sum(dim=1) - change).abs()
        scale = maps.flatten(1).abs().sum(dim=1) + self._copy.scores.abs().max()
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
    propagation: an overview" (2019), section 10.3; Kohlbrenner et al. (2020),
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
        return copied

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        rules = [
            (nn.ReLU, Pass()),
            (rewrite.Sum, Norm()),
            (AvgPool, Norm()),
            (BatchNorm, Pass()),
            (ConvolutionStandard, ZPlus(zero_params="bias")),
            (nn.Linear, Epsilon(self.epsilon)),
        ]
        composite = SpecialFirstLayerMapComposite(
            layer_map=rules, first_map=[(ConvolutionStandard, Flat())]
        )
        with composite.context(self._copy):
            scores = self._copy(inputs.requires_grad_(), target)
            relevance = torch.autograd.grad(scores, inputs, scores.detach())[0]
        self._check_scores(inputs)
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


SUPPORTED_NON_LINEAR[rewrite.ReLU6] = nonlinear
SUPPORTED_NON_LINEAR[rewrite.MaxOverWindows] = rescale_maximum


def target_scores(forward_func: Callable, inputs: Tensor, target: Tensor) -> Tensor:
    """f_t for each input, with its graph: inputs `[N, …]`, target `[N]` -> `[N]`."""
    return pick(checked_scores(forward_func, inputs), target)


def checked_scores(forward_func: Callable, inputs: Tensor) -> Tensor:
    """The scores `[N, K]`, with their graph; a model's `[N]` is read as `[N, 1]`.

    Raises:
        TypeError: the model does not return a tensor.
        ValueError: its scores are not `[N, K]` or `[N]`.
        NonFiniteOutput: the model answered NaN or infinity.
    """
    scores = forward_func(inputs)
    if not isinstance(scores, Tensor):
        raise TypeError(
            "forward_func must return a torch.Tensor of scores, got "
            f"{type(scores).__name__}; wrap it, e.g. lambda x: model(x).logits"
        )
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or len(scores) != len(inputs):
        raise ValueError(
            f"forward_func must return {len(inputs)} rows of scores for {len(inputs)} "
            f"inputs, got shape {list(scores.shape)}"
        )
    if not bool(scores.isfinite().all()):
        raise NonFiniteOutput("forward_func answered NaN or infinity")
    return scores


def target_gradient(forward_func: Callable, inputs: Tensor, target: Tensor) -> Tensor:
    """∂f_t/∂x for each input `[N, …]`; zero where f does not depend on x.

    Raises:
        ValueError: the scores carry no gradient at all.
    """
    inputs = inputs.detach().requires_grad_()
    scores = target_scores(forward_func, inputs, target)
    if not scores.requires_grad:
        raise ValueError(
            "forward_func gives no gradients: its scores do not depend on the inputs "
            "through torch operations. Remove .detach(), .numpy() or torch.no_grad() "
            "from it, or use a method that only queries, such as RISE or Occlusion"
        )
    return torch.autograd.grad(scores.sum(), inputs, materialize_grads=True)[0]


def batch_rows(inputs: Tensor, device: torch.device) -> int:
    """How many inputs of this size go through the model and back at once."""
    kind = "cpu" if device.type == "cpu" else "accelerator"
    return max(1, BATCH_NUMBERS[kind] // inputs[0].numel())


@contextmanager
def _gradients() -> Iterator[None]:
    """Gradients even under no_grad, where Captum's metrics call explainers.

    Captum warns that it sets hooks, which here happens on a copy of the model.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", module="captum")
        yield
