"""Ratios measured in one run: what is compared takes turns, and medians count."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any


def seconds(run: Callable[..., Any], *arguments: Any) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - began


def compare(
    runs: dict[str, Callable[[], Any]], repeats: int = 5
) -> dict[str, list[float]]:
    """Seconds of each run, `repeats` times, in turns: A B C A B C ..."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return times


def report(times: dict[str, list[float]]) -> None:
    """Print the median of each run, with the fastest and the slowest."""
    for name, values in times.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{name:<40} {median(values):8.2f} s  ({spread})")


def ratio(name: str, above: list[float], below: list[float], goal: str) -> None:
    """Print the median of the ratios of measurements made side by side."""
    value = median(a / b for a, b in zip(above, below, strict=True))
    print(f"{name:<40} {value:8.2f}    goal {goal}")
