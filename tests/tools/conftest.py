"""A small book of three chapters in a temporary folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

SETTING = '[tool.xai-book]\nrepository = "{}"\nbranch = "main"\n'


@pytest.fixture(scope="session")
def rulings() -> list[Any]:
    """What the book's rows say, which takes seconds to find out."""
    from xai_book.studies import claims

    return claims.rulings()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """The root of a book without a repository, its notebooks not yet synced."""
    (tmp_path / "pyproject.toml").write_text(SETTING.format(""))
    readme = "# Book\n\n<!-- colab -->\n<!-- /colab -->\n\nThe end.\n"
    (tmp_path / "README.md").write_text(readme)
    (tmp_path / "notebooks").mkdir()
    for name, cells in {
        "00_start_here": [
            new_markdown_cell("Welcome.\n\n# Start here"),
            new_markdown_cell("", metadata={"tags": ["contents"]}),
        ],
        "01_first": [new_markdown_cell("# First\n\n## Goals"), new_code_cell("1 + 1")],
        "02_second": [new_markdown_cell("# Second"), new_code_cell("print(2)")],
    }.items():
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=cells), path)
    return tmp_path


@pytest.fixture
def published(book: Path) -> Path:
    """The same book with a repository."""
    (book / "pyproject.toml").write_text(SETTING.format("someone/some.book"))
    return book
