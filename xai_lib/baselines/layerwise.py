"""The base of the methods with a rule for each layer: GuidedBackprop, DeepLift, LRP.

Captum and zennit hold the rules. They work on a rewritten copy of the model (see
`xai_lib.baselines.rewrite`), because on the model itself they silently skip layers.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod

import torch
from torch import Tensor, fx, nn

from xai_lib.baselines import rewrite
from xai_lib.core.arguments import pick
from xai_lib.core.gradients import BatchwiseAttribution, checked_scores


class LayerwiseAttribution(BatchwiseAttribution):
    """Base of the methods with a rule per layer: `forward_func` is an `nn.Module`.

    The copy is made anew for every call, so that it never lags behind the model; its
    scores must equal the model's.
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
