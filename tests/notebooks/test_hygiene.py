"""The committed notebooks keep the notebook rules of CONTRIBUTING.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from hygiene import problems
from sync_notebooks import ROOT, notebooks

NOTEBOOKS = notebooks(ROOT / "notebooks")


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS, "notebooks/ is empty: the notebook tests would test nothing"
    assert NOTEBOOKS[0].name == "00_start_here.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_rules(path: Path) -> None:
    found = problems(path)
    assert not found, f"{path.name}:\n" + "\n".join(found)
