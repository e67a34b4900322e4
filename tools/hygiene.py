"""The rules that keep the notebook tests from being empty, and the diffs readable.

nbval passes a notebook that was saved without outputs, and a misspelt marker; it
cannot know that a printed path, date or version fails on the next machine. These rules
can. `problems` returns one line per breach: where, which rule, what to do.
"""

import ast
import json
import re
import sys
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbval.plugin import find_comment_markers, find_metadata_tags

from sync_notebooks import REPRODUCE, ROOT, notebooks, origin, stale, tags

MIN_CHECKED = 5
MAX_LINE = 88
MAX_BYTES = 2_000_000
KNOWN_TAGS = {
    "generated",
    "contents",
    "exercise",
    "solution",
    "widget",
    "nbval-ignore-output",
    "hide-input",
    "remove-input",
}
MARKER = "# NBVAL_IGNORE_OUTPUT"
CAPTION = "text/markdown"
"""What `viz.show` prints below a picture, and nothing else does."""
MIME_TYPES = {"text/plain", "text/html", "image/png", CAPTION}
WIDGET = "application/vnd.jupyter.widget-view+json"

# name: (pattern, what to do), for printed text that nbval compares
_COMPARED_TEXT = {
    "repr": (
        r"\b(tensor|Tensor|Parameter)\(|\barray\(\[|\bnp\.\w+\(-?[\d.]",
        "print a number with a format, or use check_close",
    ),
    "device": (
        r"\bcuda\b(:\d+)?|\bmps(:\d+)?\b|\bcpu\b|\b(NVIDIA|GeForce|Tesla)\b",
        "the device differs between readers: do not print it",
    ),
    "version": (
        r"\b\d+\.\d+\.\d+|\b[Vv]ersion:? ?\d|\bPython \d"
        r"|\b(torch|torchvision|numpy|scipy|captum|openvino|matplotlib)==\d",
        "versions differ between readers: do not print them",
    ),
    "date": (
        r"\b(19|20)\d\d-[01]\d-[0-3]\d\b|\b[0-2]?\d:[0-5]\d:[0-5]\d\b",
        "dates and times differ between runs: do not print them",
    ),
}
# The same, for all printed text, compared or not
_ALL_TEXT = {
    "path": (
        r"(?<![\w.:/<~])/(?:[\w.@+-]+/)+[\w.@+-]+|\b[A-Za-z]:\\\w",
        "paths differ between machines: print the name only",
    ),
    "address": (r"\b0x[0-9a-fA-F]{5,}", "an object's repr: print what it holds"),
}


def is_ignored(cell: NotebookNode) -> bool:
    """Whether nbval leaves this code cell's output uncompared."""
    options = dict(find_metadata_tags(cell.metadata))
    options.update(find_comment_markers(cell.source))
    return options.get("skip", False) or not options.get("check", True)


def printed(cell: NotebookNode) -> str:
    """The text output of a code cell, less what says in words what a picture shows."""
    parts: list[str] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif "image/png" not in output.get("data", {}):
            data = output.get("data", {})
            kinds = [kind for kind in data if kind.startswith("text/")]
            parts.extend(data[kind] for kind in kinds if kind != CAPTION)
    return "".join(part if part.endswith("\n") else part + "\n" for part in parts)


def numbered(notebook: NotebookNode) -> Iterator[tuple[str, NotebookNode]]:
    """The code cells, each with the name it has after a run from the top: In [n]."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    return ((f"In [{n}]", cell) for n, cell in enumerate(code, start=1))


def problems(source: Path | NotebookNode) -> list[str]:
    """Breaches of the notebook rules, as "where (rule): what; what to do".

    A path is also checked for its size, and its generated cells against its
    neighbours in the folder and the setting in pyproject.toml.
    """
    if isinstance(source, NotebookNode):
        return [*_format_problems(source), *_notebook_problems(source)]
    # As written: nbformat.read mends in silence what this is to find.
    found = list(_format_problems(json.loads(source.read_text(encoding="utf-8"))))
    found.extend(_notebook_problems(nbformat.read(source, as_version=4)))
    size = source.stat().st_size
    if size > MAX_BYTES:
        found.append(
            f"notebook (size): {size:,} bytes, at most {MAX_BYTES:,}; "
            "make figures smaller or fewer"
        )
    folder = source.parent
    if source in stale(folder.parent if folder.name == REPRODUCE else folder, origin()):
        found.append(
            "notebook (sync): generated cells are missing or edited; "
            "run `python tools/sync_notebooks.py`"
        )
    return found


def _format_problems(notebook: dict[str, Any]) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nbformat mends cell ids and only warns
            nbformat.validate(deepcopy(notebook))
    except (nbformat.ValidationError, Warning) as error:
        yield f"notebook (format): {error}; save it again in JupyterLab"


def _notebook_problems(notebook: NotebookNode) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "notebook (widget): widget state is saved; run `make outputs`"
    if "version" in notebook.metadata.get("language_info", {}):
        yield "notebook (metadata): a Python version is saved; run `make outputs`"

    for place, cell in enumerate(notebook.cells, start=1):
        for tag in tags(cell):
            if tag not in KNOWN_TAGS:
                known = ", ".join(sorted(KNOWN_TAGS))
                yield f"cell {place} (tag): unknown tag {tag!r}; known are {known}"

    code = list(numbered(notebook))
    for n, (where, cell) in enumerate(code, start=1):
        yield from (f"{where} {text}" for text in _source_problems(cell))
        yield from (f"{where} {text}" for text in _output_problems(cell, n))
    yield from _exercise_problems(code)

    ignored = [where for where, cell in code if is_ignored(cell)]
    allowed = max(2, int(0.15 * len(code)))
    if len(ignored) > allowed:
        yield (
            f"notebook (ignored): {len(ignored)} cells are not compared "
            f"({', '.join(ignored)}), at most {allowed}; print reference and tolerance"
        )
    checked = sum(bool(_compared_text(cell)) for _, cell in code)
    if checked < MIN_CHECKED:
        yield (
            f"notebook (checked): {checked} cells with compared text output, at least "
            f"{MIN_CHECKED}; add check_close, check_true or check_order"
        )


def _compared_text(cell: NotebookNode) -> str:
    return "" if is_ignored(cell) else printed(cell)


def _source_problems(cell: NotebookNode) -> Iterator[str]:
    for line in cell.source.splitlines():
        words = re.search(r"nbval_|pytest_validate", line, re.IGNORECASE)
        if words and line.strip() != MARKER:
            yield f"(marker): {line.strip()!r}; only `{MARKER}`, alone on its line"
        if len(line) > MAX_LINE:
            yield f"(line): {len(line)} characters, at most {MAX_LINE}; break the line"
    if re.search(r"\bget_ipython\(\)", _as_python(cell.source)):
        yield "(magic): a magic or shell command; write it in plain Python"


def _as_python(source: str) -> str:
    """The cell as IPython runs it, with magics as calls of get_ipython()."""
    try:
        return ast.unparse(ast.parse(TransformerManager().transform_cell(source)))
    except SyntaxError:
        return ""  # the cell cannot have run: its outputs show that


def _output_problems(cell: NotebookNode, n: int) -> Iterator[str]:
    if not cell.source.strip():
        yield "(order): empty code cell; delete it"
    elif cell.execution_count != n:
        yield f"(order): execution count is {cell.execution_count}; run `make outputs`"
    if "widget" in tags(cell) and not is_ignored(cell):
        yield "(widget): nbval cannot compare widgets; add the tag nbval-ignore-output"

    for output in cell.outputs:
        if output.output_type == "error":
            yield f"(error): {output.ename}: {output.evalue}; mend the cell"
        elif output.output_type == "stream" and output.name == "stderr":
            yield f"(stderr): {output.text.strip()[:60]!r}; mend what warns"
        elif output.output_type in ("display_data", "execute_result"):
            yield from _data_problems(output)

    texts = [(printed(cell), _ALL_TEXT), (_compared_text(cell), _COMPARED_TEXT)]
    for text, rules in texts:
        for rule, (pattern, fix) in rules.items():
            if match := re.search(pattern, text):
                yield f"({rule}): prints {match[0]!r}; {fix}"


def _data_problems(output: NotebookNode) -> Iterator[str]:
    if WIDGET in output.data:
        yield "(widget): a widget is saved in the output; run `make outputs`"
        return
    for kind in sorted(set(output.data) - MIME_TYPES):
        yield f"(mime): output of type {kind}; use PNG figures and plain text"
    text = output.data.get("text/plain", "")
    # Beside the PNG of viz.show() the text is harmless; else a figure was returned.
    shown = output.output_type == "display_data" and "image/png" in output.data
    if "<Figure size" in text and not shown:
        yield "(figure): '<Figure size' in the output; end the cell with viz.show"


def _exercise_problems(code: list[tuple[str, NotebookNode]]) -> Iterator[str]:
    """Each exercise, then its solutions; both end with the checker's line."""
    for i, (where, cell) in enumerate(code):
        kind = next((tag for tag in ("exercise", "solution") if tag in tags(cell)), "")
        if not kind:
            continue
        following = tags(code[i + 1][1]) if i + 1 < len(code) else []
        previous = tags(code[i - 1][1]) if i else []
        if kind == "exercise" and "solution" not in following:
            yield f"{where} (exercise): no solution follows; tag the next code cell"
        if kind == "solution" and not {"exercise", "solution"} & set(previous):
            yield f"{where} (exercise): solution without exercise; move or untag it"
        if kind == "solution" and "solution" in following:
            continue  # the checker stands in the last of the solution's cells
        verdict = {"exercise": "not attempted yet", "solution": "ok"}[kind]
        number = _exercise_number(cell, verdict)
        if number is None:
            yield (
                f"{where} (exercise): the last printed line is not "
                f"'exercise N.M: {verdict}'; end the cell with its checker"
            )
        elif kind == "solution":
            opened = [c for _, c in code[:i] if "exercise" in tags(c)][-1:]
            asked = _exercise_number(opened[0], "not attempted yet") if opened else None
            if asked is not None and asked != number:
                yield f"{where} (exercise): solves {number} after {asked}; renumber"


def _exercise_number(cell: NotebookNode, verdict: str) -> str | None:
    lines = printed(cell).strip().splitlines() or [""]
    match = re.fullmatch(rf"exercise (\d+\.\d+): {verdict}", lines[-1])
    return match[1] if match else None


def main() -> int:
    """Print the problems of all notebooks; returns the exit status."""
    found = [
        f"{path.name}: {text}"
        for path in notebooks(ROOT / "notebooks")
        for text in problems(path)
    ]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
