"""Returned notebooks are run, and nothing that they say of themselves counts."""

from __future__ import annotations

import csv
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from xai_book import grade as grading
from xai_book.grade import grade, main

SETUP = "import torch\nfrom xai_book.exercises import chapter01"
STUBS = {
    "1.2": "def aopc_of(scores):\n    return ...\n\n\nchapter01.aopc(aopc_of)",
    "1.4": "def blind_spot(x):\n    return ...\n\n\nchapter01.blind_spot(blind_spot)",
}
AOPC = "def aopc_of(scores):\n    return (1 - scores[1:] / scores[0]).mean()\n"
SPOT = "def blind_spot(x):\n    return torch.exp(-((x - 1) ** 2).sum())\n"
FORGED = "exercise 1.4: ok\n"


def write(path: Path, *cells: str, tags: dict[int, str] | None = None) -> None:
    """A notebook that was written for a kernel that is not here, with a saved "ok"."""
    made = new_notebook(metadata={"kernelspec": {"name": "gone", "display_name": "x"}})
    for i, code in enumerate(cells):
        saved = [new_output("stream", text=FORGED)]
        metadata = {"tags": [tags[i]]} if tags and i in tags else {}
        made.cells.append(new_code_cell(code, outputs=saved, metadata=metadata))
    path.parent.mkdir(exist_ok=True, parents=True)
    nbformat.write(made, path)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    place = tmp_path / "book"
    tags = {1: "exercise", 2: "exercise"}
    write(place / "01_what.ipynb", SETUP, *STUBS.values(), tags=tags)
    return place


def test_who_solved_what(tmp_path: Path, book: Path) -> None:
    folder = tmp_path / "returned"
    write(folder / "anna/01.ipynb", SETUP, AOPC, SPOT)
    # Without the checkers' lines, with one's own, with a word in their place.
    write(
        folder / "ben.ipynb",
        SETUP,
        "def aopc_of(scores):\n    return scores[0]\nprint('exercise 1.2: ok')",
        "blind_spot = lambda x: missing * x\nchapter01.blind_spot(blind_spot)",
    )
    # A cell that fails, a function that is not there, and both with saved answers.
    write(folder / "cleo.ipynb", SETUP, f"import nothing_of_the_sort\n{AOPC}")
    # The book's solutions, returned with the stubs.
    write(folder / "dora.ipynb", SETUP, *STUBS.values(), AOPC, tags={3: "solution"})
    (folder / "empty.ipynb").write_text("{}")
    write(folder / "other.ipynb", "print('hello')")
    found = list(grade(folder, book=book))
    assert [(g.notebook, g.exercise, g.state) for g in found] == [
        ("anna/01.ipynb", "1.2", "ok"),
        ("anna/01.ipynb", "1.4", "ok"),
        ("ben.ipynb", "1.2", "wrong"),
        ("ben.ipynb", "1.4", "error"),
        ("cleo.ipynb", "1.2", "error"),
        ("cleo.ipynb", "1.4", "missing"),
        ("dora.ipynb", "1.2", "not attempted"),
        ("dora.ipynb", "1.4", "not attempted"),
        ("empty.ipynb", "", "not graded"),
        ("other.ipynb", "", "not graded"),
    ]
    remarks = [g.remark for g in found]
    assert remarks[2].startswith("exercise 1.2: for scores = [0.8, 0.4, 0.2, 0]: exp")
    assert remarks[3] == "NameError: name 'missing' is not defined"
    assert remarks[4] == "ModuleNotFoundError: No module named 'nothing_of_the_sort'"
    assert remarks[5] == "no cell defines blind_spot"


def test_limits(tmp_path: Path, book: Path) -> None:
    folder = tmp_path / "returned"
    child = tmp_path / "child"
    write(folder / "greedy.ipynb", SETUP, "x = bytearray(3 * 2**30)\n" + AOPC, SPOT)
    write(folder / "rude.ipynb", SETUP, "import os\nos._exit(3)", AOPC, SPOT)
    start = time.perf_counter()
    found = list(grade(folder, gigabytes=2, book=book))
    took = time.perf_counter() - start
    states = [(g.state, g.remark) for g in found]
    assert states[:2] == [("error", "MemoryError: "), ("ok", "")]
    assert states[2:] == [("not run", "the process ended with 3")] * 2
    # Twice what both took, as most of it is the import of torch.
    minutes = 2 * took / 60
    folder = tmp_path / "late"
    write(
        folder / "endless.ipynb",
        SETUP,
        AOPC,
        "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n"
        f"with open({str(child)!r}, 'w') as f: _ = f.write(str(child.pid))\n"
        "while True: pass",
        SPOT,
    )
    found = list(grade(folder, minutes=minutes, gigabytes=2, book=book))
    states = [(g.state, g.remark) for g in found]
    assert states == [("ok", ""), ("not run", f"stopped after {minutes:g} minutes")]
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(child.read_text())).wait(60)


def test_the_table(
    tmp_path: Path, book: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    write(tmp_path / "returned/anna.ipynb", SETUP, AOPC)
    monkeypatch.setitem(grade.__kwdefaults__, "book", book)
    out = tmp_path / "grades.csv"
    assert main([str(tmp_path / "returned"), "--out", str(out)]) == 0
    assert list(csv.DictReader(out.open())) == [
        {"notebook": "anna.ipynb", "exercise": "1.2", "state": "ok", "remark": ""},
        {
            "notebook": "anna.ipynb",
            "exercise": "1.4",
            "state": "missing",
            "remark": "no cell defines blind_spot",
        },
    ]
    assert "anna.ipynb 1.2 ok\n" in capsys.readouterr().out


def test_nothing_to_grade(tmp_path: Path, book: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no notebook in .*empty"):
        list(grade(empty, book=book))
    with pytest.raises(FileNotFoundError, match=r"no notebook in .*empty"):
        list(grade(book, book=empty))


def test_every_exercise_of_the_book_is_known() -> None:
    """Numbers are in order, and there is one for each cell that is tagged."""
    for path in sorted(grading.NOTEBOOKS.glob("[0-9]*.ipynb")):
        chapter = int(path.name[:2])
        numbers = [e.number for e in grading._exercises(path)]
        assert numbers == [f"{chapter}.{i}" for i in range(1, len(numbers) + 1)]
        cells = nbformat.read(path, as_version=4).cells
        tagged = ["exercise" in c.metadata.get("tags", []) for c in cells]
        assert len(numbers) == sum(tagged) > 0
