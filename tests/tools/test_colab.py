"""The bootstrap as Colab runs it: one notebook, packages that are there, one source.

Downloads what is missing, and so runs only with XAI_COLAB=1 (`make colab`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sync_notebooks import ROOT

# The first, and one that needs what Colab brings: dlib.
CHAPTERS = {"00_start_here": "exercise 0.1: ok", "07_saliency_as_a_density": "7.1: ok"}
# What Colab has of the book's requirements, and what runs a notebook there.
PREINSTALLED = (
    *("torch", "torchvision", "numpy", "scipy", "matplotlib", "ipywidgets", "tqdm"),
    *("scikit-image", "scikit-learn", "joblib", "packaging", "ipykernel", "nbclient"),
    "dlib-bin",
)
VERSIONS = """
import json
from importlib.metadata import distributions
print(json.dumps(sorted((d.metadata["Name"], d.version) for d in distributions())))
"""
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, kernel_name="python3", startup_timeout=300).execute()
nbformat.write(notebook, sys.argv[1])
"""

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("XAI_COLAB"),
        reason="installs packages and runs a chapter; run `make colab`",
    ),
    pytest.mark.skipif(
        not (ROOT / ".git").is_dir(), reason="needs a Git repository as the source"
    ),
]


def closure(names: tuple[str, ...]) -> set[str]:
    """The installed packages among these, with all that they require."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        try:
            requirements = distribution(wanted.name).requires or []
        except PackageNotFoundError:
            continue
        found.add(canonicalize_name(wanted.name))
        for line in requirements:
            one = Requirement(line)
            settings = [{"extra": extra} for extra in ("", *wanted.extras)]
            if not one.marker or any(one.marker.evaluate(s) for s in settings):
                waiting.append(one)
    return found


@pytest.fixture
def colab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with Colab's packages, linked from this one."""
    root = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", str(root / "venv")], check=True)
    # The linked one is newer, and torch wants that.
    python = root / "venv" / "bin" / "python"
    remove = [str(python), "-m", "pip", "uninstall", "-q", "-y", "setuptools"]
    subprocess.run(remove, check=True)
    packages = root / "preinstalled"
    packages.mkdir()
    for name in closure(PREINSTALLED):
        package = distribution(name)
        for top in {file.parts[0] for file in package.files or ()} - {"..", "bin"}:
            there = Path(str(package.locate_file(top))).resolve()
            if there.exists() and not (packages / top).exists():
                (packages / top).symlink_to(there)
    stand_in = packages / "google" / "colab"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text("# Colab's own module, by its name alone.\n")
    site = next((root / "venv").glob("lib/python*/site-packages"))
    (site / "colab.pth").write_text(f"{packages}\n")
    check = subprocess.run([str(python), "-m", "pip", "check"], capture_output=True)
    assert check.returncode == 0, check.stdout
    return python


def run(python: Path, *arguments: str, folder: Path) -> str:
    """Standard output; nothing of this environment but PATH and HOME shines through."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
    kept |= {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "OMP_"))}
    kept["XAI_BOOK_SOURCE"] = f"git+file://{ROOT}"
    done = subprocess.run(
        [str(python), *arguments], cwd=folder, env=kept, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_one_chapter_installs_the_library_and_changes_no_version(
    chapter: str, colab: Path, tmp_path: Path
) -> None:
    # What is committed, like the library that will be installed.
    show = ["git", "show", f"HEAD:notebooks/{chapter}.ipynb"]
    committed = subprocess.run(show, cwd=ROOT, check=True, capture_output=True).stdout
    notebook = tmp_path / f"{chapter}.ipynb"
    notebook.write_bytes(committed)
    before = dict(json.loads(run(colab, "-c", VERSIONS, folder=tmp_path)))
    assert {"torch", "torchvision", "numpy"} <= set(before)
    assert "xai-lib" not in before
    run(colab, "-c", "import google.colab", folder=tmp_path)

    run(colab, "-c", EXECUTE, notebook.name, folder=tmp_path)

    listed = json.loads(run(colab, "-c", VERSIONS, folder=tmp_path))
    after = dict(listed)
    assert len(after) == len(listed), "a package is installed twice"
    assert {name: after.get(name) for name in before} == before
    assert "xai-lib" in after
    where = run(colab, "-c", "import xai_lib; print(xai_lib.__file__)", folder=tmp_path)
    assert colab.parents[1] in Path(where.strip()).parents
    assert CHAPTERS[chapter] in notebook.read_text(encoding="utf-8")
