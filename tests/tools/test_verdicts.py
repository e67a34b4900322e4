"""The page of changed verdicts is what its script makes of the rows."""

from __future__ import annotations

import csv
from unittest import mock

import pytest

import verdicts
from sync_notebooks import ROOT
from xai_book.studies import claims


@pytest.fixture(scope="module")
def page(rulings: list[claims.Ruling]) -> str:
    with mock.patch.object(claims, "rulings", return_value=rulings):
        return verdicts.page()


def test_the_page_is_up_to_date(page: str) -> None:
    stored = (ROOT / verdicts.PAGE).read_text(encoding="utf-8")
    assert stored == page, "run python tools/verdicts.py"


def test_every_changed_verdict_is_there_with_a_reason(
    page: str, rulings: list[claims.Ruling]
) -> None:
    with (ROOT / verdicts.BEFORE).open(encoding="utf-8", newline="") as file:
        before = {row["id"]: row["verdict"] for row in csv.DictReader(file)}
    lines = page.splitlines()[
        page.splitlines().index("| --- | --- | --- | --- | --- |") :
    ]
    changed = [r for r in rulings if r.verdict != before.get(r.id, r.verdict)]
    assert len(changed) == len(lines) - 1 > 5
    for ruling, line in zip(changed, lines[1:], strict=True):
        _, statement, old, new, printed, why, _ = (c.strip() for c in line.split("|"))
        assert statement.endswith(ruling.statement)
        assert (old, new) == (before[ruling.id], ruling.verdict)
        assert printed == ruling.printed
        assert why, ruling.id
