"""The only door to a model: counts, budgets, batches, checks, and kinds of model."""

from __future__ import annotations

import pickle
import random
import re
import threading
import warnings
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode
from torchvision.ops import StochasticDepth

from xai_lib.core import blackbox as blackbox_module
from xai_lib.core import conduct
from xai_lib.core.answers import as_scores
from xai_lib.core.batch_size import BatchSize
from xai_lib.core.blackbox import (
    BlackBox,
    BudgetExceeded,
    NonFiniteOutput,
    as_blackbox,
    keeping,
)

IMAGES = torch.rand(23, 3, 6, 5, generator=torch.Generator().manual_seed(1))
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def sums(images: Tensor) -> Tensor:
    """Two scores per image, a plain function of the image."""
    return torch.stack([images.sum((1, 2, 3)), images.amax((1, 2, 3))], dim=1)


class Recorder:
    """A function that remembers how many inputs each call brought."""

    def __init__(self, forward: Callable[[Tensor], Any] = sums) -> None:
        self.forward = forward
        self.sizes: list[int] = []

    def __call__(self, images: Tensor) -> Any:
        self.sizes.append(len(images))
        return self.forward(images)


def small_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(16, 5),
        ).eval()


# Counting and budgets


@pytest.mark.parametrize("batch_size", [1, 4, 7, 23, 100, "auto"])
def test_counts_every_input_once(batch_size: Any) -> None:
    model = Recorder()
    blackbox = BlackBox(model, batch_size=batch_size)
    for n in (23, 1, 8):
        torch.testing.assert_close(blackbox(IMAGES[:n]), sums(IMAGES[:n]))
    assert blackbox.queries == 32 == sum(model.sizes)
    if batch_size != "auto":
        assert max(model.sizes) == min(batch_size, 23)


def test_budget_is_checked_before_asking() -> None:
    model = Recorder()
    blackbox = BlackBox(model, batch_size=4, budget=10)
    blackbox(IMAGES[:7])
    with pytest.raises(BudgetExceeded, match=r"^4 more queries after 7 .*budget of 10"):
        blackbox(IMAGES[:4])
    assert blackbox.queries == 7 == sum(model.sizes)
    blackbox(IMAGES[:3])  # exactly met
    assert blackbox.queries == 10
    with pytest.raises(BudgetExceeded, match="1 more queries after 10"):
        blackbox(IMAGES[:1])
    assert sum(model.sizes) == 10


def test_budget_of_zero() -> None:
    with pytest.raises(BudgetExceeded):
        BlackBox(sums, budget=0)(IMAGES[:1])


# Batch sizes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only the model moves."""
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr(blackbox_module, "time", fake)
    return clock


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        (lambda n: 1.0, 1024),  # a call costs the same, however large
        (lambda n: n**2, 4),  # large batches only hurt
        (lambda n: 1 + n + (n / 64) ** 4, 64),  # cheapest per input near 50
    ],
)
def test_auto_finds_the_cheapest_batch(
    clock: SimpleNamespace, seconds: Callable[[int], float], best: int
) -> None:
    inputs = torch.rand(6000, 2)

    def model(batch: Tensor) -> Tensor:
        clock.now += seconds(len(batch))
        return batch * 2

    recorder = Recorder(model)
    blackbox = BlackBox(recorder)
    assert torch.equal(blackbox(inputs), inputs * 2)
    assert blackbox.batch_size.best == best
    assert sum(recorder.sizes) == blackbox.queries == 6000
    blackbox(inputs)
    assert recorder.sizes[-3] == best


def test_the_first_batch_of_a_size_only_warms_up(clock: SimpleNamespace) -> None:
    """A slow first call, as with lazy initialisation, must not decide."""
    seen: set[int] = set()

    def model(batch: Tensor) -> Tensor:
        clock.now += 1.0 if len(batch) in seen else 1000.0
        seen.add(len(batch))
        return batch

    blackbox = BlackBox(model)
    blackbox(torch.rand(4000, 2))
    assert blackbox.batch_size.best == 1024


def test_a_slow_batch_now_and_then_does_not_end_the_search(
    clock: SimpleNamespace,
) -> None:
    """Other programs on the machine interrupt every fourth batch for a second."""
    calls = 0

    def model(batch: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        clock.now += 1e-3 + (1.0 if calls % 4 == 0 else 0.0)
        return batch

    blackbox = BlackBox(model)
    blackbox(torch.rand(12_000, 2))
    assert blackbox.batch_size.best == 1024


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "large", True])
def test_wrong_batch_sizes(batch_size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="batch_size must be"):
        BlackBox(sums, batch_size=batch_size)


def test_answers_do_not_depend_on_the_batch_size() -> None:
    net = small_net()
    answers = [BlackBox(net, batch_size=size)(IMAGES) for size in (1, 5, 23)]
    for answer in answers:
        torch.testing.assert_close(answer, net(IMAGES).detach(), rtol=1e-5, atol=1e-6)


def test_batch_size_is_readable() -> None:
    assert str(BatchSize("auto")) == "auto (4 so far)"
    assert str(BatchSize(7)) == "7"
    assert repr(BlackBox(sums, 7, budget=3)) == (
        "BlackBox(sums, backend=auto, batch_size=7, queries=0, budget=3)"
    )


# Out of memory


def too_big(error: Exception, limit: int) -> Callable[[Tensor], Tensor]:
    def model(images: Tensor) -> Tensor:
        if len(images) > limit:
            raise error
        return sums(images)

    return model


OUT_OF_MEMORY = [
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    torch.OutOfMemoryError("nothing left"),
    MemoryError("Unable to allocate 3.2 GiB for an array"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: str(e)[:12])
@pytest.mark.parametrize("batch_size", [16, "auto"])
@pytest.mark.parametrize("limit", [1, 3, 5])
def test_out_of_memory_halves_and_goes_on(
    error: Exception, batch_size: Any, limit: int
) -> None:
    model = Recorder(too_big(error, limit))
    blackbox = BlackBox(model, batch_size=batch_size)
    assert torch.equal(blackbox(IMAGES), sums(IMAGES))
    assert blackbox.queries == 23
    blackbox(IMAGES)
    tried = len(model.sizes)
    assert torch.equal(blackbox(IMAGES), sums(IMAGES))  # learned: never too big again
    assert max(model.sizes[tried:]) <= limit
    assert blackbox.queries == 69


def test_out_of_memory_in_numpy_is_not_taken_for_the_wrong_kind_of_input() -> None:
    def model(images: Any) -> np.ndarray:
        if not isinstance(images, np.ndarray):
            raise TypeError("arrays only")
        if len(images) > 4:
            raise MemoryError("Unable to allocate 3.2 GiB for an array")
        return images.sum((2, 3))

    blackbox = BlackBox(model, batch_size=16)
    torch.testing.assert_close(blackbox(IMAGES), IMAGES.sum((2, 3)))
    assert blackbox.queries == 23


def test_torchs_own_cpu_allocator_is_understood() -> None:
    def model(images: Tensor) -> Tensor:
        if len(images) > 1:
            torch.empty(2**60)
        return sums(images)

    assert torch.equal(BlackBox(model, batch_size=2)(IMAGES[:3]), sums(IMAGES[:3]))


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: str(e)[:12])
def test_persistent_out_of_memory_is_raised(error: Exception) -> None:
    blackbox = BlackBox(too_big(error, 0), batch_size=8)
    with pytest.raises(type(error)):
        blackbox(IMAGES)
    assert blackbox.queries == 0


def test_other_errors_are_not_retried() -> None:
    model = Recorder(too_big(RuntimeError("connection lost"), 2))
    blackbox = BlackBox(model, batch_size=8, backend="torch")
    with pytest.raises(RuntimeError, match="connection lost"):
        blackbox(IMAGES)
    assert model.sizes == [8]


# Answers that are refused


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (
            lambda x: sums(x)[:-1],
            ValueError,
            "return 4 rows of scores for 4 inputs, go",
        ),
        (
            lambda x: sums(x).sum(0),
            ValueError,
            r"4 rows.*got shape \[2, 1\] for inputs 0",
        ),
        (lambda x: x, ValueError, r"4 rows.*got shape \[4, 3, 6, 5\]"),
        (lambda x: None, TypeError, "must return a tensor or an array.*got NoneType"),
        (
            lambda x: (sums(x), x),
            TypeError,
            r"tuple; wrap it, e.g. lambda x: model\(x\)\[0\]..* is \[4, 2\]",
        ),
        (
            lambda x: {"boxes": x, "scores": sums(x)},
            TypeError,
            r"got dict; wrap it, e.g. lambda x: model\(x\)\['boxes'\]",
        ),
        (lambda x: sums(x).tolist(), TypeError, "got list"),
        (lambda x: sums(x)[:, :0], ValueError, r"at least one score, got \[4, 0\]"),
        (lambda x: sums(x).argmax(1), TypeError, r"torch\.int64.*predict_proba"),
        (lambda x: np.zeros((4, 2), int), TypeError, r"torch\.int64.*predict_proba"),
        (lambda x: sums(x) > 0, TypeError, r"got torch\.bool"),
    ],
)
def test_wrong_answers(
    answer: Callable[[Tensor], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BlackBox(answer, batch_size=4)(IMAGES)


def test_the_number_of_classes_must_not_change() -> None:
    def model(images: Tensor) -> Tensor:
        return torch.zeros(len(images), len(images))

    with pytest.raises(ValueError, match="3 scores per input, after 10 before"):
        BlackBox(model, batch_size=10)(IMAGES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_names_the_input_and_the_query(value: float) -> None:
    marker = IMAGES[9].sum()

    def model(images: Tensor) -> Tensor:
        scores = sums(images)
        # −∞ is refused where no class has another score.
        broken = slice(0, 2) if value == -float("inf") else 1
        scores[images.sum((1, 2, 3)) == marker, broken] = value
        return scores

    blackbox = BlackBox(model, batch_size=4)
    blackbox(IMAGES[:5])
    message = rf"answered {value} for input 9 of this request \(query 15 in all\)"
    with pytest.raises(NonFiniteOutput, match=message):
        blackbox(IMAGES)


def test_minus_infinity_of_another_class_is_no_error() -> None:
    def model(images: Tensor) -> Tensor:
        return torch.cat([sums(images), torch.zeros(len(images), 1).log()], dim=1)

    assert torch.equal(BlackBox(model)(IMAGES), model(IMAGES))


Output = namedtuple("Output", "logits aux")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s, x: Output(s, x),
        lambda s, x: {"logits": s, "hidden_states": x},
        lambda s, x: SimpleNamespace(logits=s, hidden_states=x, loss=None),
        lambda s, x: SimpleNamespace(scores=s, loss=None),
        lambda s, x: {"out": s},
        lambda s, x: (s,),
        lambda s, x: (s.numpy(), None),
        lambda s, x: s[..., None, None],
    ],
)
def test_outputs_of_common_models(wrap: Callable[[Tensor, Tensor], Any]) -> None:
    scores = BlackBox(lambda x: wrap(sums(x), x), batch_size=4)(IMAGES)
    assert torch.equal(scores, sums(IMAGES))


def test_scores_in_an_output_keep_their_gradient() -> None:
    x = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(as_scores({"logits": sums(x)})[:, 0].sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        (IMAGES.numpy(), TypeError),
        ((IMAGES * 255).byte(), TypeError),
        (IMAGES[0], ValueError),
        (IMAGES[:0], ValueError),
        (IMAGES / 0, ValueError),
    ],
)
def test_wrong_inputs_reach_no_model(inputs: Any, error: type[Exception]) -> None:
    model = Recorder()
    with pytest.raises(error, match="inputs must"):
        BlackBox(model)(inputs)
    assert model.sizes == []


# Kinds of model


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduced_precision_becomes_float32(dtype: torch.dtype) -> None:
    scores = BlackBox(lambda x: sums(x).to(dtype))(IMAGES)
    assert scores.dtype is torch.float32
    assert torch.equal(scores, sums(IMAGES).to(dtype).float())


def test_one_score_per_image_is_one_column() -> None:
    scores = BlackBox(lambda x: x.mean((1, 2, 3)), batch_size=4)(IMAGES)
    assert scores.shape == (23, 1)


def normalised(images: np.ndarray) -> np.ndarray:
    """NumPy through and through: `keepdims` and `np.stack` on the values."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.stack([np.tanh(flat[:, 0]), np.exp(flat).sum(axis=1)], axis=1)


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_numpy_function(backend: str) -> None:
    blackbox = BlackBox(normalised, batch_size=4, backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy's DeprecationWarning for tensors, too
        scores = blackbox(IMAGES)
    np.testing.assert_allclose(scores, normalised(IMAGES.numpy()), rtol=1e-6)
    assert blackbox.queries == 23


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.exp(x).sum((2, 3)),
        lambda x: np.array(x, copy=None).sum((2, 3)),
        lambda x: np.asarray(x, dtype=np.float64).sum((2, 3)),
    ],
)
def test_numpy_functions_leave_no_warning(function: Callable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = BlackBox(function, batch_size=4)(IMAGES)
    np.testing.assert_allclose(scores, function(IMAGES.numpy()), rtol=1e-5)


def test_function_that_takes_arrays_only() -> None:
    def model(images: np.ndarray) -> np.ndarray:
        return images.astype("float64").sum((2, 3))

    blackbox = BlackBox(model, batch_size=4)
    scores = blackbox(IMAGES)
    np.testing.assert_allclose(scores, model(IMAGES.numpy()))
    assert blackbox.backend == "numpy"


def test_torch_function_that_returns_arrays() -> None:
    """The idiom `model(x).numpy()` needs tensors in every batch, not just the first."""
    net = small_net()
    blackbox = BlackBox(lambda x: net(x).detach().numpy(), batch_size=4)
    torch.testing.assert_close(blackbox(IMAGES), net(IMAGES).detach())


def test_tree_ensemble_on_tables() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((80, 6))
    forest = RandomForestClassifier(10, random_state=0).fit(rows, rows[:, 0] > 0.5)
    inputs = torch.from_numpy(rng.random((30, 6)))
    blackbox = BlackBox(forest.predict_proba)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = blackbox(inputs)
    np.testing.assert_array_equal(scores, forest.predict_proba(inputs.numpy()))
    assert scores.dtype is torch.float64
    assert blackbox.queries == 30


def test_arrays_with_negative_strides_and_read_only_arrays() -> None:
    def reverse(images: np.ndarray) -> np.ndarray:
        return images.mean((2, 3))[:, ::-1]

    def read_only(images: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.float32(0.5), (len(images), 3))

    scores = BlackBox(reverse, backend="numpy")(IMAGES)
    np.testing.assert_array_equal(scores, reverse(IMAGES.numpy()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = BlackBox(read_only, backend="numpy")(IMAGES)
    assert torch.equal(scores, torch.full((23, 3), 0.5))


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_models_that_reuse_their_output_buffer(kind: str) -> None:
    buffer = torch.empty(4, 2)

    def model(images: Any) -> Any:
        images = torch.as_tensor(images)
        buffer[: len(images)] = sums(images)
        answer = buffer[: len(images)]
        return answer if kind == "torch" else answer.numpy()

    assert torch.equal(BlackBox(model, 4, backend=kind)(IMAGES), sums(IMAGES))


def test_function_that_fails_on_both_shows_both_messages() -> None:
    def model(images: Any) -> Any:
        raise TypeError("no tensor" if isinstance(images, Tensor) else "no array")

    with pytest.raises(RuntimeError) as caught:
        BlackBox(model, batch_size=4)(IMAGES)
    message = str(caught.value)
    assert re.search(
        r"torch batch \[4, 3, 6, 5\] \(TypeError: no tensor\).*\(TypeError: no array\)",
        message,
    )
    assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("the line is cut"),
        KeyError("scores"),
        TypeError("'NoneType' object is not subscriptable"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    ],
)
def test_a_function_that_fails_is_not_asked_again_and_what_it_was_asked_counts(
    error: Exception,
) -> None:
    model = Recorder(too_big(error, 0))
    blackbox = BlackBox(model, batch_size=4, budget=10)
    with pytest.raises(type(error), match=re.escape(str(error))):
        blackbox(IMAGES[:10])
    assert model.sizes == [4]
    assert blackbox.queries == 4
    model.forward = sums
    blackbox(IMAGES[:6])  # what was not asked is not lost for the budget
    with pytest.raises(BudgetExceeded):
        blackbox(IMAGES[:1])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[..., ::-1].astype("float32").sum((2, 3)),
        lambda x: x.sum(axis=(2, 3), keepdims=True).squeeze(axis=-1)[..., 0].copy(),
        lambda x: x.transpose(0, 2, 3, 1).mean((1, 2)),
    ],
)
def test_functions_in_the_way_of_numpy(function: Callable) -> None:
    blackbox = BlackBox(function, batch_size=4)
    expected = function(IMAGES.numpy())
    np.testing.assert_allclose(blackbox(IMAGES), expected, rtol=1e-5)
    assert (blackbox.backend, blackbox.queries) == ("numpy", 23)


def test_function_that_differentiates_inside() -> None:
    def saliency(images: Tensor) -> Tensor:
        with torch.enable_grad():
            images = images.requires_grad_()
            (gradient,) = torch.autograd.grad((images**2).sum(), images)
        return gradient.flatten(1)

    torch.testing.assert_close(BlackBox(saliency)(IMAGES), 2 * IMAGES.flatten(1))


@pytest.mark.parametrize("forward_func", [None, 3, "resnet", torch.zeros(2)])
def test_not_callable(forward_func: Any) -> None:
    with pytest.raises(TypeError, match="forward_func must be callable, got "):
        BlackBox(forward_func)


def test_a_blackbox_is_not_wrapped_twice() -> None:
    blackbox = BlackBox(sums)
    assert as_blackbox(blackbox) is blackbox
    assert as_blackbox(sums).forward_func is sums
    with pytest.raises(TypeError, match="BlackBox already"):
        BlackBox(blackbox)


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match=r"backend must be one of auto, .*got 'jax'"):
        BlackBox(sums, backend="jax")


@pytest.mark.parametrize(
    ("layer", "name"),
    [(nn.Dropout(), "1"), (nn.BatchNorm2d(3), "1"), (nn.AlphaDropout(), "1")],
)
def test_training_mode_is_refused(layer: nn.Module, name: str) -> None:
    net = nn.Sequential(nn.Identity(), layer)
    with pytest.raises(
        ValueError, match=rf"training mode \(layer '{name}'\).*\.eval\(\)"
    ):
        BlackBox(net)
    BlackBox(net.eval())


def test_training_mode_without_random_layers_is_fine() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(90, 2)).train()
    torch.testing.assert_close(BlackBox(net)(IMAGES), net(IMAGES).detach())
    assert net.training


class OwnDropout(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(images.mean((2, 3)), 0.5, self.training)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(5, 1, dropout=0.5, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        rows = images.mean(1)
        return self.attention(rows, rows, rows)[0].mean(1)


def with_layer(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.AdaptiveAvgPool2d(1)).train()


TRAINING: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": lambda: with_layer(nn.BatchNorm2d(4)),
    "Dropout": lambda: with_layer(nn.Dropout()),
    "StochasticDepth": lambda: with_layer(StochasticDepth(0.5, "row")),
    "RReLU": lambda: with_layer(nn.RReLU()),
    "functional dropout": OwnDropout,
    "attention": Attends,
    "scripted": lambda: torch.jit.script(with_layer(nn.BatchNorm2d(4))),
    "scripted dropout": lambda: torch.jit.script(with_layer(nn.Dropout())),
}
REGISTRY: dict[str, nn.Module] = {}


class Service:
    __slots__ = ("net",)  # nothing to look into

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def ask(self, images: Tensor) -> Tensor:
        return self.net(images)


HIDE: dict[str, Callable[[nn.Module], Any]] = {
    "lambda": lambda net: lambda x: net(x),
    "default": lambda net: lambda x, model=net: model(x),
    "partial": lambda net: partial(net.__call__),
    "method": lambda net: net.forward,
    "slots": lambda net: Service(net).ask,
    "registry": lambda net: lambda x: REGISTRY.setdefault("net", net)(x),
}


@pytest.mark.parametrize("kind", TRAINING)
def test_training_mode_of_a_module_is_seen_at_any_request(kind: str) -> None:
    net = TRAINING[kind]()
    with pytest.raises(ValueError, match=r"training mode \(layer .*\.eval\(\)"):
        BlackBox(net)
    blackbox = BlackBox(net.eval())
    blackbox(IMAGES)
    net.train()
    with pytest.raises(ValueError, match="training mode"):
        blackbox(IMAGES)
    assert blackbox.queries == 23


@pytest.mark.parametrize("hide", HIDE)
@pytest.mark.parametrize("kind", TRAINING)
def test_training_mode_behind_a_function(kind: str, hide: str) -> None:
    REGISTRY.clear()
    net = TRAINING[kind]()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"call \.eval\(\) on the model first"):
        BlackBox(HIDE[hide](net))(IMAGES)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    blackbox = BlackBox(HIDE[hide](net.eval()))
    blackbox(IMAGES)
    assert blackbox.queries == 23
    net.train()
    with pytest.raises(ValueError, match=r"call \.eval\(\) on the model first"):
        blackbox(IMAGES)


def test_statistics_of_the_batch_in_eval_mode() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten())
    with pytest.raises(ValueError, match="statistics of each batch"):
        BlackBox(net.eval())(IMAGES)
    blackbox = BlackBox(net)
    blackbox(IMAGES[:1])  # alone, it looks like instance normalisation
    with pytest.raises(ValueError, match="statistics of each batch"):
        blackbox(IMAGES)


MIXES: dict[str, Callable[[Any], Any]] = {
    "mean": lambda x: sums(x - x.mean(0)),
    "mean kept": lambda x: sums(x - x.mean(0, keepdim=True)),
    "norm": lambda x: sums(x / x.norm()),
    "softmax": lambda x: sums(x.softmax(-4)),
    "cumulative": lambda x: sums(x.cumsum(0)),
    "neighbour": lambda x: sums(x + x.flip(0)),
    "rolled": lambda x: sums(x + torch.roll(x, 1, 0)),
    "index": lambda x: sums(x + x[torch.arange(len(x)).flip(0)]),
    "first": lambda x: sums(x - x[0]),
    "one for all": lambda x: sums(x - x[-1:] / x[:1]),
    "pairs": lambda x: (x[:, None] - x[None]).abs().sum((1, 3, 4)),
    "pairs of all": lambda x: (x[:][:, None] - x[None]).abs().sum((1, 3, 4)),
    "pairs of a part": lambda x: (
        ((part := x.split(64)[0])[:, None] - part[None]).abs().sum((1, 3, 4))
    ),
    "product": lambda x: x.flatten(1) @ x.flatten(1).T @ sums(x),
    "NumPy inside": lambda x: np.asarray(x.numpy() - x.numpy().mean(0)).sum((2, 3)),
    "NumPy": lambda x: x.astype("float64").sum((2, 3)) - x.sum((2, 3)).mean(0),
}


@pytest.mark.parametrize("kind", MIXES)
def test_functions_whose_answers_depend_on_the_batch(kind: str) -> None:
    with pytest.raises(ValueError, match=r"the images beside it; .*_size=1"):
        BlackBox(MIXES[kind])(IMAGES)
    blackbox = BlackBox(MIXES[kind], batch_size=10)
    blackbox(IMAGES[:1])  # alone, nothing can be seen
    with pytest.raises(ValueError, match="depends on the images beside it"):
        blackbox(IMAGES)
    one_by_one = BlackBox(MIXES[kind], batch_size=1)
    assert one_by_one(IMAGES).shape == (23, one_by_one(IMAGES[:1]).shape[1])


APART: dict[str, Callable[[Tensor], Any]] = {
    "sums": sums,
    "layout": lambda x: x.permute(0, 2, 3, 1).softmax(-1).mean((1, 2)),
    "one by one": lambda x: torch.cat([sums(image[None] * 2) for image in x]),
    "in halves": lambda x: torch.cat([sums(part) for part in x.split(5)]),
    "normalised": lambda x: sums(x - x.mean((2, 3), keepdim=True)),
    "all of them": lambda x: sums(x + x[:]),
    "two heads": lambda x: (
        sums(torch.cat([x, x.flip(1)], 1)) + x[:, 0].amax((1, 2))[:, None]
    ),
}


@pytest.mark.parametrize("kind", APART)
def test_functions_that_keep_the_inputs_apart_are_asked_once(kind: str) -> None:
    model = Recorder(APART[kind])
    torch.testing.assert_close(BlackBox(model, 10)(IMAGES), APART[kind](IMAGES))
    assert model.sizes == [10, 10, 3]


def test_where_inputs_may_meet_and_do_not_one_is_asked_again_uncounted() -> None:
    model = Recorder(lambda x: sums(x * (2 if x.max() > 3 else 1)))
    blackbox = BlackBox(model, batch_size=10)
    for _ in range(2):
        assert torch.equal(blackbox(IMAGES), sums(IMAGES))
    assert model.sizes == [10, 1, 10, 3, 10, 10, 3]
    assert blackbox.queries == 46


def test_instance_normalisation_is_fine() -> None:
    net = nn.Sequential(nn.InstanceNorm2d(3), nn.Flatten()).eval()
    torch.testing.assert_close(BlackBox(net)(IMAGES), net(IMAGES))


def test_a_module_in_training_mode_that_is_not_asked() -> None:
    """A closure may know more than it uses."""
    used, other = small_net(), TRAINING["BatchNorm"]()

    def ask(images: Tensor) -> Tensor:
        return used(images) if other.training else other(images)

    assert torch.equal(BlackBox(ask)(IMAGES), BlackBox(used)(IMAGES))


def test_random_numbers_that_change_nothing() -> None:
    """Drawn anew with the same seed: asked again, which is not counted."""

    def model(images: Tensor) -> Tensor:
        seeded = torch.Generator().manual_seed(3)
        return sums(images) + torch.randn(2, generator=seeded)

    recorder = Recorder(model)
    blackbox = BlackBox(recorder, batch_size=10)
    torch.testing.assert_close(blackbox(IMAGES), model(IMAGES))
    assert recorder.sizes == [10] * (2 + conduct.REPEATS) + [3]
    assert blackbox.queries == 23


RNG = np.random.default_rng(0)


class Moving(nn.Module):
    """Normalises by a mean that every call moves, in evaluation mode as well."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.mean += 0.1
        return sums(images) - self.mean


class Keeping(nn.Module):
    """Keeps the features of its last call for whoever wants to see them."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(())

    def forward(self, images: Tensor) -> Tensor:
        self.last = images.mean((2, 3))
        return sums(images)


class Draws(nn.Module):
    """Has a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(0)

    def forward(self, images: Tensor) -> Tensor:
        return sums(images) * self.rng.random()


class Counts(nn.Module):
    """Counts and notes its calls, as who pays for them does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.sizes = 0, []

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.sizes.append(len(images))
        return sums(images)


class Remembers(nn.Module):
    """A recurrent layer that goes on where the last batch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(3, 2, batch_first=True)
        self.state: tuple[Tensor, Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        rows, self.state = self.recurrent(images.mean(2).mT, self.state)
        return rows[:, -1]


VARYING: dict[str, Callable[[], Any]] = {
    "Python": lambda: lambda x: sums(x) * random.random(),
    "NumPy": lambda: lambda x: sums(x) + torch.from_numpy(np.random.rand(2)),  # noqa: NPY002
    "a generator by its name": lambda: lambda x: sums(x) * RNG.random(),
    "a generator of a function": lambda: partial(
        lambda r, x: sums(x) * r.rand(), np.random.RandomState(0)
    ),
    "a generator of a module": Draws,
    "a tensor that is moved": Moving,
    "a state from call to call": lambda: Remembers().eval(),
}


@pytest.mark.parametrize("kind", VARYING)
def test_answers_that_vary_without_torch_drawing(kind: str) -> None:
    blackbox = BlackBox(VARYING[kind](), batch_size=4)
    with pytest.raises(ValueError, match="same input differently each time"):
        blackbox(IMAGES)


def test_a_model_that_counts_its_calls_is_asked_no_more_often() -> None:
    model = Counts()
    BlackBox(model, batch_size=4)(IMAGES[:8])
    assert model.sizes == [4, 4]
    assert model.calls == 2


def test_what_varies_and_changes_no_answer() -> None:
    """The source of true randomness has no state to compare."""
    source = random.SystemRandom()

    def seeded(images: Tensor) -> Tensor:
        noise = np.random.default_rng(3).random(2)
        return sums(images) + torch.from_numpy(noise) + 0 * source.random()

    for model in (seeded, Keeping()):
        assert torch.equal(BlackBox(model)(IMAGES), model(IMAGES))


def test_an_interrupted_call_counts() -> None:
    def model(images: Tensor) -> Tensor:
        if blackbox.queries == 4:
            raise KeyboardInterrupt
        return sums(images)

    blackbox = BlackBox(model, batch_size=4, budget=10)
    with pytest.raises(KeyboardInterrupt):
        blackbox(IMAGES[:10])
    assert blackbox.queries == 8
    with pytest.raises(BudgetExceeded):
        blackbox(IMAGES[:3])


class Caches(nn.Module):
    """Keeps a grid from its first call, as detectors keep anchors."""

    grid: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.grid is None:
            self.grid = torch.linspace(0, 1, images[0].numel()).view(images[0].shape)
        return (images * self.grid).mean((2, 3))


def test_what_a_model_keeps_can_be_trained_with() -> None:
    net = Caches().eval()
    with torch.inference_mode():
        BlackBox(net)(IMAGES)
    images = IMAGES.clone().requires_grad_()
    net(images).sum().backward()
    assert images.grad is not None


# Threads and processes


def test_threads_count_exactly_and_keep_the_budget() -> None:
    model = Recorder()
    blackbox = BlackBox(model, budget=600)

    def ask(n: int) -> int:
        try:
            torch.testing.assert_close(blackbox(IMAGES[:n]), sums(IMAGES[:n]))
        except BudgetExceeded:
            return 0
        return n

    with ThreadPoolExecutor(4) as pool:
        answered = sum(pool.map(ask, [7, 23, 4, 16] * 20))
    assert blackbox.queries == answered == sum(model.sizes)
    assert 600 - 23 < answered <= 600  # only what did not fit was refused


def test_a_copy_counts_for_itself() -> None:
    blackbox = BlackBox(small_net(), budget=50)
    blackbox(IMAGES)
    again = pickle.loads(pickle.dumps(blackbox))
    assert torch.equal(again(IMAGES), blackbox(IMAGES))
    assert again.queries == blackbox.queries == 46


def test_a_copy_in_another_process_says_so() -> None:
    blackbox = BlackBox(small_net(), budget=50)
    blackbox._process += 1  # as it is when it was made in another one
    with pytest.warns(UserWarning, match="counts its queries, and keeps its budget, f"):
        blackbox(IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blackbox(IMAGES)


def test_the_end_of_a_budget_keeps_what_was_computed() -> None:
    blackbox = BlackBox(sums, budget=30)

    def add() -> None:
        total = torch.zeros(2)
        with keeping(lambda: total):
            for images in (IMAGES, IMAGES):
                total += blackbox(images).sum(0)

    with pytest.raises(BudgetExceeded) as caught:
        add()
    torch.testing.assert_close(caught.value.partial, sums(IMAGES).sum(0))


def test_device_mismatch() -> None:
    with pytest.raises(ValueError, match=r"device is meta but forward_func is on cpu"):
        BlackBox(small_net(), device="meta")
    with pytest.raises(
        ValueError, match=r"device is meta:1 .* on meta.*to\('meta:1'\)"
    ):
        BlackBox(small_net().to("meta"), device="meta:1")
    BlackBox(small_net(), device="cpu")


# What a query must leave alone


@pytest.mark.parametrize("backend", ["torch", "numpy", "auto"])
def test_functions_cannot_change_the_images(backend: str) -> None:
    def in_place(images: Any) -> Any:
        images -= 0.5
        return sums(images) if isinstance(images, Tensor) else images.sum((2, 3))

    images = IMAGES.clone()
    BlackBox(in_place, batch_size=4, backend=backend)(images)
    assert torch.equal(images, IMAGES)


def test_modules_cannot_change_the_images() -> None:
    images = IMAGES - 0.5
    before = images.clone()
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())
    assert torch.equal(BlackBox(net)(images), before.relu().flatten(1))
    assert torch.equal(images, before)


@pytest.mark.parametrize("batch_size", [4, 100])
def test_answers_do_not_alias_the_images(batch_size: int) -> None:
    images = IMAGES.clone()
    BlackBox(lambda x: x.flatten(1), batch_size=batch_size)(images).zero_()
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_no_gradient(backend: str) -> None:
    net = small_net()
    images = IMAGES.clone().requires_grad_()
    scores = BlackBox(net, batch_size=4, backend=backend)(images)
    assert not scores.requires_grad
    assert not scores.is_inference()
    assert images.grad is None
    assert all(p.grad is None for p in net.parameters())


def test_a_function_cannot_return_a_gradient() -> None:
    def model(images: Tensor) -> Tensor:
        with torch.enable_grad():
            return sums(images.requires_grad_())

    assert not BlackBox(model)(IMAGES).requires_grad


def test_global_random_state_is_untouched() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    BlackBox(small_net())(IMAGES)
    BlackBox(normalised)(IMAGES)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002


def test_autocast_on_the_cpu_is_close() -> None:
    net = small_net()
    scores = BlackBox(net, backend="torch", precision="bfloat16")(IMAGES)
    assert scores.dtype is torch.float32
    # bfloat16 has eight bits: the answers differ, but by about a percent.
    assert not torch.equal(scores, net(IMAGES))
    torch.testing.assert_close(scores, net(IMAGES).detach(), rtol=0.05, atol=0.02)


def test_one_image_is_watched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside others it is watched again, and so is a model in training mode by then."""
    watches = []

    class Counted(conduct.Watch):
        def __enter__(self) -> Any:
            watches.append(self)
            return super().__enter__()

    monkeypatch.setattr(blackbox_module, "Watch", Counted)
    net = small_net()
    blackbox = BlackBox(lambda x: net(x), batch_size=2)
    for n, expected in ((1, 1), (1, 1), (2, 2), (1, 2), (2, 2)):
        blackbox(IMAGES[:n])
        assert len(watches) == expected
    net.train()
    with pytest.raises(ValueError, match="statistics of each batch"):
        blackbox(IMAGES[:1])


# Versions


@pytest.mark.parametrize("block", [1, 90, 90 * 3, 90 * 5, 90 * 11, 2**24])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 5), (3, 11), (7, 1), (1, 12)])
def test_versions_equal_a_loop(
    monkeypatch: pytest.MonkeyPatch, block: int, n: int, m: int
) -> None:
    monkeypatch.setattr(blackbox_module, "BLOCK", block)
    shifts = torch.linspace(-1, 1, m)
    made = []

    def make(i: slice, j: slice) -> Tensor:
        versions = IMAGES[:n][i, None] * shifts[None, j, None, None, None]
        made.append(versions.numel())
        return versions

    blackbox = BlackBox(sums, batch_size=4)
    scores = blackbox.versions(n, m, make)
    assert scores.shape == (n, m, 2)
    for i in range(n):
        for j in range(m):
            expected = sums(IMAGES[i : i + 1] * shifts[j])[0]
            torch.testing.assert_close(scores[i, j], expected)
    assert blackbox.queries == n * m
    assert max(made) <= max(block, 90)


# CUDA


@gpu
@pytest.mark.parametrize("batch_size", [4, "auto"])
def test_cuda_agrees_with_the_cpu(batch_size: Any) -> None:
    net = small_net()
    expected = net(IMAGES).detach()
    blackbox = BlackBox(net.cuda(), batch_size=batch_size)
    for images in (IMAGES, IMAGES.cuda()):
        scores = blackbox(images)
        assert scores.device == images.device
        torch.testing.assert_close(scores.cpu(), expected, rtol=1e-3, atol=1e-3)
    assert blackbox.backend == "torch"


@gpu
def test_cuda_runs_channels_last_and_autocast() -> None:
    layouts, dtypes = [], []

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, images: Tensor) -> Tensor:
            layouts.append(images.is_contiguous(memory_format=torch.channels_last))
            answer = self.conv(images)
            dtypes.append(answer.dtype)
            return answer.mean((2, 3))

    net = Probe().cuda()
    exact = BlackBox(net)(IMAGES)
    close = BlackBox(net, precision="bfloat16")(IMAGES)
    assert all(layouts)
    assert dtypes[0] is torch.float32
    assert torch.bfloat16 in dtypes
    torch.testing.assert_close(close, exact, rtol=2e-2, atol=2e-2)


@gpu
def test_a_cpu_model_answers_cuda_images() -> None:
    net = small_net()
    scores = BlackBox(net, backend="openvino")(IMAGES.cuda())
    assert scores.device.type == "cuda"
    torch.testing.assert_close(scores.cpu(), net(IMAGES).detach(), rtol=1e-4, atol=1e-5)


@gpu
def test_wrong_cuda_device() -> None:
    with pytest.raises(ValueError, match="device is cuda but forward_func is on cpu"):
        BlackBox(small_net(), device="cuda")


def test_a_black_box_in_a_function_is_not_asked_again() -> None:
    """It looks at its batch as a whole, and needs no second asking for that."""
    inner = BlackBox(lambda x: x.flatten(1).sum(dim=1, keepdim=True))
    outer = BlackBox(lambda x: inner(x) * 2)
    outer(torch.rand(7, 3, 4, 4))
    assert inner.queries == outer.queries == 7


@pytest.mark.parametrize("backend", ["torch", "numpy"])
@pytest.mark.parametrize("budget", [None, 20, 100])
def test_what_a_function_is_asked_for_is_counted(backend: str, budget: Any) -> None:
    """With a budget all is counted. Of arrays nothing is seen that may meet, and an
    explanation that just fits the budget is not to end for a comparison."""
    seen = 0

    def service(batch):
        nonlocal seen
        seen += len(batch)
        return batch - batch.mean()

    inputs = torch.arange(60.0).view(20, 3)
    box = BlackBox(service, budget=budget, backend=backend)
    if budget is not None and backend == "numpy":
        box(inputs)
        assert seen == box.queries == 20
        return
    if budget == 20:
        with pytest.raises(BudgetExceeded, match=r"may let .* meet.* batch_size=1"):
            box(inputs)
    else:
        with pytest.raises(ValueError, match="differently alone and in a batch"):
            box(inputs)
    assert budget is None or box.queries == seen


def test_a_budget_pays_for_the_comparison_of_what_only_may_meet() -> None:
    def one_by_one(images: Tensor) -> Tensor:
        total = images.sum()  # read, and not used
        return images.mean(dim=(2, 3)) + 0 * total

    box = BlackBox(one_by_one, budget=21)
    torch.testing.assert_close(box(IMAGES[:10]), IMAGES[:10].mean(dim=(2, 3)))
    assert box.queries == 11
    box(IMAGES[:10])  # and never again
    assert box.queries == 21
    box = BlackBox(one_by_one, batch_size=1, budget=10)
    box(IMAGES[:10])
    assert box.queries == 10


def test_watches_of_two_threads_leave_torch_compile_on() -> None:
    """Two calls that overlap, of which the first ends first."""
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first() -> None:
        with conduct.Watch():
            first_in.set()
            second_in.wait()
        first_out.set()

    def second() -> None:
        first_in.wait()
        with conduct.Watch():
            second_in.set()
            first_out.wait()
            noted.append(is_in_torch_dispatch_mode())

    noted: list[bool] = []
    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert noted == [True]  # as long as one of them looks
    assert not is_in_torch_dispatch_mode()
    graphs = []

    def keep(graph: torch.fx.GraphModule, _: Any) -> Callable:
        graphs.append(graph)
        return graph.forward

    torch.compile(lambda x: x + 1, backend=keep)(torch.ones(2))
    assert len(graphs) == 1
