"""Explaining image models by perturbing their inputs.

The library behind the book: every method proposes perturbations, queries the model
and aggregates the answers.

    import xai_lib

    model = xai_lib.BlackBox(my_function, budget=5000)
    heat = xai_lib.RISE(model, n_samples=4000).attribute(images)

`AISE`, `GEEX` and `PertMap` (the stochastic one) are the three papers' methods and
`RISE` a well-known one; `xai_lib.aise`, `geex`, `pertmap` and `baselines` hold more.
`BlackBox` is the only door to a model, and `recommend` names what to take for a number
of queries. They are imported when first asked for.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xai_lib.aise import AISE
    from xai_lib.baselines import RISE
    from xai_lib.core.blackbox import BlackBox
    from xai_lib.geex import GEEX
    from xai_lib.pertmap import StochasticPertMap as PertMap
    from xai_lib.recommendation import recommend

__version__ = "0.2.0"
__all__ = ["AISE", "GEEX", "RISE", "BlackBox", "PertMap", "recommend"]

# Nothing is sent home. Without the package openvino_telemetry OpenVINO, and what builds
# on it, works with a stub that sends and writes nothing. Every process that uses this
# library passes here first: kernels, and workers however they are started.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

_HOMES = {
    "AISE": "xai_lib.aise:AISE",
    "BlackBox": "xai_lib.core.blackbox:BlackBox",
    "GEEX": "xai_lib.geex:GEEX",
    "PertMap": "xai_lib.pertmap:StochasticPertMap",
    "RISE": "xai_lib.baselines:RISE",
    "recommend": "xai_lib.recommendation:recommend",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
