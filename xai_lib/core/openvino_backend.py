"""Run a torch module through OpenVINO on a CPU, three to four times faster.

A copy must answer for the module as it is now, or not at all. Four things see to it.

- `torch.compile` reads the module's code into one graph. Where a number in a tensor
  decides the way (`if x.max() > 1`), or the size of the batch, it refuses, and the
  module stays on torch.
- Its guards know what that code has read: attributes, layers, globals, closures, type
  defaults. They are checked at every request, without running the graph. So are hooks,
  the functions of the modules' classes, and every bit of the tensors that went in.
- The copy is compared with torch on a few real inputs before it may answer.
- Now and then, in some two per cent of the time, one input is answered by both. If they
  differ, the copy never answers again.
"""

from __future__ import annotations

import itertools
import logging
import operator
import os
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from xai_lib.core import extras
from xai_lib.core.conduct import Watch
from xai_lib.core.precision import CALIBRATION, Agreement, measured, quantised

PROBE = 4  # inputs to compare
AUDIT = 0.02  # of the time, at most, goes into answers by torch for comparison
# The largest difference from torch that a copy may show, as a share of the largest
# score. Sums in another order differ by about 1e-5. What rounding does is measured, see
# `precision`: some per cent on photographs, a third of what is left of the scores on
# dark ones. Beyond these limits it is no longer the same model.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5, "int8": 1.0}
# torch.compile keeps the size of a batch open in this range, and refuses a module that
# treats a part of it differently. Below 16 torch itself chooses other convolutions:
# there batches of a few sizes are compared instead.
_OPEN = 17
_LEAST, _MOST = 16, 2048
_SMALL = (1, 2, PROBE, 8)
_BATCH, _SIZE = "batch", "size of the batch"
_Key = tuple[tuple[int, ...], str]  # the shape of an input, and the precision
_cache: WeakKeyDictionary[nn.Module, dict[_Key, Copy | NotConvertible]]
_cache = WeakKeyDictionary()
_converting = threading.RLock()
_number = itertools.count()
_forked = False


class NotConvertible(RuntimeError):
    """OpenVINO cannot run this module."""


class Missing(NotConvertible):
    """OpenVINO, or what int8 needs beside it, is not installed."""


class Disagreement(NotConvertible):
    """OpenVINO runs this module, but answers differently from torch."""


class Changed(NotConvertible):
    """The module is no longer what was converted."""


def compiled(module: nn.Module, inputs: Tensor, precision: str = "float32") -> Copy:
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
            if _hooked(module.modules()):
                raise NotConvertible(f"{type(module).__name__} has hooks")
            if any(t.is_inference() for t in [*module.parameters(), *module.buffers()]):
                raise NotConvertible("the parameters were made in inference mode")
            if precision != "float32":
                _check_support(precision)
            some = inputs[:CALIBRATION].detach().cpu().clone()
            try:
                kept[key] = Copy(module, some, precision)
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

    def __init__(self, module: nn.Module, some: Tensor, precision: str) -> None:
        probe = some[:PROBE]
        self.agreement: Agreement | None = None
        self._precision = precision
        self._largest = 0.0  # score of the probe, where rounding is to be compared
        self._answering = self._auditing = 0.0  # seconds
        self._turn = 0
        try:
            with _as_torch_asks():
                answer = _eager(module, probe)  # and makes what a first call makes
                if not isinstance(answer, Tensor):
                    raise ValueError(f"it returns a {type(answer).__name__}")
                before = _attributes(module)
                self.guards = _Guards(module, probe)
                graph = _convert(*self.guards.bound())
                self._answer = self._exact = _Compiled(graph, "f32")
                several = torch.cat([probe, probe.flip(-1)])  # not all alike
                for size in _SMALL:
                    batch = several.repeat(size, *[1] * (probe.ndim - 1))[:size]
                    expected = _eager(module, batch)
                    _compare(self(batch), expected)
                    _compare(answer[:1], expected[:1])  # inputs do not meet
                self.guards.check(module)
                now = _attributes(module)
                if [*map(id, before.values())] != [*map(id, now.values())]:
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
        with _as_torch_asks():
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


class _Reached(Exception):
    """All guards have passed; the arguments are those of the graph."""


class _Guards:
    """The graph of a module, and whether the module would still give this graph."""

    def __init__(self, module: nn.Module, probe: Tensor) -> None:
        self._graph: torch.fx.GraphModule | None = None
        self._batch = probe[:1].repeat_interleave(_OPEN, dim=0)
        # With a range every condition in it is refused, not only that of one value.
        torch._dynamo.mark_dynamic(self._batch, 0, min=_LEAST, max=_MOST)
        torch._dynamo.mark_static(self._batch, list(range(1, probe.ndim)))
        # torch.compile keeps what it learns by a function's code and name: others for
        # each copy, and floats as they are, or it opens what differs between two.
        code = _ask.__code__.replace(co_name=f"_ask_{next(_number)}")
        ask = types.FunctionType(code, globals())
        self._ask = torch.compile(ask, backend=self._keep, fullgraph=True)
        with torch._dynamo.config.patch(specialize_float=True):
            arguments = self._arguments(module)
        assert self._graph is not None  # or the arguments would not have been reached
        if [*self._graph.parameters(), *self._graph.buffers()]:
            raise Changed("torch.compile hides tensors from its guards")
        self._functions: list[Any] = _functions(module.modules())
        self._keys: list[Any] = [self._key(a) for a in arguments]
        if _SIZE not in self._keys:
            raise Changed("its graph is for one size of the batch")
        pairs = zip(arguments, self._keys, strict=True)
        self._given: list[Any] = [k if isinstance(k, str) else a for a, k in pairs]
        self._tensors: list[Tensor] = [t for t in self._given if isinstance(t, Tensor)]
        self._places: list[Any] = list(map(_place, self._tensors))
        self._memory: _Memory = _Memory(self._tensors)

    def check(self, module: nn.Module) -> None:
        """Raises: Changed, if the module would now give another graph or answer, or
        if it cannot be told."""
        # What is cheap and common first: a guard that fails costs seconds.
        if list(map(_place, self._tensors)) != self._places:
            raise Changed("a tensor has moved")
        if not self._memory.unchanged():
            raise Changed("a tensor has changed")
        layers = list(module.modules())
        if _hooked(layers) or _functions(layers) != self._functions:
            raise Changed("a hook or a method has changed")
        # What is held here cannot be freed: the same address is the same memory.
        now = zip(self._arguments(module), self._given, self._keys, strict=True)
        if any(a is not t and self._key(a) != key for a, t, key in now):
            raise Changed("a tensor has been replaced")

    def bound(self) -> tuple[nn.Module, Tensor]:
        """The graph as a function of the batch alone, and a batch for it."""
        assert self._graph is not None
        return _Bound(self._graph, self._given), self._batch[:2].clone()

    def _key(self, argument: Any) -> Any:
        """What must stay equal of an argument of the graph, besides its content."""
        if argument is self._batch:
            return _BATCH
        if isinstance(argument, Tensor):
            return _place(argument)
        if argument == _OPEN:
            return _SIZE
        raise Changed(f"its graph needs {argument!r}")

    def _keep(self, graph: torch.fx.GraphModule, _: Any) -> Callable:
        if self._graph is not None:
            raise Changed("something that it reads has changed")
        self._graph = graph
        return _reach

    def _arguments(self, module: nn.Module) -> tuple[Any, ...]:
        """What the graph would be called with, if all guards pass."""
        try:
            with _quiet(), _as_torch_asks():
                self._ask(module, self._batch)
        except _Reached as reached:
            return reached.args
        except Exception as error:
            cause = error.__cause__ if isinstance(error.__cause__, Changed) else error
            raise Changed(str(cause).strip().partition("\n")[0]) from error
        raise Changed("torch.compile is switched off")


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Where a tensor's bits are, and as what they are read. Guards of torch up to 2.9
    do not see a parameter whose `data` became its own transpose."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


class _Bound(nn.Module):
    """A graph in which all arguments but the batch and its size are constants."""

    def __init__(self, graph: torch.fx.GraphModule, given: list[Any]) -> None:
        super().__init__()
        self.graph = graph
        self.given = [t.detach() if isinstance(t, Tensor) else t for t in given]

    def forward(self, batch: Tensor) -> Tensor:
        free = {_BATCH: batch, _SIZE: batch.shape[0]}
        given = (free[a] if isinstance(a, str) else a for a in self.given)
        outputs = self.graph(*given)
        if len(outputs) != 1:
            raise ValueError(f"it makes {len(outputs)} tensors, and returns one")
        return outputs[0]


def _ask(module: nn.Module, batch: Tensor) -> Tensor:
    return module(batch)


def _reach(*arguments: Any) -> None:
    raise _Reached(*arguments)


def _convert(module: nn.Module, example: Tensor) -> Any:
    """The module as OpenVINO's graph, for batches of any size."""
    openvino = extras.openvino()
    with _quiet():
        return openvino.convert_model(
            module.eval(), example_input=example, input=[(-1, *example.shape[1:])]
        )


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
        if len(batch) > _MOST:
            return torch.cat([self(part) for part in batch.split(_MOST)])
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


@contextmanager
def _quiet() -> Iterator[None]:
    """No words about what cannot be converted: such a module just stays on torch."""
    log = logging.getLogger("torch._guards")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def _eager(module: nn.Module, batch: Tensor) -> Any:
    with Watch() as watch:
        answer = module(batch.clone())
    if watch.random:
        raise ValueError(f"it draws random numbers ({watch.random})")
    return answer


@contextmanager
def _as_torch_asks() -> Iterator[None]:
    """The surroundings that answers depend on: guards look at them, too."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        yield


def _hooked(layers: Iterable[nn.Module]) -> bool:
    """Whether a hook may see or change a layer's inputs or outputs."""
    every = nn.modules.module
    return bool(every._global_forward_hooks or every._global_forward_pre_hooks) or any(
        layer._forward_hooks or layer._forward_pre_hooks for layer in layers
    )


def _functions(layers: Iterable[nn.Module]) -> list[Any]:
    """The methods of all classes of some layers, and the functions that they name,
    with code and defaults: some versions of torch do not guard the defaults."""
    bases = dict.fromkeys(base for layer in layers for base in type(layer).__mro__[:-1])
    methods = [
        (base, name, value)
        for base in bases
        for name, value in vars(base).items()
        if isinstance(value, (types.FunctionType, staticmethod, classmethod, property))
    ]
    named = dict.fromkeys(f for *_, f in methods if isinstance(f, types.FunctionType))
    waiting = [*named]
    for function in waiting:
        for name in function.__code__.co_names:
            other: Any = function.__globals__.get(name)
            new = isinstance(other, types.FunctionType) and other not in named
            if new and other.__module__.partition(".")[0] != "torch":
                named[other] = None
                waiting.append(other)
    read = [(f, f.__code__, f.__defaults__, f.__kwdefaults__) for f in named]
    return [*methods, *read]


def _attributes(module: nn.Module) -> dict[Any, Any]:
    """All attributes, parameters and buffers, by layer and name."""
    return {
        (id(layer), name): value
        for layer in module.modules()
        for held in (vars(layer), layer._parameters, layer._buffers, layer._modules)
        for name, value in held.items()
    }


class _Memory:
    """The memory behind some tensors, each once, and a copy of what it held."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        once = {s.data_ptr(): s for s in (t.untyped_storage() for t in tensors)}
        empty = torch.empty(0, dtype=torch.uint8, device="cpu")
        raw: list[Any] = [empty.new().set_(s).numpy() for s in once.values()]
        self._now = [memoryview(r) for r in raw]
        self._then = [bytearray(now) for now in self._now]

    def unchanged(self) -> bool:
        """Is every bit what it was? A sum would miss some changes, and `_version` what
        is written through `.data`, and through NumPy."""
        # A bytearray compares blocks of memory; bytes or a memoryview byte by byte.
        return all(map(operator.eq, self._then, self._now))


def _after_fork() -> None:
    global _forked
    _forked = "openvino" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
