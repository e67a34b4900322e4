"""No verdict hangs on the last digits of the stored rows.

Another processor adds sums in another order: a re-run changes the last bits of a
score, and the sixth digit of a probability. So all stored numbers are changed by as
much, at random, and every statement that the book draws from them must stay the same,
to the letter. `XAI_REPEATS=100 pytest tests/studies/test_verdicts_are_stable.py` does
it more often than a quick test can.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_book.studies import claims, pertmap, results, showdown
from xai_book.studies.results import Results
from xai_book.studies.rows import Rows
from xai_lib.core.paths import data_path

REPEATS = int(os.environ.get("XAI_REPEATS", "2"))
RELATIVE = 1e-9
ABSOLUTE = 1e-6


def changed(value: Any, rng: np.random.Generator, absolute: float) -> Any:
    """All fractions in a row, each a little different; whole numbers are counts.

    What lies between 0 and 1 is a probability or made of some, and changes by up to
    `absolute` more.
    """
    if isinstance(value, float):
        by = value * RELATIVE + (absolute if 0 <= value <= 1 else 0)
        return value + by * rng.uniform(-1, 1)
    if isinstance(value, list):
        return [changed(one, rng, absolute) for one in value]
    if isinstance(value, dict):
        return {name: changed(one, rng, absolute) for name, one in value.items()}
    return value


def changed_rows(seed: int) -> dict[str, list[dict[str, Any]]]:
    """By the name of a store's file."""
    rng, found = np.random.default_rng(seed), {}
    for path in sorted(data_path("results").glob("*.parquet")):
        # Margins of trials have units of their own, of which 1e-6 may be a lot.
        absolute = 0 if path.stem == "trials" else ABSOLUTE
        found[path.name] = [
            {**row, "result": changed(row["result"], rng, absolute)}
            for row in Results(path.stem).rows()
        ]
    return found


def statements(folder: Path | None) -> list[str]:
    """What the book says about the rows in a folder: verdicts, with the numbers that
    are printed beside them, orders, ties, fronts and recommendations."""
    rows = Rows(folder)
    rulings = claims.rulings(rows=rows)
    said = [claims.table(rulings), claims.html(rulings)]
    for data in ("mnist", "fashion_mnist", "photos"):
        curves = rows.figure1(data, *pertmap.METHODS)
        said += [
            f"{data}, {colour}: {pertmap.verdict(curves, colour)}"
            for colour in pertmap.COLOURS
        ]
    for data, measure, scores in showdown.tables(folder):
        of = f"{data}, {measure}"
        # Without the intervals of ranks: these jump if one resample changes its order.
        found = {name: place.rank for name, place in showdown.ranking(scores).items()}
        budgets = {name: name.budget for name in scores if name.budget is not None}
        means = {name: float(scores[name].mean()) for name in budgets}
        said += [
            f"{of}, ranks: {found}",
            f"{of}, ties: {showdown.ties(scores)}",
            f"{of}, front: {showdown.pareto(budgets, means)}",
            f"{of}, any method: {showdown.decide(scores, None, gradients=True)}",
            f"{of}, 500 queries: {showdown.decide(scores, 500, gradients=False)}",
        ]
    return [line for text in said for line in text.splitlines()]


@pytest.fixture(scope="module")
def as_stored() -> list[str]:
    return statements(None)


def test_the_statements_depend_on_the_rows(as_stored: list[str]) -> None:
    assert len(as_stored) > 500
    assert sum("surely_better=('" in line for line in as_stored) >= 3
    assert sum(": holds" in line for line in as_stored) > 50


@pytest.mark.parametrize("seed", range(REPEATS))
def test_no_statement_hangs_on_the_last_digits(
    as_stored: list[str],
    tmp_path: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores, read = changed_rows(seed), set()

    def rows_of(path: Path, stamp: Any) -> list[dict[str, Any]]:
        """Without the tables that would hold them, which take long to compress."""
        read.add(path)
        return stores[path.name]

    for name in stores:
        (tmp_path / name).touch()
    monkeypatch.setattr(results, "_rows_of", rows_of)
    assert statements(tmp_path) == as_stored
    assert {path.parent for path in read} == {tmp_path}
    assert len(read) > 10
