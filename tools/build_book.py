"""Execute the notebooks, compare them with their committed outputs, collect figures.

    python tools/build_book.py                  executes all, results in _build/
    python tools/build_book.py 01_what_an_...   only this chapter
    python tools/build_book.py geex             only notebooks/reproduce/geex.ipynb
    python tools/build_book.py --write          saves the outputs into notebooks/
    python tools/build_book.py --figures-only   only the figures, without executing

The profile is quick unless XAI_PROFILE says otherwise. Outputs are compared in the
quick profile only: it is the one they are committed in. What became of each chapter is
kept in _build/execution.json, for the site.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import difflib
import io
import json
import os
import platform
import signal
import sys
import time
from collections import defaultdict
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import matplotlib.image
import nbformat
import numpy as np
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager
from nbval.plugin import coalesce_streams
from tqdm import tqdm
from traitlets import default

from hygiene import WIDGET, is_ignored, numbered, printed
from sync_notebooks import ROOT, notebooks

# What nbval 0.11 leaves out of its comparison.
NOT_COMPARED = {"image/png", "image/jpeg", WIDGET}
# A chapter takes up to 3 GB of memory, and they run side by side.
MOST_JOBS = 4
# A re-run may round a colour to its neighbour; that is no new figure.
PIXEL_TOLERANCE = 2 / 255


class ThisPython(AsyncKernelManager):
    """The kernel nbval takes: a "python3" in the user's home cannot stand in for it."""

    @default("kernel_spec_manager")
    def _specs(self) -> NbvalKernelspecManager:
        return NbvalKernelspecManager()


@dataclass
class Run:
    """What became of one notebook."""

    name: str
    minutes: float = 0.0
    agreeing: int = 0
    comparable: int = 0
    figures: int = 0
    problems: list[str] = field(default_factory=list)


class Stopped(Exception):
    """Somebody has sent this process a signal to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Kernels:
    """The kernels at work, which a signal to this process ends."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._clients: set[NotebookClient] = set()
        self._endings: list[asyncio.Future[None]] = []  # or a task may vanish

    def take_signals(self) -> None:
        """Instead of nbclient's handlers, after which the next chapter would begin."""
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError):  # on Windows
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._stop, number)

    def _stop(self, number: int) -> None:
        self.signals.append(number)
        for client in self._clients:
            self._endings.append(asyncio.ensure_future(self._end(client)))

    async def _end(self, client: NotebookClient) -> None:
        assert isinstance(client.km, ThisPython)
        await client.km.shutdown_kernel(now=True)

    async def execute(
        self, notebook: NotebookNode, folder: Path, bar: tqdm[Any]
    ) -> str:
        """Run all cells in place in a new kernel of this very Python, in `folder`.

        Returns "" or what stopped the run; cells after that one have no outputs.

        Raises:
            Stopped: SIGINT or SIGTERM has come; the kernel has ended.
        """
        started = ["before the first cell"]
        names = {cell.id: where for where, cell in numbered(notebook)}
        for _, cell in numbered(notebook):
            cell.outputs, cell.execution_count = [], None

        def on_start(cell: NotebookNode, cell_index: int) -> None:
            started[:] = [names[cell.id]]

        client = NotebookClient(
            notebook,
            kernel_manager_class=ThisPython,
            kernel_name=CURRENT_ENV_KERNEL_NAME,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(folder)}},
            startup_timeout=300,
            on_notebook_start=lambda notebook: self.take_signals(),
            store_widget_state=False,
            record_timing=False,
            on_cell_execute=on_start,
            on_cell_executed=lambda **_: bar.update(),
        )
        failure = ""
        self._clients.add(client)
        try:
            await client.async_execute()
        except CellExecutionError as error:
            failure = f"{started[0]} raised {error.ename}: {error.evalue}"
        except RuntimeError as error:  # among them DeadKernelError
            failure = f"{started[0]}: {error}"
        finally:
            self._clients.discard(client)
        if self.signals:
            raise Stopped(self.signals[0])
        normalise(notebook)
        return failure


def normalise(notebook: NotebookNode) -> None:
    """Take out, in place, what changes from run to run or from machine to machine."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        kept = {
            key: cell.metadata[key]
            for key in ("tags", "jupyter", "cellView")
            if key in cell.metadata
        }
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            # A widget cannot live without its kernel; its text would say nothing.
            cell.outputs = coalesce_streams(
                [
                    output
                    for output in cell.outputs
                    if WIDGET not in output.get("data", {})
                ]
            )


def fields(outputs: list[NotebookNode]) -> dict[str, list[Any]]:
    """Outputs by stream name or MIME type, in order: what nbval compares."""
    found: dict[str, list[Any]] = defaultdict(list)
    for output in coalesce_streams(deepcopy(outputs)):
        if output.output_type == "stream":
            found[output.name].append(output.text)
        for kind, value in output.get("data", {}).items():
            if kind not in NOT_COMPARED:
                found[kind].append(value)
    return dict(found)


def compare(committed: NotebookNode, executed: NotebookNode, run: Run) -> None:
    """Count into `run` the cells whose text agrees, and name those that do not."""
    for (where, old), (_, new) in zip(
        numbered(committed), numbered(executed), strict=True
    ):
        # Never executed before the commit: nothing to compare with.
        if is_ignored(old) or old.execution_count is None:
            continue
        agrees = fields(old.outputs) == fields(new.outputs)
        if printed(old):
            run.comparable += 1
            run.agreeing += agrees
        if not agrees:
            before, after = printed(old).splitlines(), printed(new).splitlines()
            changed = [
                line
                for line in difflib.unified_diff(before, after, lineterm="", n=0)
                if not line.startswith(("---", "+++", "@@"))
            ]
            shown = "".join(f"\n      {line}" for line in changed[:10])
            run.problems.append(f"{where} differs from the committed output{shown}")


def pictures(notebook: NotebookNode) -> list[NotebookNode]:
    """The `data` of all outputs with a PNG, in order."""
    return [
        output.data
        for _, cell in numbered(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def save_figures(notebook: NotebookNode, name: str, folder: Path) -> int:
    """Write <name>-<nn>.png for each picture, in place of earlier ones; the count."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"{name}-[0-9][0-9].png"):
        path.unlink()
    found = pictures(notebook)
    for n, data in enumerate(found, start=1):
        png = base64.b64decode(data["image/png"])
        (folder / f"{name}-{n:02d}.png").write_bytes(png)
    return len(found)


def keep_unchanged_pictures(committed: NotebookNode, executed: NotebookNode) -> None:
    """Give back, in place, the committed bytes of each picture that looks the same."""
    for (_, old), (_, new) in zip(numbered(committed), numbered(executed), strict=True):
        pairs = zip(_pngs(old), _pngs(new), strict=False)
        for old_data, new_data in pairs:
            if _same_picture(old_data["image/png"], new_data["image/png"]):
                new_data["image/png"] = old_data["image/png"]


def _pngs(cell: NotebookNode) -> list[NotebookNode]:
    outputs = (output.get("data", {}) for output in cell.outputs)
    return [data for data in outputs if "image/png" in data]


def _same_picture(old: str, new: str) -> bool:
    pixels = [
        matplotlib.image.imread(io.BytesIO(base64.b64decode(png)), format="png")
        for png in (old, new)
    ]
    return pixels[0].shape == pixels[1].shape and bool(
        np.abs(pixels[0] - pixels[1]).max() <= PIXEL_TOLERANCE
    )


async def build(
    paths: list[Path], out: Path, write: bool, jobs: int, runs: list[Run]
) -> None:
    """Execute the notebooks, `jobs` at a time; whatever one does, the rest run.

    Each is added to `runs` when it has ended, so that `Stopped` loses none of them.
    """
    committed_ones = {path: nbformat.read(path, as_version=4) for path in paths}
    cells = sum(
        bool(cell.source.strip())
        for notebook in committed_ones.values()
        for _, cell in numbered(notebook)
    )
    comparing = os.environ["XAI_PROFILE"] == "quick"
    kernels, places, running = Kernels(), asyncio.Semaphore(jobs), list[str]()

    async def one(path: Path, committed: NotebookNode, bar: tqdm[Any]) -> None:
        async with places:
            if kernels.signals:
                raise Stopped(kernels.signals[0])
            running.append(path.stem)
            bar.set_description(", ".join(running))
            run, notebook = Run(path.stem), deepcopy(committed)
            start = time.perf_counter()
            failure = await kernels.execute(notebook, path.parent, bar)
            run.minutes = (time.perf_counter() - start) / 60
            running.remove(path.stem)
        nbformat.write(notebook, out / "notebooks" / path.name)
        run.figures = save_figures(notebook, path.stem, out / "figures")
        if failure:
            run.problems.append(failure)
        elif comparing:
            compare(committed, notebook, run)
            if write:
                run.problems.clear()  # new outputs are what --write is for
                keep_unchanged_pictures(committed, notebook)
                nbformat.write(notebook, path)
        runs.append(run)

    with tqdm(total=cells, unit="cell", file=sys.stderr) as bar:
        ended = await asyncio.gather(
            *(one(path, notebook, bar) for path, notebook in committed_ones.items()),
            return_exceptions=True,
        )
    for error in filter(None, ended):
        raise error


def table(runs: list[Run]) -> str:
    """The closing table."""
    rows = [("notebook", "minutes", "cells checked", "figures")]
    total = Run("total")
    for run in runs:
        total.minutes += run.minutes
        total.agreeing += run.agreeing
        total.comparable += run.comparable
        total.figures += run.figures
    for run in [*runs, total]:
        checked = f"{run.agreeing} of {run.comparable}"
        rows.append((run.name, f"{run.minutes:.1f}", checked, str(run.figures)))
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{name:{width}}  {minutes:>7}  {checked:>13}  {figures:>7}"
        for name, minutes, checked, figures in rows
    )


def record(runs: list[Run], path: Path) -> None:
    """Put the runs into the JSON file, beside those of other chapters."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    where = {
        "profile": os.environ["XAI_PROFILE"],
        "device": device(),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    kept |= {run.name: {**asdict(run), **where} for run in runs}
    path.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def device() -> str:
    """What computes here: the GPU's name, or the cores and the kind of processor."""
    import torch  # takes seconds, and only this needs it

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="chapters; default all"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true", help="save outputs in notebooks/")
    mode.add_argument("--figures-only", action="store_true", help="execute nothing")
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(jobs, MOST_JOBS),
        help="notebooks at a time, which share the cores (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs is {options.jobs}; expected 1 or more")

    available = {path.stem: path for path in notebooks(root / "notebooks")}
    names = [Path(name).stem for name in options.names] or list(available)
    if unknown := sorted(set(names) - set(available)):
        parser.error(f"no chapter {unknown[0]!r}; there are: {', '.join(available)}")
    paths = [path for stem, path in available.items() if stem in names]
    if not paths:
        parser.error("notebooks/ holds no chapter")

    out = root / "_build"
    try:
        (out / "notebooks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"{error}; copy the book to a folder that can be written to")
    if options.figures_only:
        for path in paths:
            notebook = nbformat.read(path, as_version=4)
            count = save_figures(notebook, path.stem, out / "figures")
            print(f"{path.stem}: {count} figures in _build/figures/")
        return 0

    os.environ.setdefault("XAI_PROFILE", "quick")
    if options.jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, jobs // options.jobs)))
    if options.write and os.environ["XAI_PROFILE"] != "quick":
        parser.error("--write saves outputs of the quick profile; unset XAI_PROFILE")
    runs: list[Run] = []
    status = 0
    try:
        asyncio.run(build(paths, out, options.write, options.jobs, runs))
    except Stopped as stopped:
        done = {run.name for run in runs}
        rest = ", ".join(path.stem for path in paths if path.stem not in done)
        print(f"{stopped}; not run: {rest}", file=sys.stderr)
        status = 128 + stopped.number
    runs.sort(key=lambda run: names.index(run.name))
    print(table(runs))
    record(runs, out / "execution.json")
    for run in runs:
        for problem in run.problems:
            print(f"FAILED {run.name}.ipynb, {problem}", file=sys.stderr)
    return status or any(run.problems for run in runs)


if __name__ == "__main__":
    sys.exit(main())
