"""The table of `make matrix` says of each case whether it passed."""

from __future__ import annotations

import platform

import pytest

import matrix


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="processors are x86 only"
)
def test_a_failure_is_a_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
