"""The pages made from what the tools store."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

import site_pages


def notebook(path: Path) -> Path:
    """Three cells: one that prints, one that is not compared, one that never ran."""
    said = new_output("stream", text="ok\n")
    ignored = {"tags": ["nbval-ignore-output"]}
    cells = [
        new_code_cell("1", execution_count=1, outputs=[said]),
        new_code_cell("2", execution_count=2, outputs=[said], metadata=ignored),
        new_code_cell("3"),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def git(folder: Path, *command: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    call = ["git", *who, *command]
    return subprocess.run(
        call, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def panels() -> Image.Image:
    """Two rows of two panels and a title, 200 by 100; their greys say which."""
    drawn = np.full((100, 200), 255, np.uint8)
    drawn[2:8, 60:140] = 0
    for grey, (row, column) in enumerate([(12, 5), (12, 105), (57, 5), (57, 105)]):
        drawn[row : row + 40, column : column + 90] = 50 * (grey + 1)
    return Image.fromarray(drawn)


@pytest.mark.parametrize(
    ("part", "size", "greys"),
    [
        ((0, 10, 50, 54), (90, 40), {50}),
        ((49, 9, 99, 55), (90, 40), {100}),  # sides a little beside the gaps
        ((0, 55, 100, 100), (190, 40), {150, 200, 255}),
        ((0, 0, 100, 100), (190, 95), {0, 50, 100, 150, 200, 255}),
    ],
)
def test_a_part_of_a_figure_has_whole_panels_and_no_margin(
    part: tuple[int, int, int, int], size: tuple[int, int], greys: set[int]
) -> None:
    found = site_pages.cut(panels(), part)
    assert found.size == size
    assert {grey for _, (grey, *_) in found.getcolors()} == greys


def test_a_panel_is_not_cut_in_two() -> None:
    with pytest.raises(ValueError, match="25% would cut something in two"):
        site_pages.cut(panels(), (25, 10, 100, 54))


def test_a_card_whose_picture_is_gone_says_so(tmp_path: Path) -> None:
    drawn = new_output("display_data", data={"image/png": "AAAA"})
    one = new_notebook(cells=[new_code_cell("1", outputs=[drawn])])
    with pytest.raises(ValueError, match=r"00_a has no picture 4: mend PICTURES"):
        site_pages._thumbnail(one, tmp_path / "00_a.webp")


def test_what_was_committed_is_counted_and_dated(tmp_path: Path) -> None:
    path = notebook(tmp_path / "00_a.ipynb")
    assert site_pages.committed(path) == site_pages.Committed(2, 1, 0, "", "")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a", "--date", "2030-01-02T12:00:00")
    date, revision = git(tmp_path, "log", "-1", "--format=%cs %h").split()
    known = site_pages.committed(path)
    assert (known.date, known.revision) == (date, revision)
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert not site_pages.committed(path).date  # changed since


def test_execution_page_shows_what_was_verified(tmp_path: Path) -> None:
    paths = [notebook(tmp_path / "00_a.ipynb"), notebook(tmp_path / "01_b.ipynb")]
    page = site_pages.execution_page(tmp_path / "none.json", paths)
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| [00_a](chapters/00_a.ipynb) | not yet | 2 | 1 | 0 |",
        "| [01_b](chapters/01_b.ipynb) | not yet | 2 | 1 | 0 |",
        "| **2 notebooks** |  | 4 | 2 | 0 |",
    ]
    assert "machine that built" not in page


def test_execution_page_shows_what_ran_again(tmp_path: Path) -> None:
    record = tmp_path / "execution.json"
    run = {"minutes": 1.26, "agreeing": 9, "comparable": 10, "figures": 4}
    where = {"profile": "quick", "device": "2 CPU cores (x86_64)", "date": "2030-01-02"}
    record.write_text(json.dumps({"00_a": run | where, "09_gone": run | where}))
    page = site_pages.execution_page(record, [notebook(tmp_path / "00_a.ipynb")])
    again = page.partition("machine that built this site")[2]
    rows = [line for line in again.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| [00_a](chapters/00_a.ipynb) | 1.3 | 9 of 10 | quick "
        "| 2 CPU cores (x86_64), 2030-01-02 |"
    ]


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
