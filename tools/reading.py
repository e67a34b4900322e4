"""How long a chapter is, and how many minutes it takes to read.

    python tools/reading.py     a table of all chapters

A student reads 200 words a minute, and needs two minutes for a code cell that shows its
code, one for a displayed formula. Exercises are apart: their cells, and the text that
poses them, are not counted; nor are references.
"""

import re
import sys
from dataclasses import dataclass
from math import ceil

import nbformat
from nbformat import NotebookNode

from sync_notebooks import GENERATED, ROOT, chapters, tags, without_title

WORDS_A_MINUTE, MINUTES_A_CELL, MINUTES_A_FORMULA = 200, 2, 1
FOLDED = {"hide-input", "remove-input", "solution"}
_DISPLAYED = re.compile(r"\$\$.*?\$\$", re.DOTALL)
_STATED = re.compile(r"\*\*Time\*\*: (\d+) minutes")


@dataclass(frozen=True)
class Length:
    """What a reader meets in a chapter, exercises apart.

    `cells`, `lines` and `longest` count the code that is shown: cells, all their lines,
    and those of the longest cell.
    """

    words: int
    formulas: int
    cells: int
    lines: int
    longest: int

    @property
    def minutes(self) -> int:
        """By the rule, rounded up to five."""
        minutes = (
            self.words / WORDS_A_MINUTE
            + self.cells * MINUTES_A_CELL
            + self.formulas * MINUTES_A_FORMULA
        )
        return 5 * ceil(minutes / 5)


def length(notebook: NotebookNode) -> Length:
    """The length of a notebook."""
    text: list[str] = []
    waiting: list[str] = []  # until it is known whether an exercise follows
    shown: list[int] = []
    for cell in notebook.cells:
        if GENERATED in tags(cell):
            continue
        if cell.cell_type == "markdown":
            waiting.append(cell.source.partition("## References\n")[0])
            continue
        if {"exercise", "solution"} & set(tags(cell)):
            # The last cell before an exercise poses it; those before may teach.
            text += waiting[:-1]
        else:
            text += waiting
            if not is_folded(cell):
                shown.append(len(without_title(cell.source).splitlines()))
        waiting = []
    prose = "\n".join(text + waiting)
    plain = _DISPLAYED.sub("", prose)
    return Length(
        words=len(re.findall(r"\w[\w'’-]*", re.sub(r"\$[^$\n]+\$", "x", plain))),
        formulas=len(_DISPLAYED.findall(prose)),
        cells=len(shown),
        lines=sum(shown),
        longest=max(shown, default=0),
    )


def is_folded(cell: NotebookNode) -> bool:
    """Whether a reader sees the cell's code only on a click."""
    hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
    return bool(hidden or FOLDED & set(tags(cell)))


def stated(notebook: NotebookNode) -> int | None:
    """The minutes that a chapter's first lines promise."""
    found = _STATED.search("\n".join(cell.source for cell in notebook.cells))
    return int(found[1]) if found else None


def main() -> int:
    """Print the table; returns the exit status."""
    columns = ("words", "formulas", "cells", "lines", "longest", "minutes", "stated")
    print(f"{'':28}", *(f"{column:>8}" for column in columns))
    for path in chapters(ROOT / "notebooks"):
        notebook = nbformat.read(path, as_version=4)
        found = length(notebook)
        values = [*(getattr(found, c) for c in columns[:-1]), stated(notebook)]
        print(f"{path.stem:28}", *(f"{value!s:>8}" for value in values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
