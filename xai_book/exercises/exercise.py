"""What the checkers of all chapters' exercises share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class WrongAnswer(AssertionError):
    """The answer is not right yet; the message is a hint."""


Check = Callable[[Callable], None]


def exercise(number: str) -> Callable[[Check], Check]:
    """Turn a checker of one answer into the call that stands in the notebook.

    The checker gets the reader's function and raises `WrongAnswer` with a hint. The
    call prints `exercise 1.2: ok`, or `exercise 1.2: not attempted yet` as long as the
    function returns `...`, as the stub does.
    """

    def decorate(check: Check) -> Check:
        def run(answer: Callable) -> None:
            if not callable(answer):
                raise TypeError(
                    f"exercise {number} checks a function, got {type(answer).__name__}"
                )
            attempted = True

            def watched(*args: Any) -> Any:
                nonlocal attempted
                result = answer(*args)
                if result is ...:
                    attempted = False
                    raise WrongAnswer("the stub")
                return result

            try:
                check(watched)
            except WrongAnswer as hint:
                if attempted:
                    raise WrongAnswer(f"exercise {number}: {hint}") from None
            state = "ok" if attempted else "not attempted yet"
            print(f"exercise {number}: {state}")

        run.__doc__ = check.__doc__
        return run

    return decorate


def expect_close(answer: Any, expected: Tensor, hint: str, atol: float = 1e-5) -> None:
    """Raise `WrongAnswer` unless the answer is a tensor close to `expected`."""
    if not isinstance(answer, Tensor):
        raise WrongAnswer(f"return a tensor, not {type(answer).__name__}. {hint}")
    if answer.shape != expected.shape:
        shapes = f"{list(answer.shape)}, expected {list(expected.shape)}"
        raise WrongAnswer(f"the shape is {shapes}. {hint}")
    if not torch.allclose(answer.double(), expected.double(), atol=atol, rtol=0):
        raise WrongAnswer(hint)
