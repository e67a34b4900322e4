"""The resumable store of what was measured: one row per setting, image and seed.

A study is a list of `Unit`s and a pure function from a unit to its measurements.
`Results.run` does the units that have no row yet and stores each row as it is finished,
so that a run that is killed goes on where it stopped. What is new waits in the SQLite
file `data/results/<study>.sqlite`; `Results.fold` moves it into the table
`<study>.parquet` when a run is over, which one line of pandas opens. Rows are added,
never changed. Several processes may write to one study: each adds a group of rows in
one transaction, in which it has read what the others added meanwhile, so that no row is
lost, torn or repeated.
"""

import csv
import json
import platform
import sqlite3
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from xai_book.methods import fingerprint
from xai_book.studies import parquet
from xai_book.studies.hardware import device
from xai_lib.core.arguments import check_count
from xai_lib.core.attribution import progress
from xai_lib.core.paths import data_path

_T = TypeVar("_T", bound=Hashable)

COMPUTING = (
    *("xai-lib", "torch", "torchvision", "openvino", "numpy", "scipy", "scikit-image"),
    *("scikit-learn", "captum", "dlib-bin", "dlib"),
)
"""The packages that a number may depend on."""


class NotMeasured(ValueError):
    """A store lacks the rows that were asked for."""


@dataclass(frozen=True)
class Unit:
    """One piece of work, such as one method on one image.

    Attributes:
        settings: all that decides the outcome, in JSON's types.
        image: the index of the image in its dataset.
        seed: of all randomness.
    """

    settings: dict[str, Any]
    image: int
    seed: int = 0

    @property
    def key(self) -> str:
        return _json([self.settings, self.image, self.seed])

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Unit":
        """What a row is the measurement of."""
        return cls(row["settings"], row["image"], row["seed"])


class Case(NamedTuple):
    """A method with all of its settings."""

    method: str
    arguments: dict[str, Any]


class Measured(NamedTuple):
    """A group of units and what was found, as it comes back from a worker."""

    units: list[Unit]
    results: list[dict[str, Any]]
    seconds: float
    """Per unit."""
    provenance: dict[str, Any]


Work = Callable[[list[Unit]], list[dict[str, Any]]]
Keep = Callable[[Unit, dict[str, Any]], dict[str, Any]]
Spread = Callable[
    [Callable[[list[Unit]], Measured], list[list[Unit]]], Iterable[Measured]
]
"""Who measures: the builtin `map`, or what `parallel` has; in any order."""


class Results:
    """The rows of one study.

    Each row is a dict with the unit's "settings", "image" and "seed", its measurements
    as "result", and where they come from: "device", "versions", "date" (UTC),
    "seconds", and "code", the fingerprint of the method's source if it has one. What
    is None is left out.

    Args:
        study: the files' name, without its ending.
        folder: None is the book's `data/results`.

    Attributes:
        path: the table of all rows of runs that are over.
        pending: the rows of runs that are not.

    Raises:
        OSError: a damaged file, by its path.
    """

    def __init__(self, study: str, folder: str | Path | None = None) -> None:
        folder = data_path("results") if folder is None else Path(folder)
        self.path = folder / f"{study}.parquet"
        self.pending = folder / f"{study}.sqlite"
        self._rows: dict[str, dict[str, Any]] = {}
        self._table: tuple[int, ...] | None = None  # which table has been read
        self._last = 0  # the pending row that has been read last
        if self.pending.exists():
            with self._transaction() as pending:
                self._read(pending)
        else:
            self._take_table()

    def _read(self, pending: sqlite3.Connection) -> None:
        """Take in what has been added since the last look. A row that a kill has left
        in both files is one row."""
        query = "SELECT id, row FROM rows WHERE id > ? ORDER BY id"
        new = pending.execute(query, (self._last,)).fetchall()
        self._take_table()
        for self._last, text in new:
            row = json.loads(text)
            self._rows.setdefault(Unit.of(row).key, row)

    def _take_table(self) -> None:
        if (table := _stamp(self.path)) != self._table:
            for row in _rows_of(self.path, table) if table else ():
                self._rows.setdefault(Unit.of(row).key, row)
            self._table = table

    @contextmanager
    def _transaction(self, kind: str = "DEFERRED") -> Iterator[sqlite3.Connection]:
        """The pending rows: what is done to them is done whole, or after an error or a
        kill not at all. "EXCLUSIVE" keeps others out, also those who only read."""
        try:
            database = sqlite3.connect(self.pending, timeout=600, isolation_level=None)
            with closing(database) as db:
                db.execute(f"BEGIN {kind}")
                db.execute(
                    "CREATE TABLE IF NOT EXISTS rows"
                    " (id INTEGER PRIMARY KEY AUTOINCREMENT, row TEXT)"
                )
                yield db
                db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise OSError(
                f"{self.pending}: {error}; if it is damaged, remove it, and its rows "
                "are measured again"
            ) from error

    def rows(self, **settings: Any) -> list[dict[str, Any]]:
        """All rows whose settings hold these values, in the order they were stored."""
        return [
            row
            for row in self._rows.values()
            if settings.items() <= row["settings"].items()
        ]

    def shared(
        self,
        wanted: Mapping[_T, Mapping[str, Any]],
        what: str,
        counts: Callable[[dict[str, Any]], bool] = lambda result: True,
        *,
        well: bool = False,
    ) -> tuple[dict[_T, dict[int, dict[str, Any]]], list[int]]:
        """What was measured, by label and image, for the images that all labels have.

        Args:
            wanted: the settings of each label.
            what: an image is called in errors, such as "image of mnist".
            counts: which results are taken.
            well: leave out labels with less than half of the images of the one that
                has most: a dear method with a few images would cost all methods theirs.

        Raises:
            NotMeasured: a label that is not left out has no row, or no image is common
                to all.
            ValueError: an image has several rows.
        """
        found: dict[_T, dict[int, dict[str, Any]]] = {}
        for label, settings in wanted.items():
            rows = [r for r in self.rows(**settings) if counts(r["result"])]
            found[label] = {row["image"]: row["result"] for row in rows}
            about = f"{label} with {settings}"
            if not rows and not well:
                raise NotMeasured(f"{self.path.name} has no row of {about}")
            if len(found[label]) < len(rows):
                raise ValueError(f"{self.path.name}: several rows a {what} of {about}")
        if well:
            most = max(map(len, found.values()), default=0)
            found = {n: of for n, of in found.items() if of and len(of) >= most / 2}
        common = sorted(set.intersection(*map(set, found.values()))) if found else []
        found = {n: {i: of[i] for i in common} for n, of in found.items()}
        if not common:
            raise NotMeasured(
                f"{self.path.name}: no {what} has rows of all of "
                f"{', '.join(map(str, wanted))}"
            )
        return found, common

    def missing(self, units: Iterable[Unit]) -> list[Unit]:
        """The units that have no row yet, each once, in their order."""
        return list({u.key: u for u in units if u.key not in self._rows}.values())

    def run(
        self,
        units: Iterable[Unit],
        work: Callable[[Any], Any],
        size: int | None = None,
        *,
        show_progress: bool = False,
        spread: Spread = map,
        keep: Keep | None = None,
    ) -> int:
        """Measure and store every unit that has no row yet; return how many had none.

        Args:
            units: with equal ones allowed.
            work: a pure function from a unit to its measurements, in JSON's types;
                with `size` from a list of units to a list, faster for some work. A
                row's "seconds" are their mean.
            size: how many units, which share settings and seed, are one list at most.
            show_progress: draw a bar with the time left.
            spread: who measures; `map` is this process, `parallel` has others.
            keep: called in this process with a unit and its measurements before they
                are stored; it saves what is no row, such as a map, and returns the row.

        Raises:
            TypeError, ValueError: settings or measurements that JSON would change, or
                that are NaN or infinite; no measurements; other than one result per
                unit.
        """
        if size is None:
            work, size = partial(one_by_one, work), 1
        check_count("size", size)
        todo = self.missing(units)
        found = spread(partial(_measure, work), _groups(todo, size))
        for _ in progress(
            self._store(found, keep), show_progress, len(todo), self.path.stem
        ):
            pass
        return len(todo)

    def fold(self) -> None:
        """Move the pending rows into the table."""
        if self.pending.exists():
            with self._transaction("EXCLUSIVE") as pending:
                self._read(pending)
                if pending.execute("DELETE FROM rows").rowcount:
                    parquet.write(self.path, list(self._rows.values()))
                    self._table = _stamp(self.path)

    def _store(self, found: Iterable[Measured], keep: Keep | None) -> Iterator[Unit]:
        """Store each group as it comes, and yield its units."""
        for units, results, seconds, where in found:
            kept = [
                keep(unit, result) if keep else result
                for unit, result in zip(units, results, strict=True)
            ]
            rows = [
                {
                    "settings": unit.settings,
                    "image": unit.image,
                    "seed": unit.seed,
                    "result": {k: v for k, v in result.items() if v is not None},
                    "seconds": round(seconds, 3),
                    **where,
                }
                for unit, result in zip(units, kept, strict=True)
            ]
            self._append(rows)
            yield from units

    def _append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add a group's rows, but for those that another process has added."""
        texts = {Unit.of(row).key: _json(row) for row in rows}
        if not all(row["result"] for row in rows):
            raise ValueError("result is empty")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction("EXCLUSIVE") as pending:
            self._read(pending)
            new = [(text,) for key, text in texts.items() if key not in self._rows]
            pending.executemany("INSERT INTO rows (row) VALUES (?)", new)
            self._read(pending)


def one_by_one(
    work: Callable[[Unit], dict[str, Any]], units: list[Unit]
) -> list[dict[str, Any]]:
    """Work on a group that treats each unit by itself."""
    return [work(unit) for unit in units]


def _measure(work: Work, units: list[Unit]) -> Measured:
    """What a worker does: measure, look at the clock, and say where it was."""
    start = time.perf_counter()
    results = work(units)
    seconds = (time.perf_counter() - start) / len(units)
    if len(results) != len(units):
        raise ValueError(
            f"work must return one result per unit, got {len(results)} for {len(units)}"
        )
    code = fingerprint(units[0].settings)
    where = provenance() | ({"code": code} if code else {})
    return Measured(units, results, seconds, where)


def published(study: str) -> list[dict[str, str]]:
    """What the paper states, as rows of `data/published/<study>.csv`."""
    path = data_path(f"published/{study}.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def provenance() -> dict[str, Any]:
    """Where and when a row was measured: device, versions, date in UTC."""
    cuda = device().type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "versions": _versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@lru_cache
def _versions() -> dict[str, str]:
    """Of Python, and of the installed packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in COMPUTING:
        with suppress(PackageNotFoundError):
            found[package] = version(package).partition("+")[0]
    return found


def rounded(values: Tensor) -> list[float]:
    """Numbers for JSON, rounded to what is meant."""
    return [round(v, 5) for v in values.tolist()]


def _groups(units: Sequence[Unit], size: int) -> list[list[Unit]]:
    """Neighbours that share settings and seed, in groups of at most `size`."""
    runs = groupby(units, lambda unit: (unit.settings, unit.seed))
    alike = [list(run) for _, run in runs]
    return [run[i : i + size] for run in alike for i in range(0, len(run), size)]


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What tells a file from the one that it replaces; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=8)
def _rows_of(path: Path, stamp: tuple[int, ...]) -> list[dict[str, Any]]:
    """A chapter opens the same stores again and again."""
    return parquet.read(path)


def _json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if json.loads(text) != value:
        raise TypeError(
            "settings and measurements must be dicts with text keys, lists, text, "
            f"numbers, booleans or None, got {value!r}"
        )
    return text
