"""Write the chapters without solutions into _build/student/, for a course.

    python tools/make_student.py

An exercise keeps its stub and its checker's "not attempted yet". The copy passes the
same tests as the book: `pytest --nbval --nbval-current-env _build/student`.
"""

import argparse
import re
import shutil
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from hygiene import numbered
from sync_notebooks import ROOT, chapters, tags

_ANNOUNCED = re.compile(r"\s*The solutions follow[^.]*\.")


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """A copy in which no cell is tagged `solution`, and the rest runs from 1 to n."""
    copy = deepcopy(notebook)
    copy.cells = [cell for cell in copy.cells if "solution" not in tags(cell)]
    for n, (_, cell) in enumerate(numbered(copy), start=1):
        if cell.execution_count is not None:
            cell.execution_count = n
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = n
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = _ANNOUNCED.sub("", cell.source)
    return copy


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    out = root / "_build" / "student"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for path in chapters(root / "notebooks"):
        copy = without_solutions(nbformat.read(path, as_version=4))
        nbformat.write(copy, out / path.name)
        exercises = sum("exercise" in tags(cell) for cell in copy.cells)
        print(f"{path.name}: {exercises} exercises")
    return 0


if __name__ == "__main__":
    sys.exit(main())
