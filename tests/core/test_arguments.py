"""Every refusal names the argument, the value and what to do instead."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from xai_lib.core.arguments import (
    check_choice,
    check_count,
    check_flag,
    check_inputs,
    check_number,
    check_numbers,
    check_seed,
    check_target,
    expand_baselines,
    pick,
    resolve_target,
)

IMAGES = torch.rand(2, 3, 4, 5)


def spoilt(value: float) -> torch.Tensor:
    images = IMAGES.clone()
    images[1, 2, 3, 4] = value
    return images


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (
            IMAGES.numpy(),
            TypeError,
            r"inputs .*got ndarray.*torch\.from_numpy\(array.copy\(\)\)",
        ),
        (IMAGES.tolist(), TypeError, r"inputs must be a torch\.Tensor.*got list"),
        (
            (IMAGES * 255).byte(),
            TypeError,
            r"inputs .*torch\.uint8.*inputs\.float\(\) / 255",
        ),
        (IMAGES > 0.5, TypeError, r"inputs must be floating point, got torch\.bool"),
        (IMAGES.to(torch.float8_e5m2), TypeError, "inputs .*, got torch.float8_e5m2"),
        (IMAGES + 0j, TypeError, "inputs must be floating point, got torch.complex64"),
        (IMAGES[0], ValueError, r"inputs .*\[3, 4, 5\].*\.unsqueeze\(0\)"),
        (IMAGES[0, 0], ValueError, r"inputs must be \[N, C, H, W\], got \[4, 5\]$"),
        (IMAGES[:0], ValueError, r"inputs must not be empty, got .*\[0, 3, 4, 5\]"),
        (spoilt(float("nan")), ValueError, r"finite, got nan at index \[1, 2, 3, 4\]"),
        (spoilt(float("inf")), ValueError, r"finite, got inf at index \[1, 2, 3, 4\]"),
        (
            spoilt(-float("inf")),
            ValueError,
            r"finite, got -inf at index \[1, 2, 3, 4\]",
        ),
    ],
)
def test_wrong_inputs(inputs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_inputs(inputs)


def test_the_name_is_the_callers() -> None:
    with pytest.raises(TypeError, match=r"^attributions .*attributions\.float\(\)"):
        check_inputs(IMAGES.byte(), "attributions")


def test_infinities_that_cancel_are_found() -> None:
    images = spoilt(float("inf"))
    images[0, 0, 0, 0] = -float("inf")
    with pytest.raises(ValueError, match=r"-inf at index \[0, 0, 0, 0\]"):
        check_inputs(images)


def test_huge_finite_values_are_fine() -> None:
    # Their sum overflows to infinity; not one of them is infinite.
    check_inputs(torch.full((1, 1, 4, 4), 3e38))


def test_rows_are_accepted_only_where_the_method_allows_them() -> None:
    check_inputs(torch.rand(3, 7), dims=(2, 4))
    with pytest.raises(ValueError, match=r"\[N, C, H, W\], got \[3, 7\]"):
        check_inputs(torch.rand(3, 7))
    with pytest.raises(ValueError, match=r"\[N, d\] or \[N, C, H, W\], got \[7\]"):
        check_inputs(torch.rand(7), dims=(2, 4))


@pytest.mark.parametrize("value", [2.0, "2", True, None])
def test_counts_are_integers(value: Any) -> None:
    with pytest.raises(TypeError, match=f"n_steps must be an integer, got {value!r}"):
        check_count("n_steps", value)


def test_counts_have_a_lower_limit() -> None:
    assert check_count("n_steps", np.int64(3)) == 3
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        check_count("n_steps", 0)


@pytest.mark.parametrize("value", ["0.5", True, None, 1j])
def test_numbers_are_real(value: Any) -> None:
    with pytest.raises(TypeError, match="p must be a number, got"):
        check_number("p", value, 0, 1)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_numbers_have_limits(value: float) -> None:
    with pytest.raises(
        ValueError, match=rf"p must be finite and in \[0, 1\], got {value}"
    ):
        check_number("p", value, 0, 1)


def test_a_number_without_limits_is_still_finite() -> None:
    assert check_number("value", -7, -float("inf")) == -7
    with pytest.raises(ValueError, match="value must be finite"):
        check_number("value", -float("inf"), -float("inf"))


def test_numbers_beyond_all_floats_are_refused() -> None:
    with pytest.raises(ValueError, match="p must be finite"):
        check_number("p", 10**400, 0)


@pytest.mark.parametrize("side", ["up", 1, None, ["left"]])
def test_choices(side: Any) -> None:
    message = re.escape(f"side must be one of left, right; got {side!r}")
    with pytest.raises(ValueError, match=message):
        check_choice("side", side, ("left", "right"))


@pytest.mark.parametrize(
    "value", ["no", "False", "", 0, 1, None, [], torch.tensor(True)]
)
def test_flags_are_flags(value: Any) -> None:
    with pytest.raises(TypeError, match="delete must be True or False, got"):
        check_flag("delete", value)


def test_a_flag_of_numpy_is_one() -> None:
    assert check_flag("delete", np.bool_(True)) is True
    assert check_flag("delete", False) is False


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (2**64, ValueError), (0.5, TypeError), (None, TypeError)],
)
def test_wrong_seeds(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed must be"):
        check_seed(seed)


def test_every_seed_that_is_let_through_can_be_used() -> None:
    for seed in (0, 2**63, 2**64 - 1):
        torch.Generator().manual_seed(check_seed(seed))
        np.random.default_rng(check_seed(seed))


@pytest.mark.parametrize(
    "values", [(0.5, 1), [0.5, 1], np.array([0.5, 1]), torch.tensor([0.5, 1])]
)
def test_sequences_of_numbers(values: Any) -> None:
    assert check_numbers("widths", values, 0) == (0.5, 1.0)
    assert check_numbers("widths", range(3), 0) == (0, 1, 2)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (0.1, TypeError, r"widths must be a sequence .* such as \(0\.5,\), got 0\.1"),
        (torch.tensor(0.1), TypeError, "widths must be a sequence of numbers"),
        ("0.1", TypeError, "widths must be a sequence of numbers.*got '0.1'"),
        ({0.1}, TypeError, "widths must be a sequence of numbers"),
        (None, TypeError, "widths must be a sequence of numbers"),
        ((), ValueError, "widths must hold at least one number"),
        (np.ones((2, 2)), TypeError, r"widths must be a number, got \[1\.0, 1\.0\]"),
        ((0.1, "x"), TypeError, "widths must be a number, got 'x'"),
        ((0.1, -1), ValueError, "widths must be finite and at least 0, got -1"),
    ],
)
def test_wrong_sequences(values: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_numbers("widths", values, 0)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (1.0, TypeError, r"target must be an int, a tensor \[N\] or None, got 1\.0"),
        (True, TypeError, "target must be an int.*got True"),
        ("cat", TypeError, "target must be an int.*got 'cat'"),
        ([1, 2.5], TypeError, r"a tensor \[N\] or None, got 2\.5"),
        ([[1], [2]], TypeError, r"a tensor \[N\] or None, got \[1\]"),
        ([True, 1], TypeError, r"a tensor \[N\] or None, got True"),
        (torch.tensor([1.0, 2.0]), TypeError, r"a tensor \[N\] or None, got 1\.0"),
        (np.array([1.0, 2.0]), TypeError, r"a tensor \[N\] or None, got 1\.0"),
        (torch.tensor([True, False]), TypeError, r"a tensor .* got True"),
        (torch.tensor([1, 2, 3]), ValueError, r"a tensor \[2\], got \[3\]"),
        (torch.tensor([1]), ValueError, r"a tensor \[2\], got \[1\]"),
        ([1], ValueError, r"a tensor \[2\], got \[1\]"),
        ([], ValueError, r"a tensor \[2\], got \[0\]"),
        (torch.tensor([[1], [2]]), ValueError, r"a tensor \[2\], got \[2, 1\]"),
        (np.array([[1], [2]]), ValueError, r"a tensor \[2\], got \[2, 1\]"),
        (-1, ValueError, "target must not be negative, got -1"),
        (torch.tensor([0, -3]), ValueError, "target must not be negative, got -3"),
        ([0, -3], ValueError, "target must not be negative, got -3"),
        (2**70, ValueError, f"target {2**70} is out of range"),
        (np.array([2**63, 0], np.uint64), ValueError, "target .* is out of range"),
    ],
)
def test_wrong_targets(target: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_target(target, 2)


@pytest.mark.parametrize(
    "target",
    [
        2,
        np.int64(2),
        [2, 2],
        (np.int8(2), torch.tensor(2)),
        np.array(2),
        np.array([2, 2], np.uint16),
        torch.tensor(2),
        torch.tensor([2, 2], dtype=torch.uint8),
    ],
)
def test_targets_become_one_class_per_image(target: Any) -> None:
    classes = check_target(target, 2)
    assert classes is not None
    assert classes.dtype is torch.int64
    assert classes.tolist() == [2, 2]
    assert check_target(None, 2) is None


def test_target_out_of_range() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.6, 0.4]])
    assert pick(scores, torch.tensor([1, 0])).tolist() == pytest.approx([0.9, 0.6])
    with pytest.raises(ValueError, match=r"target 2 is out of range.*2 scores.*0 to 1"):
        pick(scores, torch.tensor([0, 2]))


def test_none_is_the_predicted_class_and_asks_once() -> None:
    asked = []

    def scores(images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return torch.tensor([[0.1, 0.9], [0.6, 0.4]])

    assert resolve_target(scores, IMAGES, None).tolist() == [1, 0]
    assert asked == [2]
    assert resolve_target(scores, IMAGES, 1).tolist() == [1, 1]
    assert asked == [2]


def test_baselines() -> None:
    assert torch.equal(expand_baselines(0.5, IMAGES), torch.full_like(IMAGES, 0.5))
    image = torch.rand(3, 4, 5, dtype=torch.float64)
    expanded = expand_baselines(image, IMAGES)
    assert expanded.dtype is IMAGES.dtype
    assert all(torch.equal(row, image.float()) for row in expanded)


@pytest.mark.parametrize(
    ("baselines", "error", "message"),
    [
        ("mean", TypeError, "baselines must be a number, got 'mean'"),
        (float("nan"), ValueError, "baselines must be finite"),
        (torch.zeros(3, 4, 5).byte(), TypeError, r"floating point, got torch\.uint8"),
        (IMAGES, ValueError, r"one input, \[3, 4, 5\], got \[2, 3, 4, 5\]"),
        (spoilt(float("nan"))[1], ValueError, "baselines must be finite, got NaN"),
    ],
)
def test_wrong_baselines(baselines: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        expand_baselines(baselines, IMAGES)
