"""Nothing is sent home: no process that uses the library tries to leave the machine.

Every Python process that a test starts, and every one that those start, passes through
a `sitecustomize` that refuses and notes each attempt, and lives in an empty home.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[1]
WATCH = """
import os, sys

def note(line):
    with open(os.environ["XAI_WATCH"], "a") as log:
        log.write(line + "\\n")

def watch(event, args):
    if event == "os.fork":
        return note(event)
    if event == "socket.connect":
        address = args[1]
        host = address[0] if isinstance(address, tuple) else "localhost"  # a file
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if host not in ("localhost", "::1", "0.0.0.0") and not host.startswith("127."):
        note(f"{event} {host}")
        raise PermissionError(f"no way out to {host}")

sys.addaudithook(watch)
"""
ASK = '''
def ask():
    """A model answers through its converted copy, in whatever process this is."""
    import torch
    from xai_lib.core.blackbox import BlackBox
    from xai_lib.zoo import models

    blackbox = BlackBox(models.load("cnn_mnist"), backend="openvino")
    assert blackbox(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert blackbox.backend == "openvino"
    return True
'''


class Watched:
    """An environment for processes, and what was noted in it."""

    def __init__(self, folder: Path) -> None:
        self.log, self.home = folder / "log.txt", folder / "home"
        path = folder / "path"
        for new in (self.home, path):
            new.mkdir()
        (path / "sitecustomize.py").write_text(WATCH)
        (path / "asks.py").write_text(ASK)
        self.environment = os.environ | {
            "HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]),
            "XAI_WATCH": str(self.log),
            "OMP_NUM_THREADS": "1",
        }
        for name in ("CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME"):
            self.environment.pop(name, None)  # in the first three OpenVINO is silent

    def run(self, code: str) -> None:
        """Python code in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    @property
    def noted(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    @property
    def attempts(self) -> list[str]:
        return [line for line in self.noted if line != "os.fork"]

    @property
    def written(self) -> list[str]:
        """The files in the home folder that are there because of OpenVINO."""
        files = (str(f.relative_to(self.home)) for f in self.home.rglob("*"))
        return [f for f in files if "intel" in f.lower() or "openvino" in f.lower()]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_converting_and_asking(watched: Watched) -> None:
    watched.run("import asks; asks.ask()")
    # Nor is there a fork, which Python 3.12 warns about in a process with threads.
    assert watched.noted == []
    assert list(watched.home.iterdir()) == []


@pytest.mark.skipif(find_spec("nncf") is None, reason="needs NNCF")
def test_quantising(watched: Watched) -> None:
    watched.run(
        """
        import torch
        from xai_lib.core.blackbox import BlackBox
        from xai_lib.zoo import models

        blackbox = BlackBox(models.load("cnn_mnist"), precision="int8")
        assert blackbox(torch.rand(3, 1, 28, 28)).shape == (3, 10)
        """
    )
    assert watched.attempts == []
    assert watched.written == []


def test_openvino_used_beside_the_library(watched: Watched) -> None:
    watched.run(
        """
        import torch, xai_lib, openvino
        layer = torch.nn.Linear(3, 2)
        openvino.convert_model(layer, example_input=torch.rand(1, 3))
        """
    )
    assert watched.attempts == []
    assert list(watched.home.iterdir()) == []


def test_openvino_imported_before_the_library(watched: Watched) -> None:
    """What it sent by then is not ours, and shows that it would have been noted."""
    watched.run(
        """
        import openvino, os, time
        from openvino_telemetry import Telemetry
        while Telemetry().sender.queue_size:
            time.sleep(0.01)
        with open(os.environ["XAI_WATCH"]) as log:
            assert "google" in log.read()
        open(os.environ["XAI_WATCH"], "w").close()
        import asks
        asks.ask()
        """
    )
    assert watched.attempts == []
    assert watched.written  # by the import, before us


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_worker_processes(watched: Watched, start: str) -> None:
    if sys.platform == "win32" and start == "fork":
        pytest.skip("Windows has no fork")
    watched.run(
        f"""
        import asks, multiprocessing
        if __name__ == "__main__":
            with multiprocessing.get_context({start!r}).Pool(1) as pool:
                assert pool.apply(asks.ask)
        """
    )
    assert watched.attempts == []
    assert list(watched.home.iterdir()) == []


def test_workers_of_a_study(watched: Watched) -> None:
    watched.run(
        """
        import asks
        from joblib import Parallel, delayed
        assert Parallel(2)(delayed(asks.ask)() for _ in range(2)) == [True, True]
        """
    )
    assert watched.attempts == []
    assert watched.written == []


def test_a_chapter_in_a_kernel(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chapter 00 as far as its first figure, and its model converted."""
    chapter = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    cells = [cell for cell in chapter.cells if cell.cell_type == "code"][:4]
    convert = 'assert BlackBox(f, backend="openvino")(x).shape == (1, 1000)'
    notebook = new_notebook(cells=[*cells, new_code_cell(convert)])
    for name in set(os.environ) - set(watched.environment):
        monkeypatch.delenv(name)
    for name, value in watched.environment.items():
        monkeypatch.setenv(name, value)
    NotebookClient(notebook, kernel_name="python3", startup_timeout=300).execute()
    assert any("image/png" in o.get("data", {}) for c in cells for o in c.outputs)
    assert watched.attempts == []
    assert watched.written == []
