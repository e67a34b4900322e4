"""The pages made from what the tools store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import site_pages


def test_execution_page_shows_what_was_recorded(tmp_path: Path) -> None:
    record = tmp_path / "execution.json"
    run = {"minutes": 1.26, "agreeing": 9, "comparable": 10, "figures": 4}
    where = {"profile": "quick", "device": "2 CPU cores (x86_64)", "date": "2030-01-02"}
    record.write_text(json.dumps({"00_a": run | where, "09_gone": run | where}))
    page = site_pages.execution_page(record, [Path("00_a.ipynb"), Path("01_b.ipynb")])
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| [00_a](chapters/00_a.ipynb) | 1.3 | 9 of 10 | 4 | quick "
        "| 2 CPU cores (x86_64), 2030-01-02 |",
        "| [01_b](chapters/01_b.ipynb) | not executed here |  |  |  |  |",
        "| **1 chapters** | 1.3 | 9 of 10 | 4 |  |  |",
    ]


def test_execution_page_before_any_run(tmp_path: Path) -> None:
    page = site_pages.execution_page(tmp_path / "none.json", [Path("00_a.ipynb")])
    assert "not executed here" in page
    assert "**" not in page


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        *(("<= 1.05", "yes"), ("<= 1", "**no**"), (">= 1", "yes")),
        *((">= 1.05", "**no**"), ("", "")),
    ],
)
def test_whether_a_goal_is_reached(goal: str, verdict: str) -> None:
    assert site_pages.reached({"ratio": 1.02, "goal": goal}) == verdict


def test_benchmark_page_shows_all_scripts(tmp_path: Path) -> None:
    row = {"name": "a / b", "ratio": 1.021, "low": 1, "high": 1.2, "goal": "<= 1.05"}
    stored = {"about": "One thing.", "device": "a GPU", "torch": "2.9", "date": "today"}
    for name in ("two", "one"):
        text = json.dumps(stored | {"ratios": [row]})
        (tmp_path / f"{name}.json").write_text(text)
    page = site_pages.benchmark_page(tmp_path)
    assert page.index("## one") < page.index("## two")
    assert page.count("| a / b | 1.02 | 1.00 to 1.20 | at most 1.05 | yes |") == 2
    assert "Measured on a GPU with PyTorch 2.9, today." in page


def test_benchmark_page_before_any_run(tmp_path: Path) -> None:
    assert "run `make bench`" in site_pages.benchmark_page(tmp_path / "none")
