"""White-box methods on models as users have them: the right map, or an error."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from xai_lib.baselines import (
    LRP,
    DeepLift,
    ExtremalPerturbation,
    GradCAM,
    Gradient,
    GuidedBackprop,
    IntegratedGradients,
    SmoothGrad,
)
from xai_lib.core.attribution import generator
from xai_lib.pertmap import Box, LinearPertMap, StochasticPertMap, worst_point

AUTOGRAD: dict[str, Callable[[Any], Any]] = {
    "Gradient": Gradient,
    "SmoothGrad": lambda f: SmoothGrad(f, n_samples=3),
    "IntegratedGradients": lambda f: IntegratedGradients(f, n_steps=3),
    "ExtremalPerturbation": lambda f: ExtremalPerturbation(f, (0.2,), n_iterations=3),
    "LinearPertMap": lambda f: LinearPertMap(f, patch=4),
    "StochasticPertMap": lambda f: StochasticPertMap(
        f, n_iterations=3, n_perturbations=2
    ),
}
LAYERS: dict[str, Callable[[Any], Any]] = {
    "GuidedBackprop": GuidedBackprop,
    "DeepLift": DeepLift,
    "LRP": LRP,
}
EVERYONE = {**AUTOGRAD, "GradCAM": GradCAM, **LAYERS}
autograd = pytest.mark.parametrize("make", AUTOGRAD.values(), ids=AUTOGRAD)
layerwise = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
everyone = pytest.mark.parametrize("make", EVERYONE.values(), ids=EVERYONE)


def numbers(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=generator(seed))


IMAGES = numbers(2, 3, 16, 16)


class Net(nn.Module):
    """A small network, and a way to ask it: `how(net, images)`."""

    def __init__(self, how: Callable[[Net, Tensor], Any]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
            self.pool, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
            self.dense = nn.Linear(8, 3)
        self.how = how

    def body(self, images: Tensor) -> Tensor:
        return self.relu(self.conv(images))

    def head(self, features: Tensor) -> Tensor:
        return self.dense(self.flat(self.pool(features)))

    def whole(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))

    def forward(self, images: Tensor) -> Any:
        return self.how(self, images)


def net(how: Callable[[Net, Tensor], Any] = Net.whole) -> Net:
    return Net(how).eval()


def without(context: Callable[[], Any]) -> Callable[[Net, Tensor], Tensor]:
    def how(net: Net, images: Tensor) -> Tensor:
        with context():
            features = net.pool(net.body(images))
        return net.dense(net.flat(features))

    return how


def checkpointed(net: Net, images: Tensor) -> Tensor:
    return net.head(checkpoint(net.body, images, use_reentrant=True))


def as_bytes(net: Net, images: Tensor) -> Tensor:
    return net.whole((images * 255).to(torch.uint8) / 255)


def quantised(net: Net, images: Tensor) -> Tensor:
    codes = torch.quantize_per_tensor(images, 0.01, 0, torch.quint8)
    return net.whole(codes.dequantize())


CUT = {
    "no_grad": without(torch.no_grad),
    "inference mode": without(torch.inference_mode),
    "checkpoint": checkpointed,
    "bytes": as_bytes,
    "quantised": quantised,
    "detach": lambda net, images: net.whole(images.detach()),
    "data": lambda net, images: net.whole(images.data),
    "argmax": lambda net, images: F.one_hot(net.whole(images).argmax(1), 3).float(),
    "NumPy": lambda net, images: torch.tensor(net.whole(images).detach().numpy()),
}


# No gradient reaches the input


@autograd
@pytest.mark.parametrize("how", CUT.values(), ids=CUT)
@pytest.mark.parametrize("frozen", [False, True])
def test_no_gradient_is_an_error(make: Callable, how: Callable, frozen: bool) -> None:
    model = net(how).requires_grad_(not frozen)
    with pytest.raises(ValueError, match=r"gives no gradients.*RISE or Occlusion"):
        make(model).attribute(IMAGES, 1)


@autograd
def test_functions_on_arrays_are_an_error(make: Callable) -> None:
    def on_both(images: Any) -> np.ndarray:
        return np.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], axis=1)

    def on_arrays(images: Any) -> np.ndarray:
        return on_both(images.astype(np.float32))

    for function in (on_both, on_arrays):
        for target in (1, None):
            with pytest.raises(ValueError, match=r"gives no gradients.*NumPy"):
                make(function).attribute(IMAGES, target)


def test_the_model_s_own_errors_stay() -> None:
    def broken(images: Tensor) -> Tensor:
        raise KeyError("weights")

    with pytest.raises(KeyError, match="weights"):
        Gradient(broken).attribute(IMAGES, 1)
    with pytest.raises(RuntimeError, match="channels"):
        Gradient(net()).attribute(numbers(2, 4, 16, 16), 1)


@autograd
def test_a_gradient_of_zero_is_none_of_these(make: Callable) -> None:
    dead = net(lambda net, images: net.head((net.conv(images) - 1e4).relu()))
    maps = make(dead).attribute(IMAGES, 1)
    assert maps.isfinite().all()
    if make is Gradient:
        assert not maps.any()


def test_worst_point_needs_gradients() -> None:
    box = Box(torch.ones_like(IMAGES), torch.ones_like(IMAGES))
    with pytest.raises(ValueError, match="gives no gradients"):
        worst_point(net(as_bytes), IMAGES, box, n_steps=1)


def test_grad_cam_needs_the_gradient_by_its_layer_alone() -> None:
    expected = GradCAM(net(), layer="relu").attribute(IMAGES, 1)
    assert expected.any()
    for name in ("detach", "data"):
        maps = GradCAM(net(CUT[name]), layer="relu").attribute(IMAGES, 1)
        torch.testing.assert_close(maps, expected)

    def frozen_body(net: Net, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = net.body(images)
        return net.head(features)

    maps = GradCAM(net(frozen_body), layer="relu").attribute(IMAGES, 1)
    torch.testing.assert_close(maps, expected)
    for name in ("no_grad", "inference mode", "argmax"):
        with pytest.raises(ValueError, match="gives no gradients"):
            GradCAM(net(CUT[name]), layer="relu").attribute(IMAGES, 1)


@layerwise
def test_rules_for_layers_do_not_need_autograd(make: Callable) -> None:
    expected = make(net()).attribute(IMAGES, 1)
    for name in ("detach", "data"):
        assert torch.equal(make(net(CUT[name])).attribute(IMAGES, 1), expected)
    with pytest.raises(ValueError, match=r"gives no gradients|no rule for"):
        make(net(as_bytes)).attribute(IMAGES, 1)


# A part of the model is cut off


def skipping(hide: Callable[[Callable, Tensor], Tensor]) -> Callable:
    return lambda net, images: net.head(
        hide(net.body, images) + net.body(images.flip(3))
    )


def under_no_grad(body: Callable, images: Tensor) -> Tensor:
    with torch.no_grad():
        return body(images)


@autograd
@pytest.mark.parametrize(
    "hide",
    [
        under_no_grad,
        lambda body, images: body(images).detach(),
        lambda body, images: body(images).data,
    ],
)
def test_the_gradient_of_a_part_is_an_error(make: Callable, hide: Callable) -> None:
    with pytest.raises(ValueError, match="a part of the model is still in the graph"):
        make(net(skipping(hide))).attribute(IMAGES, 1)


def cancelling(net: Net, images: Tensor) -> Tensor:
    scores = net.whole(images)
    with torch.no_grad():
        ramp = torch.linspace(0, 1, 3)  # does not depend on the images
    return (scores - scores.max(1, keepdim=True).values.detach()).softmax(1) + ramp


def test_the_end_of_a_path_tells_where_its_start_is_black() -> None:
    """At a black image neither of two factors has a slope, so nothing is missing."""
    squared = net(lambda net, images: net.whole(images * images.detach() * 2))
    with pytest.raises(ValueError, match="a part of the model is still in the graph"):
        IntegratedGradients(squared, n_steps=20).attribute(IMAGES, 1)


STEPS = {
    "round": lambda net, images: net.whole((images * 255).round() / 255),
    "in place": lambda net, images: net.whole((images * 255).floor_() / 255),
    "sign": lambda net, images: net.head(torch.sign(net.conv(images))),
}


@autograd
@pytest.mark.parametrize("how", STEPS.values(), ids=STEPS)
def test_steps_have_no_gradient(make: Callable, how: Callable) -> None:
    """Not the map of zeros that autograd has for them."""
    with pytest.raises(ValueError, match=r"gives no gradients.*rounding"):
        make(net(how)).attribute(IMAGES, 1)


def test_what_is_cut_off_without_harm_is_explained() -> None:
    maps = Gradient(net(cancelling)).attribute(IMAGES, 1)
    softmax = net(lambda net, images: net.whole(images).softmax(1))
    torch.testing.assert_close(maps, Gradient(softmax).attribute(IMAGES, 1))


def test_a_photograph_s_gradient_is_believed() -> None:
    """Where a score is straight for a ten thousandth of the range only."""
    from xai_lib.zoo import models, photos

    model, image = models.load("efficientnet_lite0"), photos.load("coffee").image

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            images.detach()
            return self.model(images)

    maps = Gradient(Watched().eval()).attribute(image)
    assert torch.equal(maps, Gradient(model).attribute(image))


# What a model does with its input, and what it returns


@everyone
def test_models_may_change_their_input(make: Callable) -> None:
    def in_place(net: Net, images: Tensor) -> Tensor:
        images -= 0.5
        images.div_(0.2)
        return net.whole(images)

    def plain(net: Net, images: Tensor) -> Tensor:
        return net.whole((images - 0.5) / 0.2)

    if make is LRP:
        pytest.skip("has no rule for arithmetics, which its error says")
    before = IMAGES.clone()
    maps = make(net(in_place)).attribute(IMAGES, 1)
    torch.testing.assert_close(maps, make(net(plain)).attribute(IMAGES, 1))
    assert torch.equal(IMAGES, before)


@everyone
@pytest.mark.parametrize(
    "wrap",
    [
        lambda scores: {"logits": scores},
        lambda scores: (scores,),
        lambda scores: scores[:, :, None, None],
    ],
)
def test_scores_are_read_as_by_a_black_box(make: Callable, wrap: Callable) -> None:
    wrapped = net(lambda net, images: wrap(net.whole(images)))
    maps = make(wrapped).attribute(IMAGES, 1)
    assert torch.equal(maps, make(net()).attribute(IMAGES, 1))


@everyone
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(make: Callable, dtype: torch.dtype) -> None:
    exact = make(net()).attribute(IMAGES, 1)
    explainer = make(net().to(dtype))
    maps = explainer.attribute(IMAGES.to(dtype), 1)
    assert maps.dtype == dtype
    alike = F.cosine_similarity(maps.float().flatten(1), exact.flatten(1))
    assert alike.min() > 0.9


@everyone
def test_channels_last(make: Callable) -> None:
    """A model so, images so, or both: the same maps, in memory as all others."""
    last = torch.channels_last
    exact = make(net()).attribute(IMAGES, 1)
    for model, images in (
        (net().to(memory_format=last), IMAGES),
        (net(), IMAGES.to(memory_format=last)),
        (net().to(memory_format=last), IMAGES.to(memory_format=last)),
    ):
        maps = make(model).attribute(images, 1)
        torch.testing.assert_close(maps, exact, rtol=1e-4, atol=1e-6)
        assert maps.is_contiguous()


@pytest.mark.parametrize("make", [Gradient, IntegratedGradients, *LAYERS.values()])
def test_minus_infinity_is_the_score_of_another_class(make: Callable) -> None:
    never = net()
    with torch.no_grad():
        never.dense.bias[2] = -torch.inf
    assert torch.equal(
        make(never).attribute(IMAGES, 1), make(net()).attribute(IMAGES, 1)
    )
    with pytest.raises(ValueError, match="infinity for a target"):
        make(never).attribute(IMAGES, 2)


# Training mode


def normalising() -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model += nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return model


@everyone
def test_training_mode_after_construction(make: Callable) -> None:
    model = normalising().eval()
    explainer = make(model)
    explainer.attribute(IMAGES, 1)
    state = copy.deepcopy(model.train().state_dict())
    with pytest.raises(ValueError, match=r"in training mode \(layer '1'\)"):
        explainer.attribute(IMAGES, 1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


class Hiding:
    __slots__ = ("model",)

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, images: Tensor) -> Tensor:
        return self.model(images)


@pytest.mark.parametrize("make", [Gradient, SmoothGrad, IntegratedGradients])
@pytest.mark.parametrize("hide", [lambda m: lambda x: m(x), Hiding])
def test_training_mode_behind_a_function(make: Callable, hide: Callable) -> None:
    model = normalising().train()
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="by the statistics of each batch"):
        make(hide(model)).attribute(IMAGES, 1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    dropping = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(768, 3)).train()
    with pytest.raises(ValueError, match="draws random numbers"):
        make(hide(dropping)).attribute(IMAGES, 1)
    expected = make(model.eval()).attribute(IMAGES, 1)
    assert torch.equal(make(hide(model)).attribute(IMAGES, 1), expected)


class Lists(nn.Module):
    """Layers in a plain list, which `eval()` does not reach."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = list(layers)

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            images = layer(images)
        return images


OWN = torch.Generator()
ALONE = AUTOGRAD | {"GradCAM": partial(GradCAM, layer="0")}


@pytest.mark.parametrize("make", ALONE.values(), ids=ALONE)
@pytest.mark.parametrize(
    "kind", ["dropout", "noise", "NumPy", "own", "dropout in a list"]
)
def test_random_answers_in_evaluation_mode(make: Callable, kind: str) -> None:
    """One image with a target, of which nothing else is asked."""
    draws = {
        "dropout": lambda net, images: net.head(F.dropout(net.body(images))),
        "noise": lambda net, images: net.whole(images + torch.rand_like(images)),
        "NumPy": lambda net, images: net.whole(images * np.random.rand()),  # noqa: NPY002
        "own": lambda net, images: net.whole(images * torch.rand(1, generator=OWN)),
        "dropout in a list": Net.whole,
    }
    model = nn.Sequential(nn.Conv2d(3, 3, 1), net(draws[kind]))
    if kind == "dropout in a list":
        model.append(Lists(nn.Dropout()))
    with pytest.raises(ValueError, match="input differently each time"):
        make(model.eval()).attribute(IMAGES[:1], 1)


@pytest.mark.parametrize("make", ALONE.values(), ids=ALONE)
def test_statistics_of_a_layer_in_a_list_stay(make: Callable) -> None:
    layer = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Lists(layer), *normalising()[2:]).eval()
    state = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match="by the statistics of each batch"):
        make(model).attribute(IMAGES[:1], 1)
    assert all(torch.equal(v, state[k]) for k, v in layer.state_dict().items())
    layer.eval()
    explainer = make(model)
    explainer.attribute(IMAGES[:1], 1)
    layer.train()
    with pytest.raises(ValueError, match="by the statistics of each batch"):
        explainer.attribute(IMAGES[:1], 1)


def test_one_image_side_by_side_with_its_versions() -> None:
    """Where they meet, only what asks one at a time is right."""
    centred = net(lambda net, images: net.whole(images - images.mean(0) / 2))
    expected = net(lambda net, images: net.whole(images / 2))
    maps = Gradient(centred).attribute(IMAGES[:1], 1)
    torch.testing.assert_close(maps, Gradient(expected).attribute(IMAGES[:1], 1))
    for make in AUTOGRAD.values():
        if make is not Gradient:
            with pytest.raises(ValueError, match="depends on the images beside it"):
                make(centred).attribute(IMAGES[:1], 1)


# Weights that are computed


def old_weight_norm(layer: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(layer)
    with torch.no_grad():
        layer.weight_g.mul_(1.5)  # `layer.weight` is that of the last call


def pruned_twice(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.2)
    prune.ln_structured(layer, "weight", 1, n=2, dim=1)
    prune.l1_unstructured(layer, "bias", 0.5)


class Magnitude(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.abs()


def of_a_user(layer: nn.Module) -> None:
    parametrize.register_parametrization(layer, "weight", Magnitude())
    parametrize.register_parametrization(layer, "bias", Magnitude())


PARAMETRISED = [
    old_weight_norm,
    parametrizations.weight_norm,
    spectral_norm,
    parametrizations.spectral_norm,
    pruned_twice,
    of_a_user,
]


@pytest.mark.parametrize(
    "make", [Gradient, partial(GradCAM, relu=False), *LAYERS.values()]
)
@pytest.mark.parametrize("change", PARAMETRISED)
def test_computed_weights_count_as_weights(make: Callable, change: Callable) -> None:
    model = nn.Sequential(*normalising()[:3], nn.Conv2d(4, 4, 3), *normalising()[3:])
    model, plain = model.eval(), copy.deepcopy(model.eval())
    for i in (0, 3, 6):
        change(model[i])
    model(IMAGES)  # with a graph, which torch does not copy
    with torch.no_grad():
        for i in (0, 3, 6):
            plain[i].weight.copy_(model[i].weight)
            plain[i].bias.copy_(model[i].bias)
    torch.testing.assert_close(model(IMAGES), plain(IMAGES))
    state, kinds = copy.deepcopy(model.state_dict()), [type(part) for part in model]
    maps = make(model).attribute(IMAGES, 1)
    torch.testing.assert_close(maps, make(plain).attribute(IMAGES, 1))
    assert maps.any()
    assert [type(part) for part in model] == kinds
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    assert all(parameter.requires_grad for parameter in model.parameters())


@layerwise
def test_weights_that_a_hook_of_a_user_computes_are_refused(make: Callable) -> None:
    model = normalising().eval()
    weight = model[0].weight
    del model[0].weight
    model[0].raw = weight
    model[0].register_forward_pre_hook(lambda m, _: setattr(m, "weight", 2 * m.raw))
    with pytest.raises(ValueError, match=r"weight of layer '0'.*not a parameter"):
        make(model)


class Standardised(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(images, weight / weight.std(), self.bias)


class Scaled(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.weight * 0.5, self.bias)


class Turned(nn.Conv2d):
    """What its weight's positive part gives is not the positive part."""

    change: Callable[[Tensor], Tensor] = torch.neg

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, type(self).change(self.weight), self.bias)


@pytest.mark.parametrize("change", [torch.neg, torch.abs, lambda w: w - w.flip(3)])
def test_lrp_refuses_layers_that_turn_the_sign_of_weights(change: Callable) -> None:
    kind = type("Turned", (Turned,), {"change": staticmethod(change)})
    model = normalising().eval()
    model.insert(0, kind(3, 3, 3))
    with pytest.raises(ValueError, match=r"no rule for Turned.*not the sum"):
        LRP(model)


def test_lrp_has_a_layer_for_each_run() -> None:
    model = normalising().eval()
    again = nn.Conv2d(4, 4, 3, padding=1)
    several = nn.Sequential(*model[:3], again, nn.ReLU(), again, *model[2:])
    plain = copy.deepcopy(several)
    plain[5] = copy.deepcopy(plain[3])
    maps = LRP(several.eval()).attribute(IMAGES, 1)
    assert torch.equal(maps, LRP(plain.eval()).attribute(IMAGES, 1))


def test_lrp_s_first_layer_is_the_first_that_runs() -> None:
    """With a batch norm to be merged into it, and none in the second."""
    model = normalising()
    model.insert(3, nn.Conv2d(4, 4, 3))
    with torch.no_grad():
        model.eval()[1].running_mean.copy_(numbers(4))
    merged = nn.Sequential(fuse_conv_bn_eval(model[0], model[1]), *model[2:]).eval()
    maps = LRP(model).attribute(IMAGES, 1)
    torch.testing.assert_close(maps, LRP(merged).attribute(IMAGES, 1))


class Calls(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return F.relu(super().forward(images))


class Holds(nn.BatchNorm2d):
    """As timm's BatchNormAct2d."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.act(super().forward(images))


@pytest.mark.parametrize("make", [GuidedBackprop, DeepLift])
def test_a_layer_of_a_user_may_end_in_an_activation(make: Callable) -> None:
    model = nn.Sequential(
        Calls(3, 4, 3), nn.Conv2d(4, 4, 3), Holds(4), *normalising()[3:]
    )
    convolution, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    convolution.load_state_dict(model[0].state_dict())
    layers = convolution, nn.ReLU(), model[1], norm, nn.ReLU(), *model[3:]
    expected = make(nn.Sequential(*layers).eval()).attribute(IMAGES, 1)
    torch.testing.assert_close(make(model.eval()).attribute(IMAGES, 1), expected)
    with pytest.raises(ValueError, match="LRP has no rule for"):
        LRP(model[:1])


def test_lrp_refuses_layers_that_do_more_with_their_weight() -> None:
    model = normalising().eval()
    model.insert(0, Standardised(3, 3, 3))
    with pytest.raises(ValueError, match=r"no rule for Standardised.*not the sum"):
        LRP(model)
    model[0], plain = Scaled(3, 3, 3), copy.deepcopy(model)
    plain[0] = nn.Conv2d(3, 3, 3)
    with torch.no_grad():
        plain[0].weight.copy_(model[0].weight * 0.5)
        plain[0].bias.copy_(model[0].bias)
    maps = LRP(model).attribute(IMAGES, 1)
    torch.testing.assert_close(maps, LRP(plain).attribute(IMAGES, 1))


@everyone
def test_autocast_around_a_call_has_no_say(make: Callable) -> None:
    expected = make(net()).attribute(IMAGES, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(make(net()).attribute(IMAGES, 1), expected)


# A model is left as it was found, and threads share explainers


class Caching(nn.Module):
    """Makes a grid at its first call, as detectors make their anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.grid: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.grid is None:
            self.grid = torch.linspace(0, 1, images[0].numel()).view(images.shape[1:])
        return F.relu(self.conv(images * self.grid)).flatten(1)


@pytest.mark.parametrize("make", [*AUTOGRAD.values(), GradCAM])
@pytest.mark.parametrize("target", [None, 1])
def test_what_a_model_keeps_can_be_trained_with(
    make: Callable, target: int | None
) -> None:
    model = Caching().eval()
    with torch.inference_mode():
        make(model).attribute(IMAGES.clone(), target)
    assert all(parameter.grad is None for parameter in model.parameters())
    model(IMAGES.clone().requires_grad_()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_threads_share_a_model_and_its_explainers() -> None:
    model = normalising().eval()
    images = [numbers(1, 3, 8, 8, seed=seed) for seed in range(3)]
    makes = [GradCAM, *LAYERS.values(), Gradient]
    explainers = [make(model) for make in makes]
    maps = [[explainer.attribute(x, 1) for x in images] for explainer in explainers]
    scores = [model(x) for x in images]
    filters, cudnn = list(warnings.filters), torch.backends.cudnn.allow_tf32
    methods = nn.Module.__call__, nn.Module.__getattr__

    def job(number: int) -> bool:
        kind, i = number % 7, number // 7 % 3
        if kind == 5:
            return all(torch.equal(model(images[i]), scores[i]) for _ in range(5))
        if kind == 6:
            return torch.equal(LRP(model).attribute(images[i], 1), maps[3][i])
        return torch.equal(explainers[kind].attribute(images[i], 1), maps[kind][i])

    with ThreadPoolExecutor(4) as pool:
        right = list(pool.map(job, range(126)))
    assert all(right), [number for number in range(126) if not right[number]]
    assert warnings.filters == filters
    assert torch.backends.cudnn.allow_tf32 == cudnn
    assert (nn.Module.__call__, nn.Module.__getattr__) == methods
    assert not any(part._forward_hooks for part in model.modules())
