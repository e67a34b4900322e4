"""Benchmarks print ratios and keep them for the site."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import site_pages
from sync_notebooks import ROOT

SCRIPT = """\
\"\"\"One thing over another.

More about it.
\"\"\"
from timing import ratio

ratio("a / b", [3.0, 2.0, 8.0], [2.0, 2.0, 2.0], "<= 1.2")
ratio("c / d", [1.0], [4.0])
"""


def run(folder: Path, *arguments: str) -> str:
    shutil.copy(ROOT / "benchmarks" / "timing.py", folder)
    (folder / "some.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "some.py"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_ratios_are_printed_and_kept(tmp_path: Path) -> None:
    out = run(tmp_path).splitlines()
    assert out[0].split() == ["a", "/", "b", "1.50", "goal", "<=", "1.2"]
    assert out[1].split() == ["c", "/", "d", "0.25"]
    stored = json.loads((tmp_path / "results" / "some.json").read_text())
    assert stored["about"] == "One thing over another."
    first, second = stored["ratios"]
    assert (first["low"], first["ratio"], first["high"]) == (1, 1.5, 4)
    assert second == {
        **{"name": "c / d", "ratio": 0.25, "goal": ""},
        **{"low": 0.25, "high": 0.25, "repeats": 1},
    }
    page = site_pages.benchmark_page(tmp_path / "results")
    assert "| a / b | 1.50 | 1.00 to 4.00 | at most 1.2 | **no** |" in page


def test_a_quick_run_keeps_nothing(tmp_path: Path) -> None:
    assert "a / b" in run(tmp_path, "--quick")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")))
def test_every_script_uses_it(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert path.name == "timing.py" or "from timing import" in source
