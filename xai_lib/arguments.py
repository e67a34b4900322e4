"""Argument checks shared by the black box, the explainers and the metrics.

Every check names the argument, the value and what was expected. None of them changes
a value: what is wrong is refused, never clipped or converted.
"""

from __future__ import annotations

import numbers
from typing import Any

import torch
from torch import Tensor

Target = int | Tensor | None
"""A class: one int for all images, an integer tensor `[N]`, or None (predicted)."""


def check_inputs(
    inputs: Any, name: str = "inputs", dims: tuple[int, ...] = (4,)
) -> None:
    """Refuse anything but a float tensor `[N, C, H, W]` (or `[N, d]` if 2 is in dims).

    Raises:
        TypeError: not a tensor, or not of a floating dtype.
        ValueError: wrong number of dimensions, empty, or not finite.
    """
    shapes = " or ".join("[N, C, H, W]" if d == 4 else "[N, d]" for d in dims)
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor {shapes}, got {type(inputs).__name__}; "
            "convert a NumPy array with torch.from_numpy(array)"
        )
    if not inputs.is_floating_point():
        raise TypeError(
            f"{name} must be floating point, got {inputs.dtype}; for 8-bit images use "
            f"{name}.float() / 255"
        )
    if inputs.ndim not in dims:
        hint = "; add the batch axis with .unsqueeze(0)" if inputs.ndim == 3 else ""
        raise ValueError(f"{name} must be {shapes}, got {list(inputs.shape)}{hint}")
    if inputs.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {list(inputs.shape)}")
    # One NaN or infinity makes the sum so: much cheaper than looking at each number.
    if not bool(inputs.sum().isfinite()) and not bool(inputs.isfinite().all()):
        first = [int(i) for i in (~inputs.isfinite()).nonzero()[0]]
        raise ValueError(
            f"{name} must be finite, got {inputs[tuple(first)].item()} at index {first}"
        )


def check_count(name: str, value: Any, at_least: int = 1) -> int:
    """Return `value` if it is an integer of at least `at_least`, else raise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
    return int(value)


def check_number(
    name: str, value: Any, low: float, high: float = float("inf")
) -> float:
    """Return `value` if it is a finite number in [low, high], else raise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not (low <= number <= high and abs(number) < float("inf")):
        limit = f"in [{low}, {high}]" if high < float("inf") else f"at least {low}"
        raise ValueError(f"{name} must be finite and {limit}, got {value}")
    return number


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`, else raise."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return value


def check_target(target: Target, n: int) -> Tensor | None:
    """Return the target as an int64 tensor `[n]` on the CPU, or None if it is None.

    Raises:
        TypeError: not an int, an integer tensor or None.
        ValueError: wrong length, or negative.
    """
    if target is None:
        return None
    if isinstance(target, Tensor):
        if (
            target.is_floating_point()
            or target.is_complex()
            or target.dtype is torch.bool
        ):
            raise TypeError(f"target must hold integers, got dtype {target.dtype}")
        if target.ndim > 1 or (target.ndim == 1 and len(target) != n):
            raise ValueError(
                f"target must be one class or a tensor [{n}], got {list(target.shape)}"
            )
        classes = target.detach().to("cpu", torch.int64).expand(n)
    elif isinstance(target, numbers.Integral) and not isinstance(target, bool):
        classes = torch.full((n,), int(target))
    else:
        raise TypeError(f"target must be an int, a tensor [N] or None, got {target!r}")
    if int(classes.min()) < 0:
        raise ValueError(f"target must not be negative, got {int(classes.min())}")
    return classes


def pick(scores: Tensor, target: Tensor) -> Tensor:
    """The target's entry of each row: scores `[N, K]`, target `[N]` -> `[N]`.

    Raises:
        ValueError: a target that `forward_func` has no score for.
    """
    if int(target.max()) >= scores.shape[1]:
        raise ValueError(
            f"target {int(target.max())} is out of range: forward_func returns "
            f"{scores.shape[1]} scores (classes 0 to {scores.shape[1] - 1})"
        )
    return scores.gather(1, target.to(scores.device)[:, None])[:, 0]


def check_classes(scores: Tensor) -> None:
    """Refuse scores `[..., K]` without two classes to compare.

    Raises:
        ValueError: K = 1. Whether it is a probability or a logit cannot be seen.
    """
    if scores.shape[-1] < 2:
        raise ValueError(
            "forward_func must return at least 2 scores per input, as classes are "
            f"compared; got {scores.shape[-1]}. For one probability p, return "
            "[1 - p, p]; for one logit z, return [0, z]"
        )


def resolve_target(forward_func: Any, inputs: Tensor, target: Target) -> Tensor:
    """The target classes `[N]`; None is the class predicted at `inputs`."""
    classes = check_target(target, len(inputs))
    return forward_func(inputs).argmax(dim=1).cpu() if classes is None else classes


def expand_baselines(baselines: float | Tensor, inputs: Tensor) -> Tensor:
    """The reference of each input: `baselines` expanded to the shape of `inputs`.

    Raises:
        TypeError: neither a number nor a float tensor.
        ValueError: not finite, or a tensor that is not shaped like one input.
    """
    if not isinstance(baselines, Tensor):
        number = check_number("baselines", baselines, -float("inf"))
        return torch.full_like(inputs, number)
    if not baselines.is_floating_point():
        raise TypeError(f"baselines must be floating point, got {baselines.dtype}")
    if baselines.shape != inputs.shape[1:]:
        raise ValueError(
            f"baselines must be a number or shaped like one input, "
            f"{list(inputs.shape[1:])}, got {list(baselines.shape)}"
        )
    if not bool(baselines.isfinite().all()):
        raise ValueError("baselines must be finite, got NaN or infinity")
    return baselines.detach().to(inputs).expand_as(inputs)
