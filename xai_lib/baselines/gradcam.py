"""Grad-CAM: which places of the last feature map speak for the class?

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
localization" (2017), https://arxiv.org/abs/1610.02391. With A^k the channels of a
feature map of Z places, the class score y_c weighs each channel by its mean gradient,
and the map is the weighted sum of the channels:

    α_k = (1/Z) Σ_ij ∂y_c / ∂A^k_ij                 (their eq. 1)
    L   = max(0, Σ_k α_k A^k)                       (their eq. 2)

The map has as few places as A, 7 × 7 in many networks, and is upsampled bilinearly.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai_lib.baselines.rewrite import check_module
from xai_lib.core.arguments import check_flag
from xai_lib.core.gradients import BatchwiseAttribution, gradient, target_scores


class GradCAM(BatchwiseAttribution):
    """Grad-CAM, as maps `[N, 1, H, W]`.

    Where the network ends in a mean over places and one dense layer, a map summed over
    places is the score, up to the bias and a factor; elsewhere nothing like that holds.

    The gradient is that by the feature map: what comes before the layer may hide it
    from autograd.

    Args:
        forward_func: `nn.Module` that maps images to scores `[N, K]`; give the logits.
        layer: the module whose output is the feature map A, by its name in
            `named_modules()`; of a module that runs several times, the last run. None
            is the last convolution, with what follows it (batch norm, activation,
            residual sum) and has its height and width. Name it where dense layers are
            written as convolutions: these come last, too. For TorchRay's VGG16,
            "network.features.29". A transformer needs one by name.
        relu: cut negative values off, as in eq. 2. False keeps what speaks against
            the class, so that a map without any evidence for it still has an order.
        reshape: makes a map `[N, C, h, w]` of the layer's output. Of the tokens of
            torchvision's ViT at 224 x 224, `[N, 197, C]`, the first of which has no
            place: `lambda a: a[:, 1:].unflatten(1, (14, 14)).movedim(-1, 1)`; of the
            `[N, h, w, C]` of its Swin transformers: `lambda a: a.movedim(-1, 1)`.

    Raises (when constructed):
        TypeError: not an `nn.Module`, or `reshape` is no function.
        ValueError: no module of that name; a module in training mode.
    Raises (when called):
        ValueError: the layer does not run or gives no map `[N, C, h, w]`, or the score
            does not depend on it; with layer=None, no convolution, one that gives a
            single place, or one whose places a transformer reads as tokens.
    """

    input_dims = (4,)

    def __init__(
        self,
        forward_func: nn.Module,
        layer: str | None = None,
        relu: bool = True,
        reshape: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(forward_func)
        check_module(forward_func)
        if layer is not None and layer not in dict(forward_func.named_modules()):
            raise ValueError(
                f"layer must name a module of forward_func (see named_modules()), got "
                f"{layer!r}"
            )
        if reshape is not None and (not callable(reshape) or layer is None):
            raise TypeError(
                "reshape must be a function from the output of a named layer to "
                f"[N, C, h, w], got reshape={reshape!r} with layer={layer!r}"
            )
        self.layer = layer
        # The layer that was found, and what came between it and the scores.
        self._found: tuple[str, list[str]] | None = None
        self.relu = check_flag("relu", relu)
        self.reshape = reshape

    def chosen_layer(self, inputs: Tensor) -> str:
        """The name of the layer that is looked at for images `[N, C, H, W]`."""
        with recorded(self.forward_func, self.layer) as calls:
            self._queried(inputs[:1])
        return self._chosen(calls, inputs[:1])

    def _chosen(self, calls: list[Call], inputs: Tensor) -> str:
        if self.layer is None:
            return last_feature_map(calls)
        if not calls:
            raise ValueError(f"layer {self.layer!r} did not run for one image")
        if self.reshape is None:
            _check_map(calls[-1], inputs)
        return self.layer

    def _prepare(self, inputs: Tensor) -> str:
        # A name that is given, or was found before, is looked at where it is used: a
        # call of the model less.
        found = self._found  # once: another thread may be looking for it anew
        return self.layer or (found[0] if found else self.chosen_layer(inputs))

    def _explain(self, inputs: Tensor, target: Tensor, prepared: str) -> Tensor:
        model = self.forward_func
        with recorded(model, prepared) as calls:
            scores = target_scores(model, inputs, target)
        if self.layer is not None:
            self._chosen(calls, inputs)
        else:
            now = prepared, operations(scores)
            if self._found not in (None, now):  # it may be another one for these inputs
                self._found, layer = None, self.chosen_layer(inputs)
                if layer != prepared:
                    return self._explain(inputs, target, layer)
            self._found = now
        a = calls[-1].output
        slope = gradient(scores, a)
        if self.reshape is not None:
            a, slope = self.reshape(a.detach()), self.reshape(slope)
        if a.ndim != 4 or len(a) != len(inputs):
            raise ValueError(
                f"{'layer' if self.reshape is None else 'reshape'} must give "
                f"[N, C, h, w] for N = {len(inputs)} images, got {list(a.shape)}"
            )
        alpha = slope.mean(dim=(2, 3), keepdim=True)
        maps = (alpha * a.detach()).sum(dim=1, keepdim=True)
        maps = maps.relu() if self.relu else maps
        return F.interpolate(maps, inputs.shape[2:], mode="bilinear")


class Call(NamedTuple):
    """One run of a module, and the shape of what it gave (empty if no tensor)."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    output: Any = None


@contextmanager
def recorded(model: nn.Module, only: str | None = None) -> Iterator[list[Call]]:
    """A list that fills up with the calls of all modules, in the order they end; or of
    one of them with its outputs, from each of which a graph starts anew."""
    calls: list[Call] = []
    thread = threading.get_ident()

    def note(name: str, module: nn.Module, _: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != thread:  # others may run the same modules
            return None
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        if only is None or not isinstance(output, Tensor):
            calls.append(Call(name, module, shape))
            return None
        with torch.enable_grad():
            start = output.detach().requires_grad_()
            calls.append(Call(name, module, shape, start))
            return start.clone()  # which the model may change in place

    modules = dict(model.named_modules())
    for m in modules.values():
        if m._compiled_call_impl or "_orig_mod" in m._modules:
            raise ValueError(
                "forward_func must not be compiled, as torch.compile passes hooks by; "
                "give the model as it was before, such as forward_func._orig_mod"
            )
    handles = [
        module.register_forward_hook(partial(note, name))
        for name, module in modules.items()
        if only in (None, name) and not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def operations(scores: Tensor) -> list[str]:
    """The operations in the graph of scores, by name, from the last one on.

    To record all modules takes a tenth of a small network's time, to walk back from the
    scores to a late layer nothing: what follows it is the same, or is looked at again.
    """
    names: list[str] = []
    waiting, seen = [scores.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.append(node.name())
            waiting += (before for before, _ in node.next_functions)
    return names


def last_feature_map(calls: list[Call]) -> str:
    """The last module that ends with the height and width of the last convolution."""
    found = [i for i, c in enumerate(calls) if isinstance(c.module, nn.Conv2d)]
    if not found:
        raise ValueError(
            "forward_func runs no convolution; name the layer that gives the feature "
            "map: GradCAM(forward_func, layer=…)"
        )
    size = calls[found[-1]].shape[2:]
    if size in ((), (1, 1)):
        raise ValueError(
            f"the last convolution, {calls[found[-1]].name!r}, gives a single place "
            "per image; name an earlier layer: GradCAM(forward_func, layer=…)"
        )
    chosen = found[-1]
    for i, call in enumerate(calls[chosen:], start=chosen):
        # Hooks see the last run of a module: it must be this one.
        again = any(later.module is call.module for later in calls[i + 1 :])
        if len(call.shape) == 4 and call.shape[2:] == size and not again:
            chosen = i
    for call in calls[chosen:]:
        dense = isinstance(call.module, nn.Linear) and math.prod(call.shape[1:-1]) > 1
        if dense or (type(call.module) is nn.LayerNorm and len(call.shape) == 3):
            raise ValueError(
                f"the last convolution, {calls[found[-1]].name!r}, is followed by "
                f"{call.name!r}, which works at each place as in a transformer; name a "
                "late layer and say where its tokens lie: GradCAM(forward_func, "
                "layer=…, reshape=…)"
            )
    return calls[chosen].name


def _check_map(call: Call, images: Tensor) -> None:
    """Refuse an output that is no map `[N, C, h, w]` of N images, and say which
    `reshape` makes one of it."""
    n, size = len(images), images.shape[2:]
    shape = call.shape
    if shape and shape[0] % n == 0:
        shape = (shape[0] // n, *shape[1:])  # of one image
        call = call._replace(shape=shape)
    if len(shape) == 4 and shape[0] == 1 and not _channels_last(call, size):
        return
    hint = ""
    if len(shape) == 4 and shape[0] == 1:
        hint = ", with the channels last; use reshape=lambda a: a.movedim(-1, 1)"
    elif len(shape) == 3 and shape[0] == 1:
        side = math.isqrt(shape[1])
        hint = (
            f"; if {side} x {side} of its {shape[1]} tokens are places, the last ones, "
            f"use reshape=lambda a: a[:, {shape[1] - side**2}:]"
            f".unflatten(1, ({side}, {side})).movedim(-1, 1)"
        )
    gives = f"gave {list(shape)}" if shape else "gave no tensor"
    raise ValueError(
        f"layer must give a feature map [N, C, h, w], but {call.name!r} {gives} for "
        f"one image{hint}"
    )


def _channels_last(call: Call, size: tuple[int, ...]) -> bool:
    """Is an output `[1, a, b, c]` a map of a x b places, rather than of b x c?"""
    _, a, b, c = call.shape
    if type(call.module) in (nn.Linear, nn.LayerNorm):  # work on the last axis
        return True
    # Which places have the image's proportions, to within one of them?
    first, last = (
        abs(height * size[1] - width * size[0]) < max(size)
        for height, width in ((a, b), (b, c))
    )
    return first and not last
