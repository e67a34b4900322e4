"""What the site adds to a chapter, on small ones and on the book's own."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import site_chapters
from site_chapters import Book, Figure, linked
from sync_notebooks import ROOT, Origin, notebooks
from xai_book.studies.results import Results

NOWHERE = Origin("", "main")


def markdown(*sources: str) -> NotebookNode:
    return new_notebook(cells=[new_markdown_cell(source) for source in sources])


@pytest.fixture
def small() -> Book:
    return Book(
        {
            "04_queries": markdown(
                "# Queries", "## Figure 1: a scheme\n\n$$ g = 1 \\tag{1} $$"
            ),
            "05_masks": markdown("# Masks", "## Figures S4 and S5\n\nBoth."),
            "geex": markdown("# GEEX, item by item", "## Figure S6"),
            "07_density": markdown("# Density\n\n$$ x \\tag{6, corrected} $$"),
        },
        [
            Figure("geex", "Figure 1", "a scheme", "04", "Figure 1"),
            Figure("geex", "Figure S4", "n", "05", "Figures S4 and S5"),
            Figure("geex", "Figure S5", "size", "05", "Figures S4 and S5"),
            Figure("geex", "Figure S6", "sigma", "geex", "Figure S6"),
            Figure("aise", "Figure 1", "other", "08", "Not written"),
        ],
        {"agoodtitle": "good2020"},
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See chapter 04.", "See [chapter 04](04_queries.ipynb)."),
        (
            "chapters 04 and 07:",
            "chapters [04](04_queries.ipynb) and [07](07_density.ipynb):",
        ),
        ("this is chapter 05", "this is chapter 05"),  # itself
        ("chapter 10 will", "chapter 10 will"),  # not there
        ("by formula (1)", "by formula [(1)](#equation-04-1)"),
        ("$f(1)$ and `f (1)`, f(1)", "$f(1)$ and `f (1)`, f(1)"),
        ("[chapter 04](x.md)", "[chapter 04](x.md)"),
        ("In Figure 1 we", "In [Figure 1](#geex-figure-1) we"),
        ("Figure S6 too", "[Figure S6](#geex-figure-s6) too"),
        ("Figures S4 and S9", "Figures [S4](#geex-figure-s4) and S9"),
        ("## Figure 1 in a heading", "## Figure 1 in a heading"),
        ("```\nchapter 04 (1)\n```", "```\nchapter 04 (1)\n```"),
        (
            "## References\n\n- A. Uthor. *A good title.* 2020.",
            "## References\n\n- A. Uthor. *A good title.* 2020. {cite}`good2020`",
        ),
    ],
)
def test_links(small: Book, text: str, expected: str) -> None:
    assert linked(text, "05_masks", small, set()) == expected


def test_figure_1_of_another_paper_is_another(small: Book) -> None:
    assert linked("Figure 1 (1)", "07_density", small, set()) == "Figure 1 (1)"
    assert linked("by (6)", "07_density", small, set()) == "by [(6)](#equation-07-6)"


def test_a_chapter_of_no_paper_links_to_the_one_that_a_paragraph_names(
    small: Book,
) -> None:
    text = (
        "GEEX's $f$ and its\nFigure 1 (1).\n\nLIPO's (6).\n\nBoth, GEEX and AISE: (1)."
    )
    expected = (
        "GEEX's $f$ and its\n[Figure 1](#geex-figure-1) [(1)](#equation-04-1).\n\n"
        "LIPO's [(6)](#equation-07-6).\n\nBoth, GEEX and AISE: (1)."
    )
    assert linked(text, "11_errata", small, set()) == expected
    # A name in code is no name, and a chapter's own equation goes first.
    assert linked("`GEEX` (1)", "11_errata", small, set()) == "`GEEX` (1)"
    notebooks = small.notebooks | {"11_errata": markdown("$$ x \\tag{1} $$")}
    own = linked("GEEX (1)", "11_errata", Book(notebooks, small.figures, {}), set())
    assert own == "GEEX [(1)](#equation-11-1)"
    fenced = "```\nGEEX\n\n(1)\n```\n\nGEEX (1)"
    assert linked(fenced, "11_errata", small, set()) == fenced.replace(
        "GEEX (1)", "GEEX [(1)](#equation-04-1)"
    )


def test_a_reproduction_speaks_of_its_own_paper(small: Book) -> None:
    text = "Figure 1, formula (1) of chapter 04"
    assert linked(text, "geex", small, set()) == (
        "[Figure 1](#geex-figure-1), formula [(1)](#equation-04-1) of "
        "[chapter 04](04_queries.ipynb)"
    )
    home = Origin("someone/book", "main")
    other = new_markdown_cell("[there](../04_queries.ipynb)")
    small.notebooks["geex"].cells.append(other)
    page = site_chapters.chapter_for_site("geex", small, home)
    assert page.cells[-1].source == "[there](04_queries.ipynb)"
    title, bar = page.cells[0].source.split("\n\n")[:2]
    assert title == "# GEEX, item by item"
    assert "/notebooks/reproduce/geex.ipynb" in bar


def test_labels_stand_once_before_headings_and_equations(small: Book) -> None:
    seen: set[str] = set()
    source = small.notebooks["04_queries"].cells[1].source
    assert linked(source, "04_queries", small, seen) == (
        "(geex-figure-1)=\n## Figure 1: a scheme\n\n"
        "(equation-04-1)=\n$$ g = 1 \\tag{1} $$"
    )
    assert linked(source, "04_queries", small, seen) == source


def test_a_chapter_loses_generated_cells_and_gains_captions(small: Book) -> None:
    picture = new_output("display_data", {"image/png": "aGVsbG8="})
    cells = [
        new_markdown_cell("navigation", metadata={"tags": ["generated"]}),
        new_markdown_cell("# Masks"),
        new_code_cell("two", outputs=[picture, picture]),
        new_code_cell("one", outputs=[picture]),
        new_code_cell("# @title Solution\nanswer", metadata={"tags": ["solution"]}),
    ]
    small.notebooks["05_masks"] = new_notebook(cells=cells)
    page = site_chapters.chapter_for_site("05_masks", small, NOWHERE)
    bar = (
        '<p class="book-tools"><span>5 minutes</span> '
        '<a href="../notebooks/05_masks.ipynb" download>Download the notebook</a></p>'
    )
    assert [cell.source for cell in page.cells] == [
        *(f"# 05 · Masks\n\n{bar}", "two", "two", "one", "answer")
    ]
    assert page.cells[3].metadata["anchor"] == f"cell-{cells[3].id}"
    # The number of the file of `make figures`: pictures are counted, not cells. A
    # second picture gets a cell of its own, whose code is not shown.
    assert page.cells[2].metadata["tags"] == ["remove-input"]
    for number, cell in enumerate(page.cells[1:4], start=1):
        text = f"Figure 5.{number}. Masks"  # not folded: the heading above
        assert len(cell.outputs) == 1
        assert cell.metadata["mystnb"] == {
            "figure": {"caption": text, "name": f"picture-05-0{number}"},
            "image": {"alt": text},
        }
    assert set(page.cells[4].metadata.tags) == {"solution", "hide-input"}
    assert page.cells[4].metadata.mystnb.code_prompt_show == "Show: Solution"
    assert cells[1].source == "# Masks"  # the notebook stays as it was


def test_a_folded_picture_is_called_by_its_title(small: Book) -> None:
    picture = new_output("display_data", {"image/png": "aGVsbG8="})
    tag = {"tags": ["hide-input"]}
    cell = new_code_cell("# @title Draw two maps\n1", outputs=[picture], metadata=tag)
    small.notebooks["geex"].cells.append(cell)
    page = site_chapters.chapter_for_site("geex", small, NOWHERE)
    assert page.cells[-1].metadata["mystnb"] == {
        "code_prompt_show": "Show: Draw two maps",
        "figure": {"caption": "Figure geex 1. Two maps", "name": "picture-geex-01"},
        "image": {"alt": "Figure geex 1. Two maps"},
    }


def test_a_picture_says_what_to_see_and_how_wide_it_is(small: Book) -> None:
    shown = {"image/png": {"alt": "Both maps are empty.", "width": 648, "height": 90}}
    picture = new_output("display_data", {"image/png": "aGVsbG8="}, metadata=shown)
    below = new_output("display_data", {"text/markdown": "*Both maps are empty.*"})
    cell = new_code_cell("# @title Draw two maps\n1", outputs=[picture, below])
    cell.metadata.tags = ["hide-input"]
    small.notebooks["geex"].cells.append(cell)
    page = site_chapters.chapter_for_site("geex", small, NOWHERE).cells[-1]
    said = "Figure geex 1. Both maps are empty."
    assert page.metadata["mystnb"]["figure"]["caption"] == said
    assert page.metadata["mystnb"]["image"] == {"alt": said, "width": "648px"}
    # The sentence below the picture is for Jupyter.
    assert page.outputs == [picture]
    assert cell.outputs == [picture, below]


def test_what_a_cell_prints_stays_with_what_it_shows(small: Book) -> None:
    table = new_output("display_data", {"text/html": "<table></table>"})
    picture = new_output("display_data", {"image/png": "aGVsbG8="})
    said = [new_output("stream", text=text) for text in ("before", "between", "after")]
    outputs = [said[0], table, said[1], picture, said[2]]
    small.notebooks["geex"].cells.append(new_code_cell("1", outputs=outputs))
    first, second = site_chapters.chapter_for_site("geex", small, NOWHERE).cells[-2:]
    assert first.outputs == outputs[:3]
    assert "mystnb" not in first.metadata
    assert second.outputs == outputs[3:]
    assert "geex 1" in second.metadata["mystnb"]["figure"]["caption"]


def test_a_chapter_links_to_colab_where_there_is_a_repository(small: Book) -> None:
    home = Origin("someone/book", "main")
    page = site_chapters.chapter_for_site("05_masks", small, home)
    there = "colab.research.google.com/github/someone/book/blob/main/notebooks"
    bar = page.cells[0].source.partition("\n\n")[2]
    assert f'<a href="https://{there}/05_masks.ipynb">Open in Colab</a>' in bar


@pytest.fixture(scope="module")
def book() -> Book:
    paths = notebooks(ROOT / "notebooks")
    return Book(
        {path.stem: nbformat.read(path, as_version=4) for path in paths},
        site_chapters.read_figures(ROOT / "docs" / "figures.csv"),
        site_chapters.read_references(ROOT / "docs" / "references.bib"),
    )


def test_every_item_of_the_papers_has_its_place(book: Book) -> None:
    assert len({figure.anchor for figure in book.figures}) == len(book.figures)
    lost = [
        f"{figure.paper} {figure.item}: chapter {figure.chapter} has no heading "
        f"with {figure.heading!r}; mend docs/figures.csv"
        for figure in book.figures
        if book.chapter(figure.chapter) and figure.anchor not in book.places
    ]
    assert not lost, "\n".join(lost)


def test_every_item_says_its_scale(book: Book) -> None:
    for figure in book.figures:
        assert figure.here, figure
        assert figure.in_paper, figure
        assert "{" not in figure.here, figure
        assert not re.search(r"\b0 (images|digits|photo|scenes)", figure.here), figure
    (figure_1,) = (f for f in book.figures if f.anchor == "pertmap-figure-1")
    rows = Results("pertmap_figure1_photos").rows(method="Gradient")
    assert f"EfficientNet-Lite0 on {len(rows)} photographs" in figure_1.here


@pytest.mark.parametrize("paper", ["pertmap", "geex", "aise"])
def test_every_published_item_is_in_the_index(book: Book, paper: str) -> None:
    """The items that data/published/ names, where it has the paper's numbers."""
    path = Path(ROOT / "data" / "published" / f"{paper}.csv")
    if not path.exists():
        pytest.skip(f"data/published/ has no {path.name}")
    rows = path.read_text(encoding="utf-8").splitlines()[1:]
    listed = {figure.item for figure in book.figures if figure.paper == paper}
    stated = {row.split(",")[0] for row in rows}
    missing = {s for s in stated if s.startswith(("Figure ", "Table "))} - listed
    assert not missing


def test_every_reference_of_a_chapter_is_in_the_bibliography(book: Book) -> None:
    titles = {
        title
        for notebook in book.notebooks.values()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for title in site_chapters.cited_titles(cell.source)
    }
    assert len(titles) > 30
    lost = [t for t in titles if site_chapters.letters(t) not in book.references]
    assert not lost, f"add to docs/references.bib: {lost}"


def test_no_two_chapters_of_a_paper_use_one_number(book: Book) -> None:
    """A tag names one equation in the chapters of a paper: else a link would lie."""
    found: dict[tuple[str, str], set[str]] = {}
    for name, notebook in book.notebooks.items():
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                for tag in site_chapters._TAG.findall(cell.source):
                    key = (site_chapters.strand(name), tag)
                    found.setdefault(key, set()).add(name)
    assert len(found) >= 8
    assert not {key: names for key, names in found.items() if len(names) > 1}
