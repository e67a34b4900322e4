"""What a copy has read is noticed when it changes: functions, wherever they are."""

from __future__ import annotations

import functools
import gc
import os
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xai_lib.core.guards import Changed, Guards, NotConvertible

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def new_function() -> types.FunctionType:
    """Of a module or of None, and features: a method, a property, and none of both."""

    def scale(
        owner: Any, features: Any = 1.0, factor: float = 2.0, *, shift: float = 1.0
    ) -> Any:
        return features * factor + shift

    return scale


def other(owner: Any, features: Any = 1.0, factor: float = 2.0, *, shift=1.0) -> Any:
    return features * factor - shift


class Net(nn.Module):
    """Reaches a function in the way of a class below."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).mean((2, 3)))

    def head(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Holder:
    """A plain object, and its class."""


held = types.ModuleType("users")
held.inner = types.ModuleType("users.inner")
held.Holder = Holder
WAYS: dict[str, Callable[[types.FunctionType], Net]] = {}


def way(make: Callable[[types.FunctionType], Net]) -> Callable:
    WAYS[make.__name__.strip("_").replace("_", " ")] = make
    return make


def of_class(head: Callable[[Any, Tensor], Tensor], **attributes: Any) -> Net:
    return type("Way", (Net,), {"head": head, **attributes})()


@way
def method(function: types.FunctionType) -> Net:
    return of_class(lambda self, x: self.scale(x), scale=function)


@way
def static_method(function: types.FunctionType) -> Net:
    return of_class(lambda self, x: self.scale(0, x), scale=staticmethod(function))


@way
def class_method(function: types.FunctionType) -> Net:
    return of_class(lambda self, x: self.scale(x), scale=classmethod(function))


@way
def property_(function: types.FunctionType) -> Net:
    return of_class(lambda self, x: x * self.scale, scale=property(function))


@way
def inherited(function: types.FunctionType) -> Net:
    class Child(type("Parent", (Net,), {"scale": function})):
        def head(self, x: Tensor) -> Tensor:
            return super().scale(x)

    return Child()


@way
def decorated(function: types.FunctionType) -> Net:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return of_class(lambda self, x: self.scale(x), scale=wrapper)


@way
def global_(function: types.FunctionType) -> Net:
    globals()["scale"] = function
    return of_class(lambda self, x: scale(0, x))  # noqa: F821


@way
def inside_a_lambda(function: types.FunctionType) -> Net:
    globals()["scale"] = function
    return of_class(lambda self, x: (lambda y: scale(0, y))(x))  # noqa: F821


@way
def inside_a_generator(function: types.FunctionType) -> Net:
    globals()["scale"] = function
    return of_class(lambda self, x: sum(scale(0, y) for y in (x, x)))  # noqa: F821


@way
def of_a_module(function: types.FunctionType) -> Net:
    held.scale = function
    return of_class(lambda self, x: held.scale(0, x))


@way
def of_a_module_in_a_module(function: types.FunctionType) -> Net:
    held.inner.scale = function
    return of_class(lambda self, x: held.inner.scale(0, x))


@way
def of_another_class(function: types.FunctionType) -> Net:
    Holder.scale = staticmethod(function)
    return of_class(lambda self, x: held.Holder.scale(0, x))


@way
def of_an_object(function: types.FunctionType) -> Net:
    Holder.scale = function
    return of_class(lambda self, x: self.holder.scale(x), holder=Holder())


@way
def attribute(function: types.FunctionType) -> Net:
    net = of_class(lambda self, x: self.scale(0, x))
    net.scale = function
    return net


@way
def bound_to_the_module(function: types.FunctionType) -> Net:
    net = of_class(lambda self, x: self.scale(x))
    net.scale = types.MethodType(function, net)
    return net


@way
def in_a_dictionary(function: types.FunctionType) -> Net:
    net = of_class(lambda self, x: self.table["scale"](0, x))
    net.table = {"scale": function}
    return net


@way
def partial(function: types.FunctionType) -> Net:
    net = of_class(lambda self, x: self.scale(x))
    net.scale = functools.partial(function, 0)
    return net


@way
def default_argument(function: types.FunctionType) -> Net:
    return of_class(lambda self, x, scale=function: scale(0, x))


CHANGES: dict[str, Callable[[types.FunctionType], Any]] = {
    "code": lambda f: setattr(f, "__code__", other.__code__),
    "default": lambda f: setattr(f, "__defaults__", (1.0, 5.0)),
    "default by keyword": lambda f: setattr(f, "__kwdefaults__", {"shift": 4.0}),
    "default by keyword, in place": lambda f: f.__kwdefaults__.update(shift=4.0),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", WAYS)
def test_a_function_that_changes(name: str, change: str) -> None:
    function = new_function()
    net = WAYS[name](function).eval()
    before = net(IMAGES)
    guards = Guards(net, IMAGES)
    guards.check(net)
    CHANGES[change](function)
    assert (net(IMAGES) - before).abs().max() > 1e-3
    with pytest.raises(Changed):
        guards.check(net)


@pytest.mark.parametrize("name", ["attribute", "global", "of a module"])
def test_another_function_of_the_same_code(name: str) -> None:
    """As a factory makes them: only their defaults differ."""
    net = WAYS[name](new_function()).eval()
    guards = Guards(net, IMAGES)
    another = new_function()
    another.__defaults__ = (1.0, 5.0)
    before = net(IMAGES)
    holder = {"attribute": vars(net), "global": globals()}.get(name, vars(held))
    holder["scale"] = another
    assert (net(IMAGES) - before).abs().max() > 1e-3
    with pytest.raises(Changed):
        guards.check(net)


def test_a_default_that_changes_inside() -> None:
    function = new_function()
    function.__defaults__ = ([1.0], 2.0)
    net = of_class(lambda self, x: x * self.scale(), scale=function)
    function.__code__ = (lambda owner, features, factor: features[0] * factor).__code__
    function.__kwdefaults__ = None
    guards = Guards(net, IMAGES)
    function.__defaults__[0][0] = 3.0
    with pytest.raises(Changed):
        guards.check(net)


class Triples:
    """A plain object that a module asks."""

    def ask(self, x: Tensor) -> Tensor:
        return x * 3


class TriplesToo(Triples):
    pass


@pytest.mark.parametrize("kind", [Triples, TriplesToo])
def test_a_method_of_a_plain_object(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put into its class, and into a subclass, which had none."""
    net = of_class(lambda self, x: self.plain.ask(x))
    net.plain = kind()
    guards = Guards(net, IMAGES)
    guards.check(net)
    monkeypatch.setattr(kind, "ask", lambda self, x: x * 7, raising=False)
    with pytest.raises(Changed):
        guards.check(net)


def test_functions_that_cannot_be_searched() -> None:
    """As a server hides them before it forks: what is hidden could not be compared."""
    gc.freeze()
    try:
        with pytest.raises(NotConvertible, match=r"gc\.freeze"):
            Guards(nn.Conv2d(3, 4, 3).eval(), IMAGES)
    finally:
        gc.unfreeze()
    Guards(nn.Conv2d(3, 4, 3).eval(), IMAGES)


def in_a_list(layer: nn.Module) -> Net:
    net = of_class(lambda self, x: self.listed[0](x))
    net.listed = [layer]
    return net


def in_an_object(layer: nn.Module) -> Net:
    net = of_class(lambda self, x: self.plain.layer(x))
    net.plain = types.SimpleNamespace(layer=layer)
    return net


def in_a_closure(layer: nn.Module) -> Net:
    return of_class(lambda self, x: layer(x))


@pytest.mark.parametrize("hold", [in_a_list, in_an_object, in_a_closure])
def test_a_hook_on_a_layer_that_is_no_submodule(hold: Callable) -> None:
    layer = nn.Softplus()
    net = hold(layer).eval()
    guards = Guards(net, IMAGES)
    guards.check(net)
    layer.register_forward_hook(lambda module, inputs, output: output * 5)
    with pytest.raises(Changed):
        guards.check(net)


OPTIONS = {"scale": 2.0}


@torch.compiler.assume_constant_result
def scale_said_constant() -> float:
    return OPTIONS["scale"]


@pytest.mark.parametrize(
    "read",
    [lambda: scale_said_constant(), lambda: float(os.getenv("SCALE_OF_A_TEST", "2"))],
)
def test_what_torch_compile_reads_without_guards(read: Callable) -> None:
    """Both are read once, when the graph is made."""
    net = of_class(lambda self, x: x * read())
    with pytest.raises(Changed, match="no guards on"):
        Guards(net.eval(), IMAGES)


def test_a_method_of_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    net = of_class(lambda self, x: x.tanh()).eval()
    guards = Guards(net, IMAGES)
    guards.check(net)
    monkeypatch.setattr(Tensor, "tanh", lambda x: x * 5)
    with pytest.raises(Changed):
        guards.check(net)


@torch.compiler.allow_in_graph
def unseen(x: Tensor) -> Tensor:
    return x * 3


def test_a_function_that_torch_compile_may_not_look_into() -> None:
    """What it reads has no guards."""
    with pytest.raises(Changed):
        Guards(of_class(lambda self, x: unseen(x)), IMAGES)
