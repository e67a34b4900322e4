"""Properties of state: what is kept, shared, global or set by others has no say."""

import contextlib
import copy
import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib.checks.properties.case import Case, classes, prop, require

THREADS = 4
ORDER = list(range(THREADS)) * 2  # which images are explained; each twice


@prop("nothing is kept from call to call, of images or of the model")
def _stateless(case: Case, x: Tensor) -> None:
    others, model = case.inputs(seed=1), case.network(x)
    explainer = case.explainer(model)
    first = case.explain(explainer, x)
    case.explain(explainer, others, classes(3, 0, 2))
    case.expect_equal(case.explain(explainer, x), first, "after other images")
    list(model.parameters())[-2].data.mul_(-1)  # the last weights
    again = case.explain(explainer, x)
    case.expect_equal(again, case.maps(x, 1, model), "after the model has changed")


@prop("a copy of an explainer gives the same map")
def _copies(case: Case, x: Tensor) -> None:
    explainer = case.explainer(case.network(x))
    before = copy.deepcopy(explainer)
    expected = case.explain(explainer, x)
    for each in (before, copy.deepcopy(explainer)):
        case.expect_equal(case.explain(each, x), expected, "a deep copy")


@prop("global random state is neither changed nor used")
def _random_state(case: Case, x: Tensor) -> None:
    maps = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = _random_states(case.device)
        maps.append(case.maps(x))
        for name, state in _random_states(case.device).items():
            require(state == before[name], f"the state of {name} has changed")
    case.expect_equal(maps[1], maps[0], "under another global seed")


@prop("gradients need not be on, and none are left behind")
def _grad_mode(case: Case, x: Tensor) -> None:
    expected = case.maps(x.clone())
    require(not expected.requires_grad, "the maps require a gradient")
    leaf = x.clone().requires_grad_()
    case.expect_equal(case.maps(leaf).detach(), expected, "inputs that require grad")
    same = leaf.grad is None and leaf.requires_grad
    require(same, ".grad or .requires_grad of the inputs has changed")
    with torch.no_grad():
        case.expect_equal(case.maps(x), expected, "under torch.no_grad()")
        off = not torch.is_grad_enabled()
        require(off, "gradients are switched on, where they were off")
    with torch.inference_mode():
        made = x.clone()
    case.expect_equal(case.maps(made), expected, "inputs made in inference mode")
    on = torch.is_grad_enabled()
    require(on, "gradients are switched off, where they were on")


@prop("nothing is printed")
def _silent(case: Case, x: Tensor) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        case.maps(x)
    require(not printed.getvalue(), f"printed {printed.getvalue()[:60]!r}")


@prop("torch's default dtype and device have no say")
def _defaults(case: Case, x: Tensor) -> None:
    x = x.float()
    expected = case.maps(x)

    def judge(what: str, maps: Tensor) -> None:
        same = maps.dtype == x.dtype and maps.device == x.device
        require(same, f"{what}: maps are {maps.dtype} on {maps.device}")
        case.expect_equal(maps, expected, f"after {what}")

    with contextlib.ExitStack() as undo:
        undo.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        maps = case.maps(x)
    judge("torch.set_default_dtype(torch.float64)", maps)
    with torch.device("meta"):
        maps = case.maps(x)
    judge("torch.set_default_device('meta')", maps)


class Pause(nn.Module):
    """Lets the other threads go on, in the middle of a call of the model."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.001)
        return x


def together(case: Case, explain: Callable, meanwhile: Callable) -> None:
    """The same maps from images alone, and from threads that begin at one time."""
    images = [case.inputs(seed=seed) for seed in range(THREADS)]
    alone = [explain(x, i) for i, x in enumerate(images)]
    start = threading.Barrier(THREADS)

    def begin(i: int) -> Any:
        start.wait()
        return explain(images[i], i)

    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(begin, i) for i in ORDER]
        while not all(one.done() for one in running):
            meanwhile()
    for i, one in zip(ORDER, running, strict=True):
        case.expect_equal(one.result(), alone[i], f"in {THREADS} threads")


@prop("threads share one explainer")
def _threads(case: Case, x: Tensor) -> None:
    model = nn.Sequential(Pause(), *case.network(x))
    explainer = case.explainer(model.eval())
    together(case, partial(case.explain, explainer), partial(time.sleep, 0.01))


@prop("explainers of one model work side by side")
def _side_by_side(case: Case, x: Tensor) -> None:
    model = case.network(x)
    answer = model(x).detach()

    @torch.no_grad()
    def ask() -> None:  # one plain call after the other, as long as any is at work
        require(torch.allclose(model(x), answer), "a plain call was answered wrong")

    together(case, lambda x, i: case.maps(x, i, model), ask)


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
    devices = [device] if device.type == "cuda" else []
    with contextlib.ExitStack() as undo, torch.random.fork_rng(devices=devices):
        undo.callback(random.setstate, random.getstate())
        undo.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        yield
