"""The pages of the site that are tables made from files."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

from site_chapters import Book, Figure

PAPERS = {
    "pertmap": "Ikeno and Hara: PertMap",
    "geex": "Cai and Wunder: GEEX",
    "aise": "Tsykunov, Lee and Park: AISE",
}


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def figure_page(book: Book) -> str:
    """Every figure, table and formula of the papers, with the place in the book."""
    text = (
        "# Figures and tables of the papers\n\n"
        "What each paper shows, and where the book reproduces it. The published "
        "numbers are in `data/published/`, ours in `data/results/`.\n"
    )
    for paper, title in PAPERS.items():
        rows = [
            [figure.item, figure.shows, _place(book, figure)]
            for figure in book.figures
            if figure.paper == paper
        ]
        text += f"\n## {title}\n\n{table(['item', 'shows', 'here'], rows)}"
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


def execution_page(record: Path, chapters: list[Path]) -> str:
    """Minutes and cells checked of each chapter, from what build_book.py recorded."""
    text = "# Execution\n\n"
    runs: dict[str, dict[str, Any]] = {}
    if record.exists():
        runs = json.loads(record.read_text(encoding="utf-8"))
    text += (
        "The last run of each chapter by `make book`, on the machine that built this "
        "site. A cell is checked if it prints text: the text must equal the committed "
        "one, letter by letter. Pictures are not compared; the numbers behind them are "
        "checked in text.\n\n"
    )
    rows = []
    for path in chapters:
        run = runs.get(path.stem)
        link = f"[{path.stem}](chapters/{path.name})"
        if run is None:
            rows.append([link, "not executed here", "", "", "", ""])
            continue
        rows.append(
            [
                link,
                f"{run['minutes']:.1f}",
                f"{run['agreeing']} of {run['comparable']}",
                str(run["figures"]),
                run["profile"],
                f"{run['device']}, {run['date']}",
            ]
        )
    done = [runs[path.stem] for path in chapters if path.stem in runs]
    if done:
        agreeing = sum(run["agreeing"] for run in done)
        comparable = sum(run["comparable"] for run in done)
        minutes = sum(run["minutes"] for run in done)
        pictures = str(sum(run["figures"] for run in done))
        checked = f"{agreeing} of {comparable}"
        rows.append([f"**{len(done)} chapters**", f"{minutes:.1f}", checked, pictures])
        rows[-1] += ["", ""]
    header = ["chapter", "minutes", "cells checked", "pictures", "profile", "device"]
    return text + table(header, rows)


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
