"""Ratios measured in one run: what is compared takes turns, and medians count.

Ratios are printed, and kept in `benchmarks/results/` for the site's page, unless the
script runs with `--quick`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
_stored: list[dict[str, Any]] = []


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


def ratio(name: str, above: list[float], below: list[float], goal: str = "") -> None:
    """Print and keep the median of the ratios of measurements made side by side.

    Args:
        goal: "<= 1.05" or ">= 2.5"; "" where there is none.
    """
    values = [a / b for a, b in zip(above, below, strict=True)]
    print(f"{name:<40} {median(values):8.2f}    " + (f"goal {goal}" if goal else ""))
    row = {"name": name, "ratio": median(values), "goal": goal}
    row |= {"low": min(values), "high": max(values), "repeats": len(values)}
    _stored.append(row)
    if "--quick" not in sys.argv:
        _store(Path(sys.argv[0]).stem)


def _store(script: str) -> None:
    """All ratios of this process so far, which replace those of the same names: a
    script that is stopped keeps its first, and may go on from there the same day."""
    content: dict[str, Any] = {
        "about": (sys.modules["__main__"].__doc__ or "").strip().splitlines()[0],
        "device": _device(),
        "torch": str(torch.__version__).partition("+")[0],
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    path = RESULTS / f"{script}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    new = {row["name"] for row in _stored}
    old = before["ratios"] if content.items() <= before.items() else []
    content["ratios"] = [row for row in old if row["name"] not in new] + _stored
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return (
        f"{os.cpu_count()} CPU cores ({platform.machine()}), torch threads: {threads}"
    )
