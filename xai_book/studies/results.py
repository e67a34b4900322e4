"""The resumable store of what was measured: one row per setting, image and seed.

A study is a list of `Unit`s and a pure function from a unit to its measurements.
`Results.run` does the units that have no row yet and appends each row as it is
finished, so that a run that is killed goes on where it stopped. Rows are lines of JSON
in `data/results/<study>.jsonl`; they are added, never changed. Several processes may
write to one study: each adds a group of rows under a lock, after it has read what the
others added meanwhile, so that no row is lost, torn or repeated.
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
        return _key(self.settings, self.image, self.seed)


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
Spread = Callable[
    [Callable[[list[Unit]], Measured], list[list[Unit]]], Iterable[Measured]
]
"""Who measures: the builtin `map`, or what `parallel` has; in any order."""


class Results:
    """The rows of one study.

    Each row is a dict with the unit's "settings", "image" and "seed", its measurements
    as "result", and where they come from: "device", "versions", "date" (UTC) and
    "seconds".

    Args:
        study: the file's name, without its ending.
        folder: None is the book's `data/results`.

    Warns:
        UserWarning: a line is no row, or repeats one, by file and line; the other rows
            are used. A last line that a crash cut short is measured again in silence.
    """

    def __init__(self, study: str, folder: str | Path | None = None) -> None:
        folder = data_path("results") if folder is None else Path(folder)
        self.path = folder / f"{study}.jsonl"
        self._rows: dict[str, dict[str, Any]] = {}
        self._lines = 0
        self._intact = 0  # bytes, up to the end of the last whole line
        self._read()

    def _read(self) -> None:
        """Take in the lines that have been added since the last look."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._intact)
            text = file.read()
        for line in text.splitlines(keepends=True):
            if not line.strip():  # or the end of a line that was read without it
                self._intact += len(line)
                continue
            self._lines += 1
            where = f"{self.path}, line {self._lines},"
            try:
                row = _row(line)
            except (ValueError, KeyError, TypeError) as error:
                if not line.endswith(b"\n"):
                    return  # a process died, or is still writing: not read yet
                warnings.warn(f"{where} is no row: {error!r}; remove it", stacklevel=3)
            else:
                key = _key(row["settings"], row["image"], row["seed"])
                if key in self._rows:
                    fault = "repeats a row; remove one of them"
                    warnings.warn(f"{where} {fault}", stacklevel=3)
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
        """
        found = {
            label: {
                row["image"]: row["result"]
                for row in self.rows(**settings)
                if counts(row["result"])
            }
            for label, settings in wanted.items()
        }
        for label, of_label in found.items():
            if not of_label:
                raise NotMeasured(
                    f"{self.path.name} has no row of {label} with {wanted[label]}"
                )
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
        work: Callable[[Unit], dict[str, Any]],
        *,
        show_progress: bool = False,
        spread: Spread = map,
    ) -> int:
        """Measure and store every unit that has no row yet; return how many had none.

        Args:
            units: with equal ones allowed.
            work: a pure function from a unit to its measurements, in JSON's types.
            show_progress: draw a bar with the time left.
            spread: who measures; `map` is this process, `parallel` has others.

        Raises:
            TypeError, ValueError: settings or measurements that JSON would change, or
                that are NaN or infinite; no measurements.
        """
        return self.run_together(
            units,
            partial(one_by_one, work),
            1,
            show_progress=show_progress,
            spread=spread,
        )

    def run_together(
        self,
        units: Iterable[Unit],
        work: Work,
        size: int,
        *,
        show_progress: bool = False,
        spread: Spread = map,
        keep: Callable[[Unit, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> int:
        """`run` for work that is faster on several images at once.

        Args:
            units: with equal ones allowed.
            work: a pure function from at most `size` units, which share settings and
                seed, to the measurements of each; a row's "seconds" are their mean.
            size: units per call.
            show_progress: draw a bar with the time left.
            spread: as in `run`.
            keep: called in this process with a unit and its measurements before they
                are stored; it saves what is no row, such as a map, and returns the row.

        Raises:
            TypeError, ValueError: as `run`; other than one result per unit.
        """
        check_count("size", size)
        todo = self.missing(units)
        found = spread(partial(_measure, work), _groups(todo, size))
        for _ in progress(
            self._store(found, keep), show_progress, len(todo), self.path.stem
        ):
            pass
        return len(todo)

    def _store(
        self,
        found: Iterable[Measured],
        keep: Callable[[Unit, dict[str, Any]], dict[str, Any]] | None,
    ) -> Iterator[Unit]:
        """Store each group as it comes, and yield its units."""
        for units, results, seconds, where in found:
            rows = [
                {
                    "settings": unit.settings,
                    "image": unit.image,
                    "seed": unit.seed,
                    "result": keep(unit, result) if keep else result,
                    "seconds": round(seconds, 3),
                    **where,
                }
                for unit, result in zip(units, results, strict=True)
            ]
            self._append(units, rows)
            yield from units

    def _append(self, units: Sequence[Unit], rows: Sequence[dict[str, Any]]) -> None:
        """Add a group's rows in one piece: a kill leaves all of them or none, but for
        a crash of the machine. What another process has added meanwhile stays."""
        texts = [_json(_checked(row)) for row in rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the file, so that machines that share the folder share the lock.
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            self._read()
            new = [
                (unit.key, row, text)
                for unit, row, text in zip(units, rows, texts, strict=True)
                if unit.key not in self._rows
            ]
            lines = "".join(f"{text}\n" for _, _, text in new).encode()
            with self.path.open("ab") as file:
                # What follows the last whole line was cut short: nobody writes now.
                file.truncate(self._intact)
                if self._intact and not self._ends_its_line():
                    lines = b"\n" + lines
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            self._intact += len(lines)
            self._lines += len(new)
            self._rows |= {key: row for key, row, _ in new}

    def _ends_its_line(self) -> bool:
        """An editor may have taken the last line's end away."""
        with self.path.open("rb") as file:
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
    return Measured(units, results, seconds, provenance())


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


def _key(settings: dict[str, Any], image: int, seed: int) -> str:
    return _json([settings, image, seed])


def _row(line: bytes) -> dict[str, Any]:
    """The row in a line, if it is one that is stored so."""
    return _checked(json.loads(line, parse_constant=_refuse))


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
