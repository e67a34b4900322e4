"""The only door to a model: batched, counted, budgeted and checked queries.

Every method of the book asks its model through a `BlackBox`, so that the number of
queries in a figure is the number the model answered, that a wrong answer is noticed
where it happens, and that the hardware is used well without a line about it in the
methods themselves.
"""

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib.core import openvino_backend
from xai_lib.core.answers import as_scores, out_of_memory, wants_arrays
from xai_lib.core.arguments import (
    NonFiniteOutput,
    check_choice,
    check_count,
    check_inputs,
)
from xai_lib.core.batch_size import BatchSize
from xai_lib.core.conduct import (
    Watch,
    device_of,
    in_training_mode,
    modules_behind,
    refuse_mixing,
    refuse_random,
    refuse_training_mode,
    unfollowed,
)
from xai_lib.core.image_range import FAR, check_range
from xai_lib.core.precision import PRECISIONS, Agreement, backend_for, measured

Scores = Callable[[Any], Any]

BACKENDS = ("auto", "torch", "openvino", "numpy")
# The largest block of perturbed inputs made at once, in numbers: 64 MiB of float32.
BLOCK = 2**24
# Numbers fed in before a module is converted for OpenVINO: 64 photographs at 224². A
# conversion takes seconds, which little work and small networks would not win back.
WORTH_CONVERTING = 64 * 3 * 224 * 224


class BudgetExceeded(RuntimeError):
    """A request would need more queries than the budget has left; nothing was asked.

    Attributes:
        partial: the map of all that was asked before, if an explainer was at work and
            has such a map (see `keeping`), else None.
    """

    partial: Tensor | None = None


@contextmanager
def keeping(partial: Callable[[], Tensor | None]) -> Iterator[None]:
    """Let the end of a budget inside the block carry `partial()`, a map so far."""
    try:
        yield
    except BudgetExceeded as error:
        if error.partial is None:
            error.partial = partial()
        raise


class BlackBox:
    """Wrap any callable from images to scores.

    Args:
        forward_func: an `nn.Module`, a function on tensors or on NumPy arrays, an
            sklearn `predict_proba`, a call to a remote service. It maps a batch of
            inputs to scores `[N, K]`, or `[N]` which is read as `[N, 1]`.
        batch_size: queries per call of the model, at most a block of numbers (64 MiB)
            or one query; "auto" times the first batches of the real work at growing
            sizes and keeps the fastest.
        device: where a torch model lives; None is the module's own device, or that
            of the inputs.
        budget: the most queries to answer; None is no limit.
        backend: "torch"; "openvino" (CPU); "numpy"; "auto" is torch on an accelerator,
            and on a CPU OpenVINO once there is enough work and it agrees with torch on
            a probe, else torch. A callable that is no module is given tensors, or
            arrays if its first error says that it wants those.
        precision: "float32", the model's own; "bfloat16", rounded: by OpenVINO on a CPU
            made for it, by torch's autocast on an accelerator or with backend="torch";
            "int8": by OpenVINO, calibrated on the first request, which answers depend
            on from then on. See `agreement`.

    Threads may share it. A copy, in another process as well, counts for itself and has
    the whole budget for itself.

    Attributes:
        queries: how many inputs the model was asked so far, exactly, those of a call
            that failed among them. Not counted are a batch too large for the memory,
            which is asked again in halves; tensors that a function on arrays rejects;
            and what only compares two answers: of two backends on the same module; of a
            model that was seen to draw random numbers, or to change what it keeps,
            whose first batch is asked again; and of one that may let the inputs
            of a batch meet, one of which is asked again alone (and, if its answer is
            then a bit different, beside others). With a budget the last is counted, and
            left out for functions on arrays, in which nothing is seen that may meet.
        backend: the backend in use.
        agreement: how a reduced precision compares with float32 on a few inputs of the
            first request (not counted), also said in a warning once; None in float32.
        watched: whether a call was looked at for random numbers and inputs that meet.

    Raises:
        TypeError, ValueError: wrong inputs, or answers of the wrong type or shape; a
            model in training mode, at any request; a function whose answers depend on
            the batch.
        BudgetExceeded: before any query of a request that does not fit.
        NonFiniteOutput: as soon as an answer is NaN, or infinite (−∞ may be the score
            of some classes, as the logarithm of a probability of 0, but not of all).

    Example: three images, whose mean red, green and blue are the scores.

        >>> import torch, xai_lib
        >>> model = xai_lib.BlackBox(lambda x: x.mean(dim=(2, 3)), budget=10)
        >>> model(torch.rand(3, 3, 8, 8)).shape
        torch.Size([3, 3])
        >>> model.queries
        3
    """

    def __init__(
        self,
        forward_func: Scores,
        batch_size: int | Literal["auto"] = "auto",
        device: torch.device | str | None = None,
        budget: int | None = None,
        backend: str = "auto",
        precision: str = "float32",
    ) -> None:
        if not callable(forward_func):
            raise TypeError(
                f"forward_func must be callable, got {type(forward_func).__name__}"
            )
        if isinstance(forward_func, BlackBox):
            raise TypeError("forward_func is a BlackBox already; use it as it is")
        self.forward_func: Any = forward_func
        self.batch_size = BatchSize(batch_size)
        self.budget = None if budget is None else check_count("budget", budget, 0)
        self.backend = check_choice("backend", backend, BACKENDS)
        self.precision = check_choice("precision", precision, PRECISIONS)
        self.agreement: Agreement | None = None
        self._automatic = backend == "auto"
        self.queries = 0
        self._fed = 0  # numbers, since there is a reason to think about OpenVINO
        self._reserved = 0  # queries that running requests have yet to make
        self._n_scores: int | None = None
        self._modules = modules_behind(forward_func)
        self.watched = self._watched_alone = False
        self._process = os.getpid()
        self._copies: dict[torch.Size, openvino_backend.Copy] = {}  # by image shape
        self._lock = threading.Lock()
        if isinstance(forward_func, nn.Module):
            refuse_training_mode(forward_func)
        elif backend == "openvino":
            raise TypeError("backend 'openvino' needs forward_func to be an nn.Module")
        self.device = device_of(forward_func, device)
        if precision != "float32":
            self.backend = backend_for(precision, backend, forward_func, self.device)
            self._automatic = False  # an error says why there is no copy

    @unfollowed()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Answer float inputs `[N, C, H, W]` or `[N, d]` with scores `[N, K]`.

        The scores lie on the device of the inputs, without a gradient.
        """
        check_inputs(inputs, dims=(2, 4))
        check_range(self.forward_func, inputs, FAR)
        if isinstance(self.forward_func, nn.Module):
            refuse_training_mode(self.forward_func)
        if any(in_training_mode(m) for m in self._modules):
            self.watched = self._watched_alone = False
        inputs, left = inputs.detach(), len(inputs)
        self._reserve(left)
        try:
            self._settle_backend(inputs)
            # A larger one would only take more memory, of its copy and the model.
            most = max(1, BLOCK // inputs[0].numel())
            answers: list[Tensor] = []
            while left > 0:
                start = len(inputs) - left
                with self._lock:
                    size = self.batch_size.next(min(most, left))
                batch = inputs[start : start + size]
                began = time.perf_counter()
                try:
                    answer = self._ask(batch)
                except openvino_backend.Disagreement as error:
                    self._stay_on_torch(error, stacklevel=5)  # this batch as well
                    continue
                except BaseException as error:
                    if not out_of_memory(error):
                        self._count(size)
                        left -= size
                        raise
                    if size == 1:
                        raise
                    with self._lock:
                        self.batch_size.halve(size)
                    continue
                self._count(size)
                left -= size
                scores = as_scores(answer).detach()
                self._check(scores, size, start)
                with self._lock:
                    self.batch_size.timed(size, time.perf_counter() - began)
                # Copied: a model may write every answer into the same memory.
                answers.append(scores.to(inputs.device, copy=True))
        finally:
            with self._lock:
                self._reserved -= left
        return torch.cat(answers)

    def versions(
        self,
        n: int,
        m: int,
        make: Callable[[slice, slice], Tensor],
        keep: Callable[[slice, Tensor], Tensor] = lambda _, scores: scores,
    ) -> Tensor:
        """Answer m perturbed versions of each of n inputs, in shared batches.

        Args:
            n, m: how many inputs, and how many versions of each.
            make: `make(i, j)` returns versions `j` of inputs `i`, two slices, as
                `[n', m', ...]`. They are made block by block, so that memory does
                not grow with n or m.
            keep: `keep(i, scores)` returns what stays of the block's `[n', m', K]`,
                as `[n', m', ...]`: all, unless it says less, see `blocks.of_target`.

        Returns:
            Scores `[n, m, K]`, or what is kept of them.
        """
        size = make(slice(0, 1), slice(0, 1))[0, 0].numel()
        per_block = max(1, BLOCK // size)
        columns = min(m, per_block)
        rows = max(1, per_block // columns)
        kept = torch.empty(0, dtype=torch.float32, device="cpu")
        for start in range(0, n, rows):
            i = slice(start, min(start + rows, n))
            for left in range(0, m, columns):
                j = slice(left, min(left + columns, m))
                shape = (i.stop - i.start, j.stop - j.start)
                # No name holds a block, which would outlive its answers.
                scores = self(make(i, j).flatten(0, 1)).unflatten(0, shape)
                part = keep(i, scores)
                if start == left == 0:
                    kept = part.new_empty(n, m, *part.shape[2:])
                kept[i, j] = part
        return kept

    def __repr__(self) -> str:
        name = getattr(self.forward_func, "__name__", type(self.forward_func).__name__)
        precision = "" if self.precision == "float32" else f" in {self.precision}"
        return (
            f"BlackBox({name}, backend={self.backend}{precision}, batch_size="
            f"{self.batch_size}, queries={self.queries}, budget={self.budget})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_lock": None, "_copies": {}, "_reserved": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def _reserve(self, n: int) -> None:
        """Set n queries of the budget aside for a request."""
        if self._process != os.getpid():
            self._process = os.getpid()
            warnings.warn(
                f"{self!r} is a copy in another process: it counts its queries, and "
                "keeps its budget, for itself",
                stacklevel=4,
            )
        with self._lock:
            asked = self.queries + self._reserved
            if self.budget is not None and asked + n > self.budget:
                raise BudgetExceeded(
                    f"{n} more queries after {asked} exceed the budget of "
                    f"{self.budget}; nothing was asked. Raise budget, or ask for less."
                )
            self._reserved += n

    def _count(self, n: int) -> None:
        """Inputs that a running request had reserved were asked."""
        with self._lock:
            self.queries += n
            self._reserved -= n

    def _ask(self, batch: Tensor) -> Any:
        """One call of the model, or of its copy."""
        if self.backend == "numpy":
            return self._ask_numpy(batch)
        if self.backend == "auto" and not isinstance(self.forward_func, nn.Module):
            return self._ask_unknown(batch)
        copy = self._copies.get(batch.shape[1:])
        if copy is None:
            return self._ask_torch(batch)
        began = time.perf_counter()
        answer = copy(batch)
        copy.audit(self.forward_func, batch, answer, time.perf_counter() - began)
        return answer

    def _tell(self, agreement: Agreement | None) -> None:
        """Keep what reduced precision does, and say it once."""
        self.agreement = agreement
        if agreement:
            _say_once(f"{type(self.forward_func).__name__} in {agreement}")

    def _ask_torch(self, batch: Tensor) -> Any:
        if self.watched or (self._watched_alone and len(batch) == 1):
            return self._forward(batch)
        with Watch(batch, self.forward_func) as watch:
            answer = self._forward(batch)
        if watch.random is not None:
            answer = as_scores(answer).clone()  # a model may use its memory again
            refuse_random(watch.random, answer, lambda: self._forward(batch))
        if not isinstance(self.forward_func, nn.Module):
            self._modules = modules_behind(self.forward_func)  # loaded by now
        if watch.mixes or (self.budget is None and isinstance(answer, np.ndarray)):
            return self._not_mixed(answer, batch, self._forward)
        if self.precision != "float32" and self.agreement is None:
            exact = partial(self._forward, exact=True)
            probe = batch[: openvino_backend.PROBE]
            self._tell(measured(self.precision, self._forward, exact, probe))
        # Alone in its batch an input does not show whether others change its answer.
        self.watched, self._watched_alone = len(batch) > 1, True
        return answer

    def _not_mixed(self, answer: Any, batch: Tensor, ask: Scores) -> Any:
        """The answer, unless one of several inputs is answered otherwise alone."""
        if self.backend == "numpy" and self.budget is not None:
            return answer  # nothing was seen, and who pays by query pays for no guess
        if len(batch) > 1:
            answer = as_scores(answer).clone()  # a model may use its memory again
            refuse_mixing(answer, batch, ask if self.budget is None else self._paid)
            # Nor does it beside copies of itself.
            self.watched = bool((batch != batch[:1]).any())
        return answer

    def _paid(self, batch: Tensor) -> Any:
        """Answers that are only compared, within the budget, and counted."""
        try:
            self._reserve(len(batch))
        except BudgetExceeded as error:
            raise BudgetExceeded(
                "forward_func may let the inputs of a batch meet, and the budget has "
                "no query left to find out; raise budget, or ask with batch_size=1"
            ) from error
        self._count(len(batch))
        return self._forward(batch)

    def _forward(self, batch: Tensor, exact: bool = False) -> Any:
        reduced = self.precision != "float32" and not exact
        device = self.device or batch.device
        channels_last = batch.ndim == 4 and device.type == "cuda"
        layout = torch.channels_last if channels_last else torch.preserve_format
        # Not inference mode: a tensor made there, which a model may keep for later
        # calls, would break the user's own gradients.
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(device.type, torch.bfloat16, enabled=reduced),
        ):
            # A copy: the model may change it in place, the caller's images stay.
            batch = batch.to(device, copy=True, memory_format=layout)
            return self.forward_func(batch)

    def _ask_numpy(self, batch: Tensor) -> Any:
        answer, ask = self._forward_numpy(batch), self._forward_numpy
        return answer if self.watched else self._not_mixed(answer, batch, ask)

    def _forward_numpy(self, batch: Tensor) -> Any:
        return self.forward_func(batch.cpu().numpy().copy())

    def _ask_unknown(self, batch: Tensor) -> Any:
        """The first call of a function: does it take tensors, or arrays?

        The first answer decides and is used, so that finding out costs no query.
        """
        try:
            with warnings.catch_warnings():
                # NumPy functions accept a tensor by accident, and warn about it.
                warnings.filterwarnings("error", message=".*__array_")
                answer = self._ask_torch(batch)
        except Exception as torch_error:
            if not wants_arrays(torch_error):
                raise
            try:
                answer = self._forward_numpy(batch)
            except Exception as numpy_error:
                if out_of_memory(numpy_error):
                    raise
                raise RuntimeError(
                    f"forward_func failed on a torch batch {list(batch.shape)} "
                    f"({type(torch_error).__name__}: {torch_error}) and on the same "
                    f"batch as a NumPy array ({type(numpy_error).__name__}: "
                    f"{numpy_error})"
                ) from torch_error
            self.backend = "numpy"
            return self._not_mixed(answer, batch, self._forward_numpy)
        self.backend = "torch"  # also if it returns arrays, as model(x).numpy()
        return answer

    def _settle_backend(self, inputs: Tensor) -> None:
        """Before a request: is a copy to answer, and is there one that may?"""
        module, shape = self.forward_func, inputs.shape[1:]
        if not isinstance(module, nn.Module):
            return
        if self.backend == "auto":
            self._fed += inputs.numel()
            if (self.device or inputs.device).type != "cpu":
                self.backend = "torch"
            elif self._fed >= WORTH_CONVERTING:
                self.backend = "openvino"
                self.batch_size.restart()
        if self.backend != "openvino":
            return
        self._copies.pop(shape, None)
        asked = inputs, self.precision, max(1, BLOCK // inputs[0].numel())
        try:
            self._copies[shape] = openvino_backend.compiled(module, *asked)
        except openvino_backend.Changed:
            if self._automatic:  # what is changed often is not worth converting
                self.backend, self._fed = "auto", 0
                self.batch_size.restart()
            else:
                self._copies[shape] = openvino_backend.compiled(module, *asked)
        except openvino_backend.NotConvertible as error:
            self._stay_on_torch(error, stacklevel=5)
        if shape in self._copies:
            self._tell(self._copies[shape].agreement)

    def _stay_on_torch(
        self, error: openvino_backend.NotConvertible, stacklevel: int
    ) -> None:
        self._copies.clear()
        if not self._automatic:
            raise error
        self.backend = "torch"
        self.watched = False  # inputs that met may be what OpenVINO differs by
        self.batch_size.restart()
        if isinstance(error, openvino_backend.Missing):
            _say_once(f"{error}, and a CPU then answers faster")
        if isinstance(error, openvino_backend.Disagreement):
            name = type(self.forward_func).__name__
            warnings.warn(f"{error}, so {name} stays on torch", stacklevel=stacklevel)

    def _check(self, scores: Tensor, n: int, start: int) -> None:
        """Refuse answers of the wrong shape, and answers that are not finite."""
        if scores.ndim != 2 or len(scores) != n:
            raise ValueError(
                f"forward_func must return {n} rows of scores for {n} inputs, got "
                f"shape {list(scores.shape)} for inputs {start} to {start + n - 1}"
            )
        if self._n_scores not in (None, scores.shape[1]):
            raise ValueError(
                f"forward_func returned {scores.shape[1]} scores per input, after "
                f"{self._n_scores} before; the number of classes must not change"
            )
        self._n_scores = scores.shape[1]
        # −∞ may be the logarithm of a probability of 0, unless nothing else is left.
        wrong = scores.isnan() | (scores == torch.inf)
        wrong |= scores.isinf().all(dim=1, keepdim=True)
        if bool(wrong.any()):
            row = int(wrong.any(dim=1).nonzero()[0])
            raise NonFiniteOutput(
                f"forward_func answered {scores[row][wrong[row]][0]} for "
                f"input {start + row} of this request (query "
                f"{self.queries - n + row + 1} in all)"
            )


def as_blackbox(forward_func: Scores) -> BlackBox:
    """`forward_func` itself if it is a BlackBox, else a new one around it."""
    if isinstance(forward_func, BlackBox):
        return forward_func
    return BlackBox(forward_func)


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
