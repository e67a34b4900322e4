"""OpenVINO: the same answers, never stale ones, and a way back to torch."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_lib.core import blackbox as blackbox_module
from xai_lib.core import openvino_backend
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.openvino_backend import NotConvertible, compiled

IMAGES = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def small_net(*first: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            *first,
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
            nn.Flatten(),
            nn.Linear(144, 5),
            nn.Softmax(dim=1),
        ).eval()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert at the first query."""
    monkeypatch.setattr(blackbox_module, "WORTH_CONVERTING", 1)


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_agrees_with_torch(batch_size: int) -> None:
    net = small_net()
    blackbox = BlackBox(net, batch_size=batch_size, backend="openvino")
    scores = blackbox(IMAGES)
    torch.testing.assert_close(scores, net(IMAGES).detach(), rtol=1e-4, atol=1e-6)
    assert not scores.requires_grad
    assert blackbox.queries == 10


def test_answers_survive_the_next_call() -> None:
    net = small_net()
    run = compiled(net, IMAGES)
    first = run(IMAGES[:4])
    kept = first.clone()
    run(IMAGES[4:8])
    assert torch.equal(first, kept)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
@pytest.mark.skipif(os.cpu_count() == 1, reason="there is one core only")
def test_the_thread_that_asks_may_run_on_every_core() -> None:
    """OpenVINO would pin it for as long as it computes with one thread: to the first
    core, where all processes of a study would meet."""
    threads, asking = torch.get_num_threads(), threading.get_native_id()
    seen, done = set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(frozenset(os.sched_getaffinity(asking)))

    watcher = threading.Thread(target=watch)
    torch.set_num_threads(1)
    try:
        run = compiled(small_net(), IMAGES)
        watcher.start()
        for _ in range(20):
            run(IMAGES.repeat(200, 1, 1, 1))
    finally:
        torch.set_num_threads(threads)
        done.set()
        watcher.join()
    assert seen == {frozenset(os.sched_getaffinity(asking))}


def test_auto_waits_until_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blackbox_module, "WORTH_CONVERTING", 25 * 192)
    net = small_net()
    blackbox = BlackBox(net, batch_size=4)
    seen = []
    for _ in range(4):
        scores = blackbox(IMAGES)
        seen.append(blackbox.backend)
        torch.testing.assert_close(scores, net(IMAGES).detach(), rtol=1e-4, atol=1e-6)
    assert seen == ["auto", "auto", "openvino", "openvino"]
    assert blackbox.queries == 40  # the probe is not a query


@pytest.mark.usefixtures("eager")
def test_auto_uses_one_score_per_image() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 1), nn.Flatten(0)).eval()
    blackbox = BlackBox(net)
    scores = blackbox(IMAGES)
    assert blackbox.backend == "openvino"
    torch.testing.assert_close(scores, net(IMAGES).detach()[:, None])


@pytest.mark.usefixtures("eager")
def test_float64_stays_on_torch() -> None:
    net = small_net().double()
    blackbox = BlackBox(net)
    scores = blackbox(IMAGES.double())
    assert blackbox.backend == "torch"
    torch.testing.assert_close(scores, net(IMAGES.double()).detach())


@pytest.mark.usefixtures("eager")
def test_without_openvino_networks_run_on_torch_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    blackbox_module._say_once.cache_clear()
    asked = [BlackBox(small_net(), batch_size=4) for _ in range(3)]
    with pytest.warns(
        RuntimeWarning, match=r"pip install 'xai-lib\[openvino\]'"
    ) as said:
        answers = [blackbox(IMAGES[:4]) for blackbox in asked]
    assert len(said) == 1
    for blackbox, answer in zip(asked, answers, strict=True):
        assert blackbox.backend == "torch"
        expected = blackbox.forward_func(IMAGES[:4]).detach()
        torch.testing.assert_close(answer, expected)
    with pytest.raises(NotConvertible, match="OpenVINO is missing"):
        BlackBox(small_net(), backend="openvino")(IMAGES)


class OnSize(nn.Module):
    """A branch that only a batch of one takes: no graph of a larger one shows it."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)[:, :4]
        return flat if len(images) == 1 else flat + 1


@pytest.mark.usefixtures("eager")
def test_a_probe_that_disagrees_warns_once() -> None:
    module = OnSize()
    blackbox = BlackBox(module, batch_size=5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = [blackbox(IMAGES) for _ in range(3)]
    assert len(caught) == 1
    assert "OpenVINO differs from torch by" in str(caught[0].message)
    assert "OnSize stays on torch" in str(caught[0].message)
    assert caught[0].filename == __file__  # the line that asked
    assert blackbox.backend == "torch"
    assert blackbox.queries == 30
    expected = torch.cat([module(IMAGES[:5]), module(IMAGES[5:])])
    for answer in scores:
        assert torch.equal(answer, expected)


class Branch(nn.Module):
    """Python that decides by the numbers or the size of a batch."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.kind = kind
        self.calls = 0
        self.log: list[int] = []
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        if self.kind == "maximum" and images.max() > 1.5:
            images = images / 255
        if self.kind == "early exit" and bool((images.mean() > 2).item()):
            return images.new_zeros(len(images), 4)
        if self.kind == "size" and len(images) > 5:
            images = images * 2
        if self.kind == "calls":
            self.calls += 1
            images = images * self.calls
        if self.kind == "log":
            self.log.append(len(images))
        if self.kind == "buffer":
            self.seen += 1
        scores = self.conv(images).mean((2, 3))
        if self.kind == "number of the batch":
            scores = scores * float(len(images))
        if self.kind == "random":
            scores = scores + torch.rand(()) * 0
        return scores


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    "kind", ["maximum", "early exit", "size", "number of the batch"]
)
def test_branches_are_not_frozen(kind: str) -> None:
    net = Branch(kind).eval()
    blackbox = BlackBox(net, batch_size=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small batch may be what tells
        for images in (IMAGES, IMAGES[:2], IMAGES * 255, IMAGES[:1] * 255):
            torch.testing.assert_close(blackbox(images), net(images).detach())


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("kind", ["calls", "log", "buffer"])
def test_a_module_with_a_state_stays_on_torch(kind: str) -> None:
    net, blackbox = Branch(kind).eval(), BlackBox(Branch(kind).eval(), batch_size=10)
    blackbox.forward_func.load_state_dict(net.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            blackbox(IMAGES)
    assert blackbox.backend == "torch"


class Expands(nn.Module):
    """The size of the batch, used as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.rand(1, 4))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.token.expand(len(images), -1)
        return tokens * images.flatten(1)[:, :4].reshape(images.shape[0], -1)


@pytest.mark.usefixtures("eager")
def test_the_size_of_the_batch_is_not_frozen() -> None:
    net = Expands()
    blackbox = BlackBox(net, batch_size=10)
    for n in (10, 1, 7):
        torch.testing.assert_close(blackbox(IMAGES[:n]), net(IMAGES[:n]).detach())


@pytest.mark.usefixtures("eager")
def test_an_audit_that_disagrees_ends_the_copy(monkeypatch: Patch) -> None:
    """One input of a batch is asked on torch as well; then so is the whole batch."""
    net = small_net()
    blackbox = BlackBox(net, batch_size=5)
    blackbox(IMAGES)
    honest = openvino_backend.Copy.__call__
    monkeypatch.setattr(
        openvino_backend.Copy, "__call__", lambda self, x: honest(self, x) + 1
    )
    monkeypatch.setattr(openvino_backend, "AUDIT", float("inf"))
    with pytest.warns(UserWarning, match="differs from torch by 1 .* stays on torch"):
        scores = blackbox(IMAGES)
    assert torch.equal(scores, torch.cat([net(IMAGES[:5]), net(IMAGES[5:])]).detach())
    assert (blackbox.backend, blackbox.queries) == ("torch", 20)
    with pytest.warns(UserWarning, match="stays on torch"):
        assert torch.equal(BlackBox(net, batch_size=5)(IMAGES), scores)


def test_audits_take_little_of_the_time() -> None:
    net = small_net()
    copy = compiled(net, IMAGES)
    asked = []
    counting = net.register_forward_pre_hook(lambda _, x: asked.append(len(x[0])))
    for _ in range(50):
        copy.audit(net, IMAGES, copy(IMAGES), spent=0.0)
    assert asked == [1]  # the first one, and then never: no time has been earned
    counting.remove()


# Threads and processes


@pytest.mark.usefixtures("eager")
def test_threads_share_a_blackbox() -> None:
    """Each answer is that of its own images, and all are counted."""
    net = small_net()
    images = torch.rand(24, 6, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    expected = torch.stack([net(x) for x in images]).detach()
    blackbox = BlackBox(net, batch_size=3)
    blackbox(IMAGES)
    with ThreadPoolExecutor(4) as pool:
        answers = torch.stack([*pool.map(blackbox, images)])
    torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-6)
    assert blackbox.backend == "openvino"
    assert blackbox.queries == 10 + 24 * 6


@pytest.mark.usefixtures("eager")
def test_copies_and_pickles_after_conversion() -> None:
    blackbox = BlackBox(small_net(), budget=100)
    scores = blackbox(IMAGES)
    assert blackbox.backend == "openvino"
    for again in (pickle.loads(pickle.dumps(blackbox)), copy.deepcopy(blackbox)):
        assert (again.queries, again.budget) == (10, 100)
        torch.testing.assert_close(again(IMAGES), scores, rtol=1e-4, atol=1e-6)
        assert again.queries == 20
    assert blackbox.queries == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_wait_for_threads_that_are_gone(
    monkeypatch: Patch,
) -> None:
    net = small_net()
    compiled(net, IMAGES)
    monkeypatch.setattr(openvino_backend, "_forked", False)
    openvino_backend._after_fork()  # what the child runs
    blackbox = BlackBox(net, backend="auto")
    monkeypatch.setattr(blackbox_module, "WORTH_CONVERTING", 1)
    torch.testing.assert_close(blackbox(IMAGES), net(IMAGES).detach())
    assert blackbox.backend == "torch"


class ReshapeInPython(nn.Module):
    """Converts, and then fails on any batch that is not the example's."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.reshape(int(images.shape[0]), -1)
        return flat @ torch.ones(192, 2)


class ViaNumPy(nn.Module):
    """Cannot be traced."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor(images.sum((2, 3)).tolist())


class Double(nn.Module):
    """Computes in a type that OpenVINO answers in another one."""

    def forward(self, images: Tensor) -> Tensor:
        return images.double().mean((2, 3))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("module", [ReshapeInPython(), ViaNumPy(), Double()])
def test_what_cannot_be_converted_stays_right(module: nn.Module) -> None:
    blackbox = BlackBox(module, batch_size=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = blackbox(IMAGES)
    torch.testing.assert_close(scores, module(IMAGES), check_dtype=False)
    assert blackbox.queries == 10


class Two(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.flatten(1), images


def test_more_than_one_output_is_refused(eager: None) -> None:
    """OpenVINO would answer with the first of them, torch refuses."""
    with pytest.raises(NotConvertible, match="it returns a tuple"):
        BlackBox(Two(), backend="openvino")(IMAGES)
    with pytest.raises(TypeError, match="got tuple; wrap it"):
        BlackBox(Two())(IMAGES)


def test_explicit_openvino_says_why_not() -> None:
    with pytest.raises(
        TypeError, match=r"'openvino' needs forward_func to be an nn\.Mod"
    ):
        BlackBox(lambda x: x.flatten(1), backend="openvino")
    with pytest.raises(NotConvertible, match=r"float32, the inputs are torch\.float64"):
        BlackBox(small_net().double(), backend="openvino")(IMAGES.double())


SCALE = 2.0
SETTINGS = {"shift": 1.0}


def helper(features: Tensor, factor: float = 1.0) -> Tensor:
    return features * 3 * factor


def closure() -> tuple[Any, Any]:
    """A function, and another one that changes what the first one reads."""
    inside = 1.0

    def apply(features: Tensor) -> Tensor:
        return features * inside

    def change() -> None:
        nonlocal inside
        inside = 4.0

    return apply, change


class Options:
    """A plain object that a network reads its options from."""

    def __init__(self) -> None:
        self.power = 1.0


class ReadsMuch(nn.Module):
    """Depends on about all that Python lets a forward depend on."""

    gain = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU6()
        self.pool = nn.MaxPool2d(2)
        self.temperature = 1.0
        self.nested = {"bias": [0.5, 1.0]}
        self.options = Options()
        self.plain = torch.ones(4)  # neither a parameter nor a buffer
        self.function: Callable = torch.tanh
        self.bound, self.change_closure = closure()
        self.array = np.ones(4, dtype=np.float32)

    def stem(self, images: Tensor) -> Tensor:
        return self.conv(images)

    def forward(self, images: Tensor, weight: float = 1.0) -> Tensor:
        x = self.act(self.norm(self.stem(images))) * SCALE + SETTINGS["shift"]
        x = self.function(self.pool(x).mean((2, 3)) + self.nested["bias"][0])
        x = self.bound(helper(x)) * self.gain * weight * torch.from_numpy(self.array)
        return x * self.plain / self.temperature + self.options.power


def reads_much() -> ReadsMuch:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ReadsMuch().eval()


def train_a_step(net: ReadsMuch) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=5.0)
    net(IMAGES).square().sum().backward()
    optimizer.step()


def load_weights(net: ReadsMuch) -> None:
    net.load_state_dict({k: v * 1.5 for k, v in net.state_dict().items()})


def assign_data(net: ReadsMuch) -> None:
    net.conv.weight.data = net.conv.weight.data * -1


def exchange_two_filters(net: ReadsMuch) -> None:
    net.conv.weight.data[[0, 1]] = net.conv.weight.data[[1, 0]]
    net.conv.bias.data[[0, 1]] = net.conv.bias.data[[1, 0]]


def write_through_numpy(net: ReadsMuch) -> None:
    net.conv.weight.detach().numpy()[1:] = 0


def all_but_the_first(net: ReadsMuch) -> None:
    net.conv.weight.data[1:] = 0


def silence(*arguments: Any) -> Any:
    """A hook before or after a layer."""
    value = arguments[-1]
    return (value[0] * 0,) if isinstance(value, tuple) else value * 0


Patch = pytest.MonkeyPatch
CHANGES: dict[str, Callable[[ReadsMuch, Patch], Any]] = {
    "parameter in place": lambda n, _: n.conv.weight.detach().mul_(-1),
    "a step of training": lambda n, _: train_a_step(n),
    "statistics": lambda n, _: n.norm.running_mean.add_(0.5),
    "loaded weights": lambda n, _: load_weights(n),
    "data assigned": lambda n, _: assign_data(n),
    "data in place": lambda n, _: n.conv.weight.data.mul_(-1),
    "data but the first": lambda n, _: all_but_the_first(n),
    "two filters exchanged": lambda n, _: exchange_two_filters(n),
    "through NumPy": lambda n, _: write_through_numpy(n),
    "layer replaced": lambda n, _: setattr(n, "act", nn.Sigmoid()),
    "layer's setting": lambda n, _: setattr(n.norm, "eps", 0.5),
    "layer's stride": lambda n, _: setattr(n.conv, "stride", (2, 2)),
    "hook": lambda n, _: n.norm.register_forward_hook(silence),
    "hook before": lambda n, _: n.register_forward_pre_hook(silence),
    "attribute": lambda n, _: setattr(n, "temperature", 10.0),
    "nested attribute": lambda n, _: n.nested["bias"].__setitem__(0, -3.0),
    "attribute of an object": lambda n, _: setattr(n.options, "power", 7.0),
    "plain tensor": lambda n, _: n.plain.zero_(),
    "plain tensor replaced": lambda n, _: setattr(n, "plain", torch.zeros(4)),
    "array in place": lambda n, _: n.array.fill(3),
    "function swapped": lambda n, _: setattr(n, "function", torch.cos),
    "closure": lambda n, _: n.change_closure(),
    "forward of a layer": lambda n, _: setattr(n.norm, "forward", silence),
    "forward": lambda n, _: setattr(n, "forward", lambda x: x.mean((2, 3))),
    "class attribute": lambda _, p: p.setattr(ReadsMuch, "gain", 3.0),
    "method of the class": lambda _, p: p.setattr(
        ReadsMuch, "stem", lambda self, x: self.conv(x) * 5
    ),
    "forward of the class": lambda _, p: p.setattr(
        ReadsMuch, "forward", lambda self, x: x.mean((2, 3))
    ),
    "class of a layer": lambda _, p: p.setattr(
        nn.ReLU6, "forward", lambda self, x: x * -1
    ),
    "default argument": lambda _, p: p.setattr(
        ReadsMuch.forward, "__defaults__", (4.0,)
    ),
    "default argument of a function": lambda _, p: p.setattr(
        helper, "__defaults__", (3.0,)
    ),
    "global number": lambda _, p: p.setitem(globals(), "SCALE", 5.0),
    "global dictionary": lambda _, p: p.setitem(SETTINGS, "shift", -2.0),
    "global function": lambda _, p: p.setitem(globals(), "helper", torch.exp),
    "code of a function": lambda _, p: p.setattr(
        helper, "__code__", (lambda features: features * 8).__code__
    ),
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", CHANGES)
def test_no_stale_answers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = reads_much()
    blackbox = BlackBox(net)
    before = blackbox(IMAGES)
    assert blackbox.backend == "openvino"
    CHANGES[name](net, monkeypatch)
    expected = net(IMAGES).detach()
    assert expected.shape != before.shape or (expected - before).abs().max() > 1e-3
    for asked in (blackbox, BlackBox(net), blackbox):
        asked._n_scores = None  # some changes change the number of classes
        torch.testing.assert_close(asked(IMAGES), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_every_bit_counts() -> None:
    """A sum of 64-bit numbers misses two signs in the upper halves of two of them."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 64)).eval()
    blackbox = BlackBox(net)
    blackbox(IMAGES)
    assert blackbox.backend == "openvino"
    net[1].weight.data[:, 1::2] *= -1
    torch.testing.assert_close(blackbox(IMAGES), net(IMAGES).detach())


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("way", ["transposed", "resized", "viewed"])
def test_the_same_bits_in_another_shape(way: str) -> None:
    """Neither the memory nor its address changes."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 192), nn.ReLU()).eval()
    weight = net[1].weight.requires_grad_(False)
    blackbox = BlackBox(net)
    before = blackbox(IMAGES)
    assert blackbox.backend == "openvino"
    if way == "transposed":
        weight.t_()
    elif way == "resized":
        weight.as_strided_((192, 192), (1, 192))
    else:
        weight.data = weight.data.as_strided((192, 192), (1, 192))
    expected = net(IMAGES)
    assert (expected - before).abs().max() > 1e-3
    torch.testing.assert_close(blackbox(IMAGES), expected, rtol=1e-4, atol=1e-5)


class Centres(nn.Module):
    """Takes a part of the batch's mean away, also if it is to be converted at once."""

    def __init__(self, part: float) -> None:
        super().__init__()
        self.part, self.net = part, small_net()

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images - self.part * images.mean(dim=0))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("part", [1.0, 0.1])
@pytest.mark.parametrize("same_first", [False, True])
def test_inputs_that_meet_in_a_module(part: float, same_first: bool) -> None:
    """Beside copies of itself an input shows nothing."""
    blackbox = BlackBox(Centres(part).eval())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if same_first:
            blackbox(IMAGES[:1].repeat(4, 1, 1, 1))
            assert blackbox.backend == "torch"
        with pytest.raises(ValueError, match="alone and in a batch"):
            blackbox(IMAGES)


@pytest.mark.usefixtures("eager")
def test_a_hook_that_is_removed() -> None:
    net = small_net()
    hook = net[1].register_forward_hook(silence)
    blackbox = BlackBox(net)
    torch.testing.assert_close(blackbox(IMAGES), net(IMAGES).detach())
    assert blackbox.backend == "torch"
    hook.remove()
    for asked in (blackbox, BlackBox(net)):
        torch.testing.assert_close(asked(IMAGES), net(IMAGES).detach())
    assert asked.backend == "openvino"


@pytest.mark.usefixtures("eager")
def test_a_global_hook() -> None:
    net = small_net()
    blackbox = BlackBox(net)
    blackbox(IMAGES)
    hook = nn.modules.module.register_module_forward_hook(silence)
    try:
        torch.testing.assert_close(blackbox(IMAGES), net(IMAGES).detach())
    finally:
        hook.remove()


def test_compiled_once_and_for_each_shape() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    run = compiled(net, IMAGES)
    assert compiled(net, IMAGES[:3]) is run
    small = IMAGES[:, :, :5, :4]
    assert compiled(net, small) is not run
    torch.testing.assert_close(compiled(net, small)(small), net(small).detach())
    assert compiled(net, IMAGES) is run


def test_compiled_models_do_not_keep_their_module_alive() -> None:
    gc.collect()
    net = small_net()
    BlackBox(net, backend="openvino")(IMAGES)
    kept = len(openvino_backend._cache)
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None
    assert len(openvino_backend._cache) == kept - 1


@pytest.mark.usefixtures("eager")
def test_images_are_not_changed() -> None:
    images = IMAGES - 0.5
    before = images.clone()
    net = small_net(nn.ReLU(inplace=True))
    blackbox = BlackBox(net, batch_size=4)
    blackbox(images)
    assert blackbox.backend == "openvino"
    assert torch.equal(images, before)


@pytest.mark.usefixtures("eager")
def test_inputs_in_any_memory_layout() -> None:
    net = small_net()
    turned = IMAGES.transpose(2, 3)
    blackbox = BlackBox(net, batch_size=4)
    torch.testing.assert_close(blackbox(turned), net(turned).detach())
    last = IMAGES.to(memory_format=torch.channels_last)
    torch.testing.assert_close(blackbox(last), net(IMAGES).detach())


@pytest.mark.usefixtures("eager")
def test_inference_mode() -> None:
    net = small_net()
    expected = net(IMAGES).detach()
    with torch.inference_mode():
        blackbox = BlackBox(net)
        scores = blackbox(IMAGES.clone())
    assert blackbox.backend == "openvino"
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)
    with torch.inference_mode():
        made_inside = small_net()
    blackbox = BlackBox(made_inside)
    torch.testing.assert_close(blackbox(IMAGES), expected, rtol=1e-4, atol=1e-6)
    assert blackbox.backend == "torch"


@pytest.mark.usefixtures("eager")
def test_training_flags_and_gradients_are_left_alone() -> None:
    net = small_net()
    net[0].train()  # a convolution has no training mode: not ours to switch off
    BlackBox(net)(IMAGES)
    assert net[0].training
    assert not net[1].training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_no_larger_batches_are_compared_than_will_be_asked(monkeypatch: Patch) -> None:
    """Of large images, of which a block holds one, several would fill the memory."""
    sizes, eager = [], openvino_backend._eager

    def recorded(module: nn.Module, batch: Tensor) -> Any:
        sizes.append(len(batch))
        return eager(module, batch)

    monkeypatch.setattr(openvino_backend, "_eager", recorded)
    monkeypatch.setattr(blackbox_module, "BLOCK", IMAGES[0].numel())
    net = small_net()
    torch.testing.assert_close(
        BlackBox(net, backend="openvino")(IMAGES), net(IMAGES).detach()
    )
    assert max(sizes) == 1
    sizes.clear()
    compiled(small_net(), IMAGES)
    assert max(sizes) == 8
