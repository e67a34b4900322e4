"""Are these images what the model takes? 8-bit or normalised ones give wrong answers.

A model that knows says so by an attribute `image_range`, (0, 1) for the zoo's. There
are two checks. Images that a user hands over, to an explainer or a metric, must lie in
the range. What a method asks may lie outside, since noise and boxes around an image do
by intent; but nothing comes as far from it as `FAR`, except numbers on another scale.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib.core.arguments import in_few

ROUNDING = 1e-3  # less than half of an 8-bit step
FAR = 32.0
_outside: ContextVar[float] = ContextVar("outside", default=0.0)


@contextmanager
def stepping_outside(by: float) -> Iterator[None]:
    """Images handed over inside the block may leave the range, on either side, by `by`.

    For what moves an image on purpose and then explains it anew, such as Captum's
    `NoiseTunnel`; `max_sensitivity` says so by itself.
    """
    token = _outside.set(max(by, _outside.get()))
    try:
        yield
    finally:
        _outside.reset(token)


def check_range(
    forward_func: Any, inputs: Tensor, by: float = 0, name: str = "inputs"
) -> None:
    """Refuse values that leave the range that `forward_func` states, if it states one.

    Args:
        forward_func: a model, a `Sequential` that starts with one, a `BlackBox` of one.
        inputs: of any shape.
        by: how far they may leave it.
        name: of the argument, for the error.

    Raises:
        ValueError: with the values found.
    """
    stated = _stated_range(forward_func)
    if stated is None or inputs.numel() == 0:
        return
    # Not detached: white-box methods look for models that are.
    values = in_few(inputs)
    array = isinstance(values, np.ndarray)
    ends = (values.min(), values.max()) if array else inputs.aminmax()
    low, high = (end.item() for end in ends)
    slack = ROUNDING + max(by, _outside.get())
    if low < stated[0] - slack or high > stated[1] + slack:
        most = max(stated[0] - low, high - stated[1])
        raise ValueError(
            f"{name} must lie in [{stated[0]:g}, {stated[1]:g}], got values from "
            f"{low:.4g} to {high:.4g}. Divide 8-bit images by 255, and leave "
            "normalisation to the model. What leaves the range by intent says so: "
            f"with xai_lib.core.image_range.stepping_outside(by={most:.2g})"
        )


def refuse_another_scale(model: nn.Module, images: Any) -> None:
    """For a model's own `forward`: refuse images on another scale than it states.

    Says nothing while the model is traced, exported or compiled, as there are no
    numbers then.
    """
    if type(images) is Tensor and not (
        torch.compiler.is_compiling() or torch.jit.is_tracing() or images.is_meta
    ):
        check_range(model, images, FAR, "images")


def _stated_range(forward_func: Any) -> tuple[float, float] | None:
    # A BlackBox has the model inside; a Sequential hands images to its first module.
    forward_func = getattr(forward_func, "forward_func", forward_func)
    while isinstance(forward_func, nn.Sequential) and len(forward_func):
        forward_func = forward_func[0]
    return getattr(forward_func, "image_range", None)
