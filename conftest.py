"""What holds for every run of pytest in this repository."""

from __future__ import annotations

import gc
import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """A progress bar in a notebook is an output, and no two are equal: nbval's kernels
    draw none."""
    if config.getoption("--nbval", False):
        os.environ.setdefault("TQDM_DISABLE", "1")


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: a search for garbage need not go
    through its million objects again."""
    gc.collect()
    gc.freeze()
