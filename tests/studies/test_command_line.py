from __future__ import annotations

import base64
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest

from xai_book.studies.catalogue import STUDIES
from xai_book.studies.command_line import NOTEBOOKS, main
from xai_book.studies.engine import Runner, Study
from xai_book.studies.results import Results, Unit
from xai_lib.core.paths import data_path

# A toy study of 60 units in groups of two. Its work notes what it starts and ends.
# For each line, a folder and options, a run is forked, as the imports take seconds.
TOY = """
import os, sys, time
from pathlib import Path
from xai_book.studies.command_line import main
from xai_book.studies.engine import Study, Runner
from xai_book.studies.results import Unit

def note(what, group):
    with LOG.open("a") as file:
        file.write("".join(f"{what} {unit.image}\\n" for unit in group))

def work(group):
    note("start", group)
    time.sleep(0.02)
    note("end", group)
    return [{"square": unit.image**2} for unit in group]

def die(group):
    os.kill(os.getpid(), 9)

def units():
    return [Unit({"method": "toy"}, i) for i in range(60)]

works = {"toy": work, "deadly": die}
studies = {name: Study("nothing", units, Runner(f, 2)) for name, f in works.items()}
for line in sys.stdin:
    folder, *options = line.rstrip().split("\\t")
    LOG = Path(folder, "log")
    run = os.fork()
    if not run:
        os.setsid()
        said = os.open(Path(folder, "said"), os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.exit(main(["run", *options, "--results", folder], studies))
    print(run, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]), flush=True)
"""


class Toys:
    """Runs of the toy study, one after the other."""

    def __init__(self, script: Path) -> None:
        script.write_text(TOY)
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, folder: Path, *options: str) -> int:
        """The process of a new run, which leads a group of its own."""
        print(folder, *options, sep="\t", file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """The exit status of the run; minus a signal that has ended it."""
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    found = Toys(tmp_path_factory.mktemp("toys") / "toy.py")
    yield found
    found.process.communicate()


def stored(folder: Path) -> set[int]:
    return {row["image"] for row in Results("toy", folder).rows()}


def noted(folder: Path, what: str) -> list[int]:
    path = folder / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(line.split()[1]) for line in lines if line.split()[0] == what]


@pytest.mark.parametrize(("jobs", "kills"), [(1, 3), (2, 2)])
def test_killing_it_loses_nothing_and_repeats_nothing(tmp_path, toys, jobs, kills):
    """SIGKILL at random moments, and then a run that comes through."""
    rng, killed = random.Random(jobs), 0
    while True:
        before = stored(tmp_path)
        rows = Results("toy", tmp_path).rows()
        started = len(noted(tmp_path, "start"))
        process = toys.start(tmp_path, "toy", "--jobs", str(jobs))
        if killed < kills:
            # From the moment that this run has started something.
            while len(noted(tmp_path, "start")) == started:
                assert psutil.pid_exists(process), (tmp_path / "said").read_text()
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.15))
            # The whole group, so that no orphan goes on measuring.
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
        status = toys.wait()
        # What was stored stays as it is, and is not started again.
        assert Results("toy", tmp_path).rows()[: len(rows)] == rows
        assert not before & set(noted(tmp_path, "start")[started:])
        if status != -signal.SIGKILL:
            assert status == 0, (tmp_path / "said").read_text()
            break
        killed += 1
    assert killed >= 2
    rows = Results("toy", tmp_path).rows()
    assert sorted(row["image"] for row in rows) == list(range(60))
    assert all(row["result"] == {"square": row["image"] ** 2} for row in rows)
    # Measured twice: at most what was under way at a kill, a group per worker and one
    # that had ended and was not stored yet.
    again = sum(n - 1 for n in Counter(noted(tmp_path, "start")).values())
    assert again <= killed * 2 * (jobs + 1)


def test_workers_end_with_their_parent(tmp_path, toys):
    """Killed alone: nobody would store what they go on to measure."""
    process = toys.start(tmp_path, "toy", "--jobs", "2")
    while not noted(tmp_path, "end"):
        assert psutil.pid_exists(process), (tmp_path / "said").read_text()
        time.sleep(0.005)
    workers = psutil.Process(process).children(recursive=True)
    assert len(workers) >= 2
    os.kill(process, signal.SIGKILL)
    assert toys.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_a_worker_that_dies_is_reported(tmp_path, toys):
    toys.start(tmp_path, "deadly", "--jobs", "2")
    assert toys.wait() == 1
    said = (tmp_path / "said").read_text()
    assert "deadly: a worker process died" in said
    assert "Traceback" not in said


def command_line(
    *arguments: str | Path, **options: object
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "xai_book", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def test_a_closed_pipe_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    ran = command_line("list", "--results", tmp_path, stdout=write)
    os.close(write)
    assert ran.returncode == 141
    assert ran.stderr == b""


def test_statements_survive_any_code_page(tmp_path):
    code_page = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    ran = command_line("claims", "--results", tmp_path, env=code_page)
    assert ran.returncode == 0, ran.stderr
    assert "σ" in ran.stdout.decode()


def test_what_is_not_there_is_said_in_a_line(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_a.ipynb").write_text("[]")
    for arguments, message in (
        (["list", "--results", str(tmp_path / "none")], "none is no folder"),
        (["claims", "--results", str(file)], "file is no folder"),
        (["figures", "--notebooks", str(tmp_path / "notebooks")], "is no notebook"),
        (["figures", "--out", str(file / "out")], "Not a directory"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_a_damaged_store_is_named_and_the_others_are_listed(tmp_path, capsys):
    studies = {"broken": toy(3), "whole": toy(3)}
    main(["run", "whole", "--results", str(tmp_path)], studies)
    (tmp_path / "broken.sqlite").write_text("damage\n")
    capsys.readouterr()
    main(["list", "--results", str(tmp_path)], studies)
    listed = capsys.readouterr().out
    assert f"{tmp_path / 'broken.sqlite'}: file is not a database" in listed
    assert re.search(r"^whole +3 of 3", listed, re.MULTILINE)


def test_a_damaged_store_leaves_the_other_claims(tmp_path, capsys):
    shutil.copy(data_path("results/geex_mnist_samplers.parquet"), tmp_path)
    (tmp_path / "table1_mnist.sqlite").write_text("damage\n")
    assert main(["claims", "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "cannot be read:" in said
    assert f"{tmp_path / 'table1_mnist.sqlite'}: file is not a database" in said
    assert re.search(r"Mirrored noise.*\n(?:.*\n){0,6}?.*MNIST", said)


def toy(count: int = 3, **changes: object) -> Study:
    return Study(
        "Figure 0",
        lambda: [Unit({"method": "toy"}, i) for i in range(count)],
        Runner(lambda unit: {"square": unit.image**2}),
        **changes,
    )


def test_list_counts_rows(tmp_path, capsys):
    main(["run", "toy", "--results", str(tmp_path)], {"toy": toy(3)})
    assert "toy: 3 rows measured" in capsys.readouterr().out
    larger = {"toy": toy(1500), "far": toy(needs="a network")}
    assert main(["list", "--results", str(tmp_path)], larger) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["study", "rows", "hours", "reproduces"]
    assert first.split() == ["toy", "3", "of", "1,500", "0.0", "Figure", "0"]
    assert second.endswith("0 of ?    0.0  Figure 0 (downloads a network)")


def test_progress_is_drawn_with_the_time_left(tmp_path, capsys):
    main(["run", "toy", "--results", str(tmp_path)], {"toy": toy(3)})
    assert "toy:" in capsys.readouterr().err
    main(["run", "toy", "--results", str(tmp_path)], {"toy": toy(3)})
    assert "toy: 0 rows measured" in capsys.readouterr().out


def test_an_interrupt_says_what_to_do(tmp_path, capsys):
    def stop(unit: Unit) -> dict:
        if unit.image == 1:
            raise KeyboardInterrupt
        return {"square": 0}

    study = Study("", toy().units, Runner(stop))
    assert main(["run", "toy", "--results", str(tmp_path)], {"toy": study}) == 130
    assert "goes on from there" in capsys.readouterr().out
    assert stored(tmp_path) == {0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "invalid choice: 'nothing'"),
        (["run", "geex_mnist", "--jobs", "0"], "jobs must be at least 1"),
        (["run", "geex_mnist", "--jobs", "2", "--scheduler", "tcp://x"], "give one"),
        ([], "required: command"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_claims_are_printed(tmp_path, capsys):
    assert main(["claims", "--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "Ikeno & Hara" in text
    assert "-> not measured" in text


def test_figures_are_the_pictures_of_the_notebooks(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["figures", "--out", str(out)]) == 0
    chapter = next(NOTEBOOKS.glob("03_*.ipynb"))
    notebook = nbformat.read(chapter, as_version=4)
    expected = [
        base64.b64decode(output.data["image/png"])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    saved = sorted(out.glob("03_*.png"))
    assert expected == [path.read_bytes() for path in saved]
    assert all(png.startswith(b"\x89PNG") for png in expected)
    count = len(list(out.iterdir()))
    assert f"{count} figures in" in capsys.readouterr().out


def test_figures_without_the_book_say_what_they_need(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["figures", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "the folder of a copy of the book" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for command in ("list", "run", "figures", "claims"):
        assert f"python -m xai_book {command}" in said


COMPLETE = [name for name in STUDIES if name.startswith(("pertmap", "geex"))]
COMPLETE = [n for n in COMPLETE if "photos" not in n and not STUDIES[n].needs]


@pytest.mark.parametrize("name", COMPLETE)
def test_running_a_stored_study_again_measures_nothing(name):
    def refuse(function, groups):
        assert not groups, f"{name} would measure {groups[0][0]}"
        return []

    results = Results(name)
    size = results.path.stat().st_size
    assert results.rows()
    assert STUDIES[name].run(STUDIES[name].units(), results, spread=refuse) == 0
    assert results.path.stat().st_size == size


@pytest.mark.parametrize(
    "name",
    [name for name in STUDIES if name not in COMPLETE and Results(name).path.exists()],
)
def test_unfinished_studies_go_on_where_they_stopped(name):
    """Every stored row is one that the study asks for, so none is measured again."""
    results, asked = Results(name), STUDIES[name].units()
    distinct = {unit.key for unit in asked}
    assert len(results.missing(asked)) + len(results.rows()) == len(distinct)
