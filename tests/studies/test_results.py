from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import scipy
import torch

from xai_book.studies import parquet
from xai_book.studies.results import NotMeasured, Results, Unit, published

WORKER = """
import sys, time
from xai_book.studies.results import Results, Unit

def work(unit):
    time.sleep(0.05)
    return {"square": unit.image**2}

units = [Unit({"method": "squares"}, i) for i in range(2000)]
Results("killed", sys.argv[1]).run(units, work)
"""


def square(unit: Unit) -> dict:
    return {"square": unit.image**2}


def units(count: int, **settings: object) -> list[Unit]:
    return [Unit({"method": "squares", **settings}, i) for i in range(count)]


def test_rows_survive_and_are_not_measured_again(tmp_path):
    first = Results("s", tmp_path)
    assert first.run(units(3), square) == 3
    stored = first.rows()
    again = Results("s", tmp_path)

    def refuse(unit: Unit) -> dict:
        raise AssertionError("measured twice")

    assert again.run(units(3), refuse) == 0
    assert again.run(units(5), square) == 2
    rows = Results("s", tmp_path).rows()
    assert rows[:3] == stored
    assert [row["result"]["square"] for row in rows] == [0, 1, 4, 9, 16]
    for row in rows:
        assert row["versions"]["torch"] == torch.__version__.partition("+")[0]
        assert row["versions"]["scipy"] == scipy.__version__
        assert {"python", "xai-lib", "numpy", "openvino"} <= row["versions"].keys()
        assert row["device"]
        assert row["seconds"] >= 0
        assert row["date"].endswith("+00:00")


def test_other_settings_and_seeds_are_other_rows(tmp_path):
    results = Results("s", tmp_path)
    results.run(units(2), square)
    results.run(units(2, n=5), lambda unit: {"square": -1})
    results.run([Unit({"method": "squares"}, 0, seed=1)], lambda unit: {"square": -2})
    assert [r["result"]["square"] for r in results.rows(n=5)] == [-1, -1]
    squares = [r["result"]["square"] for r in results.rows(method="squares")]
    assert squares == [0, 1, -1, -1, -2]


def test_equal_units_are_measured_once(tmp_path):
    assert Results("s", tmp_path).run(units(2) + units(2), square) == 2


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)])
    while len(Results("killed", tmp_path).rows()) < 3:
        assert process.poll() is None, "the worker ended by itself"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = Results("killed", tmp_path).rows()
    done = len(before)
    measured = []

    def work(unit: Unit) -> dict:
        measured.append(unit.image)
        return square(unit)

    Results("killed", tmp_path).run(units(done + 4), work)
    assert measured == list(range(done, done + 4))
    rows = Results("killed", tmp_path).rows()
    assert rows[:done] == before
    assert [r["result"]["square"] for r in rows] == [i**2 for i in range(done + 4)]


def test_units_are_measured_together(tmp_path):
    results, seen = Results("s", tmp_path), []
    results.run(units(5)[2:3], square)

    def work(group: list[Unit]) -> list[dict]:
        seen.append([(unit.settings.get("n"), unit.image) for unit in group])
        return [square(unit) for unit in group]

    other = [Unit({"method": "squares"}, 9, seed=1)]
    wanted = units(5) + units(2, n=7) + other
    assert results.run(wanted, work, 3) == 7
    # Image 2 is there; settings and seeds are not mixed.
    alone = [[(None, 4)], [(7, 0), (7, 1)], [(None, 9)]]
    assert seen == [[(None, 0), (None, 1), (None, 3)], *alone]
    stored = {(r["image"], r["seed"]): r["result"] for r in results.rows()}
    assert all(r == {"square": image**2} for (image, _), r in stored.items())
    assert Results("s", tmp_path).run(wanted, work, 3) == 0


def test_a_group_gives_one_result_for_each_unit(tmp_path):
    results = Results("s", tmp_path)
    with pytest.raises(ValueError, match="one result per unit, got 1 for 3"):
        results.run(units(3), lambda group: [{"square": 0}], 3)
    assert not results.pending.exists()
    with pytest.raises(ValueError, match="size must be at least 1"):
        results.run(units(3), lambda group: [], 0)


def test_a_failing_unit_leaves_the_others(tmp_path):
    def work(unit: Unit) -> dict:
        return {"inverse": 1 / (2 - unit.image)}

    with pytest.raises(ZeroDivisionError):
        Results("s", tmp_path).run(units(4), work)
    assert len(Results("s", tmp_path).rows()) == 2


def test_a_damaged_file_is_named(tmp_path):
    results = Results("s", tmp_path)
    results.run(units(3), square)
    whole = results.pending.read_bytes()
    for damaged in (b"damage\n", whole[:20] + b"damage" + whole[26:], whole[:-5000]):
        results.pending.write_bytes(damaged)
        with pytest.raises(OSError, match=r"s\.sqlite: .*damaged, remove it"):
            Results("s", tmp_path)
    results.pending.unlink()
    assert Results("s", tmp_path).run(units(3), square) == 3


def test_an_error_while_rows_are_stored_stores_none_of_them(tmp_path, monkeypatch):
    results = Results("s", tmp_path)
    results.run(units(2), square)

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parquet, "write", fails)
    with pytest.raises(KeyboardInterrupt):
        results.fold()
    assert len(Results("s", tmp_path).rows()) == 2


def test_a_second_writer_loses_nothing_and_repeats_nothing(tmp_path):
    first, second = Results("s", tmp_path), Results("s", tmp_path)
    first.run(units(2), square)
    # It had not seen these, and measures them; what was stored first stays.
    assert second.run(units(3), lambda unit: {"square": -unit.image}) == 3
    first.run(units(5), square)
    rows = Results("s", tmp_path).rows()
    assert [r["result"]["square"] for r in rows] == [0, 1, -2, 9, 16]
    assert first.rows() == rows


WRITERS = """
import multiprocessing, os, sys
from xai_book.studies.results import Results, Unit

folder, trials = sys.argv[1], int(sys.argv[2])
together = multiprocessing.get_context("fork").Barrier(4)
for writer in range(4):  # forked, as the imports take seconds
    if not os.fork():
        break
else:
    sys.exit(any(os.wait()[1] for _ in range(4)))

def stop(*error):  # and the others do not wait for this one
    together.abort()
    sys.__excepthook__(*error)

sys.excepthook = stop
for trial in range(trials):
    together.wait()
    results = Results(f"trial{trial}", folder)
    own = [Unit({"writer": writer}, i) for i in range(3)]
    common = [Unit({"writer": "all"}, i) for i in range(2)]
    results.run(own + common, lambda unit: {"square": unit.image**2})
"""


def test_four_writers_lose_nothing(tmp_path):
    """XAI_WRITERS=720 for as many trials as were lost in before there was a lock."""
    trials = int(os.environ.get("XAI_WRITERS", "40"))
    command = [sys.executable, "-c", WRITERS, str(tmp_path), str(trials)]
    subprocess.run(command, check=True)
    expected = [({"writer": w}, i) for w in range(4) for i in range(3)]
    expected += [({"writer": "all"}, i) for i in range(2)]
    for trial in range(trials):
        rows = Results(f"trial{trial}", tmp_path).rows()
        found = [(row["settings"], row["image"]) for row in rows]
        assert len(found) == len(expected)
        assert all(unit in found for unit in expected)


def test_what_is_no_row_is_kept_elsewhere(tmp_path):
    seen = {}

    def keep(unit: Unit, found: dict) -> dict:
        seen[unit.image] = found["map"]
        return {"square": found["square"]}

    results = Results("s", tmp_path)
    work = lambda group: [{"square": 1, "map": object()} for _ in group]  # noqa: E731
    assert results.run(units(3), work, 2, keep=keep) == 3
    assert sorted(seen) == [0, 1, 2]
    assert [row["result"] for row in results.rows()] == [{"square": 1}] * 3


def test_what_json_would_change_is_refused(tmp_path):
    results = Results("s", tmp_path)
    with pytest.raises(TypeError, match="lists, text"):
        results.run(units(1, window=(2, 3)), square)
    with pytest.raises(ValueError, match="Out of range float values"):
        results.run(units(1), lambda unit: {"square": float("nan")})
    with pytest.raises(ValueError, match="result is empty"):
        results.run(units(1), lambda unit: {})
    assert not results.pending.exists()


def test_published_facts_are_readable():
    rows = published("pertmap")
    assert {"item", "quantity", "value", "where"} == set(rows[0])
    (m,) = [r["value"] for r in rows if r["quantity"] == "samples M"]
    assert m == "32"
    assert all(all(row.values()) for row in rows)


def test_the_books_own_rows_are_intact():
    folder = Results("any").path.parent
    for path in folder.glob("*.parquet"):
        rows = Results(path.stem).rows()
        assert rows
        assert all(row["result"] and row["settings"] for row in rows)


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ({"a": 20, "b": 10, "c": 9}, ["a", "b"]),
        ({"a": 1, "b": 0}, ["a"]),
        ({"a": 0, "b": 0}, []),
        ({}, []),
    ],
)
def test_what_has_too_few_images_is_left_out(tmp_path, counts, kept):
    results = Results("s", tmp_path)
    for name, n in counts.items():
        results.run(units(n, name=name), square)
    wanted = {name: {"name": name} for name in counts}
    if not kept:
        with pytest.raises(NotMeasured, match="no image has rows of all"):
            results.shared(wanted, "image", well=True)
        return
    found, common = results.shared(wanted, "image", well=True)
    assert list(found) == kept
    assert common == list(range(min(counts[name] for name in kept)))
    assert all(list(of) == common for of in found.values())
