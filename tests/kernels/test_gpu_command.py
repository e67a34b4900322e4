"""`python -m xai_book gpu` on a CPU: every part, its rows, and what it leaves out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from xai_book import gpu
from xai_book.studies import catalogue
from xai_book.studies.engine import Runner, Study
from xai_book.studies.results import Results, Unit

TINY = ("--device", "cpu", "--tiny")


def run(out: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    rows = "--rows", str(out.parent / "rows")
    code = gpu.main([*TINY, "--out", str(out), *rows, *arguments])
    return code, [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def test_every_part_has_rows_and_all_agrees(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(gpu, "PAPER", {"a table": ("small", 1000)})
    monkeypatch.setattr(gpu, "STUDIES", ("figure1_mnist",))  # whose units are quick
    code, rows = run(tmp_path / "rows.jsonl")
    assert code == 0
    assert {row["part"] for row in rows} == set(gpu.PARTS)
    assert not [row for row in rows if "error" in row or row.get("agrees") is False]
    compared = {row["name"] for row in rows if row["part"] == "agreement"}
    assert {"GEEX", "AISE", "PertMap", "RISE", "LRP", "deletion"} <= compared
    assert all(row["device"].startswith("CPU") for row in rows), "no GPU was measured"
    assert [row["minutes"] > 0 for row in rows if row["part"] == "paper"] == [True]
    measured = [row for row in rows if row["part"] == "studies"]
    stored = Results(gpu.STUDIES[0], tmp_path / "rows").rows()
    assert [row["rows"] for row in measured] == [len(stored)] == [2]


def test_rows_of_studies_end_with_the_time_and_the_packages(
    tmp_path: Path, monkeypatch
) -> None:
    def without(units: list[Unit]) -> list[dict[str, Any]]:
        if units[0].settings["case"] == 1:
            raise ImportError("a package")
        return [{"found": 1.0} for _ in units]

    units = [Unit({"case": case}, image) for image in (0, 1) for case in (0, 1)]
    study = Study("a test", lambda: units, Runner(without, 1))
    monkeypatch.setattr(catalogue, "STUDIES", {"none_such": study})
    monkeypatch.setattr(gpu, "STUDIES", ("none_such",))
    out = tmp_path / "rows.jsonl"
    code, rows = run(out, "--parts", "studies", "--minutes", "0")
    assert (code, rows[0]["rows"], rows[0]["wanted"]) == (0, 0, 2)
    assert run(out, "--parts", "studies")[1][-1]["rows"] == 1


def test_rows_are_added_and_late_ones_left_out(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    first = run(out, "--parts", "kernels")[1]
    code, rows = run(out, "--parts", "agreement", "--minutes", "0")
    assert code == 0
    assert rows[: len(first)] == first
    assert [row.get("left out") for row in rows[len(first) :]] == [
        None,
        "the rest, as the time is over",
    ]


def test_an_error_ends_a_part_and_not_the_run(tmp_path: Path, monkeypatch) -> None:
    def broken(bench: gpu.Bench) -> gpu.Rows:
        yield {"name": "first"}
        raise RuntimeError("out of luck")

    monkeypatch.setitem(gpu.PARTS, "kernels", broken)
    code, rows = run(tmp_path / "rows.jsonl", "--parts", "kernels", "memory")
    assert code == 1
    assert [row["name"] for row in rows] == ["first", "kernels", "memory"]
    assert rows[1]["error"] == "RuntimeError: out of luck"


def test_it_says_where_there_is_no_gpu(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "rows.jsonl"
    assert gpu.main(["--out", str(out)]) == 2
    assert not out.exists()
    assert "no GPU here" in capsys.readouterr().err


def test_geex_by_kernels_is_the_mean_over_its_queries() -> None:
    bench = gpu.Bench("cpu", True, 1, Path("unused"))
    box, x = gpu.BlackBox(gpu.small_network()), bench.image()
    found = gpu.by_kernels(box, x, 4000, 80)
    assert box.queries == 4000
    x.requires_grad_()
    gpu.small_network()(x)[0, 1].backward()
    cosine = torch.cosine_similarity(found.flatten(), x.grad.flatten(), dim=0)
    assert float(cosine) > 0.65


MISSING = ("captum", "zennit", "openvino", "dlib", "foolbox", "safetensors")
MISSING += ("ipywidgets", "pandas", "pyarrow")


# Run in a process of its own: what is MISSING is found nowhere.
BARE = """
import sys
from importlib.machinery import PathFinder

found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *at: (
    None if name.split(".")[0] in {missing} else found(name, *at)
)
from xai_book import gpu
sys.exit(gpu.main({arguments}))
"""


@pytest.mark.parametrize("also", [(), ("skimage", "sklearn", "matplotlib")])
def test_without_the_packages_that_a_bare_machine_lacks(also, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    arguments = [*TINY, "--out", str(out), "--rows", str(tmp_path / "rows")]
    arguments += ["--parts", "agreement", "studies"]
    program = BARE.format(missing=(*MISSING, *also), arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    left_out = {row["name"] for row in rows if "left out" in row}
    assert {"DeepLift", "LRP", "studies"} <= left_out
    assert ("LIME" in left_out) == bool(also)
    assert {"GEEX", "AISE", "RISE", "PertMap"} <= {
        row["name"] for row in rows if row.get("agrees")
    }
