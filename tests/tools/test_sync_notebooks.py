from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import sync_notebooks

NAMES = ["00_start_here", "01_first", "02_second"]


def read(root: Path, name: str) -> NotebookNode:
    return nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)


def write(root: Path, name: str, notebook: NotebookNode) -> None:
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


def written(root: Path) -> list[Path]:
    return [root / "README.md", *(root / "notebooks").iterdir()]


def sync(root: Path, *arguments: str) -> int:
    return sync_notebooks.main(list(arguments), root=root)


@pytest.mark.parametrize("fixture", ["book", "published"])
def test_second_run_changes_nothing(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(fixture)
    assert sync(root, "--check") == 1
    assert sync(root) == 0
    files = {path: path.read_bytes() for path in written(root)}
    assert sync(root, "--check") == 0
    assert sync(root) == 0
    assert files == {path: path.read_bytes() for path in written(root)}


def test_navigation_links_neighbours_by_their_titles(book: Path) -> None:
    sync(book)
    line = (
        "[← Start here](00_start_here.ipynb) | [Contents](00_start_here.ipynb) "
        "| [Second →](02_second.ipynb)"
    )
    cells = read(book, "01_first").cells
    assert cells[0].source == line
    assert cells[-1].source == f"---\n\n{line}"
    assert read(book, "00_start_here").cells[0].source == (
        "**Contents** | [First →](01_first.ipynb)"
    )


def test_every_link_leads_to_a_chapter(book: Path) -> None:
    sync(book)
    for name in NAMES:
        for cell in read(book, name).cells:
            for target in cell.source.split("](")[1:]:
                assert (book / "notebooks" / target.split(")")[0]).exists()


def test_reproductions_have_a_door_of_their_own(published: Path) -> None:
    folder = published / "notebooks" / "reproduce"
    folder.mkdir()
    for name, heading in {"geex": "# GEEX", "pertmap": "# PertMap"}.items():
        cells = [new_markdown_cell(heading), new_code_cell("1")]
        nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")
    assert sync(published, "--check") == 1
    assert sync(published) == 0
    assert sync(published, "--check") == 0
    top, _, bootstrap, *_ = read(published, "reproduce/pertmap").cells
    badge, navigation = top.source.split("\n\n")
    assert badge.endswith("blob/main/notebooks/reproduce/pertmap.ipynb)")
    # The paper's order, not the alphabet's, and no chapter among the neighbours.
    assert navigation == "[Contents](../00_start_here.ipynb) | [GEEX →](geex.ipynb)"
    assert bootstrap.id == sync_notebooks.BOOTSTRAP
    contents = read(published, "00_start_here").cells[2].source
    assert contents.endswith(
        "| --- |\n| [PertMap](reproduce/pertmap.ipynb) |\n"
        "| [GEEX](reproduce/geex.ipynb) |"
    )
    last = read(published, "02_second").cells[-1].source
    assert "reproduce" not in last
    (folder / "geex.ipynb").rename(folder / "gex.ipynb")
    assert sync(published) == 1


def test_code_that_draws_is_folded_to_what_it_says(book: Path) -> None:
    notebook = read(book, "01_first")
    source = "# @title Draw two maps\ndraw()"
    notebook.cells.append(new_code_cell(source, metadata={"tags": ["hide-input"]}))
    write(book, "01_first", notebook)
    assert sync(book) == 0
    cell = read(book, "01_first").cells[-2]
    assert cell.source == source
    assert cell.metadata["jupyter"] == {"source_hidden": True}  # JupyterLab
    assert cell.metadata["cellView"] == "form"  # Colab


def test_folded_code_must_say_what_it_does(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = read(book, "01_first")
    notebook.cells.append(new_code_cell("draw()", metadata={"tags": ["hide-input"]}))
    write(book, "01_first", notebook)
    assert sync(book) == 1
    assert "hide-input; its first line must say" in capsys.readouterr().err


def test_contents_cell_lists_all_chapters(book: Path) -> None:
    sync(book)
    cells = read(book, "00_start_here").cells
    contents = next(c for c in cells if "contents" in c.metadata.get("tags", []))
    assert contents.source.splitlines()[2:] == [
        "| 00 | [Start here](00_start_here.ipynb) |",
        "| 01 | [First](01_first.ipynb) |",
        "| 02 | [Second](02_second.ipynb) |",
    ]


def test_solutions_are_folded_and_exercises_are_not(book: Path) -> None:
    chapter = read(book, "02_second")
    chapter.cells += [
        new_code_cell("x = ...", metadata={"tags": ["exercise"]}),
        new_code_cell("x = 1", metadata={"tags": ["solution"]}),
    ]
    write(book, "02_second", chapter)
    sync(book)
    exercise, solution = read(book, "02_second").cells[-3:-1]
    assert solution.metadata["jupyter"] == {"source_hidden": True}  # JupyterLab
    assert solution.metadata["cellView"] == "form"  # Colab, with the title
    assert solution.source == "# @title Solution\nx = 1"
    assert not {"jupyter", "cellView"} & set(exercise.metadata)
    assert exercise.source == "x = ..."


def test_every_solution_of_the_real_chapters_is_folded() -> None:
    solutions = [
        cell
        for path in sync_notebooks.chapters(sync_notebooks.ROOT / "notebooks")
        for cell in nbformat.read(path, as_version=4).cells
        if "solution" in sync_notebooks.tags(cell)
    ]
    assert len(solutions) >= 50
    for cell in solutions:
        assert cell.metadata["jupyter"] == {"source_hidden": True}
        assert cell.metadata["cellView"] == "form"
        assert cell.source.startswith("# @title Solution\n")


def test_an_edited_title_is_mended(book: Path) -> None:
    chapter = read(book, "02_second")
    metadata = {"tags": ["solution"]}
    chapter.cells.append(new_code_cell("#@title The answer\nx = 1", metadata=metadata))
    write(book, "02_second", chapter)
    sync(book)
    assert read(book, "02_second").cells[-2].source == "# @title Solution\nx = 1"


def test_bootstrap_stands_before_the_first_code(book: Path) -> None:
    sync(book)
    ids = [cell.id for cell in read(book, "01_first").cells]
    assert ids.index("bootstrap") == 2
    assert len(ids) == 5
    assert read(book, "01_first").cells[2].metadata["cellView"] == "form"


def test_badge_is_the_notebooks_address(published: Path) -> None:
    sync(published)
    for name in NAMES:
        path = published / "notebooks" / f"{name}.ipynb"
        address = (
            "https://colab.research.google.com/github/someone/some.book/blob/main/"
            + path.relative_to(published).as_posix()
        )
        assert f"]({address})" in read(published, name).cells[0].source


def test_no_repository_no_badge(book: Path) -> None:
    sync(book)
    assert all("colab" not in read(book, name).cells[0].source for name in NAMES)
    assert "colab.research" not in (book / "README.md").read_text()


def test_one_line_in_one_file_sets_the_repository(book: Path) -> None:
    sync(book)
    setting = book / "pyproject.toml"
    name = "someone/some.book"
    setting.write_text(setting.read_text().replace('""', f'"{name}"'))
    assert sync(book, "--check") == 1
    assert sync(book) == 0
    address, source = (
        f"colab.research.google.com/github/{name}",
        f"git+https://github.com/{name}@main",
    )
    for chapter in NAMES[1:]:
        cells = read(book, chapter).cells
        assert f"{address}/blob/main/notebooks/{chapter}.ipynb" in cells[0].source
        assert source in cells[2].source
    readme = (book / "README.md").read_text()
    assert f"{address}/blob/main/notebooks/00_start_here.ipynb" in readme
    assert source in readme
    assert readme.startswith("# Book\n\n<!-- colab -->\n")
    assert readme.endswith("\n<!-- /colab -->\n\nThe end.\n")
    # And back.
    setting.write_text(setting.read_text().replace(f'"{name}"', '""'))
    assert sync(book) == 0
    assert not any(name in path.read_text() for path in written(book))


def test_readme_without_a_place_is_named(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (book / "README.md").write_text("# Book\n")
    assert sync(book) == 1
    assert "README.md has no lines `<!-- colab -->`" in capsys.readouterr().err


@pytest.mark.parametrize("fixture", ["book", "published"])
def test_generated_cells_are_clean_for_ruff(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(fixture)
    sync(root)
    for arguments in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ruff", *arguments),
                *("--config", str(Path(__file__).parents[2] / "pyproject.toml")),
                str(root / "notebooks" / "02_second.ipynb"),
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("cell_id", ["nav-top", "bootstrap", "nav-bottom"])
@pytest.mark.parametrize("edit", ["change", "remove", "copy"])
def test_check_catches_an_edit(
    book: Path, cell_id: str, edit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sync(book)
    notebook = read(book, "01_first")
    cell = next(cell for cell in notebook.cells if cell.id == cell_id)
    if edit == "change":
        cell.source += " "
    elif edit == "remove":
        notebook.cells.remove(cell)
    else:
        copied = cell.copy()
        copied["id"] = "copied"
        notebook.cells.insert(1, nbformat.from_dict(copied))
    write(book, "01_first", notebook)
    capsys.readouterr()
    assert sync(book, "--check") == 1
    assert capsys.readouterr().out.split()[0] == "01_first.ipynb"
    sync(book)
    assert sync(book, "--check") == 0


def test_new_title_makes_the_neighbours_stale(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync(book)
    notebook = read(book, "02_second")
    notebook.cells[1].source = "# Another"
    write(book, "02_second", notebook)
    capsys.readouterr()
    assert sync(book, "--check") == 1
    named = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert named == ["00_start_here.ipynb", "01_first.ipynb"]


def test_execution_count_survives_a_new_bootstrap(published: Path) -> None:
    sync(published)
    notebook = read(published, "01_first")
    notebook.cells[2].execution_count = 1
    notebook.cells[2].source = "old"
    write(published, "01_first", notebook)
    sync(published)
    bootstrap = read(published, "01_first").cells[2]
    assert bootstrap.execution_count == 1
    assert "git+https://github.com/someone/some.book@main" in bootstrap.source


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scratch", "NN_topic.ipynb"),
        ("02_again", "number used twice"),
        ("03_untitled", "no heading"),
    ],
)
def test_unfit_notebook_is_named(
    book: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(book, name, nbformat.v4.new_notebook(cells=[new_markdown_cell("text")]))
    assert sync(book, "--check") == 1
    error = capsys.readouterr().err
    assert message in error
    assert ".ipynb" in error


def test_wrong_repository_is_rejected() -> None:
    with pytest.raises(ValueError, match="owner/name"):
        sync_notebooks.Origin("https://github.com/someone/book", "main")


# A pip that writes down what it was asked for, to stand before the real one.
STUB_PIP = """
import json, os, pathlib, sys
asked = sys.argv[1:]
held = pathlib.Path(asked[asked.index("-c") + 1]).read_text().splitlines()
record = json.dumps({"asked": asked, "held": held})
pathlib.Path(os.environ["PIP_RECORD"]).write_text(record)
"""


def run_bootstrap(
    root: Path, *, hidden: bool, source: str = ""
) -> tuple[subprocess.CompletedProcess[str], dict[str, list[str]] | None]:
    """The cell as generated, in a new process; what it asked of pip, if anything."""
    sync(root)
    code = read(root, "01_first").cells[2].source
    if hidden:
        code = "import sys\nsys.modules['xai_lib'] = None\n" + code
    (root / "stub" / "pip").mkdir(parents=True)
    (root / "stub" / "pip" / "__init__.py").touch()
    (root / "stub" / "pip" / "__main__.py").write_text(STUB_PIP)
    record = root / "record.json"
    environment = {
        **os.environ,
        "PYTHONPATH": str(root / "stub"),
        "PIP_RECORD": str(record),
        "XAI_BOOK_SOURCE": source,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    return done, json.loads(record.read_text()) if record.exists() else None


def test_bootstrap_is_silent_where_the_library_is(published: Path) -> None:
    done, record = run_bootstrap(published, hidden=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert record is None


def test_bootstrap_installs_from_the_repository(published: Path) -> None:
    done, record = run_bootstrap(published, hidden=True)
    assert done.returncode == 0, done.stderr
    assert record is not None
    assert record["asked"][0] == "install"
    source = "git+https://github.com/someone/some.book@main"
    assert record["asked"][-2:] == [source, "xai-lib[chapters]"]
    for name in ("torch", "torchvision", "numpy"):
        assert f"{name}=={version(name)}" in record["held"]


@pytest.mark.parametrize("fixture", ["book", "published"])
def test_bootstrap_prefers_the_environment_variable(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(fixture)
    done, record = run_bootstrap(root, hidden=True, source="some.whl")
    assert done.returncode == 0, done.stderr
    assert record is not None
    assert record["asked"][-2:] == ["some.whl", "xai-lib[chapters]"]


def test_bootstrap_without_any_source_says_what_to_do(book: Path) -> None:
    done, record = run_bootstrap(book, hidden=True)
    assert done.returncode != 0
    assert record is None
    said = done.stderr.splitlines()[-1]
    for way in ("`repository` in pyproject.toml", "XAI_BOOK_SOURCE", "`make book`"):
        assert way in said


def test_a_chapter_without_any_source_says_one_line_and_stops(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XAI_BOOK_SOURCE", raising=False)
    sync(book)
    chapter = read(book, "01_first")
    chapter.cells.insert(2, new_code_cell("import sys; sys.modules['xai_lib'] = None"))
    client = NotebookClient(chapter, kernel_name="python3", startup_timeout=300)
    with pytest.raises(CellExecutionError):
        client.execute()
    hide, bootstrap, after = (c for c in chapter.cells if c.cell_type == "code")
    (error,) = bootstrap.outputs
    assert error.traceback == [error.evalue]
    assert "\n" not in error.evalue
    assert "`repository` in pyproject.toml" in error.evalue
    assert hide.outputs == after.outputs == []
    assert after.execution_count is None


def test_badges_of_the_real_chapters(tmp_path: Path) -> None:
    root = sync_notebooks.ROOT
    shutil.copytree(root / "notebooks", tmp_path / "notebooks")
    setting = '[tool.xai-book]\nrepository = "someone/book"\nbranch = "main"\n'
    (tmp_path / "pyproject.toml").write_text(setting)
    shutil.copy(root / "README.md", tmp_path)
    assert sync(tmp_path) == 0
    assert "/github/someone/book/" in (tmp_path / "README.md").read_text("utf-8")
    paths = sync_notebooks.chapters(tmp_path / "notebooks")
    assert len(paths) == len(list((root / "notebooks").glob("*.ipynb")))
    for path in paths:
        badge = nbformat.read(path, as_version=4).cells[0].source
        address = (
            "https://colab.research.google.com/github/someone/book/blob/main/"
            + path.relative_to(tmp_path).as_posix()
        )
        assert f"]({address})" in badge
