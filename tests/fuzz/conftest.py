"""Hypothesis for all fuzz tests: the same inputs in every run, and how many there were.

A test that tries fewer inputs than MINIMUM fails; the last lines of a run say how many
were tried in all. XAI_FUZZ asks for so many of all tests together: they share them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No deadline: on a busy machine any input may take long. No database: nothing is
# remembered from run to run.
settings.register_profile(
    "book",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("book")

MINIMUM = 50
TRIED = "inputs tried"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Share what XAI_FUZZ asks for among the fuzz tests that were found."""
    found: list[Any] = [
        item
        for item in items
        if Path(__file__).parent in item.path.parents
        and hasattr(getattr(item, "obj", None), "hypothesis")
    ]
    wanted = int(os.environ.get("XAI_FUZZ", "0"))
    if wanted and found:
        each = settings(max_examples=-(-wanted // len(found)))
        for function in {item.function for item in found}:
            each(function)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Count the inputs of one fuzz test."""
    handle: Any = getattr(getattr(item, "obj", None), "hypothesis", None)
    if handle is None:
        return (yield)
    inner, tried = handle.inner_test, 0

    @functools.wraps(inner)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal tried
        result = inner(*args, **kwargs)
        tried += 1  # only what ran to its end
        return result

    handle.inner_test = counted
    try:
        result = yield
    finally:
        handle.inner_test = inner
    item.user_properties.append((TRIED, tried))
    assert tried >= MINIMUM, f"{tried} inputs tried, at least {MINIMUM} expected"
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == TRIED and report.when == "call"
    ]
    if counts:
        terminalreporter.write_line(
            f"fuzz: {sum(counts)} inputs tried in {len(counts)} tests"
        )
