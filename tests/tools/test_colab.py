"""The book as Colab opens it: Colab's versions, the bootstrap, every chapter.

The versions stand in constraints/colab.txt. The environment that holds them stays in
_build/colab/ until they change; the book is installed over it, from the last commit.
Downloads gigabytes the first time, and so runs only with XAI_COLAB=1 (`make colab`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from nbformat.v4 import new_code_cell
from packaging.utils import canonicalize_name

from sync_notebooks import BOOTSTRAP, ROOT, notebooks

PINS = ROOT / "constraints" / "colab.txt"
# Colab compiles dlib, which takes many minutes; this is the same one, compiled.
STAND_INS = {"dlib": "dlib-bin"}
AT_MOST_MB = 60
FOLDER = ROOT / "notebooks"
NAMES = [path.relative_to(FOLDER).as_posix() for path in notebooks(FOLDER)]

VERSIONS = """
import json
from importlib.metadata import distributions
print(json.dumps(sorted((d.metadata["Name"], d.version) for d in distributions())))
"""
# Prints seconds from the first cell's start to the first picture, and to the end.
EXECUTE = """
import sys, time
import nbformat
from nbclient import NotebookClient

def shows(cell):
    return any("image/png" in output.get("data", {}) for output in cell.outputs)

def started(cell, cell_index):
    times.append(time.perf_counter())

def executed(cell, cell_index, execute_reply):
    if shows(cell) and len(pictures) == 0:
        pictures.append(time.perf_counter())

times, pictures = [], []
notebook = nbformat.read(sys.argv[1], as_version=4)
client = NotebookClient(
    notebook, kernel_name="python3", startup_timeout=300, allow_errors=True,
    on_cell_execute=started, on_cell_executed=executed,
)
client.execute()
nbformat.write(notebook, sys.argv[1])
print(pictures[0] - times[0], time.perf_counter() - times[0])
"""
# A reader's hand: every control of every `viz.explore` to its ends and back.
MOVE = """
import gc
import ipywidgets

# Not isinstance: it wakes what torch has deprecated.
for box in [found for found in gc.get_objects() if type(found) is ipywidgets.VBox]:
    if not isinstance(box.children[-1], ipywidgets.Image):
        continue
    row, busy, picture = box.children
    for control in row.children:
        place = control.value
        if isinstance(control, ipywidgets.Dropdown):
            name, places = "index", range(len(control.options))
        elif isinstance(control, ipywidgets.Checkbox):
            name, places = "value", [not place]
        elif isinstance(control, ipywidgets.SelectionSlider):
            name, places = "index", [0, len(control.options) - 1]
        else:
            name, places = "value", [control.min, control.max]
        others = [o for o in row.children if isinstance(o, ipywidgets.Dropdown)]
        others = {o: o.index for o in others if o is not control}
        # What does not move at first may be hidden until another menu asks for it.
        for last in (False, True):
            for other in others if last else ():
                other.index = len(other.options) - 1
            seen = {picture.value}
            for there in places:
                setattr(control, name, there)
                assert busy.value.endswith(" s"), busy.value
                seen.add(picture.value)
            if len(seen) > 1:
                break
        assert len(seen) > 1, f"{control.description}: the picture stays as it is"
        control.value = place
        for other, index in others.items():
            other.index = index
        print("moved", control.description)
"""

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("XAI_COLAB"),
        reason="installs gigabytes and runs all chapters; run `make colab`",
    ),
    pytest.mark.skipif(
        not (ROOT / ".git").exists(), reason="needs a Git repository as the source"
    ),
]


def run(python: Path, *arguments: str, folder: Path, **settings: str) -> str:
    """Standard output; nothing of this environment but PATH and HOME shines through."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
    kept |= {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "OMP_"))}
    kept |= settings
    done = subprocess.run(
        [str(python), *arguments], cwd=folder, env=kept, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return done.stdout


def committed(name: str) -> Any:
    """A notebook of the last commit, which is also what will be installed."""
    show = ["git", "show", f"HEAD:notebooks/{name}"]
    text = subprocess.run(show, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return nbformat.reads(text.decode(), as_version=4)


def colabs_python(version: str) -> str:
    """The Python that Colab has, or this one where that is not in PATH."""
    found = shutil.which(f"python{version}")
    # What a version manager puts into PATH may stand for nothing.
    works = (
        found and not subprocess.run([found, "-c", ""], capture_output=True).returncode
    )
    return found if found and works else sys.executable


@pytest.fixture(scope="session")
def preinstalled() -> Path:
    """The Python of an environment with Colab's versions, and nothing of the book."""
    pins = PINS.read_text(encoding="utf-8")
    python = colabs_python(re.search(r"# Python (3\.\d+)", pins)[1])
    key = hashlib.sha256((pins + python).encode()).hexdigest()[:12]
    folder = ROOT / "_build" / "colab" / key
    if not (folder / "ready").exists():
        shutil.rmtree(folder.parent, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        lines = [line for line in pins.splitlines() if not line.startswith("#")]
        wanted = "\n".join(lines)
        for name, other in STAND_INS.items():
            wanted = re.sub(rf"^{name}==", f"{other}==", wanted, flags=re.MULTILINE)
        (folder / "wanted.txt").write_text(wanted)
        install = ("-m", "pip", "install", "-q", "-r", "wanted.txt")
        run(folder / "bin" / "python", *install, folder=folder)
        (folder / "ready").touch()
    return folder / "bin" / "python"


class Opened(NamedTuple):
    """A machine on which the first cell of a chapter has run."""

    python: Path
    before: list[tuple[str, str]]
    """Package and version, of all that Colab brings."""
    seconds: float
    log: str
    """Of pip."""


@pytest.fixture(scope="session")
def colab(preinstalled: Path, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Colab's packages, and the book over them: installed by the bootstrap."""
    folder = tmp_path_factory.mktemp("colab")
    # Another environment that sees them, so that they stay as they are for the next.
    make = ["-m", "venv", "--without-pip", str(folder / "venv")]
    run(preinstalled, *make, folder=folder)
    (packages,) = preinstalled.parents[1].glob("lib/python*/site-packages")
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "colab.pth").write_text(f"{packages}\n")
    python = folder / "venv" / "bin" / "python"
    assert "No broken" in run(python, "-m", "pip", "check", folder=folder)
    before = versions(python, folder)
    assert "xai-lib" not in dict(before)
    for line in PINS.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            name = canonicalize_name(STAND_INS.get(name, name))
            assert dict(before)[name] == version

    (cell,) = (c for c in committed(NAMES[0]).cells if c.id == BOOTSTRAP)
    settings = {"XAI_BOOK_SOURCE": f"git+file://{ROOT}", "PIP_LOG": "pip.log"}
    began = time.perf_counter()
    run(python, "-c", cell.source, folder=folder, **settings)
    seconds = time.perf_counter() - began
    return Opened(python, before, seconds, (folder / "pip.log").read_text())


def versions(python: Path, folder: Path) -> list[tuple[str, str]]:
    listed = json.loads(run(python, "-c", VERSIONS, folder=folder))
    return [(canonicalize_name(name), version) for name, version in listed]


def test_the_bootstrap_changes_no_version(colab: Opened, tmp_path: Path) -> None:
    after = versions(colab.python, tmp_path)
    assert len(dict(after)) == len(after), "a package is installed twice"
    assert set(colab.before) <= set(after)
    assert "xai-lib" in dict(after)
    where = run(
        colab.python, "-c", "import xai_lib; print(xai_lib.__file__)", folder=tmp_path
    )
    assert colab.python.parents[1] in Path(where.strip()).parents


def test_the_bootstrap_downloads_little(
    colab: Opened, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"the book": repository_bytes(tmp_path)}
    loaded = re.findall(
        r"(?:Downloading|Using cached) (\S+?)(?:\.metadata)? \(([\d.]+) (k|M)B\)",
        colab.log,
    )
    for address, size, unit in loaded:
        name = address.rpartition("/")[2]
        sizes[name] = max(
            sizes.get(name, 0), round(float(size) * {"k": 1e3, "M": 1e6}[unit])
        )
    for local in re.findall(r"Processing (\S+\.whl)", colab.log):
        sizes[Path(local).name] = Path(local).stat().st_size
    total = sum(sizes.values()) / 1e6
    with capsys.disabled():
        print(f"\nbootstrap: {colab.seconds:.1f} s, {total:.1f} MB")
        for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:6]:
            print(f"  {size / 1e6:6.1f} MB  {name}")
    assert len(sizes) > 1
    assert total <= AT_MOST_MB


def repository_bytes(folder: Path) -> int:
    """What pip's partial clone loads, from a server that allows partial clones."""
    (folder / "gitconfig").write_text("[uploadpack]\nallowFilter = true\n")
    clone = ["git", "clone", "-q", "--filter=blob:none", f"file://{ROOT}", "clone"]
    settings = {**os.environ, "GIT_CONFIG_GLOBAL": str(folder / "gitconfig")}
    subprocess.run(clone, cwd=folder, env=settings, check=True)
    packs = (folder / "clone" / ".git" / "objects" / "pack").glob("*.pack")
    return sum(pack.stat().st_size for pack in packs)


@pytest.mark.parametrize("chapter", NAMES)
def test_a_chapter_runs_from_its_first_cell(
    chapter: str, colab: Opened, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / Path(chapter).name
    notebook = committed(chapter)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    live = sum("explore(" in cell.source for cell in code)
    notebook.cells.append(new_code_cell(MOVE, id="move"))
    nbformat.write(notebook, path)
    said = run(colab.python, "-c", EXECUTE, path.name, folder=tmp_path)
    first, last = map(float, said.split()[-2:])
    with capsys.disabled():
        print(f"\n{chapter}: first picture {first:.1f} s, all {last:.0f} s")
    done = nbformat.read(path, as_version=4)
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    failed = [
        f"In [{n}]: {output.ename}: {output.evalue}"
        for n, cell in enumerate(code, start=1)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert not failed, "\n".join(failed)
    moved = "".join(output.text for output in code[-1].outputs)
    assert len(re.findall("^moved", moved, re.MULTILINE)) >= 2 * live
    assert set(colab.before) <= set(versions(colab.python, tmp_path))
