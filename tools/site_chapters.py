r"""What the site adds to a chapter: anchors, links between chapters, captions.

A notebook must read well in Jupyter and Colab, which know no labels. So it holds none:
it says "chapter 05", "formula (1)" and "Figure S4" in plain text, and `\tag{3.1}` in an
equation. These are unique within the strand of one paper, and become links here; a
reference becomes one by its title.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from hygiene import CAPTION
from reading import length, stated
from sync_notebooks import (
    GENERATED,
    REPRODUCE,
    Origin,
    fold_title,
    tags,
    without_title,
)
from xai_book.studies.results import Results

# The notebooks in which "Figure 1" means that of one paper.
STRANDS = {
    "pertmap": ("02", "03", "pertmap"),
    "geex": ("04", "05", "06", "geex"),
    "aise": ("07", "08", "09", "aise"),
}
# Who is meant, in a chapter that belongs to no paper.
NAMES = {
    "pertmap": re.compile("Ikeno|PertMap"),
    "geex": re.compile("Cai and|GEEX|GERS"),
    "aise": re.compile("Tsykunov|AISE|LIPO|DIRECT"),
}
# The cells whose widget needs a kernel, and the live figure that stands there instead.
LIVE = {
    "00-109": "threshold",
    "01-038": "deletion",
    "02-101": "box",
    "03-051": "penalty",
    "04-055": "settle",
    "c05-71": "cells",
    "c06-062": "path",
    "07-042": "spot",
    "08-059": "kernels",
    "09-043": "area",
    "c10-044": "method",
    "c11-039": "claims",
}
_PARAGRAPH = re.compile(r"(?:```.*?```|(?!\n\n).)+", re.DOTALL)
# Code, formulas and links are left alone.
_PROTECTED = re.compile(
    r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|!?\[[^\]\n]*\]\([^)\n]*\)", re.DOTALL
)
_DISPLAY = re.compile(r"^\$\$.*?\$\$", re.DOTALL | re.MULTILINE)
_TAG = re.compile(r"\\tag\{(\w[\w.]*)[^}]*\}")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*$", re.MULTILINE)
_BETWEEN_DOORS = re.compile(rf"\]\((?:\.\./|{REPRODUCE}/)(\w+\.ipynb)\)")
_COUNT = re.compile(r"\{([^{}]+)\}")
_LISTED = r"(?: (?:and|to) |, )"


@dataclass(frozen=True)
class Figure:
    """A figure, table or statement of a paper, and where the book reproduces it.

    `chapter` is the number of a chapter, or the name of a notebook in `reproduce/`;
    `here` and `in_paper` are the scales: models, data, images, queries.
    """

    paper: str
    item: str
    shows: str
    chapter: str
    heading: str
    here: str = ""
    in_paper: str = ""

    @property
    def anchor(self) -> str:
        """The label of its place, such as geex-figure-s4."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.paper} {self.item}".lower())


def read_figures(path: Path) -> list[Figure]:
    """The rows of docs/figures.csv. In `here`, {store} and {store setting=value} are
    how many images the stored rows have."""

    def count(found: re.Match[str]) -> str:
        store, _, setting = found[1].partition(" ")
        name, _, value = setting.partition("=")
        rows = Results(store).rows(**({name: value} if name else {}))
        return str(len({row["image"] for row in rows}))

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    counted = (row | {"here": _COUNT.sub(count, row["here"])} for row in rows)
    return [Figure(**row) for row in counted]


def read_references(path: Path) -> dict[str, str]:
    """Titles, reduced to letters, and the keys of docs/references.bib."""
    entry = re.compile(r"^@\w+\{(\w+),.*\btitle=\{(.+?)\},", re.MULTILINE)
    found = entry.findall(path.read_text(encoding="utf-8"))
    return {letters(title): key for key, title in found}


def letters(title: str) -> str:
    """A title without what printers change."""
    return re.sub(r"\W+", "", title).lower()


def cited_titles(source: str) -> list[str]:
    """The titles, in italics, in a list of references; none for other cells."""
    _, heading, listed = source.partition("## References\n")
    return (
        re.findall(r"^- [^*\n]+?\*(.+?)\.?\*", listed, re.MULTILINE) if heading else []
    )


@dataclass
class Book:
    """All chapters by name, the items of the papers, and the bibliography."""

    notebooks: dict[str, NotebookNode]
    figures: list[Figure]
    references: dict[str, str]

    def chapter(self, number: str) -> str | None:
        """The name of the notebook with this number, if there is one."""
        return next((name for name in self.notebooks if short(name) == number), None)

    @cached_property
    def places(self) -> dict[str, tuple[str, str]]:
        """Anchor to (chapter, heading), for the items whose heading exists."""
        found = {}
        for figure in self.figures:
            name = self.chapter(figure.chapter)
            for heading in headings(self.notebooks[name]) if name else ():
                if figure.heading and figure.heading in heading:
                    found[figure.anchor] = (str(name), heading)
                    break
        return found

    @cached_property
    def equations(self) -> dict[tuple[str, str], str]:
        """(paper, number) to anchor, for the equations with a tag; the first counts."""
        found: dict[tuple[str, str], str] = {}
        for name, notebook in self.notebooks.items():
            for cell in notebook.cells:
                for tag in _TAG.findall(cell.source):
                    key = (strand(name), tag)
                    found.setdefault(key, equation_anchor(name, tag))
        return found


def short(name: str) -> str:
    """The number of a chapter; a notebook that has none keeps its name."""
    return name[:2] if name[:2].isdigit() else name


def strand(name: str) -> str:
    """The paper of a notebook, or what it is called where it has none."""
    return next(
        (p for p, found in STRANDS.items() if short(name) in found), short(name)
    )


def meant(name: str, paragraph: str) -> str:
    """The paper whose figures and equations a paragraph of a chapter means: the
    chapter's, or else the only one that the paragraph names."""
    paper = strand(name)
    words = _PROTECTED.sub("", paragraph)
    named = [p for p, names in NAMES.items() if names.search(words)]
    return named[0] if paper not in STRANDS and len(named) == 1 else paper


def equation_anchor(name: str, tag: str) -> str:
    return f"equation-{short(name)}-{tag.replace('.', '-')}"


def headings(notebook: NotebookNode) -> list[str]:
    """The texts of all headings of a notebook, in order."""
    return [
        text
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for text in _HEADING.findall(_blanked(cell.source))
    ]


def _blanked(source: str) -> str:
    """Without fenced code, in which # begins a comment."""
    return re.sub(r"```.*?```", "", source, flags=re.DOTALL)


def outside(source: str, change: Callable[[str], str]) -> str:
    """Apply `change` to the plain text between code, formulas and links."""
    parts, at = [], 0
    for kept in _PROTECTED.finditer(source):
        parts += [change(source[at : kept.start()]), kept[0]]
        at = kept.end()
    return "".join([*parts, change(source[at:])])


def chapter_for_site(name: str, book: Book, home: Origin) -> NotebookNode:
    """A copy of the chapter for Sphinx; the notebook itself stays as it is."""
    notebook = deepcopy(book.notebooks[name])
    notebook.cells = [c for c in notebook.cells if GENERATED not in tags(c)]
    for cell in [c for c in notebook.cells if c.get("id") in LIVE]:
        cell.outputs = []
        figure = f"```{{raw}} html\n:file: live/{LIVE[cell.id]}.html\n```"
        place = notebook.cells.index(cell) + 1
        notebook.cells.insert(place, new_markdown_cell(figure))
    pictures, seen = 0, set[str]()
    for cell in list(notebook.cells):
        if cell.cell_type == "markdown":
            # The site keeps all notebooks in one folder.
            cell.source = _BETWEEN_DOORS.sub(r"](\1)", cell.source)
            cell.source = linked(cell.source, name, book, seen)
            continue
        # The site sets them itself, with a number.
        cell.outputs = [o for o in cell.outputs if CAPTION not in o.get("data", {})]
        cell.metadata["anchor"] = cell_anchor(cell)
        if {"solution", "hide-input"} & set(tags(cell)):
            prompt = "Show: " + fold_title(cell)
            cell.metadata["mystnb"] = {"code_prompt_show": prompt}
            cell.metadata.tags = list({*tags(cell), "hide-input"})
            cell.source = without_title(cell.source)
        at = notebook.cells.index(cell) + 1
        notebook.cells[at:at] = more = further(cell)
        for part in [cell, *more]:
            for output in part.outputs:
                if "image/png" not in output.get("data", {}):
                    continue
                pictures += 1
                shown = shows(output, cell, book.notebooks[name])
                said = caption(name, pictures, shown)
                if width := stored(output).get("width"):
                    said["image"]["width"] = f"{width}px"
                part.metadata.setdefault("mystnb", {}).update(said)
    first = next(c for c in notebook.cells if c.cell_type == "markdown")
    if short(name) != name:
        first.source = re.sub("^# ", f"# {short(name)} · ", first.source, flags=re.M)
    head, gap, rest = first.source.partition("\n\n")
    first.source = f"{head}\n\n{toolbar(name, book, home)}{gap}{rest}"
    return notebook


def further(cell: NotebookNode) -> list[NotebookNode]:
    """Take away the outputs from the cell's second picture or table on, for cells of
    their own: MyST would give one caption to all that a cell shows."""
    shown = [n for n, output in enumerate(cell.outputs) if "data" in output]
    parts = [cell.outputs[a:b] for a, b in pairwise([*shown[1:], None])]
    cell.outputs = cell.outputs[: shown[1]] if parts else cell.outputs
    # Without a source MyST would leave the cell out.
    only = {"metadata": {"tags": ["remove-input"]}, "source": cell.source}
    return [new_code_cell(outputs=part, **only) for part in parts]


def stored(output: NotebookNode) -> dict[str, Any]:
    """What an output says of its picture: "alt", and "width" on the screen."""
    return dict(output.get("metadata", {}).get("image/png", {}))


def toolbar(name: str, book: Book, home: Origin) -> str:
    """The line under a title: minutes, and where to get the notebook or run it."""
    notebook = book.notebooks[name]
    minutes = stated(notebook) or length(notebook).minutes
    path = f"{name}.ipynb" if short(name) != name else f"{REPRODUCE}/{name}.ipynb"
    parts = [f"<span>{minutes} minutes</span>"]
    if home.repository:
        link = home.badge(path).rsplit("](", 1)[1][:-1]
        parts.append(f'<a href="{link}">Open in Colab</a>')
    there = f"../notebooks/{path}"
    parts.append(f'<a href="{there}" download>Download the notebook</a>')
    return f'<p class="book-tools">{" ".join(parts)}</p>'


def cell_anchor(cell: NotebookNode) -> str:
    """The id that a code cell has on its page; `conf.py` puts it there."""
    return f"cell-{cell.id}"


def shows(output: NotebookNode, cell: NotebookNode, notebook: NotebookNode) -> str:
    """What to see in a picture of a cell: its caption, or else the cell's title if it
    is folded, or the heading that it stands under."""
    if said := stored(output).get("alt"):
        return str(said)
    original = next(c for c in notebook.cells if c.id == cell.id)
    if "hide-input" in tags(original):
        words = re.sub("^Draw ", "", fold_title(original))
        return words[0].upper() + words[1:]
    above = notebook.cells[: notebook.cells.index(original)]
    return headings(NotebookNode(cells=above))[-1]


def caption(name: str, picture: int, shown: str) -> dict[str, dict[str, str]]:
    """MyST's settings for the only picture of a cell: caption, anchor, text for those
    who do not see it. The number is that of the file that `make figures` writes."""
    chapter = short(name)
    number = f"{int(chapter)}.{picture}" if chapter.isdigit() else f"{name} {picture}"
    text = f"Figure {number}. {shown}"
    anchor = f"picture-{chapter}-{picture:02d}"
    return {"figure": {"caption": text, "name": anchor}, "image": {"alt": text}}


def _each(phrase: str, number: str, address: Callable[[str], str]) -> str:
    """Link the numbers of a phrase; a single one with its word, "chapter 05"."""
    found = re.findall(number, phrase)
    if len(found) == 1:
        there = address(found[0])
        return f"[{phrase}]({there})" if there else phrase

    def link(match: re.Match[str]) -> str:
        there = address(match[0])
        return f"[{match[0]}]({there})" if there else match[0]

    return re.sub(number, link, phrase)


def linked(source: str, name: str, book: Book, seen: set[str]) -> str:
    """Markdown with anchors before headings and equations, and with links to them."""

    def chapter_address(number: str) -> str:
        there = book.chapter(number)
        return f"{there}.ipynb" if there and there != name else ""

    def item_address(paper: str, kind: str, number: str) -> str:
        anchor = Figure(paper, f"{kind} {number}", "", "", "").anchor
        return f"#{anchor}" if anchor in book.places else ""

    def paragraph_links(match: re.Match[str]) -> str:
        return outside(match[0], partial(links, meant(name, match[0])))

    def links(paper: str, text: str) -> str:
        lines = text.split("\n")
        return "\n".join(
            line if line.startswith("#") else line_links(paper, line) for line in lines
        )

    def line_links(paper: str, line: str) -> str:
        line = re.sub(
            rf"\b[Cc]hapters? \d\d(?:{_LISTED}\d\d)*\b",
            lambda m: _each(m[0], r"\d\d", chapter_address),
            line,
        )
        line = re.sub(
            rf"\b(Figure|Table)s? S?\d+(?:{_LISTED}S?\d+)*\b",
            lambda m: _each(m[0], r"S?\d+", partial(item_address, paper, m[1])),
            line,
        )
        return re.sub(
            r"(?<![\w)\]])\((\d[\d.]*)\)", partial(equation_link, paper), line
        )

    def equation_link(paper: str, match: re.Match[str]) -> str:
        own = book.equations.get((strand(name), match[1]))
        anchor = own or book.equations.get((paper, match[1]))
        return f"[({match[1]})](#{anchor})" if anchor else match[0]

    def equation_label(match: re.Match[str]) -> str:
        tag = _TAG.search(match[0])
        anchor = equation_anchor(name, tag[1]) if tag else ""
        if not tag or anchor in seen:
            return match[0]
        seen.add(anchor)
        return f"({anchor})=\n{match[0]}"

    def heading_labels(match: re.Match[str]) -> str:
        labels = [a for a, place in book.places.items() if place == (name, match[1])]
        new = [label for label in labels if label not in seen]
        seen.update(new)
        return "".join(f"({label})=\n" for label in new) + match[0]

    def cited(line: str) -> str:
        titles = cited_titles(f"## References\n{line}")
        key = book.references.get(letters(titles[0])) if titles else None
        return f"{line} {{cite}}`{key}`" if key else line

    text, heading, listed = source.partition("## References\n")
    source = text + heading + "\n".join(map(cited, listed.split("\n")))
    source = _PARAGRAPH.sub(paragraph_links, source)
    source = _HEADING.sub(heading_labels, source)
    return _DISPLAY.sub(equation_label, source)
