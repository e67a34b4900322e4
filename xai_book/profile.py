"""Two sizes of every computation: quick for a laptop, paper as published."""

import os
from typing import TypeVar

T = TypeVar("T")


def profile() -> str:
    """The profile in force, "quick" or "paper", from the variable `XAI_PROFILE`.

    Raises:
        ValueError: another value.
    """
    name = os.environ.get("XAI_PROFILE", "quick")
    if name not in ("quick", "paper"):
        raise ValueError(f"XAI_PROFILE must be quick or paper, got {name!r}")
    return name


def by_profile(quick: T, paper: T) -> T:
    """The value for the profile in force, e.g. `by_profile(quick=500, paper=4000)`."""
    return quick if profile() == "quick" else paper
