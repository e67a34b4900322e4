"""Rewrite a model so that explanation tools find the layers they have rules for.

Captum and zennit hang their rules on modules. They silently skip an activation that is
a function call, trip over a module that is used twice, and know no ReLU6. The passes
here work on a torch.fx copy that computes the same function. The copy shares its
parameters with the model, which stays exactly as it was.
"""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from xai_lib.core.gradients import met

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LAYERS = (*CONVOLUTIONS, *BATCH_NORMS, nn.Linear)
WEIGHT_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
DETACHING = ("detach", torch.detach)


class ReLU6(nn.ReLU):
    """min(max(x, 0), 6), as the subclass of ReLU that tools look for."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu6(input)


# What a call becomes: a layer of its own, made from the call's constant arguments.
ACTIVATIONS: dict[Any, type[nn.Module]] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_), nn.ReLU),
    **dict.fromkeys(("relu", "relu_"), nn.ReLU),
    F.relu6: ReLU6,
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid"), nn.Sigmoid),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh"), nn.Tanh),
}
NAMES = {getattr(function, "__name__", function) for function in ACTIVATIONS}
POOLS: dict[Any, tuple[type[nn.Module], str]] = {
    F.max_pool2d: (
        nn.MaxPool2d,
        "kernel_size stride padding dilation ceil_mode return_indices",
    ),
    F.avg_pool2d: (
        nn.AvgPool2d,
        "kernel_size stride padding ceil_mode count_include_pad divisor_override",
    ),
    F.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, "output_size"),
}


# Held while torch.fx, Captum or zennit work: they change what all threads share, the
# class nn.Module, the list of warnings and the settings of cuDNN.
TOOLS = threading.RLock()


class _Tracer(fx.Tracer):
    """Keeps a padded or otherwise extended convolution as one layer.

    While torch.fx traces, the modules of all threads come here: those of other threads
    go on as if it was not there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        plain = isinstance(m, LAYERS) and not _activates(m)
        return plain or super().is_leaf_module(m, module_qualified_name)


def _activates(layer: Any) -> bool:
    """Whether a layer of LAYERS is a user's own, and calls an activation."""
    code = getattr(type(layer).forward, "__code__", None)
    return not NAMES.isdisjoint(getattr(code, "co_names", ()))


def check_module(model: Any) -> None:
    """Refuse what is not an `nn.Module`."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            "forward_func must be an nn.Module, whose layers can be read, got "
            f"{type(model).__name__}"
        )


def explicit_layers(model: nn.Module) -> fx.GraphModule:
    """A copy in evaluation mode whose activations and pools are layers, used once each.

    Nothing in it works in place, additions are plain `a + b`, and gradients pass
    wherever the model's operations have one.

    Raises:
        TypeError: not an `nn.Module`.
        ValueError: torch.fx cannot trace the model.
    """
    check_module(model)
    # Inside a Sequential, even a model that is a single layer is a node of the graph.
    root = nn.Sequential(_with_plain_weights(twin(model).eval()))
    try:
        with TOOLS:
            copied = fx.GraphModule(root, _Tracer().trace(root))
    except Exception as error:
        raise ValueError(
            f"torch.fx cannot trace {type(model).__name__} ({error}). Its forward may "
            "not branch on values of tensors: change that, or use a method that needs "
            "no layers, such as IntegratedGradients"
        ) from error
    for node in copied.graph.nodes:
        if node.target in DETACHING or (
            node.target is getattr and node.args[1] == "data"
        ):
            # A rule for layers explains the function, what autograd sees or not.
            node.replace_all_uses_with(node.args[0])
            copied.graph.erase_node(node)
        elif node.target in ADDITIONS and node.op != "call_module" and not node.kwargs:
            in_place = node.target in (operator.iadd, "add_")
            node.op, node.target = "call_function", operator.add
            if in_place:
                _redirect_later(node, node.args[0])
        elif (found := _layer(copied, node)) is not None:
            layer, in_place = found
            source = node.args[0] if node.args else node.kwargs["input"]
            # Captum's hooks on an input tensor must see what this layer alone reads.
            with copied.graph.inserting_before(node):
                private = copied.graph.call_method("clone", (source,))
            new = replace(copied, node, layer, (private,))
            if in_place:
                _redirect_later(new, source)
    return finish(copied)


def layers(copied: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module]]:
    """The calls of layers, in the order in which they run."""
    for node in list(copied.graph.nodes):
        if node.op == "call_module":
            yield node, copied.get_submodule(node.target)


def operations(copied: fx.GraphModule) -> Iterator[tuple[str, nn.Module | None]]:
    """What the model does, step by step: a name, and the layer if it is one."""
    for node in copied.graph.nodes:
        if node.op == "call_module":
            layer = copied.get_submodule(node.target)
            yield type(layer).__name__, layer
        elif node.op not in ("placeholder", "output"):
            yield getattr(node.target, "__name__", str(node.target)), None


def _layer(copied: fx.GraphModule, node: fx.Node) -> tuple[nn.Module, bool] | None:
    """The layer that a call becomes, and whether the call worked in place."""
    settings: dict[str, Any] = dict(node.kwargs)
    if node.op == "call_module":
        layer: Any = copied.get_submodule(str(node.target))
        is_activation = type(layer).__module__ == nn.modules.activation.__name__
        if not is_activation or len(node.all_input_nodes) != 1:  # as attention has
            return None
        in_place = getattr(layer, "inplace", False)
        if isinstance(layer, nn.Hardtanh) and (layer.min_val, layer.max_val) == (0, 6):
            return ReLU6(), in_place  # nn.ReLU6 is a Hardtanh
        layer = twin(layer)
        if in_place:
            layer.inplace = False
        return layer, in_place
    if node.target in ACTIVATIONS:
        name = str(getattr(node.target, "__name__", node.target))
        in_place = name.endswith("_") or node.args[1:] == (True,)
        return ACTIVATIONS[node.target](), in_place or settings.get("inplace", False)
    if node.target in POOLS:
        kind, names = POOLS[node.target]
        settings |= zip(names.split(), node.args[1:], strict=False)
        settings.pop("input", None)
        if not any(isinstance(value, fx.Node) for value in settings.values()):
            return kind(**settings), False
    return None


def twin(module: nn.Module) -> nn.Module:
    """A copy that may be changed at will, with the same tensors."""
    shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
    for part in module.modules():
        # Some keep results, such as a weight that a hook has computed. While these
        # have a graph, torch does not copy them.
        shared |= {id(t): t for t in vars(part).values() if isinstance(t, Tensor)}
    return copy.deepcopy(module, shared)


def _with_plain_weights(model: nn.Module) -> nn.Module:
    """Replace each weight that is computed by its value (in place; returned).

    Rules for layers read and exchange `layer.weight`. Where weight normalisation,
    spectral normalisation or pruning compute it from other parameters, they would see
    the wrong one, or none.

    Raises:
        ValueError: a layer whose weight is computed in another way.
    """
    for path, layer in model.named_modules():
        if parametrize.is_parametrized(layer):
            names = list(layer.parametrizations)
            values = {name: getattr(layer, name).detach() for name in names}
            # The class was made for this layer, to look its weights up.
            layer.__class__ = type(layer).__bases__[0]
            del layer.parametrizations
        else:
            values = {}
            for key, hook in list(layer._forward_pre_hooks.items()):
                if isinstance(hook, WEIGHT_HOOKS):
                    hook(layer, ())
                    pruning = isinstance(hook, BasePruningMethod)
                    name = getattr(hook, "_tensor_name" if pruning else "name")
                    values[name] = layer.__dict__.pop(name).detach()
                    del layer._forward_pre_hooks[key]
        for name, value in values.items():
            layer.register_parameter(name, nn.Parameter(value, requires_grad=False))
        if isinstance(layer, LAYERS) and "weight" not in layer._parameters:
            raise ValueError(
                f"the weight of layer {path!r} of forward_func is not a parameter of "
                "it, so that rules for layers cannot be trusted; replace it by an "
                "nn.Parameter, or use a method that needs no layers, such as "
                "IntegratedGradients"
            )
    return model


def finish(copied: fx.GraphModule) -> fx.GraphModule:
    copied.delete_all_unused_submodules()
    copied.recompile()
    met[copied] = True  # the model itself is watched
    return copied


def replace(
    copied: fx.GraphModule, node: fx.Node, layer: nn.Module, args: tuple[Any, ...]
) -> fx.Node:
    """Put a call of `layer` where `node` is."""
    name = f"{node.name}_layer"  # node names are unique
    copied.add_submodule(name, layer)
    with copied.graph.inserting_before(node):
        new = copied.graph.call_module(name, args)
    node.replace_all_uses_with(new)
    copied.graph.erase_node(node)
    return new


def _redirect_later(result: fx.Node, changed: Any) -> None:
    """Who reads what an in-place call has changed, reads the call's result instead."""
    order = {node: index for index, node in enumerate(result.graph.nodes)}
    changed.replace_all_uses_with(result, lambda user: order[user] > order[result])
