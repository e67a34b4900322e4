"""The studies of the book from the command line.

python -m xai_book list              all studies, and how many of their rows are stored
python -m xai_book run STUDY ...     measure what a study's store lacks
python -m xai_book figures           the book's figures as PNG files
python -m xai_book claims            the papers' statements, and what the rows say
python -m xai_book gpu               what a GPU does with the methods (gpu --help)
python -m xai_book grade FOLDER      who solved which exercise (grade --help)
"""

import argparse
import base64
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from xai_book.methods import fingerprint
from xai_book.studies import claims
from xai_book.studies.catalogue import STUDIES
from xai_book.studies.engine import Study
from xai_book.studies.parallel import cluster, processes
from xai_book.studies.results import Results
from xai_book.studies.rows import Rows

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def parser(studies: Mapping[str, Study]) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m xai_book",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder: dict[str, Any] = {"type": Path, "metavar": "FOLDER"}
    stores = "the stores; default: the book's data/results"
    copy = "of a copy of the book; default: the checkout that is installed"
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    share = "of each worker; default: its share of the processors, on a cluster 1"
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--results", **folder, help=stores)
    commands = found.add_subparsers(dest="command", required=True)
    commands.add_parser("list", parents=[where], help="all studies")
    commands.add_parser("claims", parents=[where], help="statements and verdicts")
    draw = commands.add_parser("figures", help="the book's figures as PNG files")
    draw.add_argument("--notebooks", **folder, default=NOTEBOOKS, help=copy)
    draw.add_argument("--out", **folder, default="figures", help="default: figures")
    run = commands.add_parser("run", parents=[where], help="measure what is missing")
    run.add_argument("studies", nargs="+", metavar="STUDY", choices=[*studies])
    run.add_argument("--jobs", **number, default=1, help="processes; default 1")
    run.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster")
    run.add_argument("--threads", **number, help=share)
    return found


def listing(studies: Mapping[str, Study], folder: Path | None) -> str:
    """A line for each study: rows stored of all, hours they took, what they are for;
    then the stores that are damaged, and the rows that are older than the code of their
    method, or may be."""
    lines = [("study", "rows", "hours", "reproduces")]
    older: list[str] = []
    damaged: list[str] = []
    unknown = 0
    for name, study in studies.items():
        try:
            results = Results(name, folder)
        except OSError as error:
            damaged.append(str(error))
            continue
        rows = results.rows()
        ages = Counter(age(row) for row in rows)
        unknown += ages.pop("unknown", 0)
        ages.pop("", None)
        older += [f"{name}: {n:,} of {method}" for method, n in ages.items()]
        stored, total, needs = len(rows), "?", f" (downloads {study.needs})"
        if not study.needs:
            units = {unit.key: unit for unit in study.units()}.values()
            stored = len(units) - len(results.missing(units))
            total, needs = f"{len(units):,}", ""
        hours = f"{sum(row['seconds'] for row in rows) / 3600:.1f}"
        lines.append((name, f"{stored:,} of {total}", hours, study.reproduces + needs))
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    found = [
        f"{name:{widths[0]}}  {rows:>{widths[1]}}  {hours:>{widths[2]}}  {what}"
        for name, rows, hours, what in lines
    ]
    if damaged:
        found += ["", "cannot be read:", *damaged]
    if older:
        found += ["", "rows older than the code of their method:", *older]
    if unknown:
        found += ["", f"rows made before they knew their code: {unknown:,}"]
    return "\n".join(found)


def age(row: Mapping[str, Any]) -> str:
    """The method of a row that is older than its code; "unknown" for a row without a
    fingerprint; "" for one of today's code, or without a method of the library."""
    now = fingerprint(row["settings"])
    if now is None or row.get("code") == now:
        return ""
    return row["settings"]["method"] if "code" in row else "unknown"


def figures(notebooks: Path, out: Path) -> list[Path]:
    """Save the pictures of executed notebooks as `<chapter>-<nn>.png`.

    Raises:
        FileNotFoundError: no notebooks, as a plain install has none.
        Misuse: a file that is no notebook.
    """
    chapters = sorted(notebooks.glob("**/[!.]*.ipynb"))
    if not chapters:
        raise FileNotFoundError(
            f"{notebooks} holds no notebooks: the figures are drawn in the book's "
            "chapters, which an installed package does not bring; give --notebooks "
            "the folder of a copy of the book"
        )
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for chapter in chapters:
        try:
            pictures = _pictures(chapter)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Misuse(f"{chapter} is no notebook: {error!r}") from error
        for n, picture in enumerate(pictures, start=1):
            found.append(out / f"{chapter.stem}-{n:02d}.png")
            found[-1].write_bytes(picture)
    return found


def _pictures(notebook: Path) -> list[bytes]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    data = [o.get("data", {}) for cell in cells for o in cell.get("outputs", [])]
    coded = [d["image/png"] for d in data if "image/png" in d]
    return [base64.b64decode("".join(picture)) for picture in coded]


def run(options: argparse.Namespace, studies: Mapping[str, Study]) -> int:
    """Measure what the stores of some studies lack; returns the exit status."""
    if options.scheduler and options.jobs != 1:
        raise Misuse("--jobs is for this machine, --scheduler for a cluster: give one")
    try:
        spread = (
            cluster(options.scheduler, options.threads or 1)
            if options.scheduler
            else processes(options.jobs, options.threads)
        )
    except (ValueError, RuntimeError, OSError, ModuleNotFoundError) as error:
        raise Misuse(str(error)) from error
    for name in options.studies:
        results = Results(name, options.results)
        try:
            units = studies[name].units()
            count = studies[name].run(units, results, spread=spread, show_progress=True)
        except KeyboardInterrupt:
            print("stopped; what is finished is stored, and `run` goes on from there")
            return 130
        except BrokenProcessPool as error:
            print(
                f"{name}: a worker process died ({error}). What is finished is "
                "stored, and `run` goes on from there; too little memory is the usual "
                "reason: give fewer --jobs",
                file=sys.stderr,
            )
            return 1
        print(f"{name}: {count:,} rows measured; all are in {results.path}")
    return 0


def answer(options: argparse.Namespace, studies: Mapping[str, Study]) -> int:
    """Do what was asked; returns the exit status."""
    if options.command == "run":
        return run(options, studies)
    if options.command == "figures":
        saved = figures(options.notebooks, options.out)
        print(f"{len(saved)} figures in {options.out}")
        return 0
    if options.results is not None and not options.results.is_dir():
        raise Misuse(f"--results: {options.results} is no folder")
    if options.command == "list":
        print(listing(studies, options.results))
    else:
        rows = Rows(options.results)
        print(claims.table(claims.rulings(rows=rows)))
        if rows.damaged:
            print("", "cannot be read:", *rows.damaged.values(), sep="\n")
    return 0


class Misuse(Exception):
    """What was asked cannot be done; the message says why."""


def main(
    arguments: list[str] | None = None, studies: Mapping[str, Study] = STUDIES
) -> int:
    """Command line; returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Statements hold Greek letters, which not every code page has.
        sys.stdout.reconfigure(encoding="utf-8")
    asked = parser(studies)
    options = asked.parse_args(arguments)
    try:
        return answer(options, studies)
    except BrokenPipeError:
        # Whoever read has closed the pipe, as `head` does; Python would complain
        # again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (Misuse, OSError) as error:
        asked.error(str(error))
