"""On the site a live figure stands where a chapter's widget would need a kernel."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import site_live
from site_chapters import LIVE, Book, chapter_for_site
from sync_notebooks import ROOT, Origin, chapters, tags

PATHS = {path.stem: path for path in chapters(ROOT / "notebooks")}


def test_every_widget_has_its_figure_and_every_figure_its_widget() -> None:
    widgets = {
        cell.id
        for path in PATHS.values()
        for cell in nbformat.read(path, as_version=4).cells
        if "widget" in tags(cell)
    }
    assert set(LIVE) == widgets
    assert sorted(LIVE.values()) == sorted(site_live.FIGURES)


def test_the_figure_takes_the_place_of_the_output() -> None:
    dead = new_output("display_data", {"text/plain": "VBox(children=(…))"})
    widget = new_code_cell("explore()", id="02-101", outputs=[dead])
    widget.metadata.tags = ["widget"]
    cells = [new_markdown_cell("# Boxes"), widget, new_markdown_cell("After.")]
    book = Book({"02_boxes": new_notebook(cells=cells)}, [], {})
    page = chapter_for_site("02_boxes", book, Origin("", "main"))
    code, figure, after = page.cells[-3:]
    assert code.source == widget.source
    assert code.outputs == []
    assert figure.source == "```{raw} html\n:file: live/box.html\n```"
    assert after.source == "After."
    # The notebook itself stays as it is.
    assert widget.outputs == [dead]
    assert len(cells) == 3


@pytest.mark.parametrize("name", list(PATHS))
def test_the_book_s_own_chapters(name: str) -> None:
    notebook = nbformat.read(PATHS[name], as_version=4)
    page = chapter_for_site(name, Book({name: notebook}, [], {}), Origin("", "main"))
    ids = [cell.get("id") for cell in notebook.cells]
    for cell_id in [i for i in ids if i in LIVE]:
        place = [cell.get("id") for cell in page.cells].index(cell_id)
        expected = f":file: live/{LIVE[cell_id]}.html"
        assert expected in page.cells[place + 1].source
