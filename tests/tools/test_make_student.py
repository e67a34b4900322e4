from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

import make_student
from hygiene import numbered, printed
from sync_notebooks import GENERATED, ROOT, chapters, tags

CHAPTERS = chapters(ROOT / "notebooks")


def student(path: Path) -> NotebookNode:
    return make_student.without_solutions(nbformat.read(path, as_version=4))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_solution_is_left_and_no_exercise_is_lost(path: Path) -> None:
    whole, copy = nbformat.read(path, as_version=4), student(path)
    solutions = [c.source for c in whole.cells if "solution" in tags(c)]
    assert solutions
    left = [cell.source for cell in copy.cells]
    assert not set(solutions) & set(left)
    assert "solutions follow" not in " ".join(left)
    kept = [cell.id for cell in whole.cells if "solution" not in tags(cell)]
    assert [cell.id for cell in copy.cells] == kept
    for n, (_, cell) in enumerate(numbered(copy), start=1):
        assert cell.execution_count == n
        if "exercise" in tags(cell):
            last = printed(cell).strip().splitlines()[-1]
            assert re.fullmatch(r"exercise \d+\.\d+: not attempted yet", last)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_later_cell_needs_a_solution(path: Path) -> None:
    """What it defines is used by exercises and solutions alone; so without it all other
    cells print what they print with it."""
    whole = nbformat.read(path, as_version=4)
    code = [(tags(cell), cell.source) for _, cell in numbered(whole)]
    for n, (kind, source) in enumerate(code):
        if "solution" not in kind:
            continue
        later = [(k, text) for k, text in code[n + 1 :] if "solution" not in k]
        others = " ".join(text for k, text in later if "exercise" not in k)
        for name in _assigned(source):
            assert not re.search(rf"\b{name}\b", others), f"{path.name}: {name}"
        # What an exercise uses, it may have from another stub.
        stubs = set().union(
            *(_assigned(text) for k, text in code if "solution" not in k)
        )
        every = " ".join(text for _, text in later)
        for name in _assigned(source) - stubs:
            assert not re.search(rf"\b{name}\b", every), f"{path.name}: {name}"


def _assigned(source: str) -> set[str]:
    return set(re.findall(r"^(?:def |class )?(\w+)(?: =|\(.*:$)", source, re.MULTILINE))


def test_a_chapter_passes_nbval_without_its_solutions(tmp_path: Path) -> None:
    """The exercises of chapter 00 with its imports, executed."""
    path = CHAPTERS[0]
    copy = student(path)
    needed = [c for c in copy.cells if "exercise" in tags(c)]
    imports = next(
        c
        for c in copy.cells
        if c.cell_type == "code"
        and GENERATED not in tags(c)
        and re.search(r"^(import|from) ", c.source, re.MULTILINE)
    )
    copy.cells = [imports, *needed]
    for n, cell in enumerate(copy.cells, start=1):
        cell.execution_count = n
    nbformat.write(copy, tmp_path / path.name)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA"),
            *("--nbval", "--nbval-current-env", path.name),
        ],
        cwd=tmp_path,
        env={**os.environ, "XAI_PROFILE": "quick"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(copy.cells)} passed" in done.stdout


def test_the_command_writes_all_chapters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notebooks").mkdir()
    nbformat.write(
        nbformat.read(CHAPTERS[0], as_version=4), tmp_path / "notebooks/00_a.ipynb"
    )
    stale = tmp_path / "_build/student/09_gone.ipynb"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert make_student.main([], root=tmp_path) == 0
    assert [p.name for p in stale.parent.iterdir()] == ["00_a.ipynb"]
    assert capsys.readouterr().out.startswith("00_a.ipynb: ")
