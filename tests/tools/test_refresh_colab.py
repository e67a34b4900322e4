from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import refresh_colab

FREEZE = """\
# Do not modify this file directly
absl-py==1.4.0
google-colab @ file:///colabtools/dist/google_colab-1.0.0.tar.gz
ImageIO==2.37.4
jupyter_client==7.4.9
torch @ https://example.org/torch-2.11.0%2Bcpu-cp313-cp313-manylinux_2_28_x86_64.whl
"""
SYSTEM = "Ubuntu 22.04.5 LTS\nPython 3.13.15\nR version 4.6.1 (2026-06-24)\n"
PINS = "# Why.\n# Python 3.12.1, 2026-01-02\n# How.\nimageio==1.0\ntorch\n"
WANTED = (
    "# Why.\n# Python 3.13.15, 2026-08-19\n# How.\nimageio==2.37.4\ntorch==2.11.0\n"
)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A repository like Colab's, of one day."""
    folder = tmp_path / "backend-info"
    folder.mkdir()
    (folder / "pip-freeze.txt").write_text(FREEZE)
    (folder / "os-info.txt").write_text(SYSTEM)
    who = {"NAME": "someone", "EMAIL": "someone@example.org", "DATE": "2026-08-19"}
    who["DATE"] += "T12:00:00Z"
    names = ("AUTHOR", "COMMITTER")
    settings = {f"GIT_{n}_{key}": value for n in names for key, value in who.items()}
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "lists"]):
        subprocess.run(
            ["git", *command], cwd=folder, env={**os.environ, **settings}, check=True
        )
    return folder


def test_versions_python_and_date_follow_the_list(
    published: Path, tmp_path: Path
) -> None:
    (tmp_path / "constraints").mkdir()
    pins = tmp_path / "constraints" / "colab.txt"
    pins.write_text(PINS)
    for _ in range(2):
        assert refresh_colab.main(["--source", str(published)], root=tmp_path) == 0
        assert pins.read_text() == WANTED


def test_a_package_that_colab_has_no_more_is_named() -> None:
    with pytest.raises(ValueError, match="Colab has no 'dlib' any more"):
        refresh_colab.refreshed(f"{PINS}dlib==1\n", FREEZE, SYSTEM, "2026-08-19")


def test_a_list_without_python_is_refused() -> None:
    with pytest.raises(ValueError, match="Python's version"):
        refresh_colab.refreshed(PINS, FREEZE, "Ubuntu\n", "2026-08-19")


def test_the_committed_list_has_exact_versions() -> None:
    text = (refresh_colab.ROOT / "constraints" / "colab.txt").read_text("utf-8")
    assert refresh_colab._HEADER.search(text)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) > 20
    assert all(str(Requirement(line).specifier).startswith("==") for line in lines)
