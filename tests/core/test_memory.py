"""The most memory that is held at once grows with nothing but the maps themselves.

Tensors are counted as torch's operators make them, in bytes of storage that is alive.
A block is made small, so that images are large beside it: what would be held for each
query, each row of a batch or each image shows as a multiple of an image.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xai_lib import metrics
from xai_lib.aise import AISE
from xai_lib.baselines import (
    LIME,
    RISE,
    ExtremalPerturbation,
    GradCAM,
    Gradient,
    IntegratedGradients,
    KernelSHAP,
    Occlusion,
    SmoothGrad,
    extremal,
)
from xai_lib.core import blackbox as blackbox_module
from xai_lib.core import gradients as whitebox_module
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.blocks import groups, joined
from xai_lib.geex import GEEX, GERS, IGEEX
from xai_lib.pertmap import Box, LinearPertMap, StochasticPertMap, violation_rates

HEIGHT, WIDTH = 96, 128
IMAGE = 3 * HEIGHT * WIDTH * 4  # bytes


class Peak(TorchDispatchMode):
    """The most bytes alive at once of what is made while the mode is on."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given = given.untyped_storage()._cdata
        self.alive: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(answer):
            if isinstance(tensor, Tensor):
                self.see(tensor.untyped_storage())
        return answer

    def see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key == self.given or key in self.alive or not storage.nbytes():
            return
        self.alive[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.forget, key)

    def forget(self, key: int) -> None:
        self.now -= self.alive.pop(key, 0)


def peak(run: Callable[..., Any], x: Tensor, *settings: int) -> float:
    """In images, beside x."""
    gc.collect()
    with Peak(x) as counter:
        run(x, *settings)
    return counter.most / IMAGE


@pytest.fixture(scope="module", autouse=True)
def _fewer_objects() -> Iterator[None]:
    """What is imported by now is no garbage, so that a search may leave it out."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blackbox_module, "BLOCK", IMAGE // 4)
    numbers = {"cpu": IMAGE // 4, "accelerator": IMAGE // 4}
    monkeypatch.setattr(whitebox_module, "BATCH_NUMBERS", numbers)


def images(n: int) -> Tensor:
    """Smooth enough for superpixels."""
    rows = torch.linspace(0, 0.5, HEIGHT)[:, None]
    columns = torch.linspace(0, 0.4, WIDTH)
    return (rows + columns + torch.linspace(0, 0.1, 3 * n).view(n, 3, 1, 1)).clone()


def model(x: Tensor) -> Tensor:
    p = x[..., ::8, ::8].mean((1, 2, 3)).clamp(0, 1)
    return torch.stack([p, 1 - p], 1)


class Coarse(nn.Module):
    """Linear in coarse cells, so that its activations are small."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 16, stride=16)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


def net() -> nn.Module:
    torch.manual_seed(0)
    return Coarse().eval()


def maps_of(x: Tensor) -> Tensor:
    return x[:, :1]


def box(x: Tensor) -> Box:
    return Box(torch.full_like(x, 0.1), torch.full_like(x, 0.1))


Run = Callable[[Tensor, int, int], Any]

QUERIED: dict[str, Run] = {
    "versions": lambda x, n, b: BlackBox(model, b).versions(
        len(x), n, lambda i, j: x[i, None] + torch.zeros(n, 1, 1, 1)[None, j]
    ),
    "AISE": lambda x, n, b: AISE(BlackBox(model, b), n_kernels=n // 4).attribute(x, 0),
    "GEEX": lambda x, n, b: GEEX(BlackBox(model, b), n).attribute(x, 0),
    "independent": lambda x, n, b: GEEX(
        BlackBox(model, b), n, noise="independent"
    ).attribute(x, 0),
    "GERS": lambda x, n, b: GERS(BlackBox(model, b), n).attribute(x, 0),
    "iGEEX": lambda x, n, b: IGEEX(BlackBox(model, b), n).attribute(x, 0),
    "RISE": lambda x, n, b: RISE(BlackBox(model, b), n).attribute(x, 0),
    "all of RISE": lambda x, n, b: RISE(BlackBox(model, b), n).attribute_all(x),
    "LIME": lambda x, n, b: LIME(BlackBox(model, b), n, 8).attribute(x, 0),
    "KernelSHAP": lambda x, n, b: KernelSHAP(BlackBox(model, b), n, 6).attribute(x, 0),
    "Occlusion": lambda x, n, b: Occlusion(
        BlackBox(model, b), int((HEIGHT * WIDTH / n) ** 0.5)
    ).attribute(x, 0),
    "deletion": lambda x, n, b: metrics.deletion(
        BlackBox(model, b), x, maps_of(x), 0, n
    ),
    "insertion": lambda x, n, b: metrics.insertion(BlackBox(model, b), x, x, 0, n),
    "flipping": lambda x, n, b: metrics.flipping(
        BlackBox(model, b), x, x, torch.linspace(0, 100, n).tolist()
    ),
    "violation rates": lambda x, n, b: violation_rates(
        BlackBox(model, b), x, box(x), 0, n
    ),
}
WHITE_BOX: dict[str, Run] = {
    "Gradient": lambda x, *_: Gradient(net()).attribute(x, 0),
    "SmoothGrad": lambda x, n, _: SmoothGrad(net(), n).attribute(x, 0),
    "IntegratedGradients": lambda x, n, _: IntegratedGradients(
        net(), n_steps=n
    ).attribute(x, 0),
    "Grad-CAM": lambda x, *_: GradCAM(net(), "conv").attribute(x, 0),
    "Extremal": lambda x, n, _: ExtremalPerturbation(
        net(), n_iterations=n // 20
    ).attribute(x, 0),
    "stochastic": lambda x, n, _: StochasticPertMap(
        net(), n_iterations=2, n_perturbations=n
    ).attribute(x, 0),
    "linear": lambda x, n, _: LinearPertMap(net(), n_smooth=n // 20).attribute(x, 0),
    "sensitivity": lambda x, n, _: metrics.max_sensitivity(
        lambda x, target: maps_of(x), x, 0, n_samples=n
    ),
    "pointing": lambda x, *_: metrics.energy_inside(maps_of(x), x[:, 0] >= 0),
    "grids": lambda x, *_: metrics.grid_pointing_game(
        maps_of(x), torch.zeros(len(x), dtype=torch.int64)
    ),
    "distance": lambda x, *_: metrics.map_distance(x, maps_of(x)),
}
CASES = QUERIED | WHITE_BOX
# The linear program itself has a row for each noisy copy and class.
PROBLEM = {"linear": 0.3}
# Images that the result needs per image: a map of one channel is a third.
OWN = {
    **dict.fromkeys(("GEEX", "independent", "GERS", "iGEEX", "Gradient"), 1.0),
    **dict.fromkeys(("SmoothGrad", "IntegratedGradients"), 1.0),
    **dict.fromkeys(("AISE", "RISE", "LIME", "KernelSHAP", "Occlusion"), 1 / 3),
    "all of RISE": 2 / 3,
    "Grad-CAM": 1 / 3,
    "Extremal": 1 / 3,
    "stochastic": 1.0,
    "linear": 1.0,
    "violation rates": 2.0,  # the box
    # What these are given is made in the call: a map, and a mask of bytes.
    "pointing": 1 / 3 + 1 / 12,
    "grids": 1 / 3,
}


@pytest.mark.parametrize("name", CASES)
def test_queries_do_not_count(name: str) -> None:
    run, x = CASES[name], images(1)
    few, many = (peak(run, x, n, 4) for n in (40, 160))
    assert many <= few + PROBLEM.get(name, 0.1) * (160 - 40) / 40


@pytest.mark.parametrize("name", QUERIED)
def test_the_batch_size_does_not_count(name: str) -> None:
    run, x = QUERIED[name], images(1)
    one, many = (peak(run, x, 40, b) for b in (1, 64))
    assert many <= one + 0.1


@pytest.mark.parametrize("name", CASES)
def test_images_count_with_their_maps_only(name: str) -> None:
    run = CASES[name]
    two, six = (peak(run, x, 40, 4) for x in (images(2), images(6)))
    assert six - two <= 4 * OWN.get(name, 0) + 0.2


def test_extremal_perturbations_take_at_most_a_gibibyte_at_4k(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Beside such an image a block is smaller, and so are the masks by cell.
    monkeypatch.setattr(blackbox_module, "BLOCK", IMAGE // 6)
    monkeypatch.setattr(extremal, "CELLS", 8)
    most = 2**30 / (3 * 2160 * 3840 * 4)
    assert peak(CASES["Extremal"], images(1), 40, 4) <= most


def test_a_large_request_goes_in_batches_of_a_block() -> None:
    """Also where the batch size that is asked for is larger."""
    sizes = []

    def record(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return model(x)

    x = images(7)
    for batch_size in (100, "auto"):
        sizes.clear()
        BlackBox(record, batch_size)(x)  # type: ignore[arg-type]
        assert max(sizes) == 1
        assert sum(sizes) == 7


def test_the_counter_sees_what_is_held() -> None:
    """Ten images in a list are ten; one after the other they are about one."""
    x = images(1)
    assert peak(lambda x: [x.clone() for _ in range(10)], x) == 10
    assert peak(lambda x: [x.clone().sum() for _ in range(10)], x) < 1.1


@pytest.mark.parametrize("name", ["RISE", "GEEX", "independent", "GERS", "iGEEX"])
def test_maps_are_those_of_large_blocks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, run = images(2), CASES[name]
    small = run(x, 70, 4)
    monkeypatch.setattr(blackbox_module, "BLOCK", 2**24)
    torch.testing.assert_close(small, run(x, 70, 4), rtol=1e-4, atol=1e-5)


def test_groups_and_what_joins_them() -> None:
    x, numbers = images(5), torch.arange(5)
    parts = list(groups(x, numbers))
    assert [len(part) for part, _ in parts] == [1] * 5
    whole = joined(5, (part for part, _ in parts))
    assert torch.equal(whole, x)
    only = torch.arange(3)
    assert joined(3, [only]) is only
