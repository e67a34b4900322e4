"""Settings in stored rows have the names that arguments had when they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xai_lib.aise import AISE, AISEDetection
from xai_lib.baselines import RISE, SmoothGrad
from xai_lib.pertmap import LinearPertMap, StochasticPertMap

RENAMED: dict[type, dict[str, str]] = {
    AISE: {"n_samples": "n_kernels"},
    AISEDetection: {"n_samples": "n_kernels"},
    LinearPertMap: {"delta": "bound", "noise": "stdevs"},
    RISE: {"grid": "mask_size"},
    SmoothGrad: {"stdev": "stdevs"},
    StochasticPertMap: {"n_samples": "n_perturbations"},
}
"""Of each explainer, the old names of arguments and the new ones."""


def renamed(explainer: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an explainer's class, by the names that it has for them now."""
    names = next((RENAMED[kind] for kind in explainer.__mro__ if kind in RENAMED), {})
    return {names.get(name, name): value for name, value in stored.items()}
