"""Hypothesis for all fuzz tests: the same inputs in every run, and how many there were.

A test that tries fewer inputs than MINIMUM fails; the last lines of a run say how many
were tried in all.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
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
