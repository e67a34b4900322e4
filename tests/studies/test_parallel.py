from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from distributed import Client, LocalCluster

from xai_book.studies import geex, parallel, pertmap
from xai_book.studies.command_line import main
from xai_book.studies.engine import Runner, Study
from xai_book.studies.results import Results, Unit, one_by_one

CNN = "cnn_mnist"
PROCESSORS = parallel.cpu_count()


def threads(unit: Unit) -> dict:
    return {"threads": torch.get_num_threads(), "process": os.getpid()}


def fail(unit: Unit) -> dict:
    return {"inverse": 1 / (3 - unit.image)}


def die(unit: Unit) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def units(count: int) -> list[Unit]:
    return [Unit({"method": "toy"}, i) for i in range(count)]


def cases() -> dict[str, geex.Case]:
    """Noise and queries, gradients, and a random order."""
    return {
        "GERS": geex.case("GERS", CNN, n_samples=32),
        "SmoothGrad": geex.case("SmoothGrad", CNN, n_samples=4),
        "random": geex.case("random", CNN),
    }


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def without_clock(path: Path) -> dict[str, dict]:
    """Rows by their unit, without seconds and date."""
    rows = Results(path.stem, path.parent).rows()
    return {
        Unit(row["settings"], row["image"], row["seed"]).key: {
            name: value
            for name, value in row.items()
            if name not in ("seconds", "date")
        }
        for row in rows
    }


def digits(folder: Path, name: str, spread) -> Results:
    """Both studies of digits, a few rows each, in groups of three."""
    results = Results(name, folder)
    todo = geex.units(cases(), CNN, "mnist", range(7))
    results.run(todo, geex.measure, 3, spread=spread)
    todo = pertmap.units(CNN, "mnist", 2, ("Gradient", "Occlusion", "random"))
    results.run(todo, pertmap.measure, pertmap.TOGETHER, spread=spread)
    return results


# Workers live on where the next test asks for such again; a failure ends them.


def test_each_worker_has_its_share_of_threads(tmp_path):
    share = max(1, PROCESSORS // 2)
    for spread, expected in (
        (parallel.processes(2, threads=3), 3),
        (parallel.processes(2), share),
    ):
        results = Results(f"threads{expected}-{id(spread)}", tmp_path)
        results.run(units(6), threads, spread=spread)
        found = [row["result"] for row in results.rows()]
        assert {row["threads"] for row in found} == {expected}
        assert os.getpid() not in {row["process"] for row in found}
    before = torch.get_num_threads()
    here = Results("here", tmp_path)
    here.run(units(1), threads, spread=parallel.processes(1))
    assert here.rows()[0]["result"] == {"threads": before, "process": os.getpid()}


def test_processes_give_the_rows_of_a_serial_run_to_the_bit(tmp_path, one_thread):
    serial = digits(tmp_path, "serial", map)
    spread = digits(tmp_path, "spread", parallel.processes(2, threads=1))
    expected = without_clock(serial.path)
    assert len(expected) == 7 * 3 + 2 * 3
    assert without_clock(spread.path) == expected


def test_rows_hardly_depend_on_the_number_of_threads(tmp_path, one_thread):
    """Sums in another order: in docs/studies.md, the same tolerance."""
    found = {}
    for n in (1, 2):
        results = Results(f"threads{n}", tmp_path)
        todo = geex.units(cases(), CNN, "mnist", range(4))
        results.run(todo, geex.measure, 4, spread=parallel.processes(1, n))
        assert torch.get_num_threads() == n
        found[n] = geex.read(cases(), CNN, "mnist", results)
    for label in cases():
        for name, values in found[1][label].items():
            torch.testing.assert_close(
                found[2][label][name], values, rtol=1e-3, atol=2e-3
            )


@pytest.fixture(scope="module")
def two_workers():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster


def test_a_cluster_of_which_a_worker_is_killed(tmp_path, one_thread, two_workers):
    """The rows of a serial run, to the bit, and each of them once."""
    serial, spread = Results("serial", tmp_path), Results("spread", tmp_path)
    todo = geex.units(cases(), CNN, "mnist", range(5))
    serial.run(todo, geex.measure, 1)
    with Client(two_workers, set_as_default=False) as client:
        before = set(client.run(os.getpid).values())
        assert len(before) == 2
        stored = []

        def kill_half_way(unit: Unit, found: dict) -> dict:
            stored.append(unit.key)
            if len(stored) == len(todo) // 2:
                os.kill(min(before), signal.SIGKILL)
            return found

        count = spread.run(
            todo,
            geex.measure,
            1,
            spread=parallel.cluster(two_workers.scheduler_address),
            keep=kill_half_way,
        )
        assert min(before) not in set(client.run(os.getpid).values())
    assert count == len(todo) == len(set(stored)) == len(stored)
    assert without_clock(spread.path) == without_clock(serial.path)
    # Workers measured; this process only wrote.
    assert os.getpid() not in before


def test_the_command_line_measures_on_a_cluster(tmp_path, two_workers):
    toy = Study("", lambda: units(6), Runner(threads))
    options = ["run", "toy", "--results", str(tmp_path)]
    options += ["--scheduler", two_workers.scheduler_address]
    assert main(options, {"toy": toy}) == 0
    found = [row["result"] for row in Results("toy", tmp_path).rows()]
    assert len(found) == 6
    assert {row["threads"] for row in found} == {1}
    assert os.getpid() not in {row["process"] for row in found}


def test_workers_without_the_book_are_told(two_workers, monkeypatch):
    """They would end at their first task, and `run` would wait for others for ever."""
    monkeypatch.setattr(parallel, "__name__", "no_such_book")
    with pytest.raises(ModuleNotFoundError, match="no_such_book"):
        parallel.cluster(two_workers.scheduler_address)


def test_a_unit_that_kills_its_workers_is_reported(tmp_path, two_workers, monkeypatch):
    """The first, as a new one takes seconds."""
    monkeypatch.setattr(two_workers.scheduler, "allowed_failures", 0)
    results = Results("s", tmp_path)
    with pytest.raises(Exception, match=r"1 times|killed|died"):
        results.run(
            units(1), die, spread=parallel.cluster(two_workers.scheduler_address)
        )
    assert not results.pending.exists()


def test_a_cluster_must_have_workers_of_one_thread(tmp_path):
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as nobody,
        pytest.raises(RuntimeError, match="no worker; start each with"),
    ):
        parallel.cluster(nobody.scheduler_address)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as both,
        pytest.raises(RuntimeError, match="runs several tasks"),
    ):
        parallel.cluster(both.scheduler_address)


def test_a_row_is_never_overwritten_by_another_setting(tmp_path):
    results = Results("s", tmp_path)
    results.run(units(3), threads)
    before = results.rows()
    other = [
        Unit({"method": "toy", "n": 5}, i, seed) for i in range(3) for seed in (0, 1)
    ]
    results.run(other, threads, spread=parallel.processes(2))
    assert results.rows()[: len(before)] == before
    assert len(results.rows(method="toy")) == 9
    assert len(results.rows(n=5)) == 6


def test_bad_arguments():
    with pytest.raises(ValueError, match="jobs must be at least 1"):
        parallel.processes(0)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        parallel.processes(2, threads=0)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        parallel.cluster("tcp://127.0.0.1:1", threads=0)


def test_groups_travel_to_workers_whole(tmp_path):
    results = Results("s", tmp_path)
    results.run(units(5), partial(one_by_one, threads), 2, spread=parallel.processes(2))
    rows = results.rows()
    by_image = {row["image"]: row for row in rows}
    assert sorted(by_image) == list(range(5))
    for first, second in ((0, 1), (2, 3)):
        assert by_image[first]["result"] == by_image[second]["result"]
        assert rows.index(by_image[second]) == rows.index(by_image[first]) + 1


def test_a_failing_unit_leaves_what_was_stored(tmp_path):
    results = Results("s", tmp_path)
    with pytest.raises(ZeroDivisionError):
        results.run(units(8), fail, spread=parallel.processes(2))
    rows = Results("s", tmp_path).rows()
    assert {row["image"] for row in rows} <= set(range(8)) - {3}
    for row in rows:
        assert row["result"] == {"inverse": 1 / (3 - row["image"])}
