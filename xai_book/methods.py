"""The methods of the book, each under its one name: what it is, how figures draw it.

Rows hold the name as "method". To add a method to the bench of chapter 10, add it here;
`python -m xai_book run showdown_mnist` measures it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from xai_lib import baselines
from xai_lib.aise import AISE
from xai_lib.aise.detection import AISEDetection
from xai_lib.geex import GEEX, GERS, IGEEX
from xai_lib.pertmap import LinearPertMap, StochasticPertMap
from xai_lib.viz.style import COLORS

Settings = dict[str, Any]


class Look(NamedTuple):
    """How figures draw a method; a family shares the colour."""

    color: str = "black"
    marker: str = "X"
    ls: Any = "-"


def _family(color: str) -> list[Look]:
    pairs = zip("os^D", ("-", "--", "-.", ":"), strict=True)
    return [Look(color, marker, dash) for marker, dash in pairs]


BLUE, RED, GREEN = map(_family, COLORS[:3])
FLOOR = Look("0.6", "o")


class Method(NamedTuple):
    """A way to explain a model."""

    explainer: Any = None
    """Its class; None for a floor, which knows nothing about the model."""
    look: Look = Look()
    asks: bool = False
    """It only asks the model; others differentiate it."""
    gradient_like: bool = False
    """Maps of derivatives; the others are in units of the score, as map × input is."""
    probability: bool = False
    """Explains the probability, as its authors do; the others, the logit."""
    settings: Callable[[int], Settings] = lambda n: {}
    """On the bench, for at most n queries; "showdown" replaces those of the papers."""


def _kernels(sampler: str) -> Callable[[int], Settings]:
    """AISE asks twice for each kernel, and three widths share the queries."""
    return lambda n: {
        "n_kernels": n // 6,
        "kernel_widths": [0.1, 0.175, 0.25],
        "sampler": sampler,
    }


def _parts(n: int) -> Settings:
    return {"n_samples": n, "n_segments": 50}


METHODS: dict[str, Method] = {
    "Gradient": Method(baselines.Gradient, gradient_like=True),
    "SmoothGrad": Method(baselines.SmoothGrad, gradient_like=True),
    "GuidedBackprop": Method(baselines.GuidedBackprop),
    "IG": Method(baselines.IntegratedGradients),
    "DeepLift": Method(baselines.DeepLift),
    "LRP": Method(baselines.LRP),
    "GradCAM": Method(baselines.GradCAM),
    "Extremal": Method(baselines.ExtremalPerturbation),
    "PertMap": Method(StochasticPertMap),
    "Linear PertMap": Method(LinearPertMap),
    "GEEX": Method(GEEX, BLUE[0], asks=True, gradient_like=True),
    "GERS": Method(GERS, BLUE[1], asks=True, gradient_like=True),
    "GERS waves": Method(GERS, BLUE[2], asks=True, gradient_like=True),
    "iGEEX": Method(IGEEX, BLUE[3], asks=True),
    "AISE-DIRECT": Method(AISE, RED[0], True, False, True, _kernels("direct")),
    "AISE-LIPO": Method(AISE, RED[1], True, False, True, _kernels("lipo")),
    "AISE-random": Method(AISE, RED[2], True, False, True, _kernels("random")),
    "RISE": Method(
        *(baselines.RISE, GREEN[0], True, False, True),
        settings=lambda n: {"n_samples": n, "mask_size": 7, "p": 0.5},
    ),
    "KernelSHAP": Method(baselines.KernelSHAP, GREEN[1], True, False, True, _parts),
    "LIME": Method(baselines.LIME, GREEN[2], True, False, True, _parts),
    "Occlusion": Method(baselines.Occlusion, GREEN[3], True, False, True),
}
"""In the order of the bench."""

PARTS_OF_THE_BOOK: dict[str, Any] = {
    **{name: AISE for name in ("AISE", "coarse to fine")},
    **{name: AISEDetection for name in ("AISE on a detector", "shuffled")},
    "D-RISE": baselines.DRISE,
}
"""Further names in rows, and their classes."""

WHITE_BOX = tuple(name for name, one in METHODS.items() if not one.asks)
ASKING = tuple(name for name, one in METHODS.items() if one.asks)
GRADIENT_LIKE = tuple(name for name, one in METHODS.items() if one.gradient_like)


def fingerprint(settings: Mapping[str, Any]) -> str | None:
    """What tells the source that a row's method has now from what it had.

    Of the module of the method's class and what this imports of its own package;
    comments, docstrings and layout do not count.

    Args:
        settings: of a row; on a detector, "AISE" is another class.

    Returns:
        None for what is no method of the library.
    """
    name = str(settings.get("method"))
    if name == "AISE" and "detector" in settings:
        name = "AISE on a detector"
    known = METHODS[name].explainer if name in METHODS else PARTS_OF_THE_BOOK.get(name)
    return _of_module(known.__module__) if known else None


@lru_cache
def _of_module(name: str) -> str:
    """The fingerprint of the modules that `name` stands on, each with what it imports
    of its own package."""
    package = name.rpartition(".")[0]
    todo, trees = [name], dict[str, ast.Module]()
    while todo:
        module = todo.pop()
        own = module.startswith(f"{package}.") and module in sys.modules
        if not own or module in trees:
            continue
        trees[module] = tree = ast.parse(inspect.getsource(sys.modules[module]))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{n.name}" for n in node.names)]
    text = repr([_plain(trees[module]) for module in sorted(trees)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(node: Any) -> Any:
    """A syntax tree without docstrings, alike in all versions of Python."""
    if isinstance(node, list):
        return [_plain(one) for one in node if not _is_docstring(one)]
    if not isinstance(node, ast.AST):
        return node
    fields = ((name, _plain(value)) for name, value in ast.iter_fields(node))
    return [type(node).__name__, *(f for f in fields if f[1] not in (None, []))]


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
