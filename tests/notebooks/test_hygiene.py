"""The committed chapters keep the notebook rules of CONTRIBUTING.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from hygiene import problems
from sync_notebooks import ROOT, chapters

CHAPTERS = chapters(ROOT / "notebooks")


def test_there_are_chapters() -> None:
    assert CHAPTERS, "notebooks/ is empty: the notebook tests would test nothing"
    assert CHAPTERS[0].name == "00_start_here.ipynb"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_keeps_the_rules(path: Path) -> None:
    found = problems(path)
    assert not found, f"{path.name}:\n" + "\n".join(found)
