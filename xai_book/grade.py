"""Who solved what: returned notebooks, run with the checkers of the book.

A notebook's code runs in a process of its own, without a kernel and under limits. What
it has saved, printed or put in place of a checker does not count: after the last cell
that defines an exercise's function, the book's checker is asked about that function.
"""

import argparse
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from xai_book.exercises.exercise import WrongAnswer

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CALL = re.compile(r"^(chapter\d\d)\.(\w+)\((\w+)\)", re.MULTILINE)


class Exercise(NamedTuple):
    """A stub of the book: its number, and `module.checker(function)` below it."""

    number: str
    module: str
    checker: str
    function: str

    def check(self, answer: Any) -> str:
        """What the checker prints."""
        module = import_module(f"xai_book.exercises.{self.module}")
        with redirect_stdout(io.StringIO()) as printed:
            getattr(module, self.checker)(answer)
        return printed.getvalue()


class Grade(NamedTuple):
    """A line of the table: a notebook, by its path below the folder, and an exercise.

    The state is "ok", "wrong", "error", "not attempted", "missing" (no cell defines the
    function), "not run" (the notebook was stopped before), or of a notebook without
    exercises "not graded"; the remark says why.
    """

    notebook: str
    exercise: str
    state: str
    remark: str


def grade(
    folder: Path, *, minutes: float = 10, gigabytes: float = 8, book: Path = NOTEBOOKS
) -> Iterator[Grade]:
    """Grade all exercises of the chapter of each notebook below a folder.

    Args:
        folder: with the returned notebooks, also in folders of their own.
        minutes: for one notebook.
        gigabytes: of memory for one notebook, where the system keeps such a limit.
        book: the book's own notebooks.

    Raises:
        FileNotFoundError: no notebook below the folder, or the book's are not there.
    """
    chapters = {p.name[:2]: list(_exercises(p)) for p in book.glob("??_*.ipynb")}
    paths = [p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    if not paths or not chapters:
        raise FileNotFoundError(f"no notebook in {folder if chapters else book}")
    for path in sorted(paths):
        name = path.relative_to(folder).as_posix()
        try:
            cells = [code for code, tags in _code(path) if "solution" not in tags]
            named = re.findall(r"\bchapter(\d\d)\b", "\n".join(cells))
            exercises = chapters[named[0]]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            yield Grade(name, "", "not graded", f"no chapter of the book: {error!r}")
            continue
        asked: list[list[Exercise]] = [[] for _ in cells]
        for e in exercises:
            defines = rf"^(def {e.function}\(|{e.function} *=)"
            at = [i for i, c in enumerate(cells) if re.search(defines, c, re.MULTILINE)]
            if at:
                asked[at[-1]].append(e)
        found, end = _run(list(zip(cells, asked, strict=True)), minutes, gigabytes)
        for e in exercises:
            missing = ("missing", f"no cell defines {e.function}")
            there = any(e in of_cell for of_cell in asked)
            otherwise = ("not run", end) if there else missing
            yield Grade(name, e.number, *found.get(e.number, otherwise))


def _code(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The code cells of a notebook, with their tags."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"]), cell["metadata"].get("tags", [])


def _exercises(path: Path) -> Iterator[Exercise]:
    """Of a chapter of the book; a stub's checker prints its number."""
    for code, tags in _code(path):
        if "exercise" in tags:
            unknown = Exercise("", *CALL.findall(code)[-1])
            printed = unknown.check(lambda *_: ...)
            yield unknown._replace(number=printed.split()[1].rstrip(":"))


def _run(
    jobs: list[tuple[str, list[Exercise]]], minutes: float, gigabytes: float
) -> tuple[dict[str, tuple[str, str]], str]:
    """State and remark by exercise, and how the run ended."""
    with tempfile.TemporaryDirectory() as place:
        results = Path(place) / "results"
        results.touch()
        run = subprocess.Popen(
            [sys.executable, "-m", "xai_book.grade", results, str(gigabytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=place,
            env={**os.environ, "MPLBACKEND": "agg"},
            start_new_session=True,
            text=True,
        )
        try:
            run.communicate(json.dumps(jobs), timeout=60 * minutes)
            end = f"the process ended with {run.returncode}"
        except subprocess.TimeoutExpired:
            end = f"stopped after {minutes:g} minutes"
        finally:
            with suppress(ProcessLookupError, AttributeError):  # Windows has no groups
                os.killpg(run.pid, signal.SIGKILL)
            run.kill()
            run.wait()
        lines = results.read_text().splitlines()
    return {number: state for number, state in map(json.loads, lines)}, end


def _run_here(results: Path, gigabytes: float) -> None:
    """What the process of a notebook does; each result is written at once."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    jobs = json.load(sys.stdin)
    with suppress(ImportError, ValueError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 2**30),) * 2)
    config = Config(HistoryManager={"enabled": False})
    shell = InteractiveShell.instance(config=config)
    for code, asked in jobs:
        exercises = [Exercise(*fields) for fields in asked]
        for e in exercises:
            shell.user_ns.pop(e.function, None)
        ran = shell.run_cell(code)
        for e in exercises:
            try:
                solved = e.check(shell.user_ns[e.function]).endswith(": ok\n")
                state = ("ok" if solved else "not attempted", "")
            except WrongAnswer as wrong:
                state = ("wrong", str(wrong).splitlines()[0])
            except BaseException as error:
                own = ran.error_before_exec or ran.error_in_exec or error
                state = ("error", f"{type(own).__name__}: {own}")
            with results.open("a") as lines:
                print(json.dumps((e.number, state)), file=lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m xai_book grade FOLDER`: write the table; returns the exit status."""
    parser = argparse.ArgumentParser("python -m xai_book grade", description=__doc__)
    parser.add_argument("folder", type=Path, help="the returned notebooks")
    parser.add_argument("--out", type=Path, default="grades.csv", metavar="FILE")
    parser.add_argument("--minutes", type=float, default=10, help="for a notebook")
    parser.add_argument("--gigabytes", type=float, default=8, help="of memory")
    asked = parser.parse_args(arguments)
    grades = grade(asked.folder, minutes=asked.minutes, gigabytes=asked.gigabytes)
    with asked.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(Grade._fields)
        for line in grades:
            table.writerow(line)
            print(*line[:3])
    return 0


if __name__ == "__main__":
    _run_here(Path(sys.argv[1]), float(sys.argv[2]))
