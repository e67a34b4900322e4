from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import hygiene
import sync_notebooks

PNG = {"image/png": "aGVsbG8=", "text/plain": "<Figure size 640x480 with 1 Axes>"}
CAPTION = {"text/markdown": "*A figure may speak of np.array([0]), of CPU and cuda.*"}


def stdout(text: str) -> NotebookNode:
    return new_output("stream", name="stdout", text=text)


def shown(data: dict[str, Any]) -> NotebookNode:
    return new_output("display_data", data)


def result(data: dict[str, Any]) -> NotebookNode:
    return new_output("execute_result", data, execution_count=1)


def good() -> NotebookNode:
    """Ten code cells that break no rule, though some look like it."""
    sources: list[tuple[str, list[NotebookNode], list[str]]] = [
        ("import numpy as np", [], []),
        ("check_close(...)", [stdout("insertion AUC = 0.71 ± 0.02: ok\n")], []),
        ("check_true(...)", [stdout("GEEX beats CUDA's 1/2 by 3 or more: ok\n")], []),
        ("check_order(...)", [result({"text/plain": "'a > b > c: ok'"})], []),
        ("table", [result({"text/html": "<td>1/2</td>", "text/plain": "1/2"})], []),
        ("plot(); plt.show()", [shown(dict(PNG)), shown(CAPTION)], []),
        ("print(100 % 7)\nx = '''\n%s\n'''", [stdout("2\n")], []),
        ("# NBVAL_IGNORE_OUTPUT\ntime", [stdout("Python 3.11 took 12:30:01\n")], []),
        ("stub", [stdout("exercise 1.2: not attempted yet\n")], ["exercise"]),
        ("answer", [], ["solution"]),
        ("checker", [stdout("hint\nexercise 1.2: ok\n")], ["solution"]),
    ]
    cells = [
        new_code_cell(source, execution_count=n, outputs=outputs, metadata={"tags": t})
        for n, (source, outputs, t) in enumerate(sources, start=1)
    ]
    cells.insert(0, new_markdown_cell("# A chapter"))
    cells.insert(-2, new_markdown_cell("## Solution"))
    return new_notebook(cells=cells)


def code(notebook: NotebookNode, n: int) -> NotebookNode:
    """The cell that runs as In [n]."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"][n - 1]


def rules(found: list[str]) -> set[str]:
    return {re.search(r"\((\w+)\): ", line)[1] for line in found}  # type: ignore[index]


def prints(text: str, n: int = 2) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        code(notebook, n).outputs.append(stdout(text + "\n"))

    return change


def has(output: NotebookNode, n: int = 2) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        code(notebook, n).outputs.append(output)

    return change


def source(text: str, n: int = 2) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        code(notebook, n).source = text

    return change


def tagged(*names: str, n: int = 2) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        code(notebook, n).metadata.tags = list(names)

    return change


def count(value: int | None, n: int = 2) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        code(notebook, n).execution_count = value

    return change


def too_few_checked(notebook: NotebookNode) -> None:
    for n in (3, 4, 5, 7):
        code(notebook, n).outputs = []


def too_many_ignored(notebook: NotebookNode) -> None:
    for n in (2, 3):
        code(notebook, n).metadata.tags = ["nbval-ignore-output"]


def metadata(key: str, value: dict[str, Any]) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        notebook.metadata[key] = value

    return change


def same_id_twice(notebook: NotebookNode) -> None:
    notebook.cells[1].id = notebook.cells[2].id


WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
BAD: list[tuple[str, Callable[[NotebookNode], None]]] = [
    ("order", count(None)),
    ("order", count(7)),
    ("order", lambda notebook: code(notebook, 6).update(source="")),
    ("error", has(new_output("error", ename="E", evalue="v", traceback=[]))),
    ("stderr", has(new_output("stream", name="stderr", text="UserWarning"))),
    ("checked", too_few_checked),
    ("ignored", too_many_ignored),
    ("marker", source("# NBVAL_IGNORE_OUTPUT because of time")),
    ("marker", source("f()  # NBVAL_IGNORE_OUTPUT")),
    ("marker", source("# nbval_ignore_output")),
    ("marker", source("# NBVAL_CHECK_OUTPUT")),
    ("marker", source("# NBVAL_RAISES_EXCEPTION")),
    ("marker", source("# NBVAL_SKIP")),
    ("marker", source("# PYTEST_VALIDATE_IGNORE_OUTPUT")),
    ("tag", tagged("nbval-skip")),
    ("tag", tagged("raises-exception")),
    ("tag", tagged("NBVAL_IGNORE_OUTPUT")),
    ("tag", lambda nb: nb.cells[0].metadata.update(tags=["intro"])),
    ("mime", has(shown({"image/svg+xml": "<svg/>"}))),
    ("mime", has(shown({"image/jpeg": "aGVsbG8="}))),
    ("mime", has(shown({"text/latex": "$x$"}))),
    ("figure", has(result({"text/plain": "<Figure size 640x480 with 0 Axes>"}))),
    ("figure", has(result(dict(PNG)))),
    ("repr", prints("tensor(0.5)")),
    ("repr", prints("array([1., 2.])")),
    ("repr", prints("np.float64(0.5)")),
    ("repr", has(result({"text/plain": "tensor([1, 2])"}))),
    ("device", prints("on cuda:0")),
    ("device", prints("on cpu")),
    ("device", prints("NVIDIA H100")),
    ("version", prints("torch 2.15.0")),
    ("version", prints("Python 3.11")),
    ("version", prints("numpy==2.1")),
    ("version", prints("version 2")),
    ("date", prints("run on 2024-05-17")),
    ("date", prints("at 12:30:01")),
    ("path", prints("saved /home/me/x.png")),
    ("path", prints(r"saved C:\Users\me")),
    ("path", prints("saved /home/me/x.png", n=8)),
    ("address", prints("<object at 0x7f12ab34cd>")),
    ("address", prints("<object at 0x7f12ab34cd>", n=8)),
    ("magic", source("%matplotlib inline")),
    ("magic", source("%nosuchmagic\nx = 1")),
    ("magic", source("%%time\nx = 1")),
    ("magic", source("!ls")),
    ("line", source("x = " + "1" * 85)),
    ("widget", metadata("widgets", {})),
    ("widget", has(shown(WIDGET))),
    ("widget", tagged("widget")),
    ("metadata", metadata("language_info", {"name": "python", "version": "3"})),
    ("format", same_id_twice),
    ("exercise", tagged("solution", n=3)),
    ("exercise", tagged("exercise", n=3)),
    ("exercise", prints("done", n=9)),
    ("exercise", prints("exercise 1.2: ok.", n=11)),
    ("exercise", prints("exercise 1.3: ok", n=11)),
]


def test_good_notebook_passes() -> None:
    assert hygiene.problems(good()) == []


@pytest.mark.parametrize(
    ("rule", "spoil"), BAD, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(BAD)]
)
def test_each_rule_fires_alone(
    rule: str, spoil: Callable[[NotebookNode], None]
) -> None:
    notebook = good()
    spoil(notebook)
    assert rules(hygiene.problems(notebook)) == {rule}


def test_message_names_the_cell() -> None:
    notebook = good()
    prints("on cuda:0", n=4)(notebook)
    (message,) = hygiene.problems(notebook)
    assert message.startswith("In [4] (device): prints 'cuda:0'; ")


def write_chapter(folder: Path) -> Path:
    """The good notebook, synced and executed, as the only chapter of a folder."""
    path = folder / "00_start_here.ipynb"
    nbformat.write(good(), path)
    (notebook,) = sync_notebooks.synced(folder, sync_notebooks.origin()).values()
    for n, (_, cell) in enumerate(hygiene.numbered(notebook), start=1):
        cell.execution_count = n
    nbformat.write(notebook, path)
    return path


def test_good_file_passes(tmp_path: Path) -> None:
    assert hygiene.problems(write_chapter(tmp_path)) == []


def test_edited_generated_cell(tmp_path: Path) -> None:
    path = write_chapter(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "mine"
    nbformat.write(notebook, path)
    assert rules(hygiene.problems(path)) == {"sync"}


def test_large_file(tmp_path: Path) -> None:
    path = write_chapter(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source += "x" * hygiene.MAX_BYTES
    nbformat.write(notebook, path)
    assert "size" in rules(hygiene.problems(path))
