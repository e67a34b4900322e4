"""Is a module still the one whose graph was made?

- `torch.compile` reads the module's code into one graph. Where a number in a tensor
  decides the way (`if x.max() > 1`), or the size of the batch, it refuses.
- Its guards know what that code has read: attributes, layers, globals, closures, type
  defaults. They are checked at every request, without running the graph. So are hooks,
  the methods of the modules' classes, every bit of the tensors that went in, and every
  function that was read: its code, and its default arguments.
"""

import gc
import itertools
import logging
import operator
import types
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# torch.compile keeps the size of a batch open in this range, and refuses a module that
# treats a part of it differently. Below 16 torch itself chooses other convolutions:
# there batches of a few sizes are to be compared instead.
_OPEN = 17
_LEAST, MOST = 16, 2048
_BATCH, _SIZE = "batch", "size of the batch"
# Floats as they are, or what differs between two copies would be left open. And all
# guards, those on hooks, too: torch 2.10 and 2.11 leave out those on default
# arguments, and believe a dict's tag, which on Python 3.13 hides attributes that were
# set, `m.temperature = 10`.
_EXACT = {
    "specialize_float": True,
    "skip_nnmodule_hook_guards": False,
    "skip_guards_on_constant_func_defaults": False,
    "use_recursive_dict_tags_for_guards": False,
}
_ITS_OWN = 10_000  # objects at most that Python itself freezes; torch has many more
_number = itertools.count()


class NotConvertible(RuntimeError):
    """OpenVINO cannot run this module."""


class Changed(NotConvertible):
    """The module is no longer what was converted."""


class _Reached(Exception):
    """All guards have passed; the arguments are those of the graph."""


class Guards:
    """The graph of a module, and whether the module would still give this graph."""

    def __init__(self, module: nn.Module, probe: Tensor) -> None:
        self._graph: torch.fx.GraphModule | None = None
        # Nobody reads or writes it, so that it takes no memory.
        self._batch = probe.new_empty(_OPEN, *probe.shape[1:])
        # With a range every condition in it is refused, not only that of one value.
        torch._dynamo.mark_dynamic(self._batch, 0, min=_LEAST, max=MOST)
        torch._dynamo.mark_static(self._batch, list(range(1, probe.ndim)))
        # torch.compile keeps what it learns by a function's code and name: others for
        # each copy.
        code = _ask.__code__.replace(co_name=f"_ask_{next(_number)}")
        ask = types.FunctionType(code, globals())
        self._ask = torch.compile(ask, backend=self._keep, fullgraph=True)
        with torch._dynamo.config.patch(_EXACT):
            arguments = self._arguments(module)
        assert self._graph is not None  # or the arguments would not have been reached
        if [*self._graph.parameters(), *self._graph.buffers()]:
            raise Changed("torch.compile hides tensors from its guards")
        self._methods: list[Any] = _methods(module.modules())
        self._of_tensors: Any = dict(vars(Tensor))
        read = _functions(self._codes)
        self._functions: list[Any] = [(f, _read(f)) for f in read]
        self._owners: list[Any] = [(c, n, vars(c).get(n)) for c, n in _owners(read)]
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
        if hooked(layers) or _methods(layers) != self._methods:
            raise Changed("a hook or a method has changed")
        if dict(vars(Tensor)) != self._of_tensors:
            raise Changed("a method of tensors has changed")
        if any(vars(owner).get(name) is not f for owner, name, f in self._owners):
            raise Changed("a method has changed")
        if any(_read(f) not in (None, then) for f, then in self._functions):
            raise Changed("a function has changed")
        # What is held here cannot be freed: the same address is the same memory.
        now = zip(self._arguments(module), self._given, self._keys, strict=True)
        if any(a is not t and self._key(a) != key for a, t, key in now):
            raise Changed("a tensor has been replaced")

    def bound(self) -> Callable[[Tensor], Tensor]:
        """The graph as a function of the batch alone. All other arguments but the
        batch's size are constants of the function."""
        graph: Any = self._graph
        constants = [t.detach() if isinstance(t, Tensor) else t for t in self._given]

        def answer(batch: Tensor) -> Tensor:
            free = {_BATCH: batch, _SIZE: batch.shape[0]}
            outputs = graph(*(free[a] if isinstance(a, str) else a for a in constants))
            if len(outputs) != 1:
                raise ValueError(f"it makes {len(outputs)} tensors, and returns one")
            return outputs[0]

        return answer

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
        for node in graph.graph.nodes:
            if node.op == "call_function" and not _known(node.target):
                raise Changed(f"nobody has looked into {node.target}")
        self._graph = graph
        self._codes = torch._guards.TracingContext.get_traced_code() or []
        return _reach

    def _arguments(self, module: nn.Module) -> tuple[Any, ...]:
        """What the graph would be called with, if all guards pass."""
        try:
            with quiet(), as_torch_asks():
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


def _known(function: Any) -> bool:
    """Whether a function in a graph is not one of a user, who may have said that
    torch.compile is not to look inside (`allow_in_graph`, `custom_op`)."""
    if isinstance(function, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return str(function).partition(".")[0] in ("aten", "prims", "torchvision")
    users = isinstance(function, types.FunctionType)
    root = (function.__module__ or "").partition(".")[0] if users else "torch"
    return root in ("torch", "torchvision", "einops")


def _ask(module: nn.Module, batch: Tensor) -> Tensor:
    return module(batch)


def _reach(*arguments: Any) -> None:
    raise _Reached(*arguments)


@contextmanager
def as_torch_asks() -> Iterator[None]:
    """The surroundings that answers depend on: guards look at them, too."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        yield


def hooked(layers: Iterable[nn.Module]) -> bool:
    """Whether a hook may see or change a layer's inputs or outputs."""
    every = nn.modules.module
    return bool(every._global_forward_hooks or every._global_forward_pre_hooks) or any(
        layer._forward_hooks or layer._forward_pre_hooks for layer in layers
    )


def _methods(layers: Iterable[nn.Module]) -> list[Any]:
    """The methods of all classes of some layers, by class and name."""
    bases = dict.fromkeys(base for layer in layers for base in type(layer).__mro__[:-1])
    return [
        (base, name, value)
        for base in bases
        for name, value in vars(base).items()
        if isinstance(value, (types.FunctionType, staticmethod, classmethod, property))
    ]


def _functions(codes: Iterable[types.CodeType]) -> list[weakref.ref[Callable]]:
    """All functions with one of these codes, wherever they are: torch's guards do not
    see all that is written into a function itself, as IPython's autoreload does."""
    if gc.get_freeze_count() > _ITS_OWN:
        raise NotConvertible("gc.freeze has hidden functions; gc.unfreeze shows them")
    wanted = {id(code): code for code in codes}
    names = {name for code in wanted.values() for name in code.co_names}
    names.update(*(code.co_freevars for code in wanted.values()))
    found = [f for f in gc.get_objects() if type(f) is types.FunctionType]
    constant = (f.__name__ for f in found if hasattr(f, "_dynamo_marked_constant"))
    if unseen := names & {"getenv", *constant}:
        raise Changed(f"torch.compile has no guards on {unseen.pop()}")
    return [weakref.ref(f) for f in found if id(f.__code__) in wanted]


def _owners(functions: Iterable[weakref.ref[Callable]]) -> list[tuple[type, str]]:
    """Where classes hold these functions, or a subclass of a user may put another one:
    torch's guards see what an object holds, and not all that its class does."""
    wanted = {id(f()) for f in functions}
    found = []
    for owner in [c for c in gc.get_objects() if issubclass(type(c), type)]:
        for name, value in list(vars(owner).items()):
            # Of these types alone: others may import a package if they are asked.
            if type(value) is property:
                value = value.fget
            elif type(value) in (staticmethod, classmethod):
                value = value.__func__
            if id(value) in wanted:
                found += [(c, name) for c in _family(owner)]
    return found


def _family(owner: type) -> list[type]:
    """A class and its subclasses; torch's own have many."""
    if owner.__module__.partition(".")[0] == "torch":
        return [owner]
    subclasses: list[type] = type.__subclasses__(owner)
    return [owner, *(c for sub in subclasses for c in _family(sub))]


def _read(function: weakref.ref[Any]) -> Any:
    """What a function computes with, or None if it is gone. An object among its default
    arguments could keep the module alive: its address stands for it."""
    f = function()
    if f is None:
        return None
    named = f.__kwdefaults__ or {}
    values = *(f.__defaults__ or ()), *named, *named.values()
    plain = int, float, str, bytes, type(None)
    return f.__code__, *(repr(v) if isinstance(v, plain) else id(v) for v in values)


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


@contextmanager
def quiet() -> Iterator[None]:
    """No words about what cannot be converted: such a module just stays on torch."""
    log = logging.getLogger("torch._guards")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
