from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from xai_book.studies import parquet
from xai_book.studies.results import Results, Unit

ROWS = [
    {"settings": {"method": "a", "arguments": {"n": 1, "s": 0.5}}, "image": 0},
    {"settings": {"method": "b", "arguments": {}}, "image": 1, "curve": [1, 2]},
    {"settings": {"method": "c", "arguments": {"n": 2, "w": [0.1]}}, "image": 2},
    {"settings": {"method": "d", "arguments": {"s": 1}}, "image": 3, "curve": [[0.5]]},
]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write(path, ROWS)
    found = parquet.read(path)
    assert found == ROWS
    # 1 and 1.0 name different rows.
    assert isinstance(found[3]["settings"]["arguments"]["s"], int)


def test_one_line_of_pandas_opens_a_store() -> None:
    results = Results("geex_mnist")
    found = pd.read_parquet(results.path)
    assert len(found) == len(results.rows()) == 1600
    first = results.rows()[0]
    assert found["settings.method"][0] == first["settings"]["method"]
    assert list(found["result.curve"][0]) == first["result"]["curve"]


def test_the_books_rows_are_small() -> None:
    folder = Results("any").path.parent
    assert sum(path.stat().st_size for path in folder.glob("*.parquet")) < 4e6
    assert not list(folder.glob("*.sqlite"))


def test_what_would_change_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(ValueError, match="would change these rows"):
        parquet.write(path, [{"settings": {"n": None}}, {"settings": {"n": 1}}])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    parquet.write(path, ROWS)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(OSError, match=r"s\.parquet is no table of rows"):
        Results("s", tmp_path)


def units(count: int) -> list[Unit]:
    return [Unit({"method": "squares"}, i) for i in range(count)]


def square(unit: Unit) -> dict:
    return {"square": unit.image**2}


def test_pending_rows_move_into_the_table(tmp_path: Path) -> None:
    results = Results("s", tmp_path)
    results.run(units(3), square)
    before = results.rows()
    other = Results("s", tmp_path)
    results.fold()
    assert pd.read_parquet(results.path)["image"].tolist() == [0, 1, 2]
    assert Results("s", tmp_path).rows() == before
    assert results.run(units(3), square) == 0
    # Who had read them before goes on, and repeats nothing.
    assert other.run(units(5), square) == 2
    assert results.run(units(5), lambda unit: {"square": -1}) == 2
    results.fold()
    found = Results("s", tmp_path).rows()
    assert [row["result"]["square"] for row in found] == [0, 1, 4, 9, 16]


def test_a_kill_between_the_files_repeats_nothing(tmp_path: Path) -> None:
    results = Results("s", tmp_path)
    results.run(units(3), square)
    pending = results.pending.read_bytes()
    results.fold()
    results.pending.write_bytes(pending)
    again = Results("s", tmp_path)
    assert len(again.rows()) == 3
    assert again.run(units(4), square) == 1
    again.fold()
    assert len(Results("s", tmp_path).rows()) == 4


FOLDER = """
import os, sys
from xai_book.studies.results import Results, Unit

for writer in range(3):  # forked, as the imports take seconds
    if not os.fork():
        break
else:
    sys.exit(any(os.wait()[1] for _ in range(3)))
results = Results("s", sys.argv[1])
for i in range(30):
    wanted = [Unit({"writer": writer}, i), Unit({"writer": "all"}, i)]
    results.run(wanted, lambda unit: {"square": unit.image**2})
    results.fold()
"""


def test_writers_that_fold_lose_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FOLDER, str(tmp_path)], check=True)
    rows = Results("s", tmp_path).rows()
    found = {(row["settings"]["writer"], row["image"]) for row in rows}
    assert len(found) == len(rows) == 4 * 30
    assert all(row["result"]["square"] == row["image"] ** 2 for row in rows)
