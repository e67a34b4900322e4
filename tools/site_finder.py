"""The pages on which one finds a thing: the papers' claims, and all figures.

Both are plain lists of everything; `book.js` puts menus over what has `data-menus`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils.nodes import make_id
from nbformat import NotebookNode
from PIL import Image

from site_chapters import (
    STRANDS,
    Book,
    Figure,
    caption,
    cell_anchor,
    shows,
    strand,
)
from sync_notebooks import GENERATED, tags

Row = Mapping[str, Any]
"""A statement as `docs/_static/live/data/claims.json` has it."""
DEPENDS = "depends on the data"
SIMPLE = ("holds", "does not hold", "open", "too few", "not measured")
AUTHORS = {
    "Ikeno & Hara": "pertmap",
    "Cai & Wunder": "geex",
    "Tsykunov, Lee & Park": "aise",
}
PAPERS = {"pertmap": "PertMap", "geex": "GEEX", "aise": "AISE"}
# Names in code and captions by which a figure is found; a family has one.
METHODS = {
    "PertMap": r"PertMap",
    "GEEX": r"\bGEEX|\bsearch_noise",
    "GERS": r"\bGERS",
    "iGEEX": r"\b[iI]GEEX",
    "AISE": r"\bAISE|\bDirectSampler|\bLipoSampler|\bDIRECT\b|\bLIPO\b",
    "RISE": r"\bRISE",
    "D-RISE": r"\bD-?RISE",
    "Gradient": r"\bGradient\b|\bgradient\b",
    "SmoothGrad": r"SmoothGrad",
    "Integrated Gradients": r"\bIG\b|Integrated ?Gradients|\bintegrated\b",
    "Occlusion": r"\b[Oo]cclusion",
    "LIME": r"\bLIME",
    "KernelSHAP": r"Kernel ?SHAP",
    "Grad-CAM": r"Grad-?CAM",
    "LRP": r"\bLRP",
    "DeepLIFT": r"DeepL[iI][fF][tT]",
    "Guided Backprop": r"Guided ?Backprop",
    "Extremal": r"[Ee]xtremal",
}


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells of code that are on the site's page."""
    cells = (c for c in notebook.cells if c.cell_type == "code")
    return [c for c in cells if GENERATED not in tags(c)]


# The claims


def decides(row: Row, book: Book) -> tuple[str, str]:
    """Where a statement's verdict comes from: address and words.

    The proof of a theorem; or else the cell of the paper's notebook that names the
    statement, the item that it speaks of, or the cell that lists all verdicts.
    """
    if row["proved"]:
        number, _, heading = row["proved"].partition(", ")
        name = book.chapter(number)
        if name:
            return f"chapters/{name}.html#{make_id(heading)}", f"the proof, {number}"
    paper = AUTHORS[row["paper"]]
    here = f"chapters/{paper}.html"
    cells = code_cells(book.notebooks[paper]) if paper in book.notebooks else []
    for cell in cells:
        if re.search(rf"[\"']{row['id']}[\"']", cell.source):
            return f"{here}#{cell_anchor(cell)}", "the cell"
    item = re.match(r"(?:Figure|Table) S?\d+", row["statement"])
    if item:
        anchor = Figure(paper, item[0], "", "", "").anchor
        if anchor in book.places:
            return f"chapters/{book.places[anchor][0]}.html#{anchor}", item[0]
    listing = [cell for cell in cells if "ruling" in cell.source]
    if listing:
        return f"{here}#{cell_anchor(listing[-1])}", "the list"
    return "", ""


def claims_page(rows: Sequence[Row], book: Book) -> str:
    """All statements of the papers as one table, each with the place that decides."""
    text = (
        "# What the papers claim, and what holds\n\n"
        f"The {len(rows)} statements of the three papers that can be checked. Each is "
        "put as a rule: it **holds**, it **does not hold**, or it stays **open** at "
        "the sample at hand; where data sets disagree, the verdict names them. "
        "The last column leads to the cell, or the proof, that decides. How a rule "
        "is read: [studies and claims](studies.md); which rules were restated after "
        "rows had been seen, and why: [verdicts](verdicts.md).\n\n"
    )
    of = Counter(data for row in rows for data in _data(row))
    lines = [_claim(row, book, of) for row in rows]
    columns = ("paper", "statement", "verdict", "its printed numbers", "decided by")
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    return text + (
        '<div data-menus="paper verdict data-set chapter" data-things="statements">\n'
        f'<table class="book-claims"><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table>\n</div>\n"
    )


def _data(row: Row) -> list[str]:
    """The data sets of a statement, each once whatever the ranking."""
    return list(dict.fromkeys(re.sub(r" \(.*\)", "", name) for name in row["data"]))


def _claim(row: Row, book: Book, of: Counter[str]) -> str:
    """A line of the table, with what it is found by."""
    kind = row["verdict"] if row["verdict"] in SIMPLE else DEPENDS
    # What a single statement was tried on would make a menu of its own.
    data = ["a theorem"] if row["proved"] else _data(row)
    data = [d if row["proved"] or of[d] > 2 else "made for it" for d in data]
    found = {
        "paper": PAPERS[AUTHORS[row["paper"]]],
        "verdict": kind,
        "data-set": "; ".join(dict.fromkeys(data)),
        "chapter": row["chapter"],
    }
    marks = "".join(f' data-{k}="{html.escape(v)}"' for k, v in found.items())
    said = html.escape(row["statement"])
    small = [row["note"]]
    if row["scale"]:
        small = [f"Here: {row['scale']}", f"In the paper: {row['paper_scale']}", *small]
    notes = "".join(f"<p>{html.escape(text)}.</p>" for text in small if text)
    if notes:
        said += f"<details><summary>scale and notes</summary>{notes}</details>"
    address, words = decides(row, book)
    paper = f"{row['paper']}, {row['section']}"
    badge = f'<span class="book-verdict" data-kind="{kind}">{row["verdict"]}</span>'
    link = f'<a href="{address}">{words}</a>' if address else ""
    printed = "" if row["printed"] == "not printed" else row["printed"]
    cells = (html.escape(paper), said, badge, html.escape(printed), link)
    return f"<tr{marks}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


# The gallery


@dataclass(frozen=True)
class Picture:
    """A picture of a notebook: its caption, where it stands, what it is found by."""

    name: str
    number: int
    caption: str
    cell: NotebookNode
    content: bytes

    @property
    def address(self) -> str:
        """Of its cell, from the site's top."""
        return f"chapters/{self.name}.html#{cell_anchor(self.cell)}"

    @property
    def paper(self) -> str:
        """The paper of its notebook, or ""."""
        found = strand(self.name)
        return PAPERS[found] if found in STRANDS else ""

    @property
    def methods(self) -> list[str]:
        """Those that its cell or caption names."""
        text = f"{self.caption}\n{self.cell.source}"
        return [name for name, words in METHODS.items() if re.search(words, text)]


def pictures(book: Book) -> Iterator[Picture]:
    """Every PNG of the notebooks, numbered as `make figures` numbers the files."""
    for name, notebook in book.notebooks.items():
        number = 0
        for cell in code_cells(notebook):
            for output in cell.outputs:
                coded = output.get("data", {}).get("image/png")
                if coded is None:
                    continue
                number += 1
                said = caption(name, number, shows(output, cell, notebook))
                text = said["figure"]["caption"]
                yield Picture(name, number, text, cell, base64.b64decode(coded))


def gallery_page(book: Book, folder: Path) -> str:
    """All figures of the book, each small and linked to its cell.

    Args:
        book: with its pictures.
        folder: a new one, for the small pictures; below the site's `_static`.
    """
    folder.mkdir(parents=True)
    cards = []
    for picture in pictures(book):
        path = folder / f"{picture.name}-{picture.number:02d}.webp"
        small = Image.open(io.BytesIO(picture.content)).convert("RGB")
        small.thumbnail((320, 240))
        small.save(path, "WEBP", quality=60, method=6)
        found = {
            "paper": picture.paper or "all three",
            "method": "; ".join(picture.methods),
            "notebook": picture.name,
        }
        marks = "".join(f' data-{k}="{html.escape(v)}"' for k, v in found.items())
        # As MyST calls the file.
        large = f"_images/{hashlib.sha256(picture.content).hexdigest()}.png"
        number = picture.caption.partition(". ")[0]
        cards.append(
            f'<figure class="book-picture"{marks}>'
            f'<a class="image-reference" href="{large}">'
            f'<img src="_static/{folder.name}/{path.name}" alt="{number}, enlarged" '
            f'loading="lazy" width="{small.width}" height="{small.height}"></a>'
            f'<figcaption><a href="{picture.address}">'
            f"{html.escape(picture.caption)}</a></figcaption></figure>"
        )
    return (
        "# Gallery\n\n"
        f"The {len(cards)} figures of the book: a click enlarges one, and its caption "
        "leads to the cell that draws it. A figure is found by the paper of its "
        "chapter and by the methods that its cell names; the papers' own figures are "
        "[listed apart](figures.md).\n\n"
        '<div data-menus="paper method notebook" data-things="figures">\n'
        '<div class="book-gallery">\n' + "\n".join(cards) + "\n</div>\n</div>\n"
    )
