"""The kernels: in Triton's interpreter, and compiled for a GPU that is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xai_lib import kernels

HERE = Path(__file__).parent
pytest.importorskip("triton")


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_kernels_in_the_interpreter() -> None:
    file = str(HERE / "interpreted.py")
    said = run("-m", "pytest", "-p", "no:cacheprovider", file, TRITON_INTERPRET="1")
    assert "passed" in said
    assert "skipped" not in said


def test_all_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """Down to machine code of an A100 and an H100: the interpreter takes more Python
    than the compiler does. Nothing is run."""
    said = run(
        str(HERE / "compiled.py"), TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path)
    )
    assert said.split() == ["80", "90"]


def test_where_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not kernels.kernels_run_on("cpu")
    assert not kernels.kernels_run_on("mps")
    assert kernels.kernels_run_on("cuda") == (torch.version.hip is None)
    monkeypatch.setattr(kernels, "_triton_is_installed", lambda: False)
    assert not kernels.kernels_run_on("cuda")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ here")
def test_what_has_no_kernel_is_one_kernel_of_torch_compile(tmp_path: Path) -> None:
    program = """
import torch
from torch._inductor import metrics
from xai_lib.kernels.masks import blurred

def perturbed(x, t, w):
    return x[:, None] + t * w[:, None]

x, k = torch.rand(2, 3, 33, 21), 10
inputs = x, torch.randint(0, 2, (k,)), torch.rand(k, 33), torch.rand(k, 21)
for function, arguments in (
    (blurred, inputs),
    (perturbed, (x, torch.rand(8, 3, 33, 21), torch.rand(2, 3, 33, 21))),
):
    metrics.reset()
    found = torch.compile(function, fullgraph=True)(*arguments)
    torch.testing.assert_close(found, function(*arguments))
    print(metrics.generated_kernel_count)
"""
    said = run("-c", program, TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert said.split() == ["1", "1"]
