"""Properties of calls: targets, inputs and settings, the right and the wrong."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from xai_lib.checks.properties.case import (
    TOLERANCE,
    Case,
    NotApplicable,
    classes,
    difference,
    numbers,
    prop,
    refused,
    require,
)

# What no setting can be, by the type of its default; every int of an explainer counts
# something.
WRONG_SETTINGS: dict[type, tuple[Any, ...]] = {
    bool: ("no", 1, None),
    int: ("3", 0.5, True, None, -1),
    float: ("0.1", None, float("nan")),
    str: ("nonsense", 3, None),
    tuple: (0.5, (), "nonsense", None),
}
WRONG_SEEDS = (-1, 2**64, 0.5, "0", None)


@prop("a target is an int, a tensor, an array, a list, or None for the predicted class")
def _targets(case: Case, x: Tensor) -> None:
    for same in (classes(2, 2, 2), classes(2, 2, 2).int(), [2, 2, 2], (2, 2, 2)):
        case.expect_equal(case.maps(x, same), case.maps(x, 2), "one class for each")
    mixed = case.maps(x, classes(3, 0, 1))
    for listed in ([3, 0, 1], np.array([3, 0, 1])):
        case.expect_equal(case.maps(x, listed), mixed, "classes in another container")
    for i, t in enumerate((3, 0, 1)):
        case.expect_equal(mixed[i], case.maps(x, t)[i], f"class {t} of image {i}")
    predicted = case.scores(x)(x).argmax(dim=1)
    case.expect_equal(case.maps(x, None), case.maps(x, predicted), "target=None")


@prop("another target, another map")
def _other_target(case: Case, x: Tensor) -> None:
    order = case.scores(x)(x).argsort(dim=1)
    best, worst = case.maps(x, order[:, -1]), case.maps(x, order[:, 0])
    for i in range(3):
        gap = difference(best[i], worst[i])
        require(gap > TOLERANCE, f"image {i} has one map for two classes")


@prop("wrong targets are refused by name")
def _wrong_targets(case: Case, x: Tensor) -> None:
    wrong = (4, -1, 2**70, 0.5, True, "cat", numbers(0, 1, 2), classes(0, 1))
    for target in (*wrong, [0, 1], [0, 1, 2.5], [0, 1, -1], [0, 1, 4], [[0], [1], [2]]):
        case.expect_refused("target", case.model(x), x, target)


@prop("wrong inputs are refused by name, before any query")
def _wrong_inputs(case: Case, x: Tensor) -> None:
    one_nan, infinite = x.clone(), x.clone()
    one_nan[2, 0, 1, 1], infinite[0, 2, 0, 3] = float("nan"), float("inf")
    wrong = (x.cpu().numpy(), x.tolist(), None, (255 * x).byte(), x[0], x[None], x[:0])
    for inputs in (*wrong, one_nan, infinite):
        case.expect_refused("inputs", case.model(x), inputs)


@prop("wrong settings are refused by name, when the explainer is made")
def _wrong_settings(case: Case, x: Tensor) -> None:
    model = case.model(x)
    explainer = case.explainer(model)
    kind: Any = type(explainer)
    tried: list[tuple[str, Any, Callable]] = []
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is not parameter.empty:
            wrong = WRONG_SETTINGS.get(type(parameter.default), ())
            values = WRONG_SEEDS if name == "seed" else wrong
            tried += [(name, value, partial(kind, model)) for value in values]
    if "show_progress" in inspect.signature(explainer.attribute).parameters:
        attribute = partial(explainer.attribute, x, 1)
        tried += [("show_progress", value, attribute) for value in ("no", 1)]
    if not tried:
        raise NotApplicable("its class has no settings with defaults")
    for name, value, call in tried:
        case.call = f"{kind.__name__}(f, {name}={value!r})"
        refused(name, f"{name}={value!r} was accepted", partial(call, **{name: value}))
