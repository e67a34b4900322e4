"""The methods of the book, each under its one name: what it is, how figures draw it.

Rows hold the name as "method". To add a method to the bench of chapter 10, add it here;
`python -m xai_book run showdown_mnist` measures it.
"""

import ast
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from xai_lib import baselines
from xai_lib.aise import AISE
from xai_lib.aise.detection import AISEDetection
from xai_lib.geex import GEEX, GERS, IGEEX
from xai_lib.pertmap import LinearPertMap, StochasticPertMap
from xai_lib.viz.style import DASHES

Settings = dict[str, Any]


class Look(NamedTuple):
    """How every figure draws a method: a family shares its hue, and marker and dash
    together are a method's own, so that grey print tells all apart."""

    color: str = "black"
    marker: str = "X"
    ls: Any = "-"


def _family(markers: str, *colors: str) -> list[Look]:
    """Up to four looks, a marker each. The first three families are those that ask:
    their markers differ, as one figure shows all of them as points."""
    pairs = zip(colors, markers, DASHES, strict=False)
    return [Look(color, marker, dash) for color, marker, dash in pairs]


SEARCH = _family("o^*p", "#0072B2", "#56B4E9", "#00344F", "#5E3C99")
KERNEL = _family("sDdH", "#D55E00", "#E69F00", "#A6761D", "#7A3300")
MASKS = _family("P8v<", "#009E73", "#66C2A5", "#00543C", "#8DA000")
SLOPES = _family("><8", "#CC79A7", "#882255", "#E3B1CB")
SHARES = _family("hvPX", "#6B3E00", "#C9B800", "#A9713A", "#DDCC77")
BOXES = _family("Xos^", "#000000", "#117799", "#333333", "#66BBCC")
FLOOR = _family("dph8", "0.45", "0.6", "0.7", "0.8")


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
    "Gradient": Method(baselines.Gradient, SLOPES[0], gradient_like=True),
    "SmoothGrad": Method(baselines.SmoothGrad, SLOPES[1], gradient_like=True),
    "GuidedBackprop": Method(baselines.GuidedBackprop, SLOPES[2]),
    "IG": Method(baselines.IntegratedGradients, SHARES[0]),
    "DeepLift": Method(baselines.DeepLift, SHARES[1]),
    "LRP": Method(baselines.LRP, SHARES[2]),
    "GradCAM": Method(baselines.GradCAM, SHARES[3]),
    "Extremal": Method(baselines.ExtremalPerturbation, BOXES[2]),
    "PertMap": Method(StochasticPertMap, BOXES[0]),
    "Linear PertMap": Method(LinearPertMap, BOXES[1]),
    "GEEX": Method(GEEX, SEARCH[0], asks=True, gradient_like=True),
    "GERS": Method(GERS, SEARCH[1], asks=True, gradient_like=True),
    "GERS waves": Method(GERS, SEARCH[2], asks=True, gradient_like=True),
    "iGEEX": Method(IGEEX, SEARCH[3], asks=True),
    "AISE-DIRECT": Method(AISE, KERNEL[0], True, False, True, _kernels("direct")),
    "AISE-LIPO": Method(AISE, KERNEL[1], True, False, True, _kernels("lipo")),
    "AISE-random": Method(AISE, KERNEL[2], True, False, True, _kernels("random")),
    "RISE": Method(
        *(baselines.RISE, MASKS[0], True, False, True),
        settings=lambda n: {"n_samples": n, "mask_size": 7, "p": 0.5},
    ),
    "KernelSHAP": Method(baselines.KernelSHAP, MASKS[1], True, False, True, _parts),
    "LIME": Method(baselines.LIME, MASKS[2], True, False, True, _parts),
    "Occlusion": Method(baselines.Occlusion, MASKS[3], True, False, True),
}
"""In the order of the bench."""

PARTS_OF_THE_BOOK: dict[str, Any] = {
    **{name: AISE for name in ("AISE", "coarse to fine")},
    **{name: AISEDetection for name in ("AISE on a detector", "shuffled")},
    "D-RISE": baselines.DRISE,
}
"""Further names in rows, and their classes."""

LOOKS: dict[str, Look] = {
    **{name: one.look for name, one in METHODS.items()},
    "AISE-lattice": KERNEL[3],
    "LP (Smooth)": BOXES[3],
    **dict(zip(("random", "centre", "image", "waves"), FLOOR, strict=True)),
}
"""Of all that figures draw as lines: methods, and floors in grey."""

ALSO = {
    "Integrated Gradients": "IG",
    "IntGrad": "IG",
    "Guided Backprop": "GuidedBackprop",
    "GuidedBP": "GuidedBackprop",
    "DeepLIFT": "DeepLift",
    "LP": "Linear PertMap",
    "Stochastic": "PertMap",
    "SHAP": "KernelSHAP",
    "low-frequency": "GERS waves",
    "D-RISE": "RISE",
    **dict.fromkeys(("AISE", "DIRECT", "direct"), "AISE-DIRECT"),
    **dict.fromkeys(("LIPO", "lipo"), "AISE-LIPO"),
    "lattice": "AISE-lattice",
    "coarse to fine": "AISE-random",
    "AISE-150, shuffled": "image",
    **dict.fromkeys(("lumps", "random point", "random spots"), "random"),
    **dict.fromkeys(("blob", "blob, no query", "flat"), "centre"),
}
"""What papers and chapters also call them."""


def look(name: str) -> dict[str, Any]:
    """The settings of `Axes.plot` for a method, by any of its names, with or without a
    number of queries ("RISE-8000").

    Raises:
        KeyError: a name that the table does not have.
    """
    short = re.sub(r"[ ,-]+[\d,]+$", "", name)
    return LOOKS[ALSO.get(short, short)]._asdict()


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
