"""Guided backpropagation: the gradient, without what is negative at a ReLU."""

from __future__ import annotations

from torch import Tensor, fx, nn

from xai_lib.baselines.layerwise import LayerwiseAttribution, TargetScore
from xai_lib.baselines.rewrite import explicit_layers, operations
from xai_lib.core.extras import extra
from xai_lib.core.gradients import no_raw_errors

# Layers and functions (without "_") that GuidedBackprop refuses.
ACTIVATIONS = {
    *(name.lower() for name in nn.modules.activation.__all__),
    *("clamp", "clip", "maximum", "minimum", "lstm", "gru", "rnn"),
} - {"softmax", "softmax2d", "logsoftmax"}


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
        copied = explicit_layers(self.forward_func)
        for name, layer in operations(copied):
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
