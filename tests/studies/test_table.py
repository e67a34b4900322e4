from __future__ import annotations

import json

import pytest

from xai_book.studies.results import Results

pytest.importorskip("pandas")
from xai_book.studies.table import table


def test_a_row_for_each_line_of_the_store():
    found = table("geex_photos")
    rows = Results("geex_photos").rows()
    assert len(found) == len(rows)
    assert found["image"].tolist() == [row["image"] for row in rows]
    of_geex = found[found["settings.method"] == "GEEX"]
    expected = [
        row["result"]["aopc"] for row in rows if row["settings"]["method"] == "GEEX"
    ]
    assert of_geex["result.aopc"].tolist() == expected


def test_dictionaries_are_columns_and_lists_are_values(tmp_path):
    rows = [
        {"settings": {"a": {"b": 1}}, "result": {"xs": [1, 2], "y": 0.5}},
        {"settings": {"a": {}, "c": None}, "result": {"y": 1.5}},
    ]
    rest = {"image": 0, "seconds": 0.1}
    lines = [json.dumps({**row, **rest, "seed": i}) for i, row in enumerate(rows)]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    found = table("mine", tmp_path)
    assert found["result.xs"][0] == [1, 2]
    assert found["settings.a.b"][0] == 1
    assert found[["settings.a.b", "result.xs"]].isna()[1:].all(axis=None)
    assert found["result.y"].mean() == 1
    assert table("none", tmp_path).empty
