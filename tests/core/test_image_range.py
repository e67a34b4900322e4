"""Images on another scale than a model states are refused, wherever they come in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import NoiseTunnel
from torch import Tensor, nn

from xai_lib import aise, baselines, geex, metrics, pertmap
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.image_range import check_range, stepping_outside
from xai_lib.zoo import detectors, digits, models, photos, scenes

MODEL = models.load("cnn_mnist")
DIGITS = digits.mnist(2).images
SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "8 bits": lambda x: 255 * x,
    "twice 0.5": lambda x: (x - 0.5) / 0.5,
    "normalised": lambda x: (x - 0.1307) / 0.3081,
    "less its mean": lambda x: x - x.mean(),
}
BOX = pertmap.Box(torch.zeros_like(DIGITS), torch.zeros_like(DIGITS))
ENTRIES: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "Gradient": lambda f, x: baselines.Gradient(f).attribute(x),
    "SmoothGrad": lambda f, x: baselines.SmoothGrad(f).attribute(x, 0),
    "IG": lambda f, x: baselines.IntegratedGradients(f).attribute(x, 0),
    "GradCAM": lambda f, x: baselines.GradCAM(f, "network.conv2").attribute(x, 0),
    "LRP": lambda f, x: baselines.LRP(f).attribute(x, 0),
    "Occlusion": lambda f, x: baselines.Occlusion(f).attribute(x, 0),
    "LIME": lambda f, x: baselines.LIME(f).attribute(x, 0),
    "KernelSHAP": lambda f, x: baselines.KernelSHAP(f).attribute_all(x),
    "RISE": lambda f, x: baselines.RISE(f).attribute(x),
    "RISE, all": lambda f, x: baselines.RISE(f).attribute_all(x),
    "extremal": lambda f, x: baselines.ExtremalPerturbation(f).masks(x, 0),
    "AISE": lambda f, x: aise.AISE(f).attribute(x, 0),
    "AISE, samples": lambda f, x: aise.AISE(f).sample(x, 0),
    "GEEX": lambda f, x: geex.GEEX(f).attribute(x, 0),
    "GEEX, all": lambda f, x: geex.GEEX(f).attribute_all(x),
    "GEEX, error": lambda f, x: geex.GEEX(f).estimate(x, 0),
    "PertMap": lambda f, x: pertmap.StochasticPertMap(f).attribute(x, 0),
    "PertMap, box": lambda f, x: pertmap.StochasticPertMap(f).solve(x, 0),
    "linear": lambda f, x: pertmap.LinearPertMap(f).attribute(x, 0),
    "violations": lambda f, x: pertmap.violation_rates(f, x, BOX, 0),
    "deletion": lambda f, x: metrics.deletion(f, x, DIGITS, 0, n_steps=2),
    "flipping": lambda f, x: metrics.flipping(f, x, DIGITS),
    "confident": lambda f, x: metrics.confident(f, x, torch.tensor([0, 1])),
    "sensitivity": lambda f, x: metrics.max_sensitivity(
        baselines.Gradient(f).attribute, x, 0
    ),
    "BlackBox inside": lambda f, x: baselines.RISE(BlackBox(f)).attribute(x, 0),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("entry", ENTRIES)
def test_refused_where_images_are_handed_over(entry: str, scale: str) -> None:
    images = SCALES[scale](DIGITS)
    asked: list[int] = []
    model = models.load("cnn_mnist")
    # LRP traces the model when it is made, which asks nothing.
    model.register_forward_hook(
        lambda _, given, __: asked.append(1) if isinstance(given[0], Tensor) else None
    )
    with pytest.raises(ValueError, match=r"(inputs|images) must lie in \[0, 1\], got"):
        ENTRIES[entry](model, images)
    assert asked == []


def test_refused_with_probabilities() -> None:
    probable = models.probabilities(MODEL)
    with pytest.raises(ValueError, match=r"got values from 0 to 255\. Divide"):
        baselines.RISE(probable, n_samples=10).attribute(DIGITS * 255, 0)


@pytest.mark.parametrize("name", ["scenes_detector", "dlib_faces"])
def test_detectors_refuse(name: str) -> None:
    detector = detectors.load(name)
    scene = name == "scenes_detector"
    image = scenes.make(1).images if scene else photos.load("astronaut").image
    for scale in ("8 bits", "twice 0.5", "normalised"):
        with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
            detector(SCALES[scale](image))


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_models_refuse_8_bits_also_when_converted(backend: str) -> None:
    blackbox = BlackBox(MODEL, backend=backend)
    blackbox(DIGITS)
    for wrong in (DIGITS * 255, DIGITS * 255 - 128):
        with pytest.raises(ValueError, match=r"inputs must lie in \[0, 1\]"):
            blackbox(wrong)
        with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
            MODEL(wrong)
        # A function hides the model from us, but not the images from the model.
        hidden = baselines.Gradient(lambda x: MODEL(x))
        with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
            hidden.attribute(wrong, 0)
    assert blackbox.queries == len(DIGITS)


def test_methods_may_ask_outside() -> None:
    """A black image: noise goes below 0, as does every box around it."""
    black = torch.zeros(1, 1, 28, 28)
    for explainer in (
        baselines.SmoothGrad(MODEL, n_samples=3, stdevs=0.5),
        geex.GEEX(MODEL, n_samples=4, stdevs=1.0),
        pertmap.StochasticPertMap(MODEL, n_iterations=2, n_perturbations=2),
    ):
        assert explainer.attribute(black, 0).isfinite().all()


def test_what_leaves_the_range_by_intent_says_so() -> None:
    explainer = baselines.Gradient(MODEL)
    tunnel = NoiseTunnel(explainer)
    with pytest.raises(ValueError, match=r"stepping_outside\(by="):
        tunnel.attribute(DIGITS, nt_samples=2, stdevs=0.2, target=0)
    with stepping_outside(by=2):
        maps = tunnel.attribute(DIGITS, nt_samples=2, stdevs=0.2, target=0)
        with stepping_outside(by=1):  # the inner block takes nothing away
            explainer.attribute(DIGITS + 1.5, 0)
        with pytest.raises(ValueError, match="got values from 0 to 255"):
            explainer.attribute(DIGITS * 255, 0)
    assert maps.isfinite().all()
    with pytest.raises(ValueError, match=r"got values from 0\.1 to 1\.1"):
        explainer.attribute(DIGITS + 0.1, 0)


def test_max_sensitivity_steps_outside_by_its_radius() -> None:
    attribute = baselines.Gradient(MODEL).attribute
    assert (metrics.max_sensitivity(attribute, DIGITS, 0, radius=0.4) > 0).all()


def test_rounding_is_no_fault() -> None:
    baselines.Gradient(MODEL).attribute(DIGITS * 1.0004, 0)


def test_other_models_state_no_range() -> None:
    class Scaled(nn.Module):
        """Takes 8 bits, and asks a model of the zoo."""

        def forward(self, images: Tensor) -> Tensor:
            return MODEL(images / 255)

    wide = DIGITS * 255
    for model in (Scaled(), nn.Sequential(Scaled(), nn.Softmax(1)), lambda x: x.sum(3)):
        check_range(model, wide)
    same = baselines.Gradient(Scaled()).attribute(wide, 0) * 255
    torch.testing.assert_close(same, baselines.Gradient(MODEL).attribute(DIGITS, 0))


def test_a_model_of_ones_own_can_state_a_range() -> None:
    class Bytes(nn.Linear):
        image_range = (0.0, 255.0)

    model = nn.Sequential(nn.Sequential(Bytes(4, 2)), nn.Softmax(1))
    baselines.Gradient(model).attribute(torch.tensor([[0.0, 255, 3, 4]]), 0)
    with pytest.raises(ValueError, match=r"must lie in \[0, 255\], got values from -1"):
        baselines.Gradient(model).attribute(torch.tensor([[-1.0, 255, 3, 4]]), 0)


def test_models_can_still_be_traced_exported_and_compiled() -> None:
    expected = MODEL(DIGITS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        traced = torch.jit.trace(MODEL, DIGITS)
    for copy in (
        traced,
        torch.export.export(MODEL, (DIGITS,)).module(),
        torch.compile(MODEL, backend="eager", fullgraph=True),
        torch.fx.symbolic_trace(MODEL),
    ):
        torch.testing.assert_close(copy(DIGITS), expected)
    weightless = models.load("cnn_mnist").to("meta")
    assert weightless(torch.empty(3, 1, 28, 28, device="meta")).shape == (3, 10)
