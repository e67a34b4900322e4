"""Every property of the battery can fail: a broken explainer that it catches.

Each mutant differs in one point from `RandomMasks` of docs/battery.md, which passes,
and must fail the property named above it, for the reason given.
"""

from __future__ import annotations

import copy
import random
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_lib.baselines import Gradient
from xai_lib.checks import ExplainerFailed, check_explainer
from xai_lib.checks import explainer as battery
from xai_lib.checks.explainer import CHECKS
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox, BudgetExceeded

PAGE = Path(__file__).parents[2] / "docs" / "battery.md"
EXAMPLE = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


def example(code: str = EXAMPLE) -> dict[str, Any]:
    """The names that the page's code defines."""
    names: dict[str, Any] = {}
    exec(code, names)
    return names


RandomMasks: Any = example(EXAMPLE.partition("report =")[0])["RandomMasks"]


def test_the_ten_lines_of_the_page_pass(capsys: pytest.CaptureFixture[str]) -> None:
    report = example()["report"]
    assert list(report.not_applicable) == ["a model that gives no gradient is refused"]
    assert not report.failed
    assert not report.exceptions
    n = len(CHECKS) - 1
    assert len(report.passed) == n
    assert report.calls > 120
    printed = capsys.readouterr().out
    assert printed.startswith(f"RandomMasks: {n} of {n} properties")
    body = EXAMPLE[EXAMPLE.index("def _attribute") : EXAMPLE.index("report =")]
    assert len(body.strip().splitlines()) <= 10


def test_the_failure_on_the_page_is_what_happens() -> None:
    centring = " - scores.mean(dim=1, keepdim=True)"
    assert centring in EXAMPLE
    with pytest.raises(ExplainerFailed) as caught:
        exec(EXAMPLE.replace(centring, ""), {})
    head, failure = str(caught.value).splitlines()[:2]
    assert head in PAGE.read_text()
    assert failure in re.sub(r"\n +from", " from", PAGE.read_text())


def test_the_page_names_every_argument() -> None:
    for name in ("make", *check_explainer.__kwdefaults__):
        assert f"| `{name}` |" in PAGE.read_text()


# A mutant gets what the right one gets: f, its seed, the right `attribute`. Or it is
# a class, which is made like the right one.

Mutant = Callable[..., Any]
MUTANTS: list[tuple[str, str, Mutant]] = []
GRADIENTS = {"needs": "gradients", "per_channel": True, "rows": True}


class Mutated:
    lent: Any = None  # what all mutants share, of all threads

    def __init__(self, mutant: Mutant, forward_func: Callable, right: Any) -> None:
        self.mutant, self.f, self.right = mutant, forward_func, right.attribute
        self.seed = getattr(right, "seed", 0)
        self.memory: list[Any] = []

    def attribute(self, inputs: Any, target: Any = None) -> Any:
        return self.mutant(self, inputs, target)


def fails(start: str, message: str) -> Callable[[Mutant], Mutant]:
    """Register a mutant of the property whose name begins with `start`."""
    (name,) = (name for name in CHECKS if name.startswith(start))

    def add(mutant: Mutant) -> Mutant:
        MUTANTS.append((name, message, mutant))
        return mutant

    return add


@fails("a finite map", r"shape \[1, 2, 5, 8\], expected \[1, 1, 5, 8\]")
def one_channel_too_many(self, inputs, target):
    return self.right(inputs, target).expand(-1, 2, -1, -1)


@fails("a finite map", "must be a tensor, got ndarray")
def an_array(self, inputs, target):
    return self.right(inputs, target).numpy()


@fails("a finite map", "not finite")
def divides_by_zero(self, inputs, target):
    return self.right(inputs, target) / 0


@fails("maps have the dtype", "maps are torch.float32, inputs torch.float64")
def single_precision(self, inputs, target):
    return self.right(inputs, target).float()


@fails("maps lie on the device", "maps are on meta")
def elsewhere(self, inputs, target):
    return self.right(inputs, target).to("meta")


@fails("one explainer takes", "expected .2, 1, 8, 5.")
def remembers_the_first_size(self, inputs, target):
    maps = self.right(inputs, target)
    self.memory.append(maps.shape[2:])
    return nn.functional.interpolate(maps, self.memory[0])


@fails("one explainer takes", "after images of other sizes")
def is_changed_by_other_sizes(self, inputs, target):
    self.memory.append(inputs.shape[2:])
    return self.right(inputs, target) * len(set(self.memory))


@fails("the smallest image", "IndexError: no second pixel")
def needs_two_pixels(self, inputs, target):
    maps = self.right(inputs, target)
    if maps[0].numel() == 1:
        raise IndexError("no second pixel")
    return maps


@fails("rows", "wrong inputs were explained")
def takes_rows_for_images(self, inputs, target):
    if isinstance(inputs, Tensor) and inputs.ndim == 2:
        return torch.ones_like(inputs)
    return self.right(inputs, target)


@fails("inputs outside", "inputs must lie in")
def needs_the_unit_interval(self, inputs, target):
    maps = self.right(inputs, target)
    if float(inputs.min()) < 0 or float(inputs.max()) > 1:
        raise ValueError("inputs must lie in [0, 1]")
    return maps


@fails("the layout", "view size is not compatible")
def needs_contiguous_images(self, inputs, target):
    maps = self.right(inputs, target)
    inputs.view(len(inputs), -1)
    return maps


@fails("the layout", "channels last in memory: maps differ")
def reads_memory_in_its_own_order(self, inputs, target):
    maps = self.right(inputs, target)
    return maps * (1 + inputs.stride(1))


@fails("same settings", "called again: maps differ")
def counts_its_calls(self, inputs, target):
    self.memory.append(1)
    return self.right(inputs, target) * len(self.memory)


@fails("another seed", "seeds 0 and 1 give the same map")
def ignores_the_seed(self, inputs, target):
    return RandomMasks(self.f).attribute(inputs, target)


@fails("global random", "the state of torch has changed")
def seeds_torch(self, inputs, target):
    torch.manual_seed(self.seed)
    return self.right(inputs, target)


@fails("global random", "the state of numpy.random has changed")
def draws_from_numpy(self, inputs, target):
    np.random.rand()  # noqa: NPY002
    return self.right(inputs, target)


@fails("global random", "the state of random has changed")
def draws_from_python(self, inputs, target):
    random.random()
    return self.right(inputs, target)


@fails("global random", "under another global seed: maps differ")
def uses_global_state_and_puts_it_back(self, inputs, target):
    with torch.random.fork_rng(devices=[]):
        factor = 1 + float(torch.rand(()))
    return self.right(inputs, target) * factor


@fails("an image gets", "image 0 of 17: maps differ")
def scales_by_the_batch(self, inputs, target):
    maps = self.right(inputs, target)
    return maps / maps.abs().max().clamp_min(1e-9)


@fails("an image gets", "image 11 of 17: maps differ")
def goes_on_drawing_from_image_to_image(self, inputs, target):
    maps = self.right(inputs, target)
    rng = generator(self.seed)
    factors = [1 + float(torch.rand((), generator=rng)) for _ in maps]
    return maps * torch.tensor(factors)[:, None, None, None].to(maps)


@fails("the black box's batch size", "BlackBox.f, batch_size=1.: maps differ")
def draws_by_the_batch(self, inputs, target):
    maps = self.right(inputs, target)
    size = self.f.batch_size.best if isinstance(self.f, BlackBox) else 64
    return maps * size


@fails("a target is", "class 0 of image 1: maps differ")
def takes_the_first_target_for_all(self, inputs, target):
    maps = self.right(inputs, target)
    several = isinstance(target, Tensor | np.ndarray | list | tuple)
    return self.right(inputs, int(target[0])) if several else maps


@fails("a target is", "TypeError: target must be given")
def refuses_none(self, inputs, target):
    if target is None:
        raise TypeError("target must be given")
    return self.right(inputs, target)


@fails("another target", "image 0 has one map for two classes")
def always_explains_the_prediction(self, inputs, target):
    self.right(inputs, target)
    return self.right(inputs, None)


@fails("wrong targets", "wrong target were explained")
def wraps_targets(self, inputs, target):
    return self.right(inputs, target % 4 if isinstance(target, int) else target)


@fails("wrong targets", "the error does not name target: 'cat'")
def says_nothing_of_the_target(self, inputs, target):
    if isinstance(target, str):
        raise ValueError(repr(target))
    return self.right(inputs, target)


@fails("inputs, target and model", "the inputs have changed")
def blackens_a_pixel_in_place(self, inputs, target):
    maps = self.right(inputs, target)
    inputs.detach()[0, 0, 0, 0] = 0
    return maps


@fails("inputs, target and model", "the target has changed")
def changes_the_target(self, inputs, target):
    maps = self.right(inputs, target)
    if isinstance(target, Tensor):
        target.zero_()
    return maps


@fails("inputs, target and model", "share memory with the inputs")
def returns_a_view(self, inputs, target):
    self.right(inputs, target)
    return inputs[:, :1]


@fails("gradients need not", "the maps require a gradient")
def keeps_a_graph(self, inputs, target):
    return self.right(inputs, target).requires_grad_()


@fails("gradients need not", "requires_grad of the inputs has changed")
def takes_the_inputs_out_of_the_graph(self, inputs, target):
    maps = self.right(inputs, target)
    inputs.requires_grad_(False)
    return maps


@fails("gradients need not", "gradients are switched on, where they were off")
def leaves_gradients_on(self, inputs, target):
    torch.set_grad_enabled(True)
    return self.right(inputs, target)


@fails("gradients need not", "gradients are switched off, where they were on")
def leaves_gradients_off(self, inputs, target):
    torch.set_grad_enabled(False)
    return self.right(inputs, target)


@fails("nothing is printed", "printed 'explaining ...")
def talks(self, inputs, target):
    print("explaining ...")
    return self.right(inputs, target)


@fails("a target is", "TypeError: no list")
def takes_no_lists(self, inputs, target):
    if isinstance(target, list | tuple):
        raise TypeError("no list")
    return self.right(inputs, target)


@fails("wrong targets", "wrong target were explained, in .*target=True")
def takes_true_for_one(self, inputs, target):
    return self.right(inputs, int(target) if isinstance(target, bool) else target)


@fails("wrong targets", "wrong target were explained, in .*target=list")
def cuts_the_targets_to_integers(self, inputs, target):
    if isinstance(target, list) and not isinstance(target[0], list):
        target = [int(c) for c in target]
        target += target[-1:] * (len(inputs) - len(target))
    return self.right(inputs, target)


@fails("wrong settings", "n_samples='3' was accepted, in ReadsNumbers.f, n_samples")
class ReadsNumbers(RandomMasks):
    def __init__(self, forward_func, n_samples=64, seed=0):
        super().__init__(forward_func, int(n_samples), seed)


@fails("wrong settings", "seed=18446744073709551616 was accepted")
class WrapsSeeds(RandomMasks):
    def __init__(self, forward_func, n_samples=64, seed=0):
        seed = seed % 2**64 if seed == 2**64 else seed
        super().__init__(forward_func, n_samples, seed)


@fails("wrong settings", "flag='no' was accepted")
class TakesAnythingForAFlag(RandomMasks):
    def __init__(self, forward_func, n_samples=64, seed=0, flag=True):
        super().__init__(forward_func, n_samples, seed)
        self.flag = bool(flag)


@fails("wrong settings", "the error does not name widths: 'float' object is not iter")
class IteratesOverANumber(RandomMasks):
    def __init__(self, forward_func, n_samples=64, seed=0, widths=(0.1,)):
        super().__init__(forward_func, n_samples, seed)
        self.widths = tuple(widths)


@fails("wrong settings", "show_progress='no' was accepted")
class ShowsProgressForNo(RandomMasks):
    def attribute(self, inputs, target=None, *, show_progress=False):
        return super().attribute(inputs, target, show_progress=bool(show_progress))


@fails("inputs, target and model", "hooks or training mode are left on")
def leaves_a_hook(self, inputs, target):
    self.f.register_forward_hook(lambda *_: None)
    return self.right(inputs, target)


@fails("inputs, target and model", "attributes have come or gone on")
def leaves_a_note(self, inputs, target):
    self.f.explained = True
    return self.right(inputs, target)


@fails("what a model keeps", "Inference tensors cannot be saved for backward")
def asks_in_inference_mode(self, inputs, target):
    with torch.inference_mode():
        self.f(inputs)
    return self.right(inputs, target)


@fails("a model in training mode", "the model: was explained")
def switches_to_evaluation(self, inputs, target):
    if isinstance(self.f, nn.Module):
        self.f.eval()
    return self.right(inputs, target)


@fails("a model whose answer depends", "the model: was explained")
def believes_what_is_paid_for(self, inputs, target):
    """With a budget, a function on arrays is asked nothing that only compares."""
    arrays = lambda images: self.f(torch.from_numpy(images)).detach().numpy()  # noqa: E731
    asked = BlackBox(arrays, backend="numpy", budget=10**6)
    return RandomMasks(asked, seed=self.seed).attribute(inputs, target)


@fails("a model that gives no gradient", "without a gradient: maps differ by 1")
def takes_no_gradient_for_zero(self, inputs, target):
    try:
        return self.right(inputs, target)
    except ValueError:
        return torch.zeros_like(inputs)


@fails("scores in a dictionary", "'dict' object has no attribute 'argmax'")
def expects_a_tensor(self, inputs, target):
    self.f(inputs).argmax()
    return self.right(inputs, target)


@fails("answers that are no scores", "class numbers: was explained")
def takes_class_numbers(self, inputs, target):
    try:
        return self.right(inputs, target)
    except TypeError:
        return torch.zeros_like(inputs[:, :1])


@fails("nothing is kept", "after other images: maps differ")
def means_over_all_images_seen(self, inputs, target):
    self.memory.append(inputs)
    return self.right(torch.stack(self.memory).mean(dim=0), target)


@fails("nothing is kept", "after the model has changed: maps differ")
def asks_a_copy_of_its_first_model(self, inputs, target):
    self.memory = self.memory or [RandomMasks(copy.deepcopy(self.f), seed=self.seed)]
    return self.memory[0].attribute(inputs, target)


@fails("a copy of an explainer", "cannot pickle '_thread.lock' object")
def holds_a_lock(self, inputs, target):
    self.memory.append(threading.Lock())
    return self.right(inputs, target)


@fails("threads share", "in 4 threads: maps differ")
def keeps_its_images_on_itself(self, inputs, target):
    self.memory = [inputs]
    time.sleep(0.05)  # lets other threads go on
    return self.right(self.memory[0], target)


@fails("explainers of one model", "in 4 threads: maps differ")
def keeps_its_images_on_its_class(self, inputs, target):
    Mutated.lent = inputs
    time.sleep(0.05)
    return self.right(Mutated.lent, target)


@fails("explainers of one model", "a plain call was answered wrong|in 4 threads")
def changes_the_model_for_a_while(self, inputs, target):
    maps = self.right(inputs, target)
    weights = self.f[-1].weight.data
    kept = weights.clone()
    weights.zero_()
    time.sleep(0.05)
    weights.copy_(kept)
    return maps


@fails("torch's default dtype", "after torch.set_default_dtype.*: maps differ")
def draws_in_the_default_dtype(self, inputs, target):
    factor = torch.rand((), generator=generator(self.seed))
    return self.right(inputs, target) * (1 + factor).to(inputs)


@fails("torch's default dtype", "[Mm]eta")
def draws_on_the_default_device(self, inputs, target):
    factor = torch.rand((), generator=generator(self.seed), dtype=torch.float32)
    return self.right(inputs, target) * (1 + factor).to(inputs)


@fails("half precision", "torch.bfloat16: maps differ by")
def adds_up_in_half_precision(self, inputs, target):
    maps = self.right(inputs, target)
    return (maps + 1000) - 1000


@fails("half precision", "maps are not finite")
def overflows_in_half_precision(self, inputs, target):
    return self.right(inputs, target) * 2**30 / 2**30


@fails("half precision", "maps are torch.float32, inputs torch.bfloat16")
def answers_half_in_single(self, inputs, target):
    maps = self.right(inputs, target)
    return maps.float() if maps.itemsize == 2 else maps


@fails("a map that is not finite", "maps are not finite")
def swallows_an_overflow(self, inputs, target):
    try:
        return self.right(inputs, target)
    except ValueError:
        return torch.full_like(inputs[:, :1], float("inf"))


@fails("any callable", "this model takes NumPy arrays only")
def asks_with_tensors(self, inputs, target):
    maps = self.right(inputs, target)
    self.f(inputs)
    return maps


@fails("an explanation costs", "193 queries, promised 192")
def asks_once_more(self, inputs, target):
    maps = self.right(inputs, target)
    self.f(inputs[:1].numpy() if wants_arrays(self.f) else inputs[:1])
    return maps


@fails("an explanation costs", "198 queries, promised 192 to 195")
def asks_twice_for_the_class(self, inputs, target):
    if target is None:
        self.right.__self__.blackbox(inputs)
    return self.right(inputs, target)


@fails("a budget", "BudgetExceeded was not raised")
def swallows_the_budget(self, inputs, target):
    try:
        return self.right(inputs, target)
    except BudgetExceeded:
        return torch.zeros_like(inputs[:, :1])


@fails("an answer that is not finite", "a model that answers inf was explained")
def swallows_infinity(self, inputs, target):
    try:
        return self.right(inputs, target)
    except ValueError as error:
        if "answered inf" in str(error):
            return torch.zeros_like(inputs[:, :1])
        raise


@fails("an answer that is not finite", "ValueError: scores must be finite")
def refuses_other_classes_at_minus_infinity(self, inputs, target):
    if not bool(self.f(inputs).isfinite().all()):
        raise ValueError("scores must be finite")
    return self.right(inputs, target)


@fails("a model in evaluation mode", "the model: was explained")
def takes_what_comes(self, inputs, target):
    try:
        return self.right(inputs, target)
    except ValueError as error:
        if "differently each time" in str(error):
            return torch.zeros_like(inputs[:, :1])
        raise


@fails("wrong inputs", "wrong inputs were explained, in attribute.uint8")
def takes_bytes(self, inputs, target):
    if isinstance(inputs, Tensor) and inputs.dtype is torch.uint8:
        inputs = inputs.double() / 255
    return self.right(inputs, target)


@fails("wrong inputs", "the model was asked before")
def asks_first(self, inputs, target):
    if isinstance(inputs, Tensor) and not bool(inputs.isfinite().all()):
        self.f(inputs)
    return self.right(inputs, target)


@fails("a constant model", "the score is 0.5 everywhere, the map goes from")
def shows_its_own_masks(self, inputs, target):
    """As RISE's equation 6 does: nothing takes the mean score away."""
    maps = self.right(inputs, target)
    masks = torch.rand(64, 1, *maps.shape[2:], generator=generator(self.seed))
    return maps + 0.01 * masks.mean(dim=0).to(maps)


@fails("of a linear model", "there, .* elsewhere")
def points_the_wrong_way(self, inputs, target):
    return -self.right(inputs, target)


@fails("of a linear model", "there, .* elsewhere")
def mirrors_the_map(self, inputs, target):
    return self.right(inputs, target).flip(3)


def wants_arrays(f: Callable) -> bool:
    return getattr(f, "__name__", "") == "on_arrays"


@pytest.mark.parametrize(
    ("name", "message", "mutant"), [pytest.param(*m, id=m[2].__name__) for m in MUTANTS]
)
def test_a_mutant_is_caught(
    name: str, message: str, mutant: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_gradients = name == "a model that gives no gradient is refused"

    def make(forward_func: Callable, seed: int) -> Any:
        if of_gradients:
            return Mutated(mutant, forward_func, Gradient(forward_func))
        if isinstance(mutant, type):
            return mutant(forward_func, seed=seed)
        return Mutated(mutant, forward_func, RandomMasks(forward_func, seed=seed))

    monkeypatch.setattr(battery, "CHECKS", {name: CHECKS[name]})
    facts = GRADIENTS if of_gradients else {"queries": 64}
    try:
        with pytest.raises(ExplainerFailed, match=re.escape(name)) as caught:
            check_explainer(make, **facts)
    finally:
        torch.set_grad_enabled(True)
    assert re.search(message, caught.value.report.failed[name])


def test_every_property_has_a_mutant() -> None:
    assert {name for name, _, _ in MUTANTS} == set(CHECKS)


# Mutants of methods that need a model's inside


def spoiled(what: str) -> Callable:
    """A gradient that leaves something on the model."""

    def make(network: nn.Module) -> Any:
        explainer = Gradient(network)
        right = explainer.attribute

        def attribute(inputs: Tensor, target: Any = None) -> Tensor:
            maps = right(inputs, target)
            if what == "grad":
                network[0].weight.grad = torch.zeros_like(network[0].weight)
            elif what == "weight":
                network[0].weight.data[0] += 1
            elif what == "hook":
                network[1].register_forward_hook(lambda *_: None)
            else:
                network.train()
            return maps

        explainer.attribute = attribute
        return explainer

    return make


@pytest.mark.parametrize("what", ["grad", "weight", "hook", "train"])
def test_what_is_left_on_a_model_is_seen(what: str) -> None:
    with pytest.raises(ExplainerFailed) as caught:
        check_explainer(spoiled(what), needs="layers", per_channel=True, rows=True)
    message = "hooks or training mode" if what in ("hook", "train") else "a parameter"
    assert (
        message
        in caught.value.report.failed["inputs, target and model stay as they are"]
    )


# The facts are held against the method, too


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"queries": 63}, "an explanation costs exactly the queries that it promises"),
        ({"queries": 65}, "a budget that is one query short stops it"),
        ({"per_channel": True}, "a finite map for each image, of the promised shape"),
        ({"rows": True}, "rows [N, d] are explained, or refused"),
        (
            {"smallest": 2},
            "the smallest image is explained, and smaller ones are refused",
        ),
        ({"exceptions": {"nothing is printed": "it talks"}}, "nothing is printed"),
    ],
)
def test_a_wrong_fact_fails(facts: dict[str, Any], name: str) -> None:
    with pytest.raises(ExplainerFailed) as caught:
        check_explainer(RandomMasks, **({"queries": 64} | facts))
    assert name in caught.value.report.failed


def test_an_exception_is_reported_with_its_reason() -> None:
    def make(forward_func: Callable, seed: int) -> Mutated:
        return Mutated(talks, forward_func, RandomMasks(forward_func, seed=seed))

    why = {"nothing is printed": "it is talkative"}
    report = check_explainer(make, queries=64, exceptions=why)
    assert report.exceptions == why
    assert "except  nothing is printed: it is talkative" in str(report)


@pytest.mark.parametrize(
    ("make", "facts", "error", "message"),
    [
        (RandomMasks(lambda x: x), {}, TypeError, "bound to its model; write lambda f"),
        (3, {}, TypeError, "make must be a function .* got int"),
        (RandomMasks, {"needs": "love"}, ValueError, "needs must be one of queries"),
        (RandomMasks, {"queries": 0}, ValueError, "queries must be at least 1"),
        (RandomMasks, {"smallest": 0}, ValueError, "smallest must be at least 1"),
        (RandomMasks, {"exceptions": {"x": ""}}, ValueError, "exceptions must name"),
        (
            RandomMasks,
            {"rows": "no"},
            TypeError,
            "rows must be True or False, got 'no'",
        ),
        (RandomMasks, {"per_channel": 1}, TypeError, "per_channel must be True or"),
    ],
)
def test_wrong_arguments(
    make: Any, facts: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_explainer(make, **facts)


def test_the_battery_itself_leaves_random_state_alone() -> None:
    before = torch.get_rng_state()
    check_explainer(partial(RandomMasks, n_samples=8), queries=8)
    assert torch.equal(torch.get_rng_state(), before)
