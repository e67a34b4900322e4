"""Statements that a notebook checks while it runs, and the battery for explainers.

A check prints what was expected and the tolerance, never what was measured, so that
the printed line is the same on every machine; a failed one raises and shows both. As
other machines differ in the last bits, what only just holds is decided in one way: a
tolerance that is just met is met, and a tie is no order.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import SupportsFloat

import torch
from torch import Tensor

from xai_lib.checks.explainer import ExplainerFailed, Report, check_explainer

CERTAIN = 1e-6
"""The share of a number that another machine may change."""


class CheckFailed(AssertionError):
    """A statement of the book did not hold in this run."""


def check_close(
    what: str,
    value: SupportsFloat | Tensor,
    expected: SupportsFloat | Tensor,
    atol: float,
) -> None:
    """Print `what = expected ± atol: ok`, or raise.

    Expected values are often computed, too, so only those of their digits are printed
    that the tolerance needs.

    Args:
        what: the quantity, with its unit if it has one.
        value: a number, or a tensor compared entry by entry.
        expected: the same; a tensor is not printed.
        atol: the largest allowed absolute difference.

    Raises:
        CheckFailed: with the value measured.
        ValueError: if the shapes differ.
    """
    measured, reference = _double(value), _double(expected)
    if reference.ndim and measured.shape != reference.shape:
        raise ValueError(
            f"{what}: value has shape {list(measured.shape)}, expected "
            f"{list(reference.shape)}"
        )
    worst = float((measured - reference).abs().max())
    shown = "the reference" if reference.ndim else _digits(float(reference), atol)
    shown = f"{shown} ± {atol:.3g}"
    if not worst <= atol * (1 + CERTAIN):
        got = (
            f"differs by {worst:.4g}" if measured.ndim else f"is {float(measured):.6g}"
        )
        raise CheckFailed(f"{what} {got}, expected {shown}")
    print(f"{what} = {shown}: ok")


def check_true(statement: str, holds: bool | Tensor) -> None:
    """Print `statement: ok`, or raise `CheckFailed`."""
    if not bool(holds):
        raise CheckFailed(f"{statement}: does not hold")
    print(f"{statement}: ok")


def check_order(
    what: str, values: Mapping[str, SupportsFloat], margin: float = 0.0
) -> None:
    """Print `what: a > b > c: ok` if each value exceeds the next by more than `margin`,
    and by more than a millionth of itself.

    Raises:
        CheckFailed: with the values measured.
    """
    numbers = [float(v) for v in values.values()]
    if len(numbers) < 2:
        raise ValueError(
            f"{what}: an order needs at least two values, got {len(numbers)}"
        )
    by = f" by more than {margin:g}" if margin else ""
    ties = (CERTAIN * max(abs(a), abs(b)) for a, b in pairwise(numbers))
    if not all(
        a - b > margin + tie
        for (a, b), tie in zip(pairwise(numbers), ties, strict=True)
    ):
        got = ", ".join(f"{k} {v:.4g}" for k, v in zip(values, numbers, strict=True))
        raise CheckFailed(f"{what}: expected {' > '.join(values)}{by}, got {got}")
    print(f"{what}: {' > '.join(values)}{by}: ok")


def _digits(expected: float, atol: float) -> str:
    """One digit beyond the first one of the tolerance, but at most five in all."""
    if not 0 < atol < math.inf:
        return f"{expected:g}"  # whole numbers, and what is right to the last bit
    # Halves of the last digit go up, on whichever side of them the last bit lies.
    up = expected * (1 + CERTAIN)
    return f"{round(up, 1 - math.floor(math.log10(atol))) + 0.0:.5g}"


def _double(value: SupportsFloat | Tensor) -> Tensor:
    # Straight to float64: by way of float32, 0.71 would become 0.70999998.
    if isinstance(value, Tensor):
        return value.detach().cpu().double()
    return torch.tensor(float(value), dtype=torch.float64, device="cpu")


__all__ = [
    "CheckFailed",
    "ExplainerFailed",
    "Report",
    "check_close",
    "check_explainer",
    "check_order",
    "check_true",
]
