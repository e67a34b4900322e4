"""The statements that notebooks check, and the words they print."""

import math

import pytest
import torch

from xai_lib.checks import CheckFailed, check_close, check_order, check_true


def test_close_prints_the_reference_and_not_the_measurement(capsys):
    check_close("insertion AUC", 0.7034, 0.71, atol=0.02)
    assert capsys.readouterr().out == "insertion AUC = 0.71 ± 0.02: ok\n"


def test_close_takes_tensors_entry_by_entry(capsys):
    check_close("maps", torch.ones(3), torch.ones(3) + 1e-7, atol=1e-6)
    assert capsys.readouterr().out == "maps = the reference ± 1e-06: ok\n"
    with pytest.raises(CheckFailed, match=r"maps differs by 1, expected the reference"):
        check_close("maps", torch.tensor([0.0, 1.0]), torch.zeros(2), atol=0.5)


@pytest.mark.parametrize("value", [0.74, float("nan"), float("inf")])
def test_close_raises_with_the_measurement(value):
    with pytest.raises(CheckFailed, match=rf"AUC is {value}, expected 0.71 ± 0.02"):
        check_close("AUC", value, 0.71, atol=0.02)


def test_close_does_not_round_through_float32():
    check_close("share", 0.71, 0.71, atol=0)


@pytest.mark.parametrize(
    ("expected", "atol", "shown"),
    [
        (0.523793, 0.05, "0.524 ± 0.05"),
        (0.523794, 0.05, "0.524 ± 0.05"),
        (-1.417568, 1e-5, "-1.4176 ± 1e-05"),
        (math.log(10), 1e-6, "2.3026 ± 1e-06"),
        (0.1225, 1e-4, "0.1225 ± 0.0001"),
        (1 / 27, 0.0112661, "0.037 ± 0.0113"),
        (4987, 200, "4990 ± 200"),
        (-1e-9, 0.1, "0 ± 0.1"),
        (123456, 0, "123456 ± 0"),
        (0.0625, 0.01, "0.063 ± 0.01"),
        (math.nextafter(0.0625, 0), 0.01, "0.063 ± 0.01"),
    ],
)
def test_close_prints_the_digits_that_machines_share(capsys, expected, atol, shown):
    check_close("it", expected, expected, atol)
    assert capsys.readouterr().out == f"it = {shown}: ok\n"


def test_a_tolerance_that_is_just_met_is_met():
    """0.65 - 0.5 is 0.15000000000000002 in floats."""
    check_close("share", 0.65, 0.5, atol=0.15)
    with pytest.raises(CheckFailed, match=r"share is 0.651, expected 0.5 ± 0.15"):
        check_close("share", 0.651, 0.5, atol=0.15)
    with pytest.raises(CheckFailed):
        check_close("exact", math.nextafter(1, 2), 1, atol=0)


def test_close_refuses_to_broadcast():
    with pytest.raises(ValueError, match=r"shape \[2\], expected \[3\]"):
        check_close("maps", torch.zeros(2), torch.zeros(3), atol=1)


def test_true(capsys):
    check_true("the sky is blue", torch.tensor(True))
    assert capsys.readouterr().out == "the sky is blue: ok\n"
    with pytest.raises(CheckFailed, match="two is three: does not hold"):
        check_true("two is three", False)


def test_order(capsys):
    check_order("AOPC", {"IG": 0.9, "random": torch.tensor(0.3)}, margin=0.5)
    assert capsys.readouterr().out == "AOPC: IG > random by more than 0.5: ok\n"
    with pytest.raises(CheckFailed, match=r"expected a > b > c, got a 3, b 1, c 2"):
        check_order("AOPC", {"a": 3, "b": 1, "c": 2})
    with pytest.raises(CheckFailed):
        check_order("ties", {"a": 1, "b": 1})
    with pytest.raises(CheckFailed):  # the same sum in two orders
        check_order("ties", {"a": 0.1 + 0.2 + 0.3, "b": 0.3 + 0.2 + 0.1})
    with pytest.raises(CheckFailed):
        check_order("as far as the margin", {"a": 0.8, "b": 0.1}, margin=0.7)
    check_order("small ones", {"a": 2e-12, "b": 1e-12})
    with pytest.raises(CheckFailed):
        check_order("not a number", {"a": float("nan"), "b": 1})
    with pytest.raises(ValueError, match="at least two"):
        check_order("one", {"a": 1})
