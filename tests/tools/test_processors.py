"""The imitated processors are others than this one, and none is left out."""

from __future__ import annotations

import platform
import sys

import pytest

from processors import PROCESSORS, main

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="x86 only"
)
# What the libraries say of themselves once they are imported.
ASK = (
    "import torch;"
    "print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
)


def test_torch_sees_another_processor(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # set by the caller: no matter
        monkeypatch.setenv(name, "2")
    assert main([sys.executable, "-c", ASK]) == 0
    said = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said[::2]] == ["== sse", "== avx2"]
    sse, avx2 = (line.split() for line in said[1::2])
    assert sse == ["DEFAULT", "1"]
    assert avx2 in (["AVX2", "4"], ["DEFAULT", "4"])  # the latter without AVX2


def test_a_failure_on_one_is_a_failure_and_the_others_run(
    capfd: pytest.CaptureFixture[str],
) -> None:
    fails_on_sse = "import os; assert os.environ['OMP_NUM_THREADS'] == '4'"
    assert main([sys.executable, "-c", fails_on_sse]) == 1
    found = capfd.readouterr()
    assert "FAILED on sse" in found.err
    assert "FAILED on avx2" not in found.err
    assert len(found.out.splitlines()) == len(PROCESSORS)
    assert main(["--only", "avx2", sys.executable, "-c", fails_on_sse]) == 0
    assert capfd.readouterr().out.startswith("== avx2: ")


def test_no_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "which command?" in capsys.readouterr().err
