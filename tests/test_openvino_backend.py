"""OpenVINO: the same answers, never stale ones, and a way back to torch."""

from __future__ import annotations

import gc
import os
import sys
import threading
import warnings
import weakref

import pytest
import torch
from torch import Tensor, nn

from xai_lib import blackbox as blackbox_module
from xai_lib import openvino_backend
from xai_lib.blackbox import BlackBox
from xai_lib.openvino_backend import NotConvertible, compiled

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
    with pytest.warns(RuntimeWarning, match="pip install openvino") as said:
        answers = [blackbox(IMAGES[:4]) for blackbox in asked]
    assert len(said) == 1
    for blackbox, answer in zip(asked, answers, strict=True):
        assert blackbox.backend == "torch"
        expected = blackbox.forward_func(IMAGES[:4]).detach()
        torch.testing.assert_close(answer, expected)
    with pytest.raises(NotConvertible, match="OpenVINO is not installed"):
        BlackBox(small_net(), backend="openvino")(IMAGES)


class BatchInPython(nn.Module):
    """Tracing freezes the batch size of the example, 1, as a number."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :4] * float(len(images))


class BranchInPython(nn.Module):
    """Tracing freezes the branch that the example takes."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)[:, :4]
        return flat if len(images) == 1 else flat + 1


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("module", [BatchInPython(), BranchInPython()])
def test_a_probe_that_disagrees_warns_once(module: nn.Module) -> None:
    blackbox = BlackBox(module, batch_size=5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = [blackbox(IMAGES) for _ in range(3)]
    assert len(caught) == 1
    assert "OpenVINO differs from torch by" in str(caught[0].message)
    assert f"{type(module).__name__} stays on torch" in str(caught[0].message)
    assert caught[0].filename == __file__  # the line that asked
    assert blackbox.backend == "torch"
    assert blackbox.queries == 30
    expected = torch.cat([module(IMAGES[:5]), module(IMAGES[5:])])
    for answer in scores:
        assert torch.equal(answer, expected)


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
    with pytest.raises(NotConvertible, match="2 tensors, not one"):
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


def change_in_place(net: nn.Sequential) -> None:
    with torch.no_grad():
        net[0].weight.mul_(-1)


def train_a_step(net: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    net(IMAGES)[:, 0].log().sum().backward()
    optimizer.step()


def change_statistics(net: nn.Sequential) -> None:
    net[1].running_mean.add_(0.5)


def load_weights(net: nn.Sequential) -> None:
    net.load_state_dict({k: v * 1.5 for k, v in net.state_dict().items()})


def assign_data(net: nn.Sequential) -> None:
    net[0].weight.data = net[0].weight.data * -1


def change_data_in_place(net: nn.Sequential) -> None:
    net[0].weight.data.mul_(-1)  # torch's version counter does not see this


def replace_a_layer(net: nn.Sequential) -> None:
    net[4] = nn.Linear(144, 5)


@pytest.mark.usefixtures("eager")
def test_no_stale_answers() -> None:
    net = small_net()
    blackbox = BlackBox(net)
    before = blackbox(IMAGES)
    assert blackbox.backend == "openvino"
    for change in (
        change_in_place,
        train_a_step,
        change_statistics,
        load_weights,
        assign_data,
        change_data_in_place,
        replace_a_layer,
    ):
        change(net)
        after = blackbox(IMAGES)
        assert (after - before).abs().max() > 1e-3, change.__name__
        torch.testing.assert_close(after, net(IMAGES).detach(), rtol=1e-4, atol=1e-6)
        before = after


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
