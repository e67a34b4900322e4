"""The claims and the gallery; links from words; the cells behind a name."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import site_finder
import site_words
from site_chapters import Book, Figure

ROW: dict[str, Any] = {
    "id": "almost_zero",
    "paper": "Cai & Wunder",
    "section": "4",
    "statement": "Figure 1: it is < 2",
    "chapter": "04",
    "verdict": "holds",
    "data": ["MNIST", "MNIST (map × input)"],
    "proved": "",
    "printed": "not printed",
    "note": "a note",
    "scale": "small",
    "paper_scale": "large",
}


def png(width: int, height: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "orange").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def book() -> Book:
    shown = new_output("display_data", {"image/png": png(800, 400)})
    listing = new_code_cell("for ruling in rulings: ...", id="list")
    named = new_code_cell('verdicts("other", "almost_zero")', id="named")
    drawn = new_code_cell("GERS(f); RISE(f)", id="drawn", outputs=[shown, shown])
    return Book(
        {
            "04_queries": new_notebook(
                cells=[new_markdown_cell("# Queries\n\n## The proof of it")]
            ),
            "geex": new_notebook(
                cells=[
                    new_markdown_cell("# GEEX\n\n## Figure 1"),
                    named,
                    drawn,
                    listing,
                ]
            ),
        },
        [Figure("geex", "Figure 1", "a scheme", "geex", "Figure 1")],
        {},
    )


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({}, "chapters/geex.html#cell-named"),
        ({"id": "unnamed"}, "chapters/geex.html#geex-figure-1"),
        ({"id": "unnamed", "statement": "x"}, "chapters/geex.html#cell-list"),
        ({"proved": "04, The proof of it"}, "chapters/04_queries.html#the-proof-of-it"),
        ({"paper": "Ikeno & Hara"}, ""),  # its notebook is not there
    ],
)
def test_what_decides_a_claim(
    book: Book, changed: dict[str, str], address: str
) -> None:
    assert site_finder.decides(ROW | changed, book)[0] == address


def test_the_claims_are_one_plain_table(book: Book) -> None:
    other = ROW | {"verdict": "holds on MNIST; open on scenes", "printed": "open"}
    page = site_finder.claims_page([ROW, other, ROW], book)
    rows = re.findall(r"<tr (.*?)>(.*?)</tr>", page)
    assert len(rows) == 3
    assert rows[0][0] == (
        'data-paper="GEEX" data-verdict="holds" data-data-set="MNIST" data-chapter="04"'
    )
    assert 'data-verdict="depends on the data"' in rows[1][0]
    assert "it is &lt; 2" in rows[0][1]
    assert "not printed" not in rows[0][1]
    assert "<td>open</td>" in rows[1][1]
    assert "Here: small." in rows[0][1]
    # With fewer than three statements a data set is no entry of the menu.
    assert "made for it" in site_finder.claims_page([ROW], book)


def test_every_picture_is_in_the_gallery(book: Book, tmp_path: Path) -> None:
    page = site_finder.gallery_page(book, tmp_path / "gallery")
    assert page.count('href="chapters/geex.html#cell-drawn"') == 2
    assert 'data-paper="GEEX" data-method="GERS; RISE"' in page
    small = tmp_path / "gallery" / "geex-02.webp"
    assert Image.open(small).size == (320, 160)
    assert small.stat().st_size < 5_000


GLOSSARY = """# Glossary

```{glossary}
black box
  A model that only answers. Chapter 04.

box
  Sides. Chapters 04 and 09.

RISE
  Masks.
```
"""


def test_a_term_is_linked_once_and_the_longest_first() -> None:
    known = site_words.terms(GLOSSARY)
    left = set(known)
    text = "# A black box\n\nBlack boxes and a **black box**; $box$ `box` box, boxes."
    found = site_words.first_uses(text, known, left)
    assert found == (
        "# A black box\n\nBlack boxes and a **{term}`black box <black box>`**; "
        "$box$ `box` {term}`box <box>`, boxes."
    )
    assert site_words.first_uses("a black box, arise", known, left) == (
        "a black box, arise"
    )
    assert site_words.first_uses("## References\n\n- RISE", known, left).endswith(
        "RISE"
    )
    assert site_words.first_uses("RISE", known, left) == "{term}`RISE <RISE>`"


def test_the_methods_are_in_the_library() -> None:
    for name in site_words.METHODS.values():
        module, _, own = name.rpartition(".")
        assert hasattr(__import__(module, fromlist=[own]), own)


def test_the_glossary_leads_to_the_chapters(book: Book) -> None:
    page = site_words.glossary_page(GLOSSARY, book)
    assert "Chapter [04](chapters/04_queries.ipynb)." in page
    assert "Chapters [04](chapters/04_queries.ipynb) and 09." in page


def test_cells_that_use_a_name(book: Book) -> None:
    found = site_words.uses(book)
    assert found["RISE"] == ["geex chapters/geex.html#cell-drawn"]
    assert "rulings" not in found  # not called
