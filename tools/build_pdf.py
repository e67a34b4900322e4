"""The book for a print shop: one PDF of the site's pages, by Chromium.

    python tools/build_pdf.py            writes _build/book.pdf

`make pdf` builds the site first. It needs Debian's `chromium`, and the book is set in
Debian's `fonts-sil-gentiumplus` if that is there. A4 with wide inner margins, fonts
embedded, each chapter on a right-hand page. Live figures are their still pictures, and
code that only draws is left out. What is too wide is set smaller, a wide table on a
page that lies across: else Chromium would shrink the whole book. It is printed twice:
the first print says on which pages the headings are. On 2026-11-29 the book had 285
pages and 31 MB, and took two to four minutes.
"""

from __future__ import annotations

import argparse
import html
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser, sync_playwright
from pypdf import PdfReader, PdfWriter

from sync_notebooks import ROOT, notebooks

TITLE = "Explaining image models by perturbing their inputs"
ABOUT = "Three papers derived, implemented and reproduced, in notebooks that run"
PARTS = {"00": "To learn", "pertmap": "To reproduce", "glossary": "To look up"}
"""What stands in the contents before a page."""
# Nothing that moves or is pressed, and no code that only draws; the table of the claims
# is printed by a cell, too.
LEFT_OUT = (
    "script, style, .headerlink, .book-tools, .live-stage, .book-copy, #live-claims, "
    ".tag_hide-input:not(.tag_solution) > details"
)
UNLISTED = ("Summary", "References")
"""Headings of every chapter, not worth a line of the contents."""
WIDTH = 604
"""Of what is printed on a page, in CSS pixels; see print.css."""
# A short table stays on one page. Lines of a listing break where it would be too small.
# Returns what is still too wide.
FIT = """(upright) => {
  for (const wide of document.querySelectorAll("table, .displaymath, pre")) {
    const listing = wide.tagName === "PRE";
    if (listing) wide.style.whiteSpace = "pre";
    let share = wide.clientWidth / wide.scrollWidth;
    if (wide.tagName === "TABLE") {
      share = upright / wide.scrollWidth;
      if (wide.scrollHeight < 500) wide.style.breakInside = "avoid";
      if (share < 0.8) {
        wide.classList.add("across");
        share = Math.min(930 / wide.scrollWidth, 600 / wide.scrollHeight);
      }
    }
    if (listing && share < 0.75) wide.style.whiteSpace = "";
    else if (share < 1) wide.style.zoom = share;
  }
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.getBoundingClientRect().right > upright + 2)
    .filter((e) => !e.closest(".across"))
    .map((e) => e.outerHTML.slice(0, 100));
}"""


@dataclass
class Page:
    """A page of the site, made ready for paper. `name` begins all its ids."""

    name: str
    title: str
    content: Tag
    inner: list[tuple[str, str]]
    """The ids and texts of its second headings."""

    @property
    def style(self) -> str:
        """Its name in CSS, where none begins with a figure."""
        return f"page-{self.name}"


def read(path: Path, names: dict[Path, str]) -> Page:
    """A page of the site without what paper cannot do.

    Args:
        path: of the page.
        names: of all the pages that are printed, by their paths.

    Raises:
        ValueError: no page of the site.
    """
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    article = soup.find("article")
    if not isinstance(article, Tag):
        raise ValueError(f"{path.name} has no article: build the site again")
    for unwanted in article.select(LEFT_OUT):
        unwanted.decompose()
    for fold in article.select("details"):  # solutions
        fold.name, fold["class"] = "div", "book-solution"
        for summary in fold.select("summary"):
            said = summary.select_one(".collapsed")
            text = said.get_text() if said else summary.get_text()
            summary.name, summary.string = "p", text.removeprefix("Show: ")
    own = names[path]
    for element in article.select("[id]"):
        element["id"] = f"{own}-{element['id']}"
    for image in article.select("img"):
        image["src"] = (path.parent / unquote(str(image["src"]))).resolve().as_uri()
        del image["loading"]
    for link in article.select("a[href]"):
        file, _, anchor = unquote(str(link["href"])).partition("#")
        there = (path.parent / file).resolve() if file else path
        if "//" in file or file.startswith("mailto:"):
            continue
        if there in names:
            link["href"] = f"#{names[there]}-{anchor}" if anchor else f"#{names[there]}"
        else:
            link.unwrap()
    heading = article.find("h1")
    assert isinstance(heading, Tag)
    inner = [
        (str(section["id"]), section.h2.get_text())
        for section in article.select("section[id]")
        if section.find("h2", recursive=False)
        and section.h2
        and section.h2.get_text() not in UNLISTED
    ]
    return Page(own, heading.get_text(), article, inner)


def contents(pages: list[Page], at: dict[str, int]) -> str:
    """The contents, with the numbers of pages by id."""
    lines = []
    for page in pages:
        if part := PARTS.get(page.name):
            lines.append(f'<li class="part">{part}</li>')
        entries = [(page.name, page.title, "outer")]
        entries += [(name, text, "inner") for name, text in page.inner]
        lines += [
            f'<li class="{kind}"><a href="#{name}" data-page="{at.get(name, "000")}">'
            f"<span>{html.escape(text)}</span></a></li>"
            for name, text, kind in entries
        ]
    return f"<h1>Contents</h1><ol>{''.join(lines)}</ol>"


def document(pages: list[Page], site: Path, at: dict[str, int], left: set[str]) -> str:
    """The whole book as one page of HTML; those `left` have an empty page before them,
    as they would begin on a left-hand one."""
    styles = (site / "_static" / f"{name}.css" for name in ("formulas", "print"))
    css = "".join(path.read_text(encoding="utf-8") for path in styles)
    heads, bodies = [], []
    for page in pages:
        side = 'font: 8.5pt "Liberation Sans", sans-serif'
        title = page.title.replace('"', "'")
        heads.append(
            f"@page {page.style}:left "
            f'{{ @top-left {{ content: "{title}"; {side} }} }}\n'
            f"@page {page.style}:right "
            f'{{ @top-right {{ content: "{title}"; {side} }} }}\n'
        )
        if page.name in left:
            bodies.append('<div class="empty"></div>')
        bodies.append(
            f'<div id="{page.name}" style="page: {page.style}; '
            f'break-before: page">{page.content}</div>'
        )
    four = (site / "_static" / "brand" / "four.png").resolve().as_uri()
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{TITLE}</title><style>{css}{''.join(heads)}</style></head><body>"
        f'<div class="front"><h1>{TITLE}</h1><p>{ABOUT}</p>'
        f'<img src="{four}" alt=""><p>Text and figures: CC BY 4.0. Code: MIT.</p></div>'
        f'<div class="contents">{contents(pages, at)}</div>{"".join(bodies)}'
        "</body></html>"
    )


def printed(browser: Browser, text: str, folder: Path, name: str) -> Path:
    """The PDF of a page of HTML, with its outline.

    Raises:
        ValueError: something is wider than a page.
    """
    source = folder / f"{name}.html"
    source.write_text(text, encoding="utf-8")
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.emulate_media(media="print")
    page.goto(source.as_uri(), wait_until="load")
    if wide := page.evaluate(FIT, WIDTH):
        raise ValueError(f"wider than a page: {wide[0]}")
    out = folder / f"{name}.pdf"
    page.pdf(path=out, prefer_css_page_size=True, outline=True, tagged=True)
    page.close()
    return out


def page_numbers(path: Path) -> dict[str, int]:
    """The number of the page of each id that something links to."""
    reader = PdfReader(path)
    found = {}
    for name, there in reader.named_destinations.items():
        number = reader.get_destination_page_number(there)
        if number is not None:
            found[name.removeprefix("/")] = number + 1
    return found


def on_the_right(
    names: list[str], at: dict[str, int]
) -> tuple[set[str], dict[str, int]]:
    """Which pages of the site need an empty page before them, and the numbers then.

    Args:
        names: of the pages, in order; an id begins with the name of its page.
        at: the number of the page of each id without empty ones.
    """
    left, later, added = set[str](), dict[str, int](), 0
    for name in names:
        if (at[name] + added) % 2 == 0:
            left.add(name)
            added += 1
        later[name] = added
    return left, {key: n + later[key.partition("-")[0]] for key, n in at.items()}


def book(browser: Browser, site: Path, order: list[str], folder: Path) -> Path:
    """Print pages of the site, in order, into `folder`/book.pdf.

    Args:
        browser: a headless Chromium.
        site: as `build_site.py` makes it.
        order: the pages, as "chapters/00_start_here".
        folder: also keeps the HTML that is printed.

    Raises:
        FileNotFoundError: a page is missing.
    """
    paths = [(site / f"{name}.html").resolve() for name in order]
    names = {path: path.stem.split("_")[0] for path in paths}
    pages = [read(path, names) for path in paths]
    folder.mkdir(parents=True, exist_ok=True)
    text = document(pages, site, {}, set())
    first = page_numbers(printed(browser, text, folder, "first"))
    left, at = on_the_right([page.name for page in pages], first)
    text = document(pages, site, at, left)
    second = printed(browser, text, folder, "second")
    if page_numbers(second) != at:
        raise RuntimeError("the contents moved the pages; print again")
    writer = PdfWriter(clone_from=second)
    writer.add_metadata({"/Title": TITLE, "/Author": "The authors of the book"})
    out = folder / "book.pdf"
    writer.write(out)
    return out


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    site = root / "_build" / "site"
    order = [f"chapters/{path.stem}" for path in notebooks(root / "notebooks")]
    order += ["glossary", "bibliography"]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("chromium is not in PATH: install Debian's `chromium`", file=sys.stderr)
        return 1
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox"]
            )
            out = book(browser, site, order, root / "_build" / "pdf")
            browser.close()
    except FileNotFoundError as error:
        print(f"{error}; `make site` builds the pages", file=sys.stderr)
        return 1
    final = root / "_build" / "book.pdf"
    shutil.copy(out, final)
    print(f"open {final.relative_to(root)}: {len(PdfReader(final).pages)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
