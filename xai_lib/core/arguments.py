"""Argument checks shared by the black box, the explainers and the metrics.

Every check names the argument, the value and what was expected. None of them changes
a value: what is wrong is refused, never clipped or converted.
"""

import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

Target = int | Tensor | np.ndarray | list[int] | tuple[int, ...] | None
"""A class: one int for all images, integers `[N]`, or None (the predicted one)."""

FEW = 2**20  # numbers: six photographs at 224²
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class NonFiniteOutput(ValueError):
    """The model answered NaN or infinity; the message says for which query."""


def check_inputs(
    inputs: Any, name: str = "inputs", dims: tuple[int, ...] = (4,)
) -> None:
    """Refuse anything but a float tensor `[N, C, H, W]` (or `[N, d]` if 2 is in dims).

    Raises:
        TypeError: not a tensor, or not of a floating dtype of 16 bits or more.
        ValueError: wrong number of dimensions, empty, or not finite.
    """
    shapes = " or ".join("[N, C, H, W]" if d == 4 else "[N, d]" for d in dims)
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor {shapes}, got {type(inputs).__name__}; "
            "convert a NumPy array with torch.from_numpy(array.copy())"
        )
    if inputs.dtype not in DTYPES:
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
    if not np.isfinite(float(in_few(inputs).sum())) and not inputs.isfinite().all():
        first = [int(i) for i in (~inputs.isfinite()).nonzero()[0]]
        raise ValueError(
            f"{name} must be finite, got {inputs[tuple(first)].item()} at index {first}"
        )


def in_few(inputs: Tensor) -> Tensor | np.ndarray:
    """Few numbers on the CPU as an array, which NumPy looks at on one thread.

    torch would wake its others for some microseconds of work, after which they spin for
    milliseconds on the cores that OpenVINO is to have.
    """
    few = inputs.numel() <= FEW and inputs.dtype in (torch.float32, torch.float64)
    plain = type(inputs) is Tensor and inputs.device.type == "cpu"
    return inputs.numpy(force=True) if few and plain else inputs


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
    try:
        number = float(value)
    except OverflowError:  # an int or a fraction beyond all floats
        number = float("inf")
    if not (low <= number <= high and abs(number) < float("inf")):
        limit = f"in [{low}, {high}]" if high < float("inf") else f"at least {low}"
        raise ValueError(f"{name} must be finite and {limit}, got {value}")
    return number


def check_numbers(
    name: str, values: Any, low: float, high: float = float("inf")
) -> tuple[float, ...]:
    """Return `values` if it is a sequence of finite numbers in [low, high], else raise.

    A list, a tuple, a range, an array or a tensor, of at least one number.
    """
    listed = values.tolist() if isinstance(values, Tensor | np.ndarray) else values
    if not isinstance(listed, list | tuple | range):
        raise TypeError(
            f"{name} must be a sequence of numbers, such as (0.5,), got {values!r}"
        )
    if not listed:
        raise ValueError(f"{name} must hold at least one number, got none")
    return tuple(check_number(name, value, low, high) for value in listed)


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False, else raise: "no" would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_seed(value: Any) -> int:
    """Return `value` if it is a seed that torch and NumPy take, else raise."""
    if check_count("seed", value, at_least=0) >= 2**64:
        raise ValueError(f"seed must be below 2**64, got {value}")
    return int(value)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`, else raise."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return value


def check_target(target: Target, n: int, name: str = "target") -> Tensor | None:
    """Return the target as an int64 tensor `[n]` on the CPU, or None if it is None.

    Raises:
        TypeError: not an int, integers (a tensor, an array, a list) or None.
        ValueError: wrong length, negative, or no class that there could be.
    """
    if target is None:
        return None
    shape: list[int] = []
    listed: Any = target
    if isinstance(target, Tensor | np.ndarray):
        shape, listed = list(target.shape), target.tolist()
    elif isinstance(target, list | tuple):
        # It may hold the classes of images one by one, as tensors.
        listed = [c.tolist() if isinstance(c, Tensor) else c for c in target]
        shape = [len(target)]
    if shape not in ([], [n]):
        raise ValueError(f"{name} must be one class or a tensor [{n}], got {shape}")
    classes = listed if shape else [listed] * n
    for c in classes:
        if isinstance(c, bool) or not isinstance(c, numbers.Integral):
            raise TypeError(f"{name} must be an int, a tensor [N] or None, got {c!r}")
        c = int(c)
        if c < 0:
            raise ValueError(f"{name} must not be negative, got {c}")
        if c >= 2**63:
            raise ValueError(f"{name} {c} is out of range: no model has so many scores")
    return torch.tensor([int(c) for c in classes], dtype=torch.int64, device="cpu")


def pick(scores: Tensor, target: Tensor) -> Tensor:
    """The target's entry of each row: scores `[N, K]`, target `[N]` -> `[N]`.

    Raises:
        ValueError: a target that `forward_func` has no score for.
        NonFiniteOutput: the target's score is infinite, as the logarithm of 0 is.
    """
    check_reach(target, scores.shape[1])
    return entries(scores, target.to(scores.device, non_blocking=True))


def check_reach(target: Tensor, n_scores: int) -> None:
    """Refuse targets, on the CPU, that `forward_func` has no score for."""
    if int(target.max()) >= n_scores:
        raise ValueError(
            f"target {int(target.max())} is out of range: forward_func returns "
            f"{n_scores} scores (classes 0 to {n_scores - 1})"
        )


def entries(scores: Tensor, target: Tensor) -> Tensor:
    """As `pick`, for targets that are on the scores' device and within reach."""
    picked = scores.gather(1, target[:, None])[:, 0]
    if not bool(picked.isfinite().all()):
        raise NonFiniteOutput(
            "forward_func answered NaN or infinity for a target; explain probabilities "
            "or logits instead of logarithms"
        )
    return picked


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


def check_baselines(baselines: Any) -> float | Tensor:
    """Return `baselines` if it is a finite number or a finite float tensor, else raise.

    What a tensor is shaped like is checked by `expand_baselines`, with the inputs.
    """
    if not isinstance(baselines, Tensor):
        return check_number("baselines", baselines, -float("inf"))
    if not baselines.is_floating_point():
        raise TypeError(f"baselines must be floating point, got {baselines.dtype}")
    if not bool(baselines.isfinite().all()):
        raise ValueError("baselines must be finite, got NaN or infinity")
    return baselines


def expand_baselines(baselines: float | Tensor, inputs: Tensor) -> Tensor:
    """The reference of each input: `baselines` expanded to the shape of `inputs`.

    Raises:
        TypeError: neither a number nor a float tensor.
        ValueError: not finite, or a tensor that is not shaped like one input.
    """
    baselines = check_baselines(baselines)
    if not isinstance(baselines, Tensor):
        return inputs.new_full((), baselines).expand_as(inputs)
    if baselines.shape != inputs.shape[1:]:
        raise ValueError(
            f"baselines must be a number or shaped like one input, "
            f"{list(inputs.shape[1:])}, got {list(baselines.shape)}"
        )
    return baselines.detach().to(inputs).expand_as(inputs)
