"""Run a torch module through OpenVINO on a CPU, three to four times faster.

A copy must answer for the module as it is now, or not at all. Three things see to it.

- Before each request its guards say whether the module would still give the graph that
  was converted, see `guards`. A module that gives none stays on torch.
- The copy is compared with torch on a few real inputs before it may answer.
- Now and then, in some two per cent of the time, one input is answered by both. If they
  differ, the copy never answers again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from xai_lib.core import extras
from xai_lib.core.conduct import Kept, Watch
from xai_lib.core.guards import (
    MOST,
    Changed,
    Guards,
    NotConvertible,
    as_torch_asks,
    hooked,
    quiet,
)
from xai_lib.core.precision import CALIBRATION, Agreement, measured, quantised

PROBE = 4  # inputs to compare
AUDIT = 0.02  # of the time, at most, goes into answers by torch for comparison
# The largest difference from torch that a copy may show, as a share of the largest
# score. Sums in another order differ by about 1e-5. What rounding does is measured, see
# `precision`: some per cent on photographs, a third of what is left of the scores on
# dark ones. Beyond these limits it is no longer the same model.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5, "int8": 1.0}
_SMALL = (1, 2, PROBE, 8)  # batches to compare, which guards leave out
_Key = tuple[tuple[int, ...], str]  # the shape of an input, and the precision
_cache: WeakKeyDictionary[nn.Module, dict[_Key, Copy | NotConvertible]]
_cache = WeakKeyDictionary()
_converting = threading.RLock()
_forked = False


class Missing(NotConvertible):
    """OpenVINO, or what int8 needs beside it, is not installed."""


class Disagreement(NotConvertible):
    """OpenVINO runs this module, but answers differently from torch."""


def compiled(
    module: nn.Module, inputs: Tensor, precision: str = "float32", most: int = MOST
) -> Copy:
    """A function from float32 batches shaped like `inputs` to the module's output.

    It answers for the module as it is at this call: call `compiled` again before the
    next request.

    Args:
        module: in eval mode, on the CPU.
        inputs: `[N, ...]`; N is free, the other sizes are fixed. The first few are
            the probe on which OpenVINO must agree with torch.
        precision: what it computes in, see `precision`. A copy that agrees with torch
            in float32 is made first; int8 then is calibrated on these inputs, and on
            darkened ones, by NNCF.
        most: inputs that are asked together; larger batches are not compared.

    Raises:
        Changed: the module is no longer what was converted; the next call converts it.
        NotConvertible: with the reason. It is remembered for this module and shape.
        Missing: with the package to install.
        Disagreement: with the size of the difference.
    """
    if _forked:
        raise NotConvertible("the threads of OpenVINO have not survived a fork")
    if inputs.dtype != torch.float32:
        raise NotConvertible(f"OpenVINO runs in float32, the inputs are {inputs.dtype}")
    if find_spec("openvino") is None:
        raise Missing("OpenVINO is missing: pip install 'xai-lib[openvino]'")
    with _converting:
        kept = _cache.setdefault(module, {})
        key = tuple(inputs.shape[1:]), precision
        held = kept.get(key)
        if isinstance(held, Copy):
            try:
                held.guards.check(module)
            except Changed:
                del kept[key]
                raise
        if key not in kept:
            # Not remembered, as the next attempt may succeed.
            if hooked(module.modules()):
                raise NotConvertible(f"{type(module).__name__} has hooks")
            if any(t.is_inference() for t in [*module.parameters(), *module.buffers()]):
                raise NotConvertible("the parameters were made in inference mode")
            if precision != "float32":
                _check_support(precision)
            several = min(PROBE, most) if precision == "float32" else CALIBRATION
            some = inputs[:several].detach().cpu().clone()
            try:
                kept[key] = Copy(module, some, precision, most)
            except NotConvertible as error:
                # Without its cause, whose frames would keep the module alive.
                kept[key] = type(error)(*error.args)
        outcome = kept[key]
    if isinstance(outcome, NotConvertible):
        raise type(outcome)(*outcome.args)
    return outcome


class Copy:
    """A module converted for OpenVINO: call it on a float32 batch.

    Attributes:
        agreement: of a reduced precision with float32, None in float32.
    """

    def __init__(
        self, module: nn.Module, some: Tensor, precision: str, most: int
    ) -> None:
        probe = some[:PROBE]
        self.agreement: Agreement | None = None
        self._precision = precision
        self._largest = 0.0  # score of the probe, where rounding is to be compared
        self._answering = self._auditing = 0.0  # seconds
        self._turn = 0
        try:
            with as_torch_asks():
                answer = _eager(module, probe)  # and makes what a first call makes
                if not isinstance(answer, Tensor):
                    raise ValueError(f"it returns a {type(answer).__name__}")
                kept = Kept(module)
                self.guards = Guards(module, probe)
                graph = _convert(self.guards.bound(), probe[[0, 0]])
                self._answer = self._exact = _Compiled(graph, "f32")
                several = torch.cat([probe, probe.flip(-1)])  # not all alike
                for size in (size for size in _SMALL if size <= most):
                    turns = -(-size // len(several))
                    batch = several.repeat(turns, *[1] * (probe.ndim - 1))[:size]
                    expected = _eager(module, batch)
                    _compare(self(batch), expected)
                    _compare(answer[:1], expected[:1])  # inputs do not meet
                self.guards.check(module)
                if [*kept.changes()]:
                    raise Changed("it changes while it answers")
                if precision != "float32":
                    self._reduce(graph, some, several)
        except Disagreement:
            raise
        except Exception as error:
            raise NotConvertible(f"{type(module).__name__}: {error}") from error

    def __call__(self, batch: Tensor) -> Tensor:
        """The module's output, in memory of its own. Threads do not meet."""
        return self._answer(batch)

    def _reduce(self, graph: Any, some: Tensor, probe: Tensor) -> None:
        """Answer in reduced precision from here on.

        Raises:
            Disagreement: it is too far from float32.
        """
        if self._precision == "int8":
            self._answer = _Compiled(quantised(graph, some), "f32")
        else:
            self._answer = _Compiled(graph, "bf16")
        reduced, exact = self._answer, self._exact
        self.agreement = measured(self._precision, reduced, exact, probe)
        expected = exact(probe)
        self._largest = float(expected.abs().max())
        _compare(reduced(probe), expected, self._precision)

    def audit(
        self, module: nn.Module, batch: Tensor, answer: Tensor, spent: float
    ) -> None:
        """Compare one answer of a batch, which took `spent` seconds, with torch's, if
        there is time for it. In reduced precision the copy in float32 must be torch's
        equal as well.

        Raises:
            Disagreement: the copy is wrong, and will not answer again.
        """
        self._answering += spent
        if self._auditing > AUDIT * self._answering:
            return
        began = time.perf_counter()
        row = slice(self._turn % len(batch), self._turn % len(batch) + 1)
        self._turn += 1
        with as_torch_asks():
            expected = module(batch[row].cpu().clone())
        try:
            if self._exact is not self._answer:
                _compare(self._exact(batch[row]), expected)
            _compare(answer[row], expected, self._precision, self._largest)
        except Disagreement as error:
            with _converting:
                key = tuple(batch.shape[1:]), self._precision
                _cache[module][key] = Disagreement(*error.args)
            raise
        finally:
            self._auditing += time.perf_counter() - began


def _compare(
    answer: Tensor,
    expected: Tensor,
    precision: str = "float32",
    largest: float = 0.0,
) -> None:
    if (answer.dtype, answer.shape) != (expected.dtype, expected.shape):
        raise ValueError("OpenVINO answers in another type or shape")
    gap = (answer - expected).abs().max()
    if not gap <= TOLERANCE[precision] * max(largest, float(expected.abs().max())):
        reduced = "" if precision == "float32" else f" in {precision}"
        raise Disagreement(
            f"OpenVINO{reduced} differs from torch by {gap:.2g} on a probe of "
            f"{len(expected)} inputs"
        )


def _convert(function: Callable[[Tensor], Tensor], example: Tensor) -> Any:
    """A function as OpenVINO's graph, for batches of any size."""
    openvino = extras.openvino()
    with quiet():
        # Traced here, as OpenVINO would trace a module, and once left it an input.
        traced = torch.jit.trace(function, example, check_trace=False)
        return openvino.convert_model(traced, input=[(-1, *example.shape[1:])])


class _Compiled:
    """OpenVINO's graph, ready to run. Threads do not meet."""

    def __init__(self, graph: Any, hint: str) -> None:
        # On recent CPUs OpenVINO would otherwise compute in bfloat16. And it would pin
        # the thread that asks to the first core, where all processes would meet.
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._model = extras.openvino().compile_model(graph, "CPU", settings)
        self._requests = threading.local()

    def __call__(self, batch: Tensor) -> Tensor:
        if len(batch) > MOST:
            return torch.cat([self(part) for part in batch.split(MOST)])
        if not hasattr(self._requests, "mine"):
            self._requests.mine = self._model.create_infer_request()
        # The inputs are shared, not copied; the outputs would be overwritten by the
        # next call, so they are copied.
        array = batch.cpu().contiguous().numpy()
        answer = self._requests.mine.infer([array], share_inputs=True)
        return torch.from_numpy(answer[0])


def _check_support(precision: str) -> None:
    """Raises: Missing, NotConvertible: this machine has no use for the precision."""
    if precision == "int8" and find_spec("nncf") is None:
        raise Missing("NNCF is missing, for int8: pip install 'xai-lib[int8]'")
    able = extras.openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if {"bfloat16": "BF16", "int8": "INT8"}[precision] not in able:
        raise NotConvertible(
            f"this processor has no instructions for {precision}, which would not be "
            "faster here; use precision='float32'"
        )


def _eager(module: nn.Module, batch: Tensor) -> Any:
    with Watch() as watch:
        answer = module(batch.clone())
    if watch.random:
        raise ValueError(f"it {watch.random}")
    return answer


def _after_fork() -> None:
    global _forked
    _forked = "openvino" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
