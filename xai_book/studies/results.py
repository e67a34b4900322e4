"""The resumable store of what was measured: one row per setting, image and seed.

A study is a list of `Unit`s and a pure function from a unit to its measurements.
`Results.run` does the units that have no row yet and appends each row as it is
finished, so that a run that is killed goes on where it stopped. What is new is a line
of JSON in `data/results/<study>.jsonl`; `Results.fold` moves the lines into the table
`<study>.parquet` when a run is over, which one line of pandas opens. Rows are added,
never changed. Several processes may write to one study: each adds a group of rows under
a lock, after it has read what the others added meanwhile, so that no row is lost, torn
or repeated.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from filelock import FileLock
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


_KINDS: dict[str, tuple[type, ...]] = {
    "settings": (dict,),
    "image": (int,),
    "seed": (int,),
    "result": (dict,),
    "seconds": (int, float),
}


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
        lines: the rows of runs that are not.

    Warns:
        UserWarning: a line is no row, or repeats one, by file and line; the other rows
            are used. A last line that a crash cut short is measured again in silence.

    Raises:
        OSError: a damaged table.
    """

    def __init__(self, study: str, folder: str | Path | None = None) -> None:
        folder = data_path("results") if folder is None else Path(folder)
        self.path = folder / f"{study}.parquet"
        self.lines = folder / f"{study}.jsonl"
        self._rows: dict[str, dict[str, Any]] = {}
        self._table: tuple[int, ...] | None = None  # which table has been read
        self._count = 0  # lines that have been read
        self._intact = 0  # bytes of them, up to the end of the last whole line
        self._damaged = False
        self._read()

    def _read(self) -> None:
        """Take in what has been added since the last look."""
        while True:
            table = _stamp(self.path)
            if table != self._table:  # then the lines have moved there
                for row in _rows_of(self.path, table) if table else ():
                    self._rows.setdefault(_key(row), row)
                self._table, self._count, self._intact = table, 0, 0
            self._read_lines()
            if table == _stamp(self.path):
                return

    def _read_lines(self) -> None:
        if not self.lines.exists():
            return
        with self.lines.open("rb") as file:
            file.seek(self._intact)
            text = file.read()
        of_lines = set()
        for line in text.splitlines(keepends=True):
            if not line.strip():  # or the end of a line that was read without it
                self._intact += len(line)
                continue
            self._count += 1
            where = f"{self.lines}, line {self._count},"
            try:
                row = _checked(json.loads(line, parse_constant=_refuse))
                key = _key(row)
            except (ValueError, KeyError, TypeError) as error:
                if not line.endswith(b"\n"):
                    self._count -= 1
                    return  # a process died, or is still writing: not read yet
                warnings.warn(f"{where} is no row: {error!r}; remove it", stacklevel=3)
                self._damaged = True
            else:
                # A row of the table is one that a kill has left in both.
                if key in of_lines:
                    fault = "repeats a row; remove one of them"
                    warnings.warn(f"{where} {fault}", stacklevel=3)
                of_lines.add(key)
                self._rows.setdefault(key, row)
            self._intact += len(line)

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
    ) -> tuple[dict[_T, dict[int, dict[str, Any]]], list[int]]:
        """What was measured, by label and image, and the images that all labels have.

        Args:
            wanted: the settings of each label.
            what: an image is called in errors, such as "image of mnist".
            counts: which results are taken.

        Raises:
            NotMeasured: a label has no row, or no image is common to all.
            ValueError: an image has several rows.
        """
        found: dict[_T, dict[int, dict[str, Any]]] = {}
        for label, settings in wanted.items():
            rows = [r for r in self.rows(**settings) if counts(r["result"])]
            found[label] = {row["image"]: row["result"] for row in rows}
            about = f"{label} with {settings}"
            if not rows:
                raise NotMeasured(f"{self.path.name} has no row of {about}")
            if len(found[label]) < len(rows):
                raise ValueError(f"{self.path.name}: several rows a {what} of {about}")
        common = sorted(set.intersection(*map(set, found.values())))
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
        """Move the lines into the table; where a line is damaged, all stay."""
        if not self.lines.exists():
            return
        with self._lock():
            self._read()
            if self.lines.exists() and not self._damaged:
                parquet.write(self.path, list(self._rows.values()))
                self.lines.unlink()
                self._table, self._count, self._intact = _stamp(self.path), 0, 0

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
            self._append(units, rows)
            yield from units

    def _append(self, units: Sequence[Unit], rows: Sequence[dict[str, Any]]) -> None:
        """Add a group's rows in one piece: a kill leaves all of them or none, but for
        a crash of the machine. What another process has added meanwhile stays."""
        texts = [_json(_checked(row)) for row in rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock():
            self._read()
            new = [
                (unit.key, row, text)
                for unit, row, text in zip(units, rows, texts, strict=True)
                if unit.key not in self._rows
            ]
            added = "".join(f"{text}\n" for _, _, text in new).encode()
            with self.lines.open("ab") as file:
                # What follows the last whole line was cut short: nobody writes now.
                file.truncate(self._intact)
                if self._intact and not self._ends_its_line():
                    added = b"\n" + added
                file.write(added)
                file.flush()
                os.fsync(file.fileno())
            self._intact += len(added)
            self._count += len(new)
            self._rows |= {key: row for key, row, _ in new}

    def _lock(self) -> FileLock:
        """Beside the files, so that machines that share the folder share the lock."""
        return FileLock(self.lines.with_name(f".{self.lines.name}.lock"))

    def _ends_its_line(self) -> bool:
        """An editor may have taken the last line's end away."""
        with self.lines.open("rb") as file:
            file.seek(self._intact - 1)
            return file.read() == b"\n"


def well_measured(counts: Mapping[_T, int]) -> list[_T]:
    """The labels with at least half of the images of the one that has most.

    What is compared on common images leaves the others out: a dear method with a few
    images would cost all methods theirs.
    """
    most = max(counts.values(), default=0)
    return [label for label, n in counts.items() if n and n >= most / 2]


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
    groups: list[list[Unit]] = []
    for unit in units:
        last = groups[-1] if groups else []
        alike = last and (last[0].settings, last[0].seed) == (unit.settings, unit.seed)
        if alike and len(last) < size:
            last.append(unit)
        else:
            groups.append([unit])
    return groups


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


def _key(row: dict[str, Any]) -> str:
    return Unit(row["settings"], row["image"], row["seed"]).key


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no measurement")


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    for name, kind in _KINDS.items():
        if not isinstance(row[name], kind) or isinstance(row[name], bool):
            raise TypeError(f"{name} is {row[name]!r}")
    if not row["result"]:
        raise ValueError("result is empty")
    return row


def _json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if json.loads(text) != value:
        raise TypeError(
            "settings and measurements must be dicts with text keys, lists, text, "
            f"numbers, booleans or None, got {value!r}"
        )
    return text
