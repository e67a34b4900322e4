"""The resumable store of what was measured: one row per setting, image and seed.

A study is a list of `Unit`s and a pure function from a unit to its measurements.
`Results.run` does the units that have no row yet and appends each row as it is
finished, so that a run that is killed goes on where it stopped. Rows are lines of JSON
in `data/results/<study>.jsonl`; they are added, never changed. One process writes to a
study at a time.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from xai_lib.arguments import check_count
from xai_lib.attribution import progress
from xai_lib.paths import data_path


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


class Results:
    """The rows of one study.

    Each row is a dict with the unit's "settings", "image" and "seed", its measurements
    as "result", and where they come from: "device", "versions", "date" (UTC) and
    "seconds".

    Args:
        study: the file's name, without its ending.
        folder: None is the book's `data/results`.

    Raises:
        ValueError: a damaged file; a last line cut short by a crash is no damage.
    """

    def __init__(self, study: str, folder: str | Path | None = None) -> None:
        folder = data_path("results") if folder is None else Path(folder)
        self.path = folder / f"{study}.jsonl"
        self._rows: dict[str, dict[str, Any]] = {}
        text = self.path.read_bytes() if self.path.exists() else b""
        # A line without an end was being written when the process died.
        self._intact = text.rfind(b"\n") + 1
        for number, line in enumerate(text[: self._intact].splitlines(), start=1):
            try:
                row = json.loads(line)
                key = _key(row["settings"], row["image"], row["seed"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}, line {number}, is no row: {error!r}; remove it"
                ) from error
            if key in self._rows:
                raise ValueError(
                    f"{self.path}, line {number}, repeats a row; remove one of them"
                )
            self._rows[key] = row

    def rows(self, **settings: Any) -> list[dict[str, Any]]:
        """All rows whose settings hold these values, in the order they were stored."""
        return [
            row
            for row in self._rows.values()
            if settings.items() <= row["settings"].items()
        ]

    def run(
        self,
        units: Iterable[Unit],
        work: Callable[[Unit], dict[str, Any]],
        *,
        show_progress: bool = False,
    ) -> int:
        """Measure and store every unit that has no row yet; return how many had none.

        Args:
            units: with equal ones allowed.
            work: a pure function from a unit to its measurements, in JSON's types.
            show_progress: draw a bar.

        Raises:
            TypeError, ValueError: settings or measurements that JSON would change, or
                that are NaN or infinite.
        """
        return self.run_together(
            units,
            lambda group: [work(unit) for unit in group],
            1,
            show_progress=show_progress,
        )

    def run_together(
        self,
        units: Iterable[Unit],
        work: Callable[[list[Unit]], list[dict[str, Any]]],
        size: int,
        *,
        show_progress: bool = False,
    ) -> int:
        """`run` for work that is faster on several images at once.

        Args:
            units: with equal ones allowed.
            work: a pure function from at most `size` units, which share settings and
                seed, to the measurements of each; a row's "seconds" are their mean.
            size: units per call.
            show_progress: draw a bar.

        Raises:
            TypeError, ValueError: as `run`; other than one result per unit.
        """
        check_count("size", size)
        todo = {unit.key: unit for unit in units if unit.key not in self._rows}
        groups = _groups(todo.values(), size)
        for group in progress(groups, show_progress, len(groups), self.path.stem):
            start = time.perf_counter()
            measured = list(zip(group, work(group), strict=True))
            seconds = (time.perf_counter() - start) / len(group)
            for unit, result in measured:
                row = {
                    "settings": unit.settings,
                    "image": unit.image,
                    "seed": unit.seed,
                    "result": result,
                    "seconds": round(seconds, 3),
                    **provenance(),
                }
                self._append(row)
                self._rows[unit.key] = row
        return len(todo)

    def _append(self, row: dict[str, Any]) -> None:
        line = _json(row).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.truncate(self._intact)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._intact += len(line)


def published(study: str) -> list[dict[str, str]]:
    """What the paper states, as rows of `data/published/<study>.csv`."""
    path = data_path(f"published/{study}.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def provenance() -> dict[str, Any]:
    """Where and when a row was measured: device, versions, date in UTC."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__).partition("+")[0],
            "xai-lib": version("xai-lib"),
        },
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _groups(units: Iterable[Unit], size: int) -> list[list[Unit]]:
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


def _json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    if json.loads(text) != value:
        raise TypeError(
            "settings and measurements must be dicts with text keys, lists, text, "
            f"numbers, booleans or None, got {value!r}"
        )
    return text
