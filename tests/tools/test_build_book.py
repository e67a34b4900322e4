from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import build_book

PLOT = "import matplotlib.pyplot as plt\nplt.plot([0, {}])\nplt.show()"
PROFILE = "import os\nprint(os.environ['XAI_PROFILE'])"
BOOKS = {
    "00_right": ["print('one')", PLOT.format(1), "'two'", "x = 3", PROFILE],
    "01_wrong": ["print('as committed')", "print('as committed')"],
    "02_fails": ["print('before')", "1 / 0", "print('after')"],
    "03_ignored": [
        "# NBVAL_IGNORE_OUTPUT\nimport time\nprint(time.time_ns())",
        "import ipywidgets\nipywidgets.IntSlider()",
    ],
}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book whose outputs were committed, and then two chapters edited."""
    root = tmp_path_factory.mktemp("book")
    (root / "notebooks").mkdir()
    for name, sources in BOOKS.items():
        cells = [new_code_cell(source) for source in sources]
        if name == "03_ignored":
            cells[1].metadata.tags = ["widget", "nbval-ignore-output"]
        if name == "02_fails":
            cells[1].source = "1 / 1"
        nbformat.write(
            new_notebook(cells=[new_markdown_cell("# T"), *cells]), at(root, name)
        )
    assert build_book.main(["--write"], root=root) == 0
    for name, cell, source in [
        ("01_wrong", 2, "print('as of now')"),
        ("02_fails", 2, "1 / 0"),
    ]:
        notebook = nbformat.read(at(root, name), as_version=4)
        notebook.cells[cell].source = source
        nbformat.write(notebook, at(root, name))
    return root


def at(root: Path, name: str) -> Path:
    return root / "notebooks" / f"{name}.ipynb"


@pytest.fixture(autouse=True)
def _no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_PROFILE", "quick")
    monkeypatch.delenv("XAI_PROFILE")


def test_all_notebooks_run_and_each_failure_is_named(
    book: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    committed = {path: path.read_bytes() for path in (book / "notebooks").iterdir()}
    before = set(psutil.Process().children())  # other tests' pools of workers
    assert build_book.main([], root=book) == 1
    assert set(psutil.Process().children()) <= before  # no kernel is left over
    out, err = capfd.readouterr()
    rows = {line.split()[0]: line.split()[2:] for line in out.splitlines()}
    assert rows["00_right"] == ["3", "of", "3", "1"]
    assert rows["01_wrong"] == ["1", "of", "2", "0"]
    assert rows["03_ignored"] == ["0", "of", "0", "0"]
    failed = [line for line in err.splitlines() if line.startswith("FAILED")]
    assert failed == [
        "FAILED 01_wrong.ipynb, In [2] differs from the committed output",
        "FAILED 02_fails.ipynb, In [2] raised ZeroDivisionError: division by zero",
    ]
    assert "-as committed" in err
    assert "+as of now" in err
    assert {path.stem for path in (book / "_build/notebooks").iterdir()} == set(BOOKS)
    assert committed == {p: p.read_bytes() for p in (book / "notebooks").iterdir()}


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_ends_the_build(
    tmp_path: Path, number: signal.Signals, jobs: int
) -> None:
    """The chapter before is kept, the kernels end, and no further chapter runs."""
    (tmp_path / "notebooks").mkdir()

    def running(name: str) -> Path:
        return tmp_path / f"{name} is running"

    # The first has ended when its figures have their folder.
    waiting = (
        "import os, time\n"
        f"while not os.path.exists({str(tmp_path / '_build' / 'figures')!r}):\n"
        "    time.sleep(0.05)\n"
    )
    long = ["01_long", "02_long"]
    sources = {
        "00_done": "print('done')",
        **{
            n: f"{waiting}open({str(running(n))!r}, 'w')\ntime.sleep(600)" for n in long
        },
        "03_next": f"open({str(running('03_next'))!r}, 'w')",
    }
    for name, source in sources.items():
        cells = [new_markdown_cell("# T"), new_code_cell(source)]
        nbformat.write(new_notebook(cells=cells), at(tmp_path, name))
    root = f"pathlib.Path({str(tmp_path)!r})"
    call = f"build_book.main(['--jobs', '{jobs}'], {root})"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import build_book, pathlib; exit({call})"],
        cwd=Path(build_book.__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not all(running(name).exists() for name in long[:jobs]):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    kernels = psutil.Process(process.pid).children(recursive=True)
    assert len(kernels) >= jobs
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}; not run: 01_long, 02_long, 03_next" in err
    assert "00_done" in out
    assert list(json.loads((tmp_path / "_build/execution.json").read_text())) == [
        "00_done"
    ]
    started = {name for name in sources if running(name).exists()}
    assert started == set(long[:jobs])
    _, alive = psutil.wait_procs(kernels, timeout=60)
    assert not alive


def test_what_became_of_each_chapter_is_recorded(book: Path) -> None:
    build_book.main([], root=book)
    path = book / "_build" / "execution.json"
    record = json.loads(path.read_text())
    assert set(record) == set(BOOKS)
    right, wrong = record["00_right"], record["01_wrong"]
    assert (right["agreeing"], right["comparable"], right["figures"]) == (3, 3, 1)
    assert (wrong["agreeing"], wrong["comparable"]) == (1, 2)
    assert right["minutes"] > 0
    assert right["profile"] == "quick"
    assert right["device"]
    # Running one chapter leaves the others' rows.
    path.write_text(json.dumps(record | {"01_wrong": {"kept": True}}))
    build_book.main(["00_right"], root=book)
    assert json.loads(path.read_text())["01_wrong"] == {"kept": True}


def test_nbval_gives_the_same_verdict(book: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA"),
            *("--nbval", "--nbval-current-env", "notebooks"),
        ],
        cwd=book,
        env={**os.environ, "XAI_PROFILE": "quick"},
        capture_output=True,
        text=True,
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert [line.split(".ipynb::")[0].split("/")[-1] for line in failed] == [
        "01_wrong",
        "02_fails",
    ]
    assert all("Cell 1" in line for line in failed)  # nbval counts from zero


def test_second_write_changes_no_byte(book: Path) -> None:
    path = at(book, "00_right")
    before = path.read_bytes()
    assert build_book.main(["00_right", "--write"], root=book) == 0
    assert path.read_bytes() == before


def test_failing_notebook_is_not_written(book: Path) -> None:
    path = at(book, "02_fails")
    before = path.read_bytes()
    assert build_book.main(["02_fails", "--write"], root=book) == 1
    assert path.read_bytes() == before


def test_figures_only_equals_the_executed_figures(book: Path) -> None:
    (figure,) = (
        output.data["image/png"]
        for cell in nbformat.read(at(book, "00_right"), as_version=4).cells[2:3]
        for output in cell.outputs
    )
    (stale := book / "_build/figures/00_right-07.png").parent.mkdir(
        parents=True, exist_ok=True
    )
    stale.touch()
    assert build_book.main(["--figures-only"], root=book) == 0
    (path,) = (book / "_build/figures").glob("00_right-*.png")
    assert path.name == "00_right-01.png"
    assert path.read_bytes() == base64.b64decode(figure)


def test_notebook_keeps_no_widget_time_or_version(book: Path) -> None:
    for name in BOOKS:
        text = at(book, name).read_text()
        for volatile in ("widget-view", "iopub", "codemirror", sys.version.split()[0]):
            assert volatile not in text


def test_unknown_chapter_is_an_error(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build_book.main(["09_nowhere"], root=book)
    assert "09_nowhere" in capsys.readouterr().err


def test_write_in_the_paper_profile_is_refused(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XAI_PROFILE", "paper")
    with pytest.raises(SystemExit):
        build_book.main(["--write"], root=book)
    assert "quick" in capsys.readouterr().err


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    matplotlib.image.imsave(file, pixels, format="png")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(("change", "kept"), [(0, True), (2, True), (3, False)])
def test_picture_is_replaced_only_if_it_looks_different(
    change: int, kept: bool
) -> None:
    pixels = np.full((4, 4, 3), 100, dtype=np.uint8)
    old = png(pixels)
    pixels[1, 1] += change
    new = png(pixels)
    books = [
        new_notebook(
            cells=[
                new_code_cell(
                    "plot()", outputs=[new_output("display_data", {"image/png": data})]
                )
            ]
        )
        for data in (old, new)
    ]
    build_book.keep_unchanged_pictures(*books)
    assert books[1].cells[0].outputs[0].data["image/png"] == (old if kept else new)
