"""The table of `make matrix` says of each case whether it passed."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import matrix


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="processors are x86 only"
)
def test_a_failure_is_a_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(matrix, "PASSED", tmp_path / "passed.txt")
    on_one_thread = "import os; assert os.environ['OMP_NUM_THREADS'] == '1'"
    monkeypatch.setattr(matrix, "TESTS", ("-c", on_one_thread))
    assert matrix.main(["processors", "--tests-only"]) == 1
    sse, avx2 = capsys.readouterr().out.splitlines()[-2:]
    assert sse.split()[1:] == ["sse", "tests", "passed"]
    assert avx2.split()[1:] == ["avx2", "tests", "FAILED"]  # imitated with four

    monkeypatch.setattr(matrix, "TESTS", ("-c", ""))
    assert matrix.main(["processors", "--tests-only"]) == 0


def test_an_unknown_environment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        matrix.main(["oldest"])
    assert "no environment 'oldest'; there are: floors" in capsys.readouterr().err


def test_what_passed_is_not_run_again_until_a_file_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def git(*arguments: str) -> None:
        name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *name, *arguments], cwd=tmp_path, check=True)

    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    monkeypatch.setattr(matrix, "tree", partial(matrix.tree, tmp_path))
    monkeypatch.setattr(matrix, "PASSED", tmp_path / "made" / "passed.txt")
    (tmp_path / ".gitignore").write_text("made\nruns\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    count = "open('runs', 'a').write('x'); import pathlib; assert {}"

    def run(what: str = "sse, tests", good: bool = True) -> tuple[str, int]:
        call = ("-c", count.format(good))
        said = matrix.passes(what, sys.executable, call, {})
        return said, len((tmp_path / "runs").read_text())

    assert run(good=False) == ("FAILED", 1)
    assert run() == ("passed", 2)  # a failure is tried again
    assert run() == (f"passed on {matrix.today()}", 2)
    assert run("sse, chapters") == ("passed", 3)  # another case
    (tmp_path / "new.py").write_text("")
    assert run() == ("passed", 4)
    assert run() == ("passed", 5)  # what is not committed is not noted
    git("add", ".")
    git("commit", "-qm", "second")
    assert run() == ("passed", 6)
    assert run() == (f"passed on {matrix.today()}", 6)
    monkeypatch.setenv("PATH", "")
    assert not matrix.tree()  # a machine without git
