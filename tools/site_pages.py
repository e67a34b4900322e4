"""The pages of the site that are tables made from files."""

from __future__ import annotations

import base64
import html
import io
import json
import operator
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbformat import NotebookNode
from PIL import Image

from hygiene import is_ignored, numbered, printed
from reading import stated
from site_chapters import Book, Figure, short

PAPERS = {
    "pertmap": "Ikeno and Hara: PertMap",
    "geex": "Cai and Wunder: GEEX",
    "aise": "Tsykunov, Lee and Park: AISE",
}


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


# Beside the number of notebooks and what `counted` counts.
COUNTED = ("notebooks", "executed cells", "with text that tests compare", "figures")
# The heading of a strand: its question, and its notebooks.
STRANDS = {
    "Begin": ("What is a map, and how is it judged?", ("00", "01")),
    "Invariant perturbations": (
        "PertMap: how far may the pixels move before the decision changes?",
        ("02", "03"),
    ),
    "Gradients from queries": (
        "GEEX: how do gradients come from questions alone?",
        ("04", "05", "06"),
    ),
    "Saliency by adaptive sampling": (
        "AISE: where should the next question be asked?",
        ("07", "08", "09"),
    ),
    "Choose, mistrust, speed up": (
        "Which explanation, what goes wrong, and how on a GPU?",
        ("10", "11", "12"),
    ),
    "Reproduce a paper, item by item": (
        "What the paper shows, ours beside it, and the verdict.",
        ("pertmap", "geex", "aise", "bench"),
    ),
}
# What a notebook's card shows: which of its pictures, and the part of it in percent of
# the width and height: left, top, right, bottom. Of another notebook, all of the first.
PICTURES = {
    "00": (4, (54, 8, 85, 78)),
    "01": (1, (45, 7, 83, 61)),
    "02": (2, (0, 0, 100, 100)),
    "03": (1, (48, 7, 89, 100)),
    "04": (3, (0, 4, 67, 62)),
    "05": (1, (0, 4, 100, 100)),
    "06": (1, (0, 0, 100, 100)),
    "07": (5, (54, 0, 100, 41)),
    "08": (4, (0, 0, 87, 100)),
    "09": (1, (0, 0, 100, 100)),
    "10": (5, (0, 0, 100, 100)),
    "11": (3, (34, 0, 100, 100)),
    "12": (2, (48, 0, 100, 100)),
    "pertmap": (6, (0, 48, 100, 100)),
    "geex": (12, (0, 0, 57, 56)),
    "aise": (17, (0, 4, 67, 95)),
    "bench": (1, (0, 0, 100, 51)),
}
# With a number before it or not, and whatever stands in further columns.
_ROW = re.compile(
    r"^\|(?:[^|\[]*\|)? \[(.+?)\]\(notebooks/(.+?)\.ipynb\) \| (.+?) \|", re.M
)


def cards(book: Book, readme: str, thumbnails: Path) -> str:
    """A card for each notebook, in strands: a picture, its title, what it is for.

    The words are those of README.md's tables; the pictures, which `PICTURES` names, are
    written into the new folder `thumbnails`.
    """
    thumbnails.mkdir(parents=True)
    found: dict[str, str] = {}
    for heading, address, purpose in _ROW.findall(readme):
        name = Path(address).name
        if name not in book.notebooks:
            continue
        number, minutes = short(name), stated(book.notebooks[name])
        title = f"{number} · {heading}" if number.isdigit() else heading
        time = f"<small>{minutes} minutes</small>" if minutes else ""
        image = _thumbnail(book.notebooks[name], thumbnails / f"{name}.webp")
        found[number] = (
            f'<a class="book-card" href="chapters/{name}.html">{image}'
            f"<b>{title}</b> <span>{html.escape(purpose)}</span> {time}</a>"
        )
    counts = np.sum([counted(book.notebooks[name]) for name in book.notebooks], axis=0)
    shown = zip((len(book.notebooks), *counts), COUNTED, strict=True)
    facts = "".join(f"<span><b>{number}</b> {what}</span> " for number, what in shown)
    parts = [f'<p class="book-facts">{facts}</p>']
    for title, (question, numbers) in STRANDS.items():
        row = "\n".join(found[number] for number in numbers if number in found)
        if row:
            name = "reproduce" if "pertmap" in numbers else f"strand-{len(parts)}"
            parts.append(
                f'<h2 id="{name}">{title}</h2>\n<p class="book-strand">{question}</p>\n'
                f'<div class="book-cards">\n{row}\n</div>'
            )
    return "\n".join(parts)


def _thumbnail(notebook: NotebookNode, path: Path) -> str:
    """HTML of a part of one of a notebook's pictures; "" if it has none."""
    data = (o.get("data", {}) for c in notebook.cells for o in c.get("outputs", []))
    coded = [d["image/png"] for d in data if "image/png" in d]
    if not coded:
        return ""
    number, part = PICTURES.get(short(path.stem), (1, (0, 0, 100, 100)))
    if number > len(coded):
        raise ValueError(f"{path.stem} has no picture {number}: mend PICTURES")
    picture = cut(Image.open(io.BytesIO(base64.b64decode(coded[number - 1]))), part)
    picture.thumbnail((640, 320))
    picture.save(path, "WEBP", quality=80, method=6)
    return f'<img src="_static/{path.parent.name}/{path.name}" alt="" loading="lazy">'


def cut(picture: Image.Image, part: tuple[int, int, int, int]) -> Image.Image:
    """A part of a figure drawn on white, with whole panels and words, and no margins.

    Args:
        picture: the figure, W pixels wide and H high.
        part: left, top, right and bottom, in percent of W and H. Each side moves to the
            nearest line of pixels that nothing crosses, or to the figure's edge.

    Raises:
        ValueError: a side would have to move by more than 4 percent.
    """
    picture = picture.convert("RGB")
    ink = np.asarray(picture.convert("L")) < 250
    high, wide = ink.shape
    sides = np.multiply(part, (wide, high, wide, high)) / 100
    left, top, right, bottom = sides.round().astype(int).tolist()
    left, right = (_gap(ink[top:bottom], at) for at in (left, right))
    top, bottom = (_gap(ink[:, left:right].T, at) for at in (top, bottom))
    box = Image.fromarray(ink[top:bottom, left:right]).getbbox()
    return picture.crop((left, top, right, bottom)).crop(box)


def _gap(ink: np.ndarray, at: int) -> int:
    """The nearest place to `at` between columns: before an empty one, or an end."""
    wide = ink.shape[1]
    free = np.append(np.flatnonzero(~ink.any(axis=0)), [0, wide])
    nearest = int(free[np.abs(free - at).argmin()])
    if abs(nearest - at) > 0.04 * wide:
        raise ValueError(
            f"a cut at {at / wide:.0%} would cut something in two: mend `part`"
        )
    return nearest


def figure_page(book: Book) -> str:
    """Every figure, table and formula of the papers, with the place in the book."""
    text = (
        "# Figures and tables of the papers\n\n"
        "What each paper shows, where the book reproduces it, and at which scale. "
        "No item has a paper's own large network and photographs, which need a "
        "download; the small network of GEEX is the paper's, trained here. The "
        "published numbers are in `data/published/`, ours in `data/results/`.\n"
    )
    for paper, title in PAPERS.items():
        rows = [
            [f.item, f.shows, _place(book, f), f.here, f.in_paper]
            for f in book.figures
            if f.paper == paper
        ]
        header = ["item", "shows", "where", "scale here", "scale in the paper"]
        text += f"\n## {title}\n\n{table(header, rows)}"
    return text


def _place(book: Book, figure: Figure) -> str:
    number = figure.chapter
    where = f"chapter {number}" if number.isdigit() else f"reproduce/{number}"
    if figure.anchor in book.places:
        text = book.places[figure.anchor][1].replace("|", "\\|")
        return f"{where}: [{text}](#{figure.anchor})"
    if name := book.chapter(number):
        return f"[{where}](chapters/{name}.ipynb)"
    return f"{where}, not written yet"


@dataclass(frozen=True)
class Committed:
    """What a notebook's committed outputs prove, and when they were committed.

    `compared` cells print text, which has to come out the same letter by letter;
    `executed` are all cells of code. `date` and `revision` are "" without git.
    """

    executed: int
    compared: int
    pictures: int
    date: str
    revision: str


def committed(path: Path) -> Committed:
    """Of a notebook; what a working copy has changed since has no date."""
    said = _git(path, "log", "-1", "--format=%cs %h")
    if _git(path, "status", "--porcelain"):
        said = ""
    date, _, revision = said.partition(" ")
    return Committed(*counted(nbformat.read(path, as_version=4)), date, revision)


def counted(notebook: NotebookNode) -> tuple[int, int, int]:
    """Of its cells of code: how many were executed, how many print what has to come out
    the same, and how many pictures they show."""
    cells = [cell for _, cell in numbered(notebook)]
    outputs = [output for cell in cells for output in cell.outputs]
    return (
        sum(cell.execution_count is not None for cell in cells),
        sum(bool(printed(cell)) and not is_ignored(cell) for cell in cells),
        sum("image/png" in output.get("data", {}) for output in outputs),
    )


def _git(path: Path, *command: str) -> str:
    """What git says of a file, or "" where there is none."""
    call = ["git", *command, "--", path.name]
    try:
        done = subprocess.run(call, cwd=path.parent, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


EXECUTION = """# Execution

Nothing was executed to build these pages: they show the outputs that are committed in
the notebooks. Before they are committed, all cells of a notebook run in order in one
fresh kernel (`make outputs`); the tests (`make test`) run them again and fail if a
letter of what a compared cell prints is another. Pictures are not compared; the numbers
behind them are checked in text.

"""
AGAIN = """
## Executed again by the machine that built this site

By `make book`. A cell agrees if it prints what is committed.

"""


def execution_page(record: Path, chapters: list[Path]) -> str:
    """What was verified of each notebook, and when; and what build_book.py recorded.

    Args:
        record: `_build/execution.json`, if there is one.
        chapters: the notebooks, which need not lie in a git repository.
    """
    found = {path: committed(path) for path in chapters}
    rows = [
        [
            f"[{path.stem}](chapters/{path.name})",
            f"{it.date} ({it.revision})" if it.date else "not yet",
            *map(str, (it.executed, it.compared, it.pictures)),
        ]
        for path, it in found.items()
    ]
    sums = [
        sum(getattr(it, name) for it in found.values())
        for name in ("executed", "compared", "pictures")
    ]
    rows.append([f"**{len(found)} notebooks**", "", *map(str, sums)])
    header = ["notebook", "committed", "cells executed", "compared", "pictures"]
    text = EXECUTION + table(header, rows)
    runs: dict[str, dict[str, Any]] = {}
    if record.exists():
        runs = json.loads(record.read_text(encoding="utf-8"))
    again = [
        [
            f"[{path.stem}](chapters/{path.name})",
            f"{run['minutes']:.1f}",
            f"{run['agreeing']} of {run['comparable']}",
            run["profile"],
            f"{run['device']}, {run['date']}",
        ]
        for path in chapters
        if (run := runs.get(path.stem))
    ]
    if again:
        header = ["notebook", "minutes", "cells that agree", "profile", "device"]
        text += AGAIN + table(header, again)
    return text


def benchmark_page(folder: Path) -> str:
    """The stored ratios of all benchmarks."""
    text = (
        "# Benchmarks\n\n"
        "Times depend on the machine, ratios hardly: the sides of a ratio are measured "
        "in turns within one run. `make bench` runs all scripts in `benchmarks/` and "
        "stores what this page shows: the median, and the smallest and largest of the "
        "repeats.\n"
    )
    found = sorted(folder.glob("*.json"))
    if not found:
        return text + "\nNothing is stored yet: run `make bench`.\n"
    for path in found:
        stored = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            [
                row["name"],
                f"{row['ratio']:.2f}",
                f"{row['low']:.2f} to {row['high']:.2f}",
                row["goal"].replace("<=", "at most").replace(">=", "at least"),
                reached(row),
            ]
            for row in stored["ratios"]
        ]
        text += f"\n## {path.stem}\n\n{stored['about']}\n\n"
        text += table(["ratio", "median", "range", "goal", "reached"], rows)
        text += (
            f"\nMeasured on {stored['device']} with PyTorch {stored['torch']}, "
            f"{stored['date']}.\n"
        )
    return text


def reached(row: dict[str, Any]) -> str:
    """Whether the median is on the right side of the goal, such as "<= 1.05"."""
    if not row["goal"]:
        return ""
    sign, limit = row["goal"].split()
    compare = {"<=": operator.le, ">=": operator.ge}[sign]
    return "yes" if compare(row["ratio"], float(limit)) else "**no**"
