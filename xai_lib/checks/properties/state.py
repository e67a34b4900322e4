"""Properties of state: what is kept, shared, global or set by others has no say."""

from __future__ import annotations

import contextlib
import copy
import io
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib.checks.properties.case import (
    Case,
    Violation,
    classes,
    network,
    prop,
)

THREADS = 4
ROUNDS = 2  # explanations of each thread


@prop("nothing is kept from call to call, of images or of the model")
def _stateless(case: Case) -> None:
    x, others = case.inputs(), case.inputs(seed=1)
    model = network(case.scores(x), x)
    explainer = case.explainer(model)
    first = case.explain(explainer, x, 1)
    case.explain(explainer, others, classes(3, 0, 2))
    case.expect_equal(case.explain(explainer, x, 1), first, "after other images")
    with torch.no_grad():
        last = model[-1].weight
        assert isinstance(last, torch.Tensor)
        last.mul_(-1)
    again = case.explain(explainer, x, 1)
    case.expect_equal(again, case.maps(x, 1, model), "after the model has changed")


@prop("a copy of an explainer gives the same map")
def _copies(case: Case) -> None:
    x = case.inputs()
    explainer = case.explainer(network(case.scores(x), x))
    before = copy.deepcopy(explainer)
    expected = case.explain(explainer, x, 1)
    for each in (before, copy.deepcopy(explainer)):
        case.expect_equal(case.explain(each, x, 1), expected, "a deep copy")


@prop("global random state is neither changed nor used")
def _random_state(case: Case) -> None:
    x = case.inputs()
    with restored_random_state(case.facts.device):
        maps = []
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            before = _random_states(case.facts.device)
            maps.append(case.maps(x))
            after = _random_states(case.facts.device)
            for name, state in before.items():
                if state != after[name]:
                    raise Violation(f"the state of {name} has changed")
        case.expect_equal(maps[1], maps[0], "under another global seed")


@prop("gradients need not be on, and none are left behind")
def _grad_mode(case: Case) -> None:
    x = case.inputs()
    expected = case.maps(x.clone())
    if expected.requires_grad:
        raise Violation("the maps require a gradient")
    leaf = x.clone().requires_grad_()
    case.expect_equal(case.maps(leaf).detach(), expected, "inputs that require grad")
    if leaf.grad is not None or not leaf.requires_grad:
        raise Violation(".grad or .requires_grad of the inputs has changed")
    with torch.no_grad():
        case.expect_equal(case.maps(x), expected, "under torch.no_grad()")
        if torch.is_grad_enabled():
            raise Violation("gradients are switched on, where they were off")
    with torch.inference_mode():
        made = x.clone()
    case.expect_equal(case.maps(made), expected, "inputs made in inference mode")
    if not torch.is_grad_enabled():
        raise Violation("gradients are switched off, where they were on")


@prop("nothing is printed")
def _silent(case: Case) -> None:
    x, out, err = case.inputs(), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        case.maps(x)
    if printed := out.getvalue() + err.getvalue():
        raise Violation(f"printed {printed[:60]!r}")


@contextlib.contextmanager
def _double_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@prop("torch's default dtype and device have no say")
def _defaults(case: Case) -> None:
    x = case.inputs(dtype=torch.float32)
    expected = case.maps(x)
    for what, change in (
        ("torch.set_default_dtype(torch.float64)", _double_by_default()),
        ("torch.set_default_device('meta')", torch.device("meta")),
    ):
        with change:
            maps = case.maps(x)
        if maps.dtype != x.dtype or maps.device != x.device:
            raise Violation(f"{what}: maps are {maps.dtype} on {maps.device}")
        case.expect_equal(maps, expected, f"after {what}")


class Pause(nn.Module):
    """Lets the other threads go on, in the middle of a call of the model."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.001)
        return x


def _in_threads(call: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(call, range(THREADS * ROUNDS)))


@prop("threads share one explainer")
def _threads(case: Case) -> None:
    images = [case.inputs(seed=seed) for seed in range(THREADS)]
    model = nn.Sequential(Pause(), *network(case.scores(images[0]), images[0]))
    explainer = case.explainer(model.eval())
    alone = [case.explain(explainer, x, t) for t, x in enumerate(images)]

    def explained(i: int) -> Any:
        return case.explain(explainer, images[i % THREADS], i % THREADS)

    for i, maps in enumerate(_in_threads(explained)):
        case.expect_equal(maps, alone[i % THREADS], f"in {THREADS} threads")


@prop("explainers of one model work side by side")
def _side_by_side(case: Case) -> None:
    images = [case.inputs(seed=seed) for seed in range(THREADS)]
    model = network(case.scores(images[0]), images[0])
    alone = [case.maps(x, t, model) for t, x in enumerate(images)]
    with torch.no_grad():
        answer = model(images[0])
    with ThreadPoolExecutor(THREADS) as pool:
        order = [i % THREADS for i in range(THREADS * ROUNDS)]
        running = [pool.submit(case.maps, images[i], i, model) for i in order]
        # One plain call after the other, as long as any of them is at work.
        while not all(explained.done() for explained in running):
            with torch.no_grad():
                right = torch.allclose(model(images[0]), answer)
            if not right:
                raise Violation("a plain call was answered wrong meanwhile")
    for i, explained in zip(order, running, strict=True):
        case.expect_equal(explained.result(), alone[i], f"in {THREADS} threads")


def _random_states(device: torch.device) -> dict[str, Any]:
    """Global random states, as values to be compared."""
    states = {
        "random": random.getstate(),
        "numpy.random": str(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
    }
    if device.type == "cuda":
        states["torch.cuda"] = torch.cuda.get_rng_state(device).tolist()
    return states


@contextlib.contextmanager
def restored_random_state(device: torch.device) -> Iterator[None]:
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
