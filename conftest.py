"""What holds for every run of pytest in this repository."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """A progress bar in a notebook is an output, and no two are equal: nbval's kernels
    draw none."""
    if config.getoption("--nbval", False):
        os.environ.setdefault("TQDM_DISABLE", "1")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Weights that a test draws are the same in every order of the tests."""
    import torch  # here, as nbval needs none

    torch.manual_seed(0)
