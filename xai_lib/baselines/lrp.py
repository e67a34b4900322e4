"""LRP: the score of a class, divided up layer by layer down to the pixels."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.modules import pooling
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xai_lib.baselines.layerwise import LayerwiseAttribution, TargetScore
from xai_lib.baselines.rewrite import (
    BATCH_NORMS,
    CONVOLUTIONS,
    explicit_layers,
    finish,
    layers,
    operations,
    replace,
    twin,
)
from xai_lib.core.arguments import check_number
from xai_lib.core.attribution import DRAWN, generator
from xai_lib.core.extras import extra
from xai_lib.core.gradients import gradient


class Sum(nn.Module):
    """The sum over the last axis, as a layer that can be given a rule."""

    def forward(self, terms: Tensor) -> Tensor:
        return terms.sum(dim=-1)


class Add(nn.Module):
    """a + b, through a layer that LRP has a rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.sum(torch.stack(torch.broadcast_tensors(a, b), dim=-1))


WEIGHTED = (*CONVOLUTIONS, nn.Linear)
# The bases of torch's pools in one, two and three dimensions.
AVERAGE_POOLS = (pooling._AvgPoolNd, pooling._AdaptiveAvgPoolNd)
MAX_POOLS = (pooling._MaxPoolNd, pooling._AdaptiveMaxPoolNd)
# Layers that LRP has rules for, or that only move numbers; functions that do so.
LRP_LAYERS = (
    *(*WEIGHTED, *BATCH_NORMS, nn.ReLU, *AVERAGE_POOLS, *MAX_POOLS),
    *(Add, Sum, nn.Flatten, nn.Identity, nn.ZeroPad2d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
)
LRP_FUNCTIONS = {
    *("clone", "cat", "flatten", "view", "reshape", "dropout"),
    *("size", "getitem", "getattr"),
}


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
        copied = explicit_layers(self.forward_func)
        copied = explicit_sums(merge_batch_norms(copied))
        for name, layer in operations(copied):
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
            (Sum, Norm()),
            (AVERAGE_POOLS, Norm()),
            (BATCH_NORMS, Pass()),
            (CONVOLUTIONS, ZPlus(zero_params="bias")),
            (nn.Linear, Epsilon(self.epsilon)),
        ]
        composite = SpecialFirstLayerMapComposite(
            layer_map=rules, first_map=[(CONVOLUTIONS, Flat())]
        )
        with composite.context(prepared):
            score = prepared(inputs.requires_grad_(), target)
            relevance = gradient(score, inputs, score.detach())
        self._check_scores(prepared.scores, inputs)
        return relevance


def merge_batch_norms(copied: fx.GraphModule) -> fx.GraphModule:
    """Merge each batch norm into the convolution before it (in place, returned)."""
    by_node: dict[Any, Any] = dict(layers(copied))
    for node, norm in by_node.items():
        before = node.args[0]
        conv: Any = by_node.get(before)
        pair = isinstance(norm, BATCH_NORMS) and isinstance(conv, CONVOLUTIONS)
        if pair and norm.running_mean is not None and len(before.users) == 1:
            replace(copied, before, fuse_conv_bn_eval(conv, norm), before.args)
            node.replace_all_uses_with(node.args[0])
            copied.graph.erase_node(node)
    return finish(copied)


def explicit_sums(copied: fx.GraphModule) -> fx.GraphModule:
    """Write each sum of two tensors as `Add`, and list layers as they run, one for each
    run (in place, returned).

    zennit takes the first one listed for the first that runs, and notes what a layer
    was given in one place, however often it runs.
    """
    seen: set[nn.Module] = set()
    for node in list(copied.graph.nodes):
        if node.target is operator.add and len(node.all_input_nodes) == 2:
            replace(copied, node, Add(), node.args)
        elif node.op == "call_module":
            layer = copied.get_submodule(node.target)
            node.target = f"{node.name}_own"
            copied.add_submodule(node.target, twin(layer) if layer in seen else layer)
            seen.add(layer)
    return finish(copied)


def is_additive(layer: Any) -> bool:
    """Do what positive weights add, and negative ones take away, make the output?

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
    gaps = whole - plus - minus, plus.clamp(max=0), minus.clamp(min=0)
    return all(bool(g.abs().max() <= 1e-2 * whole.abs().max()) for g in gaps)
