"""Write what all notebooks share: navigation, Colab badge, bootstrap, folded solutions.

    python tools/sync_notebooks.py           writes them into notebooks/ and README.md
    python tools/sync_notebooks.py --check   fails, naming each stale file

The only setting is `[tool.xai-book]` in pyproject.toml.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, upgrade

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
HOME = "00_start_here.ipynb"
# The second door: notebooks that follow a paper item by item, in this order.
REPRODUCE = "reproduce"
PAPERS = ("pertmap", "geex", "aise", "bench")
GENERATED, CONTENTS = "generated", "contents"
TOP, BOOTSTRAP, BOTTOM = "nav-top", "bootstrap", "nav-bottom"

# Colab folds a cell to its title, with a space or without; ruff wants the space.
_TITLE = "# @title "
SOLUTION = "Solution"

# Self-contained, because Colab opens a chapter without the rest of the repository.
BOOTSTRAP_TITLE = "Install the book's library where it is missing (Colab)"
BOOTSTRAP_CODE = """\
import importlib.util

if importlib.util.find_spec("xai_lib") is None:
    import contextlib
    import os
    import subprocess
    import sys
    import tempfile
    from importlib.metadata import distributions

    from packaging.version import InvalidVersion, Version

    class NoAddressError(ModuleNotFoundError):
        def _render_traceback_(self):  # for Jupyter and Colab: the message alone
            return [str(self)]

    book = "@SOURCE@"
    book = os.environ.get("XAI_BOOK_SOURCE") or book
    if not book:
        raise NoAddressError(
            "xai_lib is missing: run `make book`, or set `repository` in "
            "pyproject.toml and run tools/sync_notebooks.py, or set XAI_BOOK_SOURCE"
        )
    # What is installed keeps its version: Colab's torch must not be replaced.
    held = {}
    for package in distributions():
        # Some system packages have versions that pip cannot read either.
        with contextlib.suppress(InvalidVersion, TypeError):
            held.setdefault(package.metadata["Name"], Version(package.version))
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.writelines(f"{name}=={version}\\n" for name, version in held.items())
    install = [sys.executable, "-m", "pip", "install", "-q", "-c", file.name]
    subprocess.run([*install, book, "xai-lib[chapters]"], check=True)
    importlib.invalidate_caches()"""

# What stands between these lines of README.md is generated too.
_README = re.compile(r"(<!-- colab -->\n).*?(<!-- /colab -->)", re.DOTALL)
_SITE = re.compile(r"(<!-- site -->\n).*?(<!-- /site -->)", re.DOTALL)
_SITE_NOWHERE = """\
**Read it online**: not yet, as this copy of the book has no address. Set `site` in
`pyproject.toml` and run `python tools/sync_notebooks.py`. Until then, `make site`
builds the same pages in `_build/site/`."""
_README_NOWHERE = """\
In Colab: not yet, as this copy of the book has no address. Set `repository` in
`pyproject.toml`, run `python tools/sync_notebooks.py` and push."""
_README_ADDRESS = """\
In Colab: @BADGE@ starts the book, and each chapter has such a badge. The first
cell of each installs `@SOURCE@`."""


@dataclass(frozen=True)
class Origin:
    """Where the book lives on GitHub. An empty repository means: nowhere yet."""

    repository: str
    branch: str
    site: str = ""

    def __post_init__(self) -> None:
        if self.repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise ValueError(
                f"[tool.xai-book] repository is {self.repository!r} in pyproject.toml; "
                'expected "owner/name", or "" for none'
            )

    @property
    def requirement(self) -> str:
        """What pip installs, or "" where there is no repository."""
        if not self.repository:
            return ""
        return f"git+https://github.com/{self.repository}@{self.branch}"

    def badge(self, name: str) -> str:
        """Markdown of the Colab badge of one notebook, or ""."""
        if not self.repository:
            return ""
        colab = "https://colab.research.google.com"
        page = f"github/{self.repository}/blob/{self.branch}/notebooks/{name}"
        return f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({colab}/{page})"


def pyproject(root: Path = ROOT) -> dict[str, Any]:
    """pyproject.toml as a dictionary."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def origin(root: Path = ROOT) -> Origin:
    """The book's address, from `[tool.xai-book]` in pyproject.toml."""
    setting = pyproject(root)["tool"]["xai-book"]
    return Origin(setting["repository"], setting["branch"], setting.get("site", ""))


def readme(text: str, origin: Origin) -> str:
    """README.md with the book's address. Raises ValueError without a place for it."""
    if not _README.search(text):
        raise ValueError(
            "README.md has no lines `<!-- colab -->` and `<!-- /colab -->`; put them "
            "where it should say how to open the book in Colab"
        )
    said = _README_ADDRESS if origin.repository else _README_NOWHERE
    said = said.replace("@BADGE@", origin.badge(HOME))
    said = said.replace("@SOURCE@", origin.requirement)
    online = f"**Read it online**: <{origin.site}>" if origin.site else _SITE_NOWHERE
    text = _SITE.sub(lambda lines: f"{lines[1]}{online}\n{lines[2]}", text)
    return _README.sub(lambda lines: f"{lines[1]}{said}\n{lines[2]}", text)


def chapters(folder: Path) -> list[Path]:
    """The notebooks of a folder by number.

    Raises ValueError for a name other than NN_topic.ipynb, or a number used twice.
    """
    paths = sorted(folder.glob("*.ipynb"))
    numbers = [path.name[:2] for path in paths]
    for path in paths:
        if not re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name):
            raise ValueError(
                f"{path.name!r} in {folder.name}/: chapters are named NN_topic.ipynb, "
                "in lower case; rename or remove it"
            )
        if numbers.count(path.name[:2]) > 1:
            raise ValueError(f"{path.name!r}: number used twice; renumber one chapter")
    return paths


def reproductions(folder: Path) -> list[Path]:
    """The notebooks of a folder's `reproduce/`, in the order of PAPERS.

    Raises ValueError for another name.
    """
    found = {path.stem: path for path in (folder / REPRODUCE).glob("*.ipynb")}
    if unknown := sorted(set(found) - set(PAPERS)):
        raise ValueError(
            f"{unknown[0]!r} in {REPRODUCE}/: the notebooks there are called "
            f"{', '.join(PAPERS)}; rename or remove it"
        )
    return [found[name] for name in PAPERS if name in found]


def notebooks(folder: Path) -> list[Path]:
    """The chapters of a folder, and then its reproductions."""
    return [*chapters(folder), *reproductions(folder)]


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", []))


def fold_title(cell: NotebookNode) -> str:
    """What the first line of a folded cell says that its code does.

    Raises ValueError if it says nothing.
    """
    found = re.match(r"# ?@title (.+)", cell.source)
    if not found:
        raise ValueError(
            f"cell {cell.id!r} is tagged hide-input; its first line must say what it "
            f"does, as `{_TITLE}Draw the three maps`"
        )
    return found[1]


def without_title(source: str) -> str:
    """Code less the first line, if Colab folds the cell to it."""
    return re.sub(r"\A# ?@title .*\n", "", source)


def title(notebook: NotebookNode, name: str) -> str:
    """The first heading that the author wrote. Raises ValueError if there is none."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and GENERATED not in tags(cell):
            heading = re.search(r"^#+[ \t]+(.+)$", cell.source, re.MULTILINE)
            if heading:
                return heading[1].strip()
    raise ValueError(f"{name}: no heading; start the chapter with a cell `# Its title`")


def synced(folder: Path, origin: Origin) -> dict[Path, NotebookNode]:
    """Every notebook of a folder as it should be, by path."""
    found = {
        path: upgrade(nbformat.read(path, as_version=4)) for path in notebooks(folder)
    }
    names = {path: path.relative_to(folder).as_posix() for path in found}
    titles = {names[path]: title(nb, path.name) for path, nb in found.items()}
    for path, notebook in found.items():
        _sync(notebook, names[path], titles, origin)
    return found


def stale(folder: Path, origin: Origin) -> list[Path]:
    """The notebooks whose generated cells are missing, edited or out of date."""
    return [
        path
        for path, notebook in synced(folder, origin).items()
        if notebook != nbformat.read(path, as_version=4)
    ]


def _sync(
    notebook: NotebookNode, name: str, titles: dict[str, str], origin: Origin
) -> None:
    old = {cell.id: cell for cell in notebook.cells}
    own = [cell for cell in notebook.cells if not _is_generated(cell)]
    for cell in own:
        if CONTENTS in tags(cell):
            cell.source = _contents(titles)
        if "solution" in tags(cell):  # folded until the reader opens it
            _fold(cell, SOLUTION)
        elif "hide-input" in tags(cell):
            _fold(cell, fold_title(cell))

    navigation = _navigation(name, titles)
    top = "\n\n".join(filter(None, [origin.badge(name), navigation]))
    bootstrap = new_code_cell(
        BOOTSTRAP_CODE.replace("@SOURCE@", origin.requirement),
        id=BOOTSTRAP,
        metadata={"tags": [GENERATED, "hide-input"]},
    )
    _fold(bootstrap, BOOTSTRAP_TITLE)
    # It prints nothing, so that new text leaves the notebook executed.
    if BOOTSTRAP in old and old[BOOTSTRAP].cell_type == "code":
        bootstrap.execution_count = old[BOOTSTRAP].execution_count

    # The title and the introduction come before the first line of code.
    kinds = [cell.cell_type for cell in own]
    first_code = kinds.index("code") if "code" in kinds else len(own)
    notebook.cells = [
        _markdown(top, TOP),
        *own[:first_code],
        bootstrap,
        *own[first_code:],
        _markdown(f"---\n\n{navigation}", BOTTOM),
    ]


def _fold(cell: NotebookNode, title: str) -> None:
    """Show the title instead of the code: in JupyterLab by one key, in Colab by two."""
    cell.metadata["jupyter"] = {"source_hidden": True}
    cell.metadata["cellView"] = "form"
    cell.source = f"{_TITLE}{title}\n{without_title(cell.source)}"


def _is_generated(cell: NotebookNode) -> bool:
    return cell.id in (TOP, BOOTSTRAP, BOTTOM) or GENERATED in tags(cell)


def _markdown(source: str, cell_id: str) -> NotebookNode:
    return new_markdown_cell(source, id=cell_id, metadata={"tags": [GENERATED]})


def _navigation(name: str, titles: dict[str, str]) -> str:
    """Links to the contents and to the neighbours behind the same door."""
    folder = Path(name).parent
    names = [other for other in titles if Path(other).parent == folder]
    place = names.index(name)

    def link(before: str, other: str, after: str) -> str:
        return f"[{before}{titles[other]}{after}]({Path(other).name})"

    home = "../" * len(folder.parts) + HOME
    links = ["**Contents**" if name == HOME else f"[Contents]({home})"]
    if place > 0:
        links.insert(0, link("← ", names[place - 1], ""))
    if place < len(names) - 1:
        links.append(link("", names[place + 1], " →"))
    return " | ".join(links)


def _contents(titles: dict[str, str]) -> str:
    learn = [f"| {n[:2]} | [{t}]({n}) |" for n, t in titles.items() if "/" not in n]
    lines = ["| | chapter |", "| --- | --- |", *learn]
    reproduce = [
        f"| [{text}]({name}) |" for name, text in titles.items() if "/" in name
    ]
    if reproduce:
        lines += ["", "| to reproduce a paper, item by item |", "| --- |", *reproduce]
    return "\n".join(lines)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only report")
    options = parser.parse_args(arguments)
    try:
        home = origin(root)
        outdated = stale(root / "notebooks", home)
        text = (root / "README.md").read_text(encoding="utf-8")
        current = readme(text, home)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if current != text:
        outdated.append(root / "README.md")
    if options.check:
        for path in outdated:
            print(f"{path.name} is stale: run `python tools/sync_notebooks.py`")
        return 1 if outdated else 0
    wanted = synced(root / "notebooks", home)
    for path in outdated:
        if path in wanted:
            nbformat.write(wanted[path], path)
        else:
            path.write_text(current, encoding="utf-8")
        print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
