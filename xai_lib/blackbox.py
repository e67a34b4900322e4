"""The only door to a model: batched, counted, budgeted and checked queries.

Every method of the book asks its model through a `BlackBox`, so that the number of
queries in a figure is the number the model answered, that a wrong answer is noticed
where it happens, and that the hardware is used well without a line about it in the
methods themselves.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib import openvino_backend
from xai_lib.arguments import check_choice, check_count, check_inputs

Scores = Callable[[Any], Any]

BACKENDS = ("auto", "torch", "autocast", "openvino", "numpy")
# The largest block of perturbed inputs made at once, in numbers: 64 MiB of float32.
BLOCK = 2**24
# Numbers fed in before a module is converted for OpenVINO: 64 photographs at 224². A
# conversion takes seconds, which little work and small networks would not win back.
WORTH_CONVERTING = 64 * 3 * 224 * 224


class BudgetExceeded(RuntimeError):
    """A request would need more queries than the budget has left; nothing was asked."""


class NonFiniteOutput(ValueError):
    """The model answered NaN or infinity; the message says for which query."""


class BlackBox:
    """Wrap any callable from images to scores.

    Args:
        forward_func: an `nn.Module`, a function on tensors or on NumPy arrays, an
            sklearn `predict_proba`, a call to a remote service. It maps a batch of
            inputs to scores `[N, K]`, or `[N]` which is read as `[N, 1]`.
        batch_size: queries per call of the model; "auto" times the first batches of
            the real work at growing sizes and keeps the fastest.
        device: where a torch model lives; None is the module's own device, or that
            of the inputs.
        budget: the most queries to answer; None is no limit.
        backend: "torch"; "autocast" (torch in reduced precision); "openvino" (CPU);
            "numpy"; "auto" is torch on an accelerator, and on a CPU OpenVINO once
            there is enough work and it agrees with torch on a probe, else torch. A
            callable that is no module is given tensors, or arrays if it rejects them.

    Attributes:
        queries: how many inputs the model has answered so far, exactly. The probe
            that compares two backends on the same module is not a query.
        backend: the backend in use.

    Raises:
        TypeError, ValueError: wrong inputs, or answers of the wrong type or shape.
        BudgetExceeded: before any query of a request that does not fit.
        NonFiniteOutput: as soon as an answer is NaN or infinite.
    """

    def __init__(
        self,
        forward_func: Scores,
        batch_size: int | Literal["auto"] = "auto",
        device: torch.device | str | None = None,
        budget: int | None = None,
        backend: str = "auto",
    ) -> None:
        if not callable(forward_func):
            raise TypeError(
                f"forward_func must be callable, got {type(forward_func).__name__}"
            )
        if isinstance(forward_func, BlackBox):
            raise TypeError("forward_func is a BlackBox already; use it as it is")
        self.forward_func = forward_func
        self.batch_size = BatchSize(batch_size)
        self.budget = None if budget is None else check_count("budget", budget, 0)
        self.backend = check_choice("backend", backend, BACKENDS)
        self._automatic = backend == "auto"
        self.queries = 0
        self._n_scores: int | None = None
        if isinstance(forward_func, nn.Module):
            _refuse_training_mode(forward_func)
        elif backend == "openvino":
            raise TypeError("backend 'openvino' needs forward_func to be an nn.Module")
        self.device = _device_of(forward_func, device)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Answer float inputs `[N, C, H, W]` or `[N, d]` with scores `[N, K]`.

        The scores lie on the device of the inputs, without a gradient.
        """
        check_inputs(inputs, dims=(2, 4))
        if self.budget is not None and self.queries + len(inputs) > self.budget:
            raise BudgetExceeded(
                f"{len(inputs)} more queries after {self.queries} exceed the budget "
                f"of {self.budget}; nothing was asked. Raise budget, or ask for less."
            )
        inputs = inputs.detach()
        self._settle_backend(inputs)
        answers, start = [], 0
        while start < len(inputs):
            size = self.batch_size.next(len(inputs) - start)
            batch = inputs[start : start + size]
            began = time.perf_counter()
            try:
                scores = self._ask(batch)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error) or size == 1:
                    raise
                self.batch_size.halve(size)
                continue
            self._check(scores, len(batch), start)
            self.batch_size.timed(size, time.perf_counter() - began)
            # Copied: a model may write every answer into the same memory.
            answers.append(scores.to(inputs.device, copy=True))
            start += size
        return torch.cat(answers)

    def versions(
        self, n: int, m: int, make: Callable[[slice, slice], Tensor]
    ) -> Tensor:
        """Answer m perturbed versions of each of n inputs, in shared batches.

        Args:
            n, m: how many inputs, and how many versions of each.
            make: `make(i, j)` returns versions `j` of inputs `i`, two slices, as
                `[n', m', ...]`. They are made block by block, so that memory does
                not grow with n or m.

        Returns:
            Scores `[n, m, K]`.
        """
        size = make(slice(0, 1), slice(0, 1))[0, 0].numel()
        per_block = max(1, BLOCK // size)
        columns = min(m, per_block)
        rows = max(1, per_block // columns)
        parts = []
        for i in range(0, n, rows):
            for j in range(0, m, columns):
                block = make(slice(i, i + rows), slice(j, j + columns))
                scores = self(block.flatten(0, 1))
                parts.append(scores.unflatten(0, block.shape[:2]))
        if columns == m:
            return torch.cat(parts)
        return torch.cat(parts, dim=1).unflatten(1, (n, m))[0]

    def __repr__(self) -> str:
        name = getattr(self.forward_func, "__name__", type(self.forward_func).__name__)
        return (
            f"BlackBox({name}, backend={self.backend}, batch_size={self.batch_size}, "
            f"queries={self.queries}, budget={self.budget})"
        )

    def _ask(self, batch: Tensor) -> Tensor:
        """One call of the model, counted when it has answered."""
        if self.backend == "openvino":
            answer = self._openvino(batch)
        elif self.backend == "numpy":
            answer = self._ask_numpy(batch)
        elif self.backend == "auto" and not isinstance(self.forward_func, nn.Module):
            answer = self._ask_unknown(batch)
        else:
            answer = self._ask_torch(batch)
        self.queries += len(batch)
        return _as_scores(answer).detach()

    def _ask_torch(self, batch: Tensor) -> Any:
        device = self.device or batch.device
        channels_last = batch.ndim == 4 and device.type == "cuda"
        layout = torch.channels_last if channels_last else torch.preserve_format
        # A copy: the model may change it in place, the caller's images stay.
        batch = batch.to(device, copy=True, memory_format=layout)
        module = isinstance(self.forward_func, nn.Module)
        # A function may differentiate inside, which inference mode would forbid.
        with (
            torch.inference_mode() if module else torch.no_grad(),
            torch.autocast(device.type, enabled=self.backend == "autocast"),
        ):
            return self.forward_func(batch)

    def _ask_numpy(self, batch: Tensor) -> Any:
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
            self.backend = "torch"  # also if it returns arrays, as model(x).numpy()
        except Exception as torch_error:
            if _out_of_memory(torch_error):
                raise
            try:
                answer = self._ask_numpy(batch)
            except Exception as numpy_error:
                if _out_of_memory(numpy_error):
                    raise
                raise RuntimeError(
                    f"forward_func failed on a torch batch {list(batch.shape)} "
                    f"({type(torch_error).__name__}: {torch_error}) and on the same "
                    f"batch as a NumPy array ({type(numpy_error).__name__}: "
                    f"{numpy_error})"
                ) from torch_error
            self.backend = "numpy"
        return answer

    def _settle_backend(self, inputs: Tensor) -> None:
        """Before a request: is OpenVINO to answer, and can it?"""
        module = self.forward_func
        if not isinstance(module, nn.Module):
            return
        if self.backend == "auto":
            fed = self.queries * inputs[0].numel() + inputs.numel()
            if (self.device or inputs.device).type != "cpu":
                self.backend = "torch"
            elif fed >= WORTH_CONVERTING:
                self.backend = "openvino"
                self.batch_size.restart()
        if self.backend == "openvino":
            try:
                self._openvino = openvino_backend.compiled(module, inputs)
            except openvino_backend.NotConvertible as error:
                if not self._automatic:
                    raise
                self.backend = "torch"
                self.batch_size.restart()
                if isinstance(error, openvino_backend.Missing):
                    _say_once(f"{error}, and a CPU then answers faster")
                if isinstance(error, openvino_backend.Disagreement):
                    name = type(module).__name__
                    warnings.warn(f"{error}, so {name} stays on torch", stacklevel=3)

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
        finite = torch.isfinite(scores).all(dim=1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0])
            raise NonFiniteOutput(
                f"forward_func answered {scores[row][~scores[row].isfinite()][0]} for "
                f"input {start + row} of this request (query "
                f"{self.queries - n + row + 1} in all)"
            )


def as_blackbox(forward_func: Scores) -> BlackBox:
    """`forward_func` itself if it is a BlackBox, else a new one around it."""
    return (
        forward_func if isinstance(forward_func, BlackBox) else BlackBox(forward_func)
    )


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


class BatchSize:
    """The number of inputs to send next: fixed, or found by timing the real work.

    Candidates grow fourfold. The first full batch of each warms up; the search ends at
    the first one that is no faster per input in TRIALS batches. One would not do: on a
    busy machine a single batch can take many times as long as the next one, and ending
    at size 4 makes small models some fifty times slower.
    """

    CANDIDATES = (4, 16, 64, 256, 1024)
    TRIALS = 4

    def __init__(self, batch_size: int | Literal["auto"]) -> None:
        self.automatic = batch_size == "auto"
        self.best = 4 if self.automatic else check_count("batch_size", batch_size)
        self.restart()

    def restart(self) -> None:
        """Search again, for another backend."""
        self.candidates = list(self.CANDIDATES) if self.automatic else []
        self.seconds_per_input = float("inf")
        self._batches = 0  # of the candidate being timed

    def next(self, available: int) -> int:
        """How many of the `available` inputs to send; at most all of them."""
        if self.candidates and self.candidates[0] <= available:
            return self.candidates[0]
        return min(self.best, available)

    def timed(self, size: int, seconds: float) -> None:
        """Learn from a batch that took `seconds`."""
        if not self.candidates or size != self.candidates[0]:
            return
        self._batches += 1
        if self._batches == 1:
            return
        if seconds / size < self.seconds_per_input:
            self.best = self.candidates.pop(0)
            self.seconds_per_input = seconds / size
            self._batches = 0
        elif self._batches > self.TRIALS:
            self.candidates = []

    def halve(self, size: int) -> None:
        """Learn that `size` inputs do not fit in memory."""
        self.candidates = []
        self.best = max(1, size // 2)

    def __str__(self) -> str:
        return f"auto ({self.best} so far)" if self.candidates else str(self.best)


def _as_scores(answer: Any) -> Tensor:
    """A float tensor `[N, K]` from what the model returned."""
    if isinstance(answer, np.ndarray):
        # A copy: torch takes no negative strides, as in predict_proba(x)[:, ::-1].
        answer = torch.from_numpy(np.array(answer, order="C"))
    if not isinstance(answer, Tensor):
        raise TypeError(
            "forward_func must return a tensor or an array of scores, got "
            f"{type(answer).__name__}; wrap it, e.g. lambda x: model(x).logits"
        )
    if not answer.is_floating_point():
        raise TypeError(
            f"forward_func must return floating-point scores, got {answer.dtype}; use "
            "a function that returns scores, such as predict_proba, not class numbers"
        )
    if answer.dtype in (torch.float16, torch.bfloat16):
        answer = answer.float()
    return answer[:, None] if answer.ndim == 1 else answer


def _device_of(forward_func: Scores, device: torch.device | str | None) -> Any:
    """The device to send inputs to; None if the inputs' own device decides."""
    wanted = None if device is None else torch.device(device)
    if not isinstance(forward_func, nn.Module):
        return wanted
    tensors = [*forward_func.parameters(), *forward_func.buffers()]
    if not tensors:
        return wanted
    home = tensors[0].device
    if wanted is not None and (
        wanted.type != home.type or wanted.index not in (None, home.index)
    ):
        raise ValueError(
            f"device is {wanted} but forward_func is on {home}; move it with "
            f"forward_func.to('{wanted}')"
        )
    return home


def _refuse_training_mode(module: nn.Module) -> None:
    """Dropout and batch statistics would make an answer depend on its batch."""
    random = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    for name, layer in module.named_modules():
        if layer.training and isinstance(layer, random):
            raise ValueError(
                f"forward_func is in training mode (layer {name!r}), so its answers "
                "are random; call forward_func.eval() first"
            )


def _out_of_memory(error: Exception) -> bool:
    # torch's CPU allocator, cuDNN and cuBLAS raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or (
        isinstance(error, RuntimeError)
        and any(
            sign in text
            for sign in ("out of memory", "defaultcpuallocator", "alloc_failed")
        )
    )
