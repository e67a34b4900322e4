"""The battery on every explainer of the library, found by itself."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import xai_lib
from xai_lib.aise import AISE, AISEDetection
from xai_lib.baselines import (
    DRISE,
    LIME,
    LRP,
    RISE,
    DeepLift,
    ExtremalPerturbation,
    GradCAM,
    Gradient,
    GuidedBackprop,
    IntegratedGradients,
    KernelSHAP,
    Occlusion,
    SmoothGrad,
)
from xai_lib.checks import Report, check_explainer
from xai_lib.checks.properties import CHECKS
from xai_lib.checks.properties.calls import WRONG_SEEDS, WRONG_SETTINGS
from xai_lib.core.arguments import Target, check_inputs, resolve_target
from xai_lib.core.detection import Detection
from xai_lib.geex import GEEX, GERS, IGEEX
from xai_lib.pertmap import LinearPertMap, StochasticPertMap

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CONSTANT = "a constant model has a flat map"


class OfDetector:
    """An explainer of detectors, called as one of classifiers.

    The detector sees one object that fills the image, of each label with that class's
    score, so that the similarity of what it finds again is the score, by a sigmoid, as
    detectors' scores lie in [0, 1].
    """

    def __init__(self, make: Callable[[Callable], Any], forward_func: Callable) -> None:
        self.forward_func = forward_func

        def detector(images: Tensor) -> list[Detection]:
            scores = forward_func(images)
            # A detector's lie in [0, 1]; infinity becomes NaN.
            scores = (1 + scores / (1 + scores.abs())) / 2
            height, width = images.shape[2:]
            boxes = images.new_tensor([[0, 0, width, height]])
            labels = torch.arange(scores.shape[1], device="cpu")
            return [Detection(boxes.expand(len(s), 4), s, labels) for s in scores]

        self.explainer = make(detector)

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        check_inputs(inputs)
        classes = resolve_target(self.forward_func, inputs, target)
        box = [0.0, 0.0, inputs.shape[3], inputs.shape[2]]
        return self.explainer.attribute(inputs, [(box, c) for c in classes.tolist()])


def of_detector(kind: Callable, **settings: Any) -> Callable:
    return lambda f: OfDetector(lambda detector: kind(detector, **settings), f)


def squares(height: int, width: int) -> int:
    """Occlusion's queries, with a window of 2."""
    return 1 + math.ceil(height / 2) * math.ceil(width / 2)


# Of each explainer, settings to check with: a name, how to make it, and its facts.
GEEX_LIKE = {"queries": 64, "per_channel": True, "rows": True}
GERS_LIKE = {"queries": 64, "per_channel": True, "smallest": 2}
GRADIENTS = {"needs": "gradients", "per_channel": True, "rows": True}
LAYERS = {"needs": "layers", "per_channel": True, "rows": True}
OWN_ANSWERS = "a detector has answers of its own"
OUTPUTS = next(name for name in CHECKS if name.startswith("scores in a dictionary"))
DETECTOR = {
    "exceptions": {
        "wrong targets are refused by name": "a label that is not found scores 0",
        "any callable is a model, as one on NumPy arrays; else it is refused by name": (
            "a detector takes tensors"
        ),
        "answers that are no scores are refused by name": OWN_ANSWERS,
        OUTPUTS: OWN_ANSWERS,
        "an answer that is not finite is refused, but for other classes at -inf": (
            "a detector's scores lie in [0, 1]"
        ),
    }
}
CASES: dict[type, list[tuple[str, Callable, dict[str, Any]]]] = {
    RISE: [
        ("", partial(RISE, n_samples=70, mask_size=3), {"queries": 70}),
        (
            "ridge",
            partial(RISE, n_samples=70, mask_size=3, estimator="ridge"),
            {"queries": 70},
        ),
        (
            "plain",
            partial(RISE, n_samples=70, mask_size=3, estimator="plain"),
            {
                "queries": 70,
                "exceptions": {CONSTANT: "the paper's map has the noise of the masks"},
            },
        ),
    ],
    Occlusion: [
        ("", partial(Occlusion, window=2), {"queries": squares, "smallest": 2})
    ],
    LIME: [("", partial(LIME, n_samples=40, n_segments=6), {"queries": 40})],
    KernelSHAP: [
        (
            "",
            partial(KernelSHAP, n_samples=100, n_segments=20),
            {"queries": 100, "smallest": 2},
        )
    ],
    GEEX: [
        (noise, partial(GEEX, n_samples=64, noise=noise), GEEX_LIKE)
        for noise in ("independent", "mirrored", "orthogonal")
    ],
    GERS: [
        (noise, partial(GERS, n_samples=64, mask_size=2, noise=noise), GERS_LIKE)
        for noise in ("independent", "mirrored", "orthogonal", "low-frequency")
    ],
    IGEEX: [
        ("", partial(IGEEX, n_samples=64), GEEX_LIKE),
        ("masks", partial(IGEEX, n_samples=64, mask_size=2, n_steps=4), GERS_LIKE),
    ],
    AISE: [
        # DIRECT and the lattice draw nothing: no seed.
        ("direct", lambda f: AISE(f, n_kernels=9), {"queries": 54}),
        ("lattice", lambda f: AISE(f, "lattice", n_kernels=9), {"queries": 54}),
        ("random", partial(AISE, sampler="random", n_kernels=9), {"queries": 54}),
        ("lipo", partial(AISE, sampler="lipo", n_kernels=9), {"queries": 54}),
        (
            "preserve, normalised",
            lambda f: AISE(f, n_kernels=9, delete=False, normalise=True),
            {"queries": 27},
        ),
    ],
    AISEDetection: [
        ("", of_detector(AISEDetection, n_kernels=9), {"queries": 27, **DETECTOR})
    ],
    DRISE: [
        ("", of_detector(DRISE, n_samples=70, mask_size=3), {"queries": 70, **DETECTOR})
    ],
    Gradient: [("", Gradient, GRADIENTS)],
    SmoothGrad: [("", partial(SmoothGrad, n_samples=5), GRADIENTS)],
    IntegratedGradients: [("", partial(IntegratedGradients, n_steps=8), GRADIENTS)],
    ExtremalPerturbation: [
        (
            "",
            # It wants logits: λ is in units of a score that changes by some tens.
            lambda f: ExtremalPerturbation(
                lambda x: 100 * f(x),
                areas=(0.3,),
                perturbation="fade",
                n_iterations=12,
                lr=0.05,
                smooth=0,
            ),
            {
                "needs": "gradients",
                "smallest": 2,
                "exceptions": {
                    CONSTANT: "a mask has its area, even where any would do",
                    "answers that are no scores are refused by name": (
                        "the factor above stumbles over them first"
                    ),
                },
            },
        )
    ],
    LinearPertMap: [
        (
            "two sides" * two_sided,
            partial(
                LinearPertMap,
                bound=2.0,
                patch=1,
                n_smooth=1,
                penalty=1e4,
                two_sided=two_sided,
            ),
            GRADIENTS,
        )
        for two_sided in (False, True)
    ],
    StochasticPertMap: [
        (
            name,
            partial(
                StochasticPertMap,
                optimizer=name,
                lr=0.1,
                n_iterations=20,
                n_perturbations=8,
                penalty=1e3,
                bound=2.0,
            ),
            GRADIENTS,
        )
        for name in ("adam", "rmsprop")
    ],
    GuidedBackprop: [("", GuidedBackprop, LAYERS)],
    DeepLift: [("", DeepLift, LAYERS)],
    LRP: [("", LRP, LAYERS)],
    # Of one place, Grad-CAM says so and refuses.
    GradCAM: [("", GradCAM, {"needs": "layers", "smallest": 2})],
}
ALL = [
    pytest.param(make, facts, id=" ".join(filter(None, (kind.__name__, name))))
    for kind, cases in CASES.items()
    for name, make, facts in cases
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("make", "facts"), ALL)
def test_explainer(make: Callable, facts: dict[str, Any], device: str) -> None:
    report = check_explainer(make, **facts, device=device)
    assert isinstance(report, Report)
    assert not report.failed
    # What cannot apply is known here, so that no property goes untried unnoticed.
    expected = set()
    if facts.get("needs", "queries") != "queries":
        expected |= {
            "the black box's batch size does not matter",
            "an explanation costs exactly the queries that it promises",
            "a budget that is one query short stops it",
        }
    else:
        expected.add("a model that gives no gradient is refused")
    if "seed" not in inspect.signature(make).parameters:
        expected.add("another seed, another map")
    if "exceptions" in facts and facts["exceptions"] is DETECTOR["exceptions"]:
        # `OfDetector` hides them; see test_wrong_settings_of_explainers_of_detectors.
        expected.add("wrong settings are refused by name, when the explainer is made")
    assert set(report.not_applicable) == expected


@pytest.mark.parametrize("kind", [AISEDetection, DRISE])
def test_wrong_settings_of_explainers_of_detectors(kind: type) -> None:
    signature = inspect.signature(kind)
    tried = 0
    for name, parameter in signature.parameters.items():
        wrong = WRONG_SETTINGS.get(type(parameter.default), ())
        for value in WRONG_SEEDS if name == "seed" else wrong:
            with pytest.raises((TypeError, ValueError), match=name):
                kind(len, **{name: value})
            tried += 1
    assert tried > 15


def explainers() -> set[type]:
    """Every class with `attribute` that can be made, but for those that are bases."""
    found = set()
    for module in pkgutil.walk_packages(xai_lib.__path__, "xai_lib."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__.startswith("xai_lib."):
                found.add(value)
    able = {
        kind
        for kind in found
        if callable(getattr(kind, "attribute", None)) and not inspect.isabstract(kind)
    }
    exported = {
        getattr(package, name)
        for package in (
            importlib.import_module(f"xai_lib.{name}")
            for name in ("aise", "baselines", "geex", "pertmap")
        )
        for name in package.__all__
    }
    bases = {kind for kind in able if any(kind in k.__mro__[1:] for k in able)}
    return able - (bases - exported)


def test_no_explainer_is_forgotten() -> None:
    assert explainers() == set(CASES)


def test_a_new_explainer_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("xai_lib.core.gradients")
    new = type("New", (Gradient,), {"__module__": module.__name__})
    monkeypatch.setattr(module, "New", new, raising=False)
    assert explainers() - set(CASES) == {new}
