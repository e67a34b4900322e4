"""Measure some stored rows again, with today's code: are they still what is stored?

    python tools/recheck.py                          20 rows of every store
    python tools/recheck.py geex_mnist --rows 100    more of one

A row knows the fingerprint of its method's code since November 2026; older ones do not,
and random numbers come from a counter since then, so that methods that draw give other
draws. Rows are taken at random, method by method in turn, among those that took at most
`--seconds`. Two things are told: how many rows are equal, up to 1 % of their largest
number; and which numbers have moved on average over all rows of the store, by more than
four standard errors and 1 %. If the code still means what it meant, none has.
"""

import argparse
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from xai_book.studies.catalogue import STUDIES
from xai_book.studies.results import Results, Unit

TOLERANCE = 0.01


def drawn(rows: Sequence[dict[str, Any]], count: int, seed: int) -> list[Unit]:
    """Some rows' units: of every method one, then of every method another one."""
    by_method = defaultdict(list)
    for row in rows:
        by_method[str(row["settings"].get("method"))].append(row)
    rng = random.Random(seed)
    heaps = [rng.sample(of, len(of)) for _, of in sorted(by_method.items())]
    longest = max(map(len, heaps), default=0)
    turns = [heap[i] for i in range(longest) for heap in heaps if i < len(heap)]
    # Alike ones are measured together.
    return sorted(map(Unit.of, turns[:count]), key=lambda unit: unit.key)


def equal(one: Any, other: Any) -> bool:
    """Whether two measurements are the same up to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        common = one.keys() == other.keys()
        return common and all(equal(one[name], other[name]) for name in one)
    if not (is_number(one) and is_number(other)):  # text, lists of several lengths
        return bool(one == other)
    first, second = np.asarray(one), np.asarray(other)
    if first.shape != second.shape:
        return False
    room = TOLERANCE * np.abs(first).max(initial=0) + 1e-9
    return bool((np.abs(first - second) <= room).all())


def moved(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    """A line for each number that has another mean in the second results."""
    columns: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for pair in pairs:
        for name in pair[0].keys() & pair[1].keys():
            means = [np.mean(r[name]) for r in pair if is_number(r[name])]
            if len(means) == len(pair):
                columns[name].append((float(means[0]), float(means[1])))
    lines = []
    for name, values in sorted(columns.items()):
        before, after = np.array(values).T
        change = after - before
        error = change.std(ddof=1) / len(change) ** 0.5 if len(change) > 1 else 0
        if abs(change.mean()) > 4 * error + TOLERANCE * np.abs(before).mean():
            lines.append(f"{name}: {before.mean():.4g}, now {after.mean():.4g}")
    return lines


def is_number(value: Any) -> bool:
    """A number, or numbers in a list."""
    try:
        values = np.asarray(value)
    except ValueError:  # a list of lists of several lengths
        return False
    return values.dtype.kind in "iuf" and values.size > 0


def recheck(name: str, count: int, seconds: float, seed: int) -> tuple[str, bool]:
    """What became of a store, in words, and whether a number has moved."""
    rows = [row for row in Results(name).rows() if row["seconds"] <= seconds]
    units = drawn(rows, count, seed)
    stored = {Unit.of(row).key: row["result"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        fresh = Results(name, folder)
        STUDIES[name].run(units, fresh, show_progress=True)
        pairs = [(stored[Unit.of(row).key], row["result"]) for row in fresh.rows()]
    lines = [f"    {line}" for line in moved(pairs)]
    same = sum(equal(*pair) for pair in pairs)
    told = f"{name}: {same} of {len(pairs)} rows equal, {len(lines)} numbers moved"
    return "\n".join([told, *lines]), bool(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit status is 1 if a number has moved."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a store; see `list`")
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - STUDIES.keys()):
        parser.error(f"no study {unknown[0]!r}; `python -m xai_book list` has them all")
    failed = False
    for name in options.names or STUDIES:
        told, has_moved = recheck(name, options.rows, options.seconds, options.seed)
        print(told, flush=True)
        failed |= has_moved
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
