"""Checkers of the exercises of chapter 12, On a GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.core.attribution import generator


@exercise("12.1")
def passes(answer: Callable) -> None:
    """`answer(d)`: bytes moved per query in three passes, and in one."""
    for d in (1, 784, 150_528):
        expect_close(
            torch.as_tensor(answer(d), dtype=torch.float64),
            torch.tensor([24.0 * d, 8.0 * d], dtype=torch.float64),
            "each pass reads d numbers of four bytes and writes as many",
        )


@exercise("12.2")
def signs(answer: Callable) -> None:
    """`answer(words, seed, direction, size)`: ±1 for each pixel, one bit each."""

    def words(seed: int, direction: int, blocks: int) -> np.ndarray:
        drawn = np.random.default_rng((seed, direction)).integers(2**32, size=(99, 4))
        return drawn[:blocks].T.astype(np.uint64)

    for seed, direction, size in ((0, 0, 8), (3, 1, 5), (3, 2, 33)):
        lowest = words(seed, direction, 99).T.ravel()[:size] % 2
        found = torch.as_tensor(np.asarray(answer(words, seed, direction, size), float))
        expected = torch.from_numpy(np.where(lowest == 1, -1.0, 1.0))
        if found.shape == expected.shape:
            expected = -expected if torch.equal(found, -expected) else expected
        expect_close(
            found,
            expected,
            "pixel 4 b + k takes the lowest bit of word k of block b: transpose before "
            "you flatten, cut to size, and map 0 and 1 to two signs",
        )


@exercise("12.3")
def weighted(answer: Callable) -> None:
    """`answer(scores, masks)`: the mean of scores times masks, without a wait."""
    rng = generator(123)
    for n, height, width in ((1, 2, 3), (50, 7, 5)):
        scores = torch.randn(n, generator=rng)
        masks = torch.rand(n, height, width, generator=rng)
        expected = sum(s * m for s, m in zip(scores, masks, strict=True)) / n
        hint = "the mean of scores[i] * masks[i] over i: one einsum, or one product"
        expect_close(answer(scores.clone(), masks.clone()), expected, hint)
    with FakeTensorMode():
        fake = torch.empty(50, device="cuda"), torch.empty(50, 7, 5, device="cuda")
        try:
            found = answer(*fake)
        except RuntimeError as error:
            raise WrongAnswer(
                "it asks for a value, or makes a tensor on the CPU: on a GPU that is "
                "a wait or an error"
            ) from error
        if found.device.type != "cuda":
            raise WrongAnswer("the result must stay on the device of the masks")
