"""A student finishes a chapter: its length, and the minutes that it promises."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

import reading
from sync_notebooks import ROOT, chapters

CHAPTERS = chapters(ROOT / "notebooks")
MOST = {"words": 3_000, "lines": 350, "longest": 25}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_can_be_finished(path: Path) -> None:
    found = reading.length(nbformat.read(path, as_version=4))
    over = {
        k: getattr(found, k) for k, most in MOST.items() if getattr(found, k) > most
    }
    assert not over, f"at most {MOST}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_stated_minutes_are_those_of_the_rule(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert reading.stated(notebook) == reading.length(notebook).minutes
