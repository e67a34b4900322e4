"""The Makefile with a stand-in for Python that writes down how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = """#!/bin/sh
echo "$* | $XAI_PROFILE $MALLOC_MMAP_THRESHOLD_ $MALLOC_TRIM_THRESHOLD_" >> calls
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "$FAILING") exit 3 ;;
esac
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A directory with the Makefile, .ci/run and a stand-in for Python."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copytree(ROOT / "constraints", tmp_path / "constraints")
    (tmp_path / "benchmarks").mkdir()
    for name in ("a", "b"):
        (tmp_path / "benchmarks" / f"{name}.py").touch()
    (tmp_path / "python").write_text(STUB)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def run(copy: Path, *command: str, failing: str = "none") -> tuple[int, list[str]]:
    """Exit status and the calls of Python, without the environment."""
    (copy / "calls").write_text("")
    # Not the variables of a make that runs these tests.
    clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
    done = subprocess.run(
        command,
        cwd=copy,
        env={**clean, "PYTHON": str(copy / "python"), "FAILING": failing},
        capture_output=True,
        text=True,
    )
    calls = (copy / "calls").read_text().splitlines()
    for call in calls:
        assert call.split(" | ")[1] == "quick 4294967296 4294967296"
    return done.returncode, [call.split(" | ")[0] for call in calls]


SETUP = ["-m venv .venv", "-m pip install -q -c constraints/book.txt -e .[dev]"]
TESTS = "-m pytest -n 2 --dist worksteal"
NBVAL = (
    "-m pytest -n 2 --dist loadscope --no-loadscope-reorder --nbval --nbval-current-env"
    " notebooks/reproduce notebooks/*.ipynb"  # the longest first
)


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints/book.txt"])
def test_set_up_once_until_requirements_change(copy: Path, file: str) -> None:
    assert run(copy, "make", "book") == (0, [*SETUP, "tools/build_book.py"])
    assert run(copy, "make", "book") == (0, ["tools/build_book.py"])
    ready = (copy / ".venv" / "ready").stat().st_mtime
    os.utime(copy / file, (ready + 1, ready + 1))
    assert run(copy, "make", "book") == (0, [*SETUP, "tools/build_book.py"])


def test_failed_set_up_is_tried_again(copy: Path) -> None:
    status, calls = run(copy, "make", "book", failing=SETUP[1])
    assert (status, calls) == (2, SETUP)
    assert run(copy, "make", "book") == (0, [*SETUP, "tools/build_book.py"])


def test_ci_runs_every_check(copy: Path) -> None:
    status, calls = run(copy, "./.ci/run")
    assert status == 0
    assert calls[2:] == [
        "-m ruff check",
        "-m ruff format --check",
        "-m mypy",
        "tools/sync_environment.py --check",
        "tools/sync_notebooks.py --check",
        "tools/lock.py --check",
        TESTS,
        NBVAL,
    ]


@pytest.mark.parametrize("failing", ["-m ruff check", TESTS, NBVAL])
def test_ci_fails_when_a_check_fails(copy: Path, failing: str) -> None:
    assert run(copy, "./.ci/run", failing=failing)[0] != 0


def test_bench_runs_every_script_and_stops_at_a_failure(copy: Path) -> None:
    run(copy, "make", "lint")
    scripts = ["benchmarks/a.py", "benchmarks/b.py"]
    assert run(copy, "make", "bench") == (0, scripts)
    assert run(copy, "make", "bench", failing=scripts[0]) == (2, scripts[:1])


@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("site", "tools/build_site.py"),
        ("student", "tools/make_student.py"),
        ("browser", "-m pytest tests/browser"),
        ("colab", "-m pytest tests/tools/test_colab.py"),
        ("matrix", "tools/matrix.py"),
        ("fuzz", "-m pytest tests/fuzz tests/studies/test_results.py"),
        ("lock", "tools/lock.py"),
    ],
)
def test_a_target_is_one_call(copy: Path, target: str, call: str) -> None:
    assert run(copy, "make", target) == (0, [*SETUP, call])


def test_clean_keeps_the_environment(copy: Path) -> None:
    run(copy, "make", "book")
    for path in ("_build/figures", "xai_lib/__pycache__", ".venv/lib/__pycache__"):
        (copy / path).mkdir(parents=True)
    run(copy, "make", "clean")
    assert not (copy / "_build").exists()
    assert not (copy / "xai_lib/__pycache__").exists()
    assert (copy / ".venv/lib/__pycache__").exists()
