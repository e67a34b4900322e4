"""The second look at stored rows: what it draws, and what it calls moved."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

import recheck


def row(method: str, image: int, **result: Any) -> dict[str, Any]:
    return {
        "settings": {"method": method},
        "image": image,
        "seed": 0,
        "seconds": 0.1,
        "result": result,
    }


def test_every_method_has_its_turn() -> None:
    rows = [row("many", i) for i in range(50)] + [row("few", i) for i in range(2)]
    units = recheck.drawn(rows, 10, seed=0)
    count = Counter(unit.settings["method"] for unit in units)
    assert count == {"many": 8, "few": 2}
    assert len({unit.key for unit in units}) == 10
    assert recheck.drawn(rows, 10, seed=0) == units
    assert recheck.drawn(rows, 10, seed=1) != units
    assert recheck.drawn([], 10, seed=0) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1.0, 1.005, True),
        (1.0, 1.02, False),
        ([1000, 3], [1000, 9], True),  # 1 % of the largest
        ([1000, 3], [1000, 30], False),
        ([1, 2], [1, 2, 3], False),
        ("0011", "0011", True),
        ("0011", "0111", False),
        ([], [], True),
        (True, True, True),
        (True, False, False),
        ({"a": 1.0}, {"a": 1.001}, True),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, False),
        ([[1, 2], [3]], [[1, 2], [3]], True),
        (None, 1.0, False),
        (float("nan"), 1.0, False),
    ],
)
def test_equal_up_to_rounding(one: Any, other: Any, same: bool) -> None:
    assert recheck.equal(one, other) is same


def test_other_draws_of_the_same_code_have_not_moved() -> None:
    rng = random.Random(0)
    pairs = [
        ({"x": rng.gauss(5, 1), "y": [1, 2]}, {"x": rng.gauss(5, 1), "y": [1, 2]})
        for _ in range(100)
    ]
    assert recheck.moved(pairs) == []


def test_another_mean_has_moved() -> None:
    rng = random.Random(0)
    pairs = [
        ({"x": rng.gauss(5, 1), "word": "01"}, {"x": rng.gauss(6, 1), "word": "11"})
        for _ in range(100)
    ]
    (line,) = recheck.moved(pairs)
    assert line.startswith("x: ")
    # Less than 1 % is none, however sure.
    small = [({"x": 5.0}, {"x": 5.04})] * 30
    assert recheck.moved(small) == []
    assert recheck.moved([({"x": 5.0}, {"x": 5.2})] * 30) == ["x: 5, now 5.2"]


def test_an_unknown_store(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recheck.main(["nothing"])
    assert "no study 'nothing'" in capsys.readouterr().err


def test_rows_of_a_store_are_measured_again() -> None:
    told, moved = recheck.recheck("trials", 2, seconds=0.05, seed=0)
    assert told.startswith("trials: 2 of 2 rows equal, 0 numbers moved")
    assert not moved
