"""BlackBox under random shapes, batch sizes, budgets, dtypes and failures."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from xai_lib.core import blackbox as module
from xai_lib.core.blackbox import BlackBox, BudgetExceeded, NonFiniteOutput

shapes = st.one_of(
    st.tuples(st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)),
)
batch_sizes = st.one_of(st.just("auto"), st.integers(1, 60))
dtypes = st.sampled_from([torch.float32, torch.float64, torch.float16])


def inputs(n: int, shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).integers(-8, 9, (n, *shape))
    return torch.from_numpy(values).to(dtype)


def scores(x: Tensor) -> Tensor:
    """Whole numbers, exact in every dtype: the largest and the smallest entry."""
    return torch.stack([x.flatten(1).amax(1), x.flatten(1).amin(1)], dim=1)


class Model:
    """Remembers the sizes of its batches; fails above `fits`."""

    def __init__(self, arrays: bool = False, fits: int = 10**9) -> None:
        self.arrays, self.fits = arrays, fits
        self.sizes: list[int] = []

    def __call__(self, x: Any) -> Any:
        if self.arrays and isinstance(x, Tensor):
            raise TypeError("arrays, please")
        if len(x) > self.fits:
            raise MemoryError("out of memory")
        self.sizes.append(len(x))
        return scores(torch.from_numpy(x)).numpy() if self.arrays else scores(x)


@given(
    requests=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    shape=shapes,
    dtype=dtypes,
    batch_size=batch_sizes,
    budget=st.one_of(st.none(), st.integers(0, 80)),
    arrays=st.booleans(),
    fits=st.integers(1, 50),
)
def test_every_answer_counts_once_within_the_budget(
    requests: list[int],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    batch_size: Any,
    budget: int | None,
    arrays: bool,
    fits: int,
) -> None:
    model = Model(arrays, fits)
    blackbox = BlackBox(model, batch_size=batch_size, budget=budget)
    answered = 0
    for seed, n in enumerate(requests):
        x = inputs(n, shape, dtype, seed)
        kept = x.clone()
        if budget is not None and answered + n > budget:
            with pytest.raises(BudgetExceeded, match=f"{n} more queries after"):
                blackbox(x)
        else:
            assert torch.equal(blackbox(x).double(), scores(x).double())
            answered += n
        assert torch.equal(x, kept)
        # Of arrays it cannot be seen whether inputs meet: one is asked again alone,
        # unless queries are paid for.
        again = arrays and budget is None and max(model.sizes, default=0) > 1
        assert blackbox.queries == answered == sum(model.sizes) - again
    limit = min(fits, batch_size) if batch_size != "auto" else fits
    assert all(size <= limit for size in model.sizes)


@given(
    n=st.integers(1, 40),
    shape=shapes,
    batch_size=batch_sizes,
    data=st.data(),
    value=st.sampled_from([float("nan"), float("inf"), float("-inf")]),
)
def test_a_broken_answer_is_found_where_it_is(
    n: int, shape: tuple[int, ...], batch_size: Any, data: st.DataObject, value: float
) -> None:
    broken = data.draw(st.integers(0, n - 1))
    x = torch.zeros(n, *shape)
    x.flatten(1)[:, 0] = torch.arange(n)  # a number that tells inputs apart

    def model(batch: Tensor) -> Tensor:
        answer = batch.flatten(1)[:, :1].clone()
        return torch.where(answer == broken, value, answer)

    blackbox = BlackBox(model, batch_size=batch_size)
    message = rf"for input {broken} of this request \(query {broken + 1} in all\)"
    with pytest.raises(NonFiniteOutput, match=message):
        blackbox(x)
    assert broken < blackbox.queries <= n


@given(
    n=st.integers(2, 40),
    batch_size=st.integers(1, 12),
    data=st.data(),
    kind=st.sampled_from([ConnectionError, KeyError, RuntimeError, ValueError]),
)
def test_a_failing_call_is_counted_and_not_repeated(
    n: int, batch_size: int, data: st.DataObject, kind: type[Exception]
) -> None:
    calls = -(-n // batch_size)
    failing = data.draw(st.integers(0, calls - 1))
    made = 0

    def model(batch: Tensor) -> Tensor:
        nonlocal made
        made += 1
        if made == failing + 1:
            raise kind("the line is cut")
        return scores(batch)

    blackbox = BlackBox(model, batch_size=batch_size, backend="torch")
    x = inputs(n, (3,), torch.float32)
    with pytest.raises(kind, match="the line is cut"):
        blackbox(x)
    assert made == failing + 1
    assert blackbox.queries == min(n, (failing + 1) * batch_size)
    assert torch.equal(blackbox(x), scores(x))  # and it goes on


@given(
    n=st.integers(1, 7),
    m=st.integers(1, 9),
    shape=shapes,
    block=st.integers(1, 200),
    batch_size=batch_sizes,
)
def test_versions_equal_a_loop(
    n: int, m: int, shape: tuple[int, ...], block: int, batch_size: Any
) -> None:
    x, e = inputs(n, shape, torch.float64), inputs(m, shape, torch.float64, seed=1)
    blackbox = BlackBox(scores, batch_size=batch_size)
    with mock.patch.object(module, "BLOCK", block):
        answers = blackbox.versions(n, m, lambda i, j: x[i, None] + e[None, j])
    loop = [[scores((x[i] + e[j])[None])[0] for j in range(m)] for i in range(n)]
    assert torch.equal(answers, torch.stack([torch.stack(row) for row in loop]))
    assert blackbox.queries == n * m
