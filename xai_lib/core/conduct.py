"""Is a model's answer a function of its input alone? What can be seen of that.

In training mode dropout makes an answer depend on the call, batch normalisation makes
it depend on the batch, and overwrites the statistics that the user has trained. Flags
tell of it where the modules are at hand (`refuse_training_mode`). Behind a function,
and where no flag tells, the operations themselves do (`Watch`), at no extra query. What
they leave open is asked again (`refuse_random`, `refuse_mixing`).
"""

from __future__ import annotations

import builtins
import functools
import gc
import operator
import pickle
import random
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import zip_longest
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from xai_lib.core.answers import as_scores

# How often a batch is asked again that may be answered by chance. A few images may be
# dropped, or not, in the same way once.
REPEATS = 4
# Sums in another order differ by less of the largest score, in half and single float.
SAME, ROUNDING = 2e-2, 1e-4
REACH = 2_000  # how many values around a function are looked at for its modules
# Operations that take inputs out of a batch (x[:] all of them), put them together, or
# work along the first axis without naming it.
_PARTING = ("select", "slice", "unbind", "split", "split_with_sizes", "unsqueeze")
_JOINING = ("stack", "cat")
_ALONG = ("index", "roll", "t")
# What keeps a state of random numbers, besides torch.
SOURCES = (random.Random, np.random.Generator, np.random.RandomState)
_depth = ContextVar("how many calls of `unfollowed` this one is in", default=0)
# Methods that run when a module is built, switched or shown, not when it answers.
_NOT_FORWARD = ("__init__", "train", "eval", "extra_repr", "__repr__")


@contextmanager
def unfollowed() -> Iterator[None]:
    """What happens inside is no sign that the inputs of a model's batch meet.

    So for a black box that a model asks, which sums a batch to check it and looks after
    its own model.
    """
    token = _depth.set(_depth.get() + 1)
    try:
        yield
    finally:
        _depth.reset(token)


def refuse_training_mode(module: nn.Module, argument: str = "forward_func") -> None:
    """Raise if a layer is in training mode and computes differently for it.

    Containers, convolutions and other layers that never look at their flag may be in
    any mode.

    Raises:
        ValueError: with the layer's name.
    """
    for name, layer in module.named_modules():
        if layer.training and _reads_its_mode(layer):
            raise ValueError(
                f"{argument} is in training mode (layer {name!r}), so its answers "
                f"depend on the call or on the batch; call {argument}.eval() first"
            )


def in_training_mode(module: nn.Module) -> bool:
    """Whether `refuse_training_mode` would raise."""
    return any(m.training and _reads_its_mode(m) for m in module.modules())


def device_of(forward_func: Callable, device: torch.device | str | None) -> Any:
    """The device to send inputs to; None if the inputs' own device decides.

    Raises:
        ValueError: a module lives elsewhere than on `device`.
    """
    wanted = None if device is None else torch.device(device)
    if not isinstance(forward_func, nn.Module):
        return wanted
    tensors = (*forward_func.parameters(), *forward_func.buffers())
    home: Any = next((t.device for t in tensors), wanted)
    if wanted is not None and (
        wanted.type != home.type or wanted.index not in (None, home.index)
    ):
        raise ValueError(
            f"device is {wanted} but forward_func is on {home}; move it with "
            f"forward_func.to('{wanted}')"
        )
    return home


def modules_behind(forward_func: Callable, *others: type) -> tuple[Any, ...]:
    """The modules that a function can reach, by what it or its objects hold and by the
    globals it names, nearest first, and objects of other types. A module stands for
    itself and its layers.

    Not all that can be reached is used, so a flag among them is a reason to `Watch` a
    call, and no reason to refuse it.
    """
    found: list[Any] = []
    waiting: deque[Any] = deque([forward_func])
    seen: dict[int, Any] = {}
    while waiting and len(seen) < REACH:
        value = waiting.popleft()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, nn.Module) or type(value) in others:
            found.append(value)
        if isinstance(value, nn.Module):
            waiting += _hidden(value, others)
        elif not isinstance(value, (types.ModuleType, type, Tensor)):
            waiting += _parts(value)
    return tuple(found)


class Kept:
    """What the layers of some modules hold, to be compared after a call."""

    def __init__(self, *modules: nn.Module) -> None:
        layers = [layer for module in modules for layer in module.modules()]
        every = [(vars(m), m._parameters, m._buffers, m._modules) for m in layers]
        self._held = [(held, (*held.values(),)) for of in every for held in of]
        tensors = [v for _, vs in self._held for v in vs if isinstance(v, Tensor)]
        known = [t for t in tensors if not (is_lazy(t) or t.is_inference())]
        self._versions = [(t, t._version) for t in known]

    def changes(self) -> Iterator[Any]:
        """What was replaced, or is a tensor that changed in place; 0 for what is new,
        as what a first call makes."""
        for held, was in self._held:
            now = held.values()
            if len(now) != len(was) or not all(map(operator.is_, was, now)):
                pairs = zip_longest(was, now, fillvalue=0)
                yield from (then for then, value in pairs if then is not value)
        yield from (t for t, version in self._versions if t._version != version)


class Watch(TorchDispatchMode):
    """Look at the operations of one call of a model, in this thread.

        with Watch() as watch:
            answer = model(batch)

    Normalising by the statistics of the batch is refused before it happens, so that a
    user's running statistics stay as they were.

    Args:
        batch: what the model is given, where it matters whether its inputs meet.
        keeper: the model, if it may keep what changes its next answer.

    Attributes:
        random: None, or why it may answer differently the next time.
        mixes: whether an operation may have carried numbers from one input of the batch
            to another: a reason to look, and no reason to refuse.

    Raises:
        ValueError: at the end of the block, also if the model swallowed the error.
    """

    supports_higher_order_operators = True  # let torch.cond and its like pass
    # Those of all threads, in the order in which they began.
    _running: ClassVar[list[Watch]] = []
    _changing = threading.Lock()

    def __init__(self, batch: Tensor | None = None, keeper: Any = None) -> None:
        super().__init__()
        self.random: str | None = None
        kept = () if keeper is None else modules_behind(keeper, *SOURCES)
        self._sources = [part for part in kept if not isinstance(part, nn.Module)]
        self._drawn = None if keeper is None else _drawn(self._sources)
        self._kept = Kept(*(part for part in kept if isinstance(part, nn.Module)))
        self.mixes = False
        self._n = 0 if batch is None else len(batch)
        self._depth = _depth.get()
        # Of a tensor made from the batch: has it all inputs in a row, or some of them?
        self._has_all = WeakIdKeyDictionary()
        if self._n > 1:
            self._has_all[batch] = True
        self._refusal: ValueError | None = None
        self._counters: list[tuple[Tensor, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func)).partition(".")[0]
        named = _arguments(func, args, kwargs)
        if name.endswith("batch_norm") and _by_its_batch(named):
            self._refuse()
        if name == "add_" and args[0].ndim == 0 and not args[0].is_floating_point():
            self._counters.append((args[0], args[1]))  # batches seen, in training mode
        if _draws(func, named):
            self.random = f"draws random numbers: {name}"
        answer = func(*args, **kwargs)
        if self._n > 1 and not self.mixes and _depth.get() == self._depth:
            self._follow(name, named, answer)
        return answer

    def __enter__(self) -> Watch:
        with self._changing:
            self._running.append(self)
            return super().__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        # torch notes for all threads together that a mode is on, and each mode what it
        # is to leave behind. Of two that do not end in turn, the last would leave the
        # note on, and torch.compile off for good: the later one inherits.
        with self._changing:
            place = self._running.index(self)
            del self._running[place]
            for heir in self._running[place : place + 1]:
                for name in [name for name in vars(self) if name.startswith("old_")]:
                    mine, theirs = getattr(self, name), getattr(heir, name)
                    setattr(self, name, theirs)
                    setattr(heir, name, mine)
            super().__exit__(kind, error, trace)
        if self._refusal is not None:
            for counter, step in self._counters:
                counter.sub_(step)
            raise self._refusal from None
        if self._drawn is not None and self._drawn != _drawn(self._sources):
            self.random = "draws random numbers, not with torch"
        # A number counts the calls, in most models that have one.
        elif any(not isinstance(v, (int, float)) for v in self._kept.changes()):
            self.random = self.random or "changes what it keeps"

    def _follow(self, name: str, named: dict[str, Any], answer: Any) -> None:
        """Does an operation carry numbers along the first axis, that of the inputs?"""
        given = [t for t in _tensors(named.values()) if t in self._has_all]
        if not given:
            return
        from_all = {self._has_all[t] for t in given}
        made = [t for t in _tensors((answer,)) if t.numel()]
        naming = ("dim", "dims", "dim0")
        axes: Any = next((named[key] for key in naming if key in named), ())
        if axes != ():
            n_axes = max(1, *(t.ndim for t in [*given, *made]))
            axes = [a % n_axes for a in tree_leaves(axes) if isinstance(a, int)]
        along = axes[0] != 0 if name == "permute" else 0 in axes or name in _ALONG
        along = along and name not in ("slice", "split", "split_with_sizes")
        parted = along or any(t.ndim == 0 or len(t) != self._n for t in made)
        if name in _JOINING:
            found = not parted or all(len(t) == self._n for t in made)
        elif name in _PARTING:
            found = True in from_all and not parted
        else:
            self.mixes = from_all == {True, False} or (True in from_all and parted)
            found = True in from_all
        for t in made:
            self._has_all[t] = found

    def _refuse(self) -> None:
        self._refusal = ValueError(
            "forward_func normalises by the statistics of each batch (batch "
            "normalisation in training mode, or without running statistics), so an "
            "answer depends on the images beside it; call .eval() on the model first"
        )
        raise self._refusal


def random_state(device: torch.device) -> Tensor:
    """The state of torch's generators for the CPU and for a device, `[bytes]`."""
    states = [torch.get_rng_state()]
    if device.type == "cuda" and torch.cuda.is_initialized():
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def refuse_random(why: str, scores: Tensor, ask: Callable[[], Any]) -> None:
    """What a `Watch` has seen may change the answer: ask the same again.

    Raises:
        ValueError: the scores are others then.
    """
    first = scores.detach()
    with torch.no_grad():
        again = (as_scores(ask()) for _ in range(REPEATS))
        if not all(torch.allclose(first, a, 1e-3, equal_nan=True) for a in again):
            raise ValueError(
                f"forward_func answers the same input differently each time (it {why})"
                "; call .eval() on the model first, or average its answers in "
                "forward_func with a fixed seed"
            )


def refuse_mixing(scores: Tensor, batch: Tensor, ask: Callable[[Any], Any]) -> None:
    """Compare the scores `[N, K]` of an input of a batch with those of it alone.

    Where these differ by no more than half precision rounds, it is asked beside itself
    and beside another one: in batches of one size, sums have one order.

    Raises:
        ValueError: they differ.
    """
    if scores.ndim != 2 or len(scores) != len(batch):
        return
    # The others may be those before it, or those after. A black image shows little.
    i = 1 + int(scores[1 : max(2, len(batch) - 1)].flatten(1).abs().sum(dim=1).argmax())
    one = batch[i : i + 1]
    j = int((batch - one).flatten(1).abs().sum(dim=1).argmax())
    here = scores[i : i + 1].detach().clone()  # a model may use its memory again
    with torch.no_grad():
        gap = _gap(here, as_scores(ask(one)))
        if ROUNDING < gap <= SAME:
            here = as_scores(ask(batch[[i, i]]))[:1].clone()
            gap = _gap(here, as_scores(ask(batch[[i, j]]))[:1])
    if gap > ROUNDING:
        raise ValueError(
            f"forward_func answers an input differently alone and in a batch (by "
            f"{gap:.2g} of its largest score), so an answer depends on the images "
            "beside it; let it treat each image by itself, or ask with batch_size=1"
        )


def _gap(scores: Tensor, others: Tensor) -> float:
    """The largest difference, as a share of the largest score; 0 of zeros."""
    largest = torch.maximum(scores.abs(), others.abs()).max()
    return float((scores - others).abs().max() / largest.clamp_min(1e-30))


def _drawn(sources: list[Any]) -> list[Any]:
    """The states of Python's and NumPy's generators, and of others."""
    others = np.random.get_state(), *sources  # noqa: NPY002
    return [random.getstate(), *map(pickle.dumps, others)]


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among some values, as the arguments of an operation, and in their lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _arguments(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """All arguments of an operation by name, defaults included."""
    names, defaults = _signature(func)
    return defaults | dict(zip(names, args, strict=False)) | kwargs


@functools.cache
def _signature(func: Any) -> tuple[list[str], dict[str, Any]]:
    """The names of an operation's arguments, and the defaults of some."""
    arguments = getattr(getattr(func, "_schema", None), "arguments", ())
    defaults = {a.name: a.default_value for a in arguments if a.has_default_value()}
    return [a.name for a in arguments], defaults


def _by_its_batch(named: dict[str, Any]) -> bool:
    if not named.get("training"):
        return False
    # Instance normalisation is written as that of a single image of many channels.
    return named.get("running_mean") is not None or len(named["input"]) > 1


def _draws(func: Any, named: dict[str, Any]) -> bool:
    if torch.Tag.nondeterministic_seeded not in getattr(func, "tags", ()):
        return False
    return all(named.get(s, True) for s in ("train", "training", "p", "dropout_p"))


def _reads_its_mode(layer: nn.Module) -> bool:
    if isinstance(layer, torch.jit.ScriptModule):
        try:
            return "training" in layer.code
        except RuntimeError:  # a container without a forward of its own
            return False
    kind: Any = type(layer)
    return _class_reads_its_mode(kind)


@functools.cache
def _class_reads_its_mode(kind: Any) -> bool:
    return any(
        "training" in code.co_names
        for base in kind.__mro__
        if base not in (nn.Module, object)
        for name, method in vars(base).items()
        if isinstance(method, types.FunctionType) and name not in _NOT_FORWARD
        for code in _codes(method.__code__)
    )


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _hidden(module: nn.Module, others: tuple[type, ...]) -> Iterator[Any]:
    """Layers in plain lists and dictionaries, which `module.eval()` does not reach, and
    objects of other types."""
    for layer in module.modules():
        for name, held in vars(layer).items():
            if type(held) in others:
                yield held
            elif type(held) in (list, dict) and not name.startswith("_"):
                values = held.values() if isinstance(held, dict) else held
                yield from (v for v in values if isinstance(v, (nn.Module, *others)))


def _parts(value: Any) -> list[Any]:
    """What a value holds; of the globals of a function, what it names."""
    held = [*gc.get_referents(value), getattr(type(value), "__call__", None)]  # noqa: B004
    if not isinstance(value, types.FunctionType):
        return held
    everything, aside = value.__globals__, vars(builtins)
    held = [part for part in held if part is not everything and part is not aside]
    names = {name for code in _codes(value.__code__) for name in code.co_names}
    named = [everything[name] for name in names & everything.keys()]
    spaces = [vars(part) for part in named if isinstance(part, types.ModuleType)]
    return held + named + [space[n] for space in spaces for n in names & space.keys()]
