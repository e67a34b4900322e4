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

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from xai_lib.baselines.rewrite import CONVOLUTIONS
from xai_lib.baselines.whitebox import WhiteBoxAttribution, target_scores
from xai_lib.extras import extra


class GradCAM(WhiteBoxAttribution):
    """Grad-CAM (Captum's LayerGradCam), as maps `[N, 1, H, W]`.

    Where the network ends in a mean over places and one dense layer, a map summed over
    places is the score, up to the bias and a factor; elsewhere nothing like that holds.

    Args:
        forward_func: `nn.Module` that maps images to scores `[N, K]`; give the logits.
        layer: the module whose output is the feature map A, by its name in
            `named_modules()`; of a module that runs several times, the last run. None
            is the last convolution, with what follows it (batch norm, activation,
            residual sum) up to the first layer that changes height or width. Name it
            where dense layers are written as convolutions: these come last, too. For
            TorchRay's VGG16, "network.features.29".
        relu: cut negative values off, as in eq. 2. False keeps what speaks against
            the class, so that a map without any evidence for it still has an order.

    Raises (when constructed):
        TypeError: not an `nn.Module`.
        ValueError: no module of that name; a module in training mode.
    Raises (when called):
        ValueError: the layer does not run or gives no map `[N, C, h, w]`; with
            layer=None, no convolution, or one that gives a single place.
    """

    input_dims = (4,)

    def __init__(
        self, forward_func: nn.Module, layer: str | None = None, relu: bool = True
    ) -> None:
        super().__init__(forward_func)
        if not isinstance(forward_func, nn.Module):
            raise TypeError(
                "forward_func must be an nn.Module, whose layers can be read, got "
                f"{type(forward_func).__name__}"
            )
        if layer is not None and layer not in dict(forward_func.named_modules()):
            raise ValueError(
                f"layer must name a module of forward_func (see named_modules()), got "
                f"{layer!r}"
            )
        self.layer = layer
        self.relu = relu

    def chosen_layer(self, inputs: Tensor) -> str:
        """The name of the layer that is looked at for images `[N, C, H, W]`."""
        with recorded(self.forward_func) as calls:
            self._queried(inputs[:1])
        if self.layer is None:
            return last_feature_map(calls)
        shape = next((c.shape for c in reversed(calls) if c.name == self.layer), None)
        if shape is None or len(shape) != 4:
            gives = "did not run" if shape is None else f"gave {list(shape)}"
            raise ValueError(
                f"layer must give a feature map [N, C, h, w], but {self.layer!r} "
                f"{gives} for one image"
            )
        return self.layer

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        self._module = self.forward_func.get_submodule(self.chosen_layer(inputs))
        return super()._attribute(inputs, target, show_progress)

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        with extra("book"):
            from captum.attr import LayerGradCam

        def score(images: Tensor, classes: Tensor) -> Tensor:
            return target_scores(self.forward_func, images, classes)

        maps = LayerGradCam(score, self._module).attribute(
            inputs,
            additional_forward_args=target,
            relu_attributions=self.relu,
            # A layer that the score does not depend on has no say: a map of zeros.
            grad_kwargs={"materialize_grads": True},
        )
        return F.interpolate(maps, inputs.shape[2:], mode="bilinear")


class Call(NamedTuple):
    """One run of a module, and the shape of what it gave (empty if no tensor)."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Call]]:
    """A list that fills up with the calls of all modules, in the order they end."""
    calls: list[Call] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            calls.append(Call(name, module, shape))

        return hook

    hooks = [m.register_forward_hook(note(name)) for name, m in model.named_modules()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def last_feature_map(calls: list[Call]) -> str:
    """The last module that ends with the height and width of the last convolution."""
    found = [i for i, c in enumerate(calls) if isinstance(c.module, CONVOLUTIONS)]
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
    chosen = calls[found[-1]].name
    for i, call in enumerate(calls[found[-1] :], start=found[-1]):
        if len(call.shape) != 4 or call.shape[2:] != size:
            break
        # Hooks see the last run of a module: it must be this one.
        if all(later.module is not call.module for later in calls[i + 1 :]):
            chosen = call.name
    return chosen
