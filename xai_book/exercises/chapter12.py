"""Checkers of the exercises of chapter 12, On a GPU."""

import numpy as np
import torch

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, mismatch
from xai_lib.core.attribution import generator


@exercise("12.1")
def passes(answer: Answer) -> None:
    """Each pass reads d numbers of four bytes and writes as many."""
    for d in (1, 784, 150_528):
        expect(answer, [24 * d, 8 * d], d)


@exercise("12.2")
def signs(answer: Answer) -> None:
    """Pixel 4 b + k takes the lowest bit of word k of block b: transpose before you
    flatten, cut to size, and map 0 and 1 to two signs."""

    def words(seed: int, direction: int, blocks: int) -> np.ndarray:
        drawn = np.random.default_rng((seed, direction)).integers(2**32, size=(99, 4))
        return drawn[:blocks].T.astype(np.uint64)

    for seed, direction, size in ((0, 0, 8), (3, 1, 5), (3, 2, 33)):
        lowest = words(seed, direction, 99).T.ravel()[:size] % 2
        expected = np.where(lowest == 1, -1.0, 1.0)
        found = answer(words, seed, direction, size)
        wrong = mismatch(found, expected.tolist())
        if wrong and mismatch(found, (-expected).tolist()):  # either sign will do
            case = f"seed = {seed}, direction = {direction}, size = {size}"
            raise WrongAnswer(f"for {case}: {wrong}")


@exercise("12.3")
def weighted(answer: Answer) -> None:
    """The mean of scores[i] * masks[i] over i is one einsum, or one product."""
    rng = generator(123)
    for n, height, width in ((1, 2, 3), (50, 7, 5)):
        scores = torch.randn(n, generator=rng)
        masks = torch.rand(n, height, width, generator=rng)
        expected = (scores[:, None, None] * masks).sum(dim=0) / n
        expect(answer, expected, scores, masks)
    try:  # on a device of shapes without values
        found = answer(scores.to("meta"), masks.to("meta"))
    except (RuntimeError, TypeError) as error:
        raise WrongAnswer(
            "it asks for a value, or makes a tensor on the CPU: on a GPU that is a "
            "wait or an error"
        ) from error
    if found.device.type != "meta":
        raise WrongAnswer("the result must stay on the device of the masks")
