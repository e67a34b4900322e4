"""What the checkers of all chapters' exercises share.

A checker tries the reader's function on inputs of its own. A wrong answer shows the
case, what was expected and what came; from the second one on, the exercise's hint, too.
An error in the reader's own code shows the reader's own frames, and none of a checker:
its source would give the solution away.
"""

import copy
import functools
import inspect
import reprlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from torch import Tensor

HERE = str(Path(__file__).parent)
FEW = 12
"""So many numbers are shown, of more the shape."""


class WrongAnswer(AssertionError):
    """The answer is not right yet; the message says for which case."""

    def _render_traceback_(self) -> list[str]:  # IPython shows the message alone
        return [f"{type(self).__name__}: {self}"]


class NotAttempted(Exception):
    """The function has returned `...`, as the stub does."""


Answer = Callable[..., Any]
Check = Callable[[Answer], None]
FAILURES: Counter[str] = Counter()
"""How many answers to each exercise were wrong in this session."""


def exercise(number: str) -> Callable[[Check], Check]:
    """Turn a checker of one answer into the call that stands in the notebook.

    The checker gets the reader's function and raises `WrongAnswer` with the case; its
    docstring is the hint. The call prints `exercise 1.2: ok`, or `exercise 1.2: not
    attempted yet` as long as the function returns `...`, as the stub does.
    """

    def decorate(check: Check) -> Check:
        hint = " ".join(str(check.__doc__).split())

        def run(answer: Answer) -> None:
            __tracebackhide__ = True  # of this frame, where IPython shows an error
            if not callable(answer):
                raise TypeError(
                    f"exercise {number} checks a function, got {type(answer).__name__}"
                )
            problem = _try(check, answer)
            if isinstance(problem, WrongAnswer):
                FAILURES[number] += 1
                helped = f"\nHint: {hint}" if FAILURES[number] > 1 else ""
                raise WrongAnswer(f"exercise {number}: {problem}{helped}")
            if problem is not None and not isinstance(problem, NotAttempted):
                raise problem
            state = "ok" if problem is None else "not attempted yet"
            print(f"exercise {number}: {state}")

        return run

    return decorate


def _try(check: Check, answer: Answer) -> BaseException | None:
    """None if all is well; else what is wrong, or the error in the reader's code."""
    own: list[BaseException] = []

    @functools.wraps(answer)
    def asked(*args: Any) -> Any:
        try:
            result = answer(*args)
        except BaseException as error:  # an interrupt of an endless loop, too
            own.append(error)
            raise
        if result is ...:
            raise NotAttempted
        return result

    try:
        check(asked)
    except (WrongAnswer, NotAttempted) as problem:
        return problem
    except BaseException as error:
        if isinstance(error, Exception) and not own:
            what = f"{type(error).__name__}: {error}"
            return WrongAnswer(f"what your function returns cannot be used: {what}")
        shown = own[-1] if own else error
        link: BaseException | None = shown
        while link is not None:
            link.__traceback__ = _readers_frames(link.__traceback__)
            link = link.__cause__ or link.__context__
        return shown
    return None


def _readers_frames(traceback: TracebackType | None) -> TracebackType | None:
    """What follows the call of the reader's function, without frames of checkers."""
    entries = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    for entry in reversed(entries):
        frame = entry.tb_frame
        if not frame.f_code.co_filename.startswith(HERE):
            place = (frame, entry.tb_lasti, entry.tb_lineno)
            traceback = TracebackType(traceback, *place)
        elif frame.f_code.co_name == "asked":
            break
    return traceback


def expect(
    answer: Answer,
    expected: Any,
    *args: Any,
    atol: float = 1e-5,
    kind: type | None = None,
) -> None:
    """Ask for one case, with copies of the arguments, and compare the numbers.

    Args:
        answer: the reader's function.
        expected: a number, a tensor, an array, or lists of numbers. Tensors and arrays
            must be answered with their like; else all that holds these numbers will do.
        args: of the function; a docstring of a function among them is shown.
        atol: the largest allowed absolute difference.
        kind: the type that an answer must have.

    Raises:
        WrongAnswer: with the case, what was expected and what came.
    """
    wrong = mismatch(answer(*copy.deepcopy(args)), expected, atol, kind)
    if wrong:
        named = inspect.signature(answer).bind(*args).arguments.items()
        case = ", ".join(f"{name} = {describe(value)}" for name, value in named)
        raise WrongAnswer(f"for {case}: {wrong}")


def mismatch(
    got: Any, expected: Any, atol: float = 1e-5, kind: type | None = None
) -> str:
    """Where an answer differs from what was expected, in words; "" if nowhere."""
    if kind is None and isinstance(expected, Tensor | np.ndarray):
        kind = type(expected)
    if kind is not None and not isinstance(got, kind):
        return f"return {kind.__name__}, not {type(got).__name__}"
    both = f"expected {describe(expected)}, got {describe(got)}"
    wanted = numbers(expected)
    try:
        found = numbers(got)
    except (TypeError, ValueError, RuntimeError):
        return both
    if wanted.ndim == 0 and found.size == 1:
        found = found.reshape(())
    if found.shape != wanted.shape:
        return f"expected the shape {list(wanted.shape)}, got {list(found.shape)}"
    off = ~np.isclose(found, wanted, rtol=0, atol=atol)
    if not off.any():
        return ""
    if wanted.size <= FEW:
        return both
    at = tuple(np.argwhere(off)[0].tolist())
    return (
        f"expected {wanted[at]:.6g} at {list(at)}, got {found[at]:.6g} "
        f"({off.sum()} of {off.size} numbers differ)"
    )


def shaped(got: Any, kind: Any, *shape: int) -> Any:
    """What the reader's function returned, if of this type and shape.

    Raises:
        WrongAnswer: it is something else.
    """
    if not isinstance(got, kind) or got.shape != shape:
        wanted = f"{kind.__name__} of shape {list(shape)}"
        raise WrongAnswer(f"return a {wanted}, not {describe(got)}")
    return got


def numbers(value: Any) -> np.ndarray:
    """In float64; TypeError, ValueError or RuntimeError for what holds no numbers."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)


def describe(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        many = numbers(value)
        if many.size > FEW:
            return f"{type(value).__name__} {list(many.shape)}"
        value = np.round(many, 5).tolist()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        inner = ", ".join(map(describe, value[:FEW]))
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if inspect.isfunction(value):
        return f"({value.__doc__ or 'a function'})"
    return reprlib.repr(value)
