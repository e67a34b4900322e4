"""The book on paper, printed by Chromium from a few pages of the site."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

NAMES = [
    "chapters/04_gradients_from_queries",
    "chapters/pertmap",
    "chapters/bench",  # with a table wider than a page
    "glossary",
]


@pytest.fixture(scope="module")
def printed(
    built: Path, chromium: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    pypdf = pytest.importorskip("pypdf")
    import build_pdf  # it needs the extra `docs`

    out = build_pdf.book(chromium, built, NAMES, tmp_path_factory.mktemp("pdf"))
    return pypdf.PdfReader(out)


def test_the_contents_say_the_pages(printed: Any) -> None:
    texts = [page.extract_text() for page in printed.pages]
    contents = texts[1]
    there = next(
        n for n, text in enumerate(texts, 1) if n > 2 and "Only answers" in text
    )
    line = next(line for line in contents.splitlines() if "Only answers" in line)
    assert line.split()[-1] == str(there)


def test_chapters_begin_on_the_right(printed: Any) -> None:
    """Where the head of a page is followed by the same words as a title."""
    starts = [
        n
        for n, page in enumerate(printed.pages, start=1)
        for lines in [page.extract_text().splitlines()]
        if len(lines) > 2 and lines[0] == lines[2]
    ]
    assert len(starts) == len(NAMES)
    assert all(n % 2 for n in starts)


def test_what_is_wide_does_not_shrink_the_rest(printed: Any) -> None:
    """Chromium makes all type smaller if one thing is wider than a page."""
    sizes: Counter[float] = Counter()

    def count(
        text: str, cm: list[float], tm: list[float], font: Any, size: float
    ) -> None:
        if font and "Gentium" in font["/BaseFont"]:
            sizes[round(abs(size * cm[3] * tm[3]), 1)] += len(text.strip())

    for page in printed.pages:
        page.extract_text(visitor_text=count)
    if not sizes:
        pytest.skip("the fonts of Debian's `fonts-sil-gentiumplus` are not there")
    assert sizes.most_common(1)[0][0] == 10.5
    boxes = [page.mediabox for page in printed.pages]
    assert sum(box.width > box.height for box in boxes) == 1


def test_too_wide_is_an_error(chromium: Any, tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    import build_pdf

    text = "<div style='width: 700px'>wide</div>"
    with pytest.raises(ValueError, match="wider than a page: <div"):
        build_pdf.printed(chromium, text, tmp_path, "wide")


def test_fonts_are_embedded_and_no_strokes(printed: Any) -> None:
    kinds = set()
    for page in printed.pages:
        for font in (page["/Resources"].get("/Font") or {}).values():
            font = font.get_object()
            kinds.add(font["/Subtype"])
            below = font["/DescendantFonts"][0].get_object()
            assert "/FontFile2" in below["/FontDescriptor"].get_object()
    assert kinds == {"/Type0"}


def test_code_that_only_draws_is_left_out(printed: Any) -> None:
    text = "\n".join(page.extract_text() for page in printed.pages)
    assert "def central_differences" in text
    assert "plt.subplots" not in text
    assert "Download the notebook" not in text
    assert "exercise 4.1: not attempted yet" in text
