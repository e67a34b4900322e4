from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import sync_environment

ROOT = Path(__file__).parents[2]


def pip_list(path: Path) -> list[str]:
    environment = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert environment["name"] == "xai-book"
    return next(
        entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)
    )


def test_committed_environment_lists_what_pyproject_requires() -> None:
    listed = pip_list(ROOT / "environment.yml")
    project = sync_environment.pyproject()["project"]
    extras = project["optional-dependencies"]
    book = {line for line in extras["book"] if not line.startswith("xai-lib")}
    for part in ("chapters", "detect", "openvino"):
        book |= set(extras[part])
    assert set(project["dependencies"]) | book <= set(listed)
    assert not [line for line in listed if line.startswith("xai-lib")]
    assert len(listed) == len(set(listed))
    names = [line.split(">")[0].split("=")[0] for line in listed]
    # What the readers were promised, by name.
    assert names.count("dlib-bin") == 1
    for name in ("jupyterlab", "torch", "torchvision", "numpy", "scipy"):
        assert names.count(name) == 1
    for name in ("matplotlib", "ipywidgets", "nbval"):
        assert names.count(name) == 1
    assert listed[-1] == "-e ."


def test_check_fails_when_a_requirement_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert sync_environment.main(["--check"], root=tmp_path) == 1
    assert sync_environment.main([], root=tmp_path) == 0
    assert sync_environment.main(["--check"], root=tmp_path) == 0
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("captum>=", "captum>=9"))
    capsys.readouterr()
    assert sync_environment.main(["--check"], root=tmp_path) == 1
    assert "sync_environment.py" in capsys.readouterr().out
