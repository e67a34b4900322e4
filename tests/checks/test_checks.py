"""The statements that notebooks check, and the words they print."""

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
    with pytest.raises(CheckFailed):
        check_order("not a number", {"a": float("nan"), "b": 1})
    with pytest.raises(ValueError, match="at least two"):
        check_order("one", {"a": 1})
