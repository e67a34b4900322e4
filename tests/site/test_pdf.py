"""The book on paper, without printing it; tests/browser/test_pdf.py prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_an_empty_page_goes_before_what_would_begin_on_the_left() -> None:
    build_pdf = _tool()
    at = {"00": 3, "00-a": 5, "01": 6, "01-b": 7, "02": 10}
    left, later = build_pdf.on_the_right(["00", "01", "02"], at)
    assert left == {"01"}
    assert later == {"00": 3, "00-a": 5, "01": 7, "01-b": 8, "02": 11}


def test_a_page_is_made_ready_for_paper(tmp_path: Path) -> None:
    build_pdf = _tool()
    path, other = tmp_path / "04_a.html", tmp_path / "05_b.html"
    path.write_text(
        "<article><section id=a><h1>A<a class=headerlink href='#a'>#</a></h1>"
        "<div class='cell tag_hide-input'><details><summary>Show</summary>plot"
        "</details><p>printed</p></div>"
        "<div class='cell tag_hide-input tag_solution'><details><summary>"
        "<p class=collapsed>Show: Solution</p></summary><pre>answer</pre></details>"
        "</div>"
        "<a href='05_b.html#x'>x</a><a href='#a'>a</a><a href='gone.html'>gone</a>"
        "<section id=s><h2>Second</h2></section></section></article>",
        encoding="utf-8",
    )
    page = build_pdf.read(path, {path: "04", other: "05"})
    text = str(page.content)
    assert page.title == "A"
    assert page.inner == [("04-s", "Second")]
    assert "plot" not in text
    assert "printed" in text
    assert '<div class="book-solution"><p>Solution</p><pre>answer</pre></div>' in text
    assert '<a href="#05-x">' in text
    assert '<a href="#04-a">a</a>' in text
    assert "gone.html" not in text
    listed = build_pdf.contents([page], {"04": 3, "04-s": 12})
    assert 'data-page="12"><span>Second</span>' in listed


def _tool() -> Any:
    for package in ("bs4", "playwright", "pypdf"):
        pytest.importorskip(package, reason="the extra `docs` is not installed")
    import build_pdf

    return build_pdf
