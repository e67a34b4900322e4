"""torch's default dtype and device, which users may change, have no say in the library.

That explainers keep to it is tried by the battery. Here: every tensor that the library
makes names its device, and its dtype wherever torch would take the default one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import xai_lib
from xai_lib import metrics
from xai_lib.baselines import LIME, Gradient, IntegratedGradients
from xai_lib.pertmap.box import Box, violation_rates, worst_point
from xai_lib.zoo import detectors, digits, models, photos, scenes

FLOATS = {"rand", "randn", "empty", "ones", "zeros", "eye", "linspace", "logspace"}
OTHERS = {"arange", "as_tensor", "full", "randint", "randperm", "tensor"}
LIBRARY = Path(xai_lib.__file__).parent
# The book's own programs: nobody imports them into a session of their own.
BOOK = ("studies/", "checks/chapter")


def unnamed(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, function and missing argument of every call that leaves one to torch."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if not isinstance(node.func.value, ast.Name) or node.func.value.id != "torch":
            continue
        name = node.func.attr
        given = {keyword.arg for keyword in node.keywords}
        shared = any(
            keyword.arg is None and getattr(keyword.value, "id", "") == "DRAWN"
            for keyword in node.keywords
        )
        if name in FLOATS | OTHERS and not shared:
            if "device" not in given:
                yield node.lineno, name, "device"
            if name in FLOATS and "dtype" not in given:
                yield node.lineno, name, "dtype"
            holds_floats = any(
                isinstance(part, ast.Constant) and isinstance(part.value, float)
                for argument in node.args
                for part in ast.walk(argument)
            )
            if name in OTHERS and holds_floats and "dtype" not in given:
                yield node.lineno, name, "dtype"


def files() -> list[Path]:
    paths = {
        path.relative_to(LIBRARY).as_posix(): path for path in LIBRARY.rglob("*.py")
    }
    return [path for name, path in paths.items() if not name.startswith(BOOK)]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(LIBRARY)))
def test_every_tensor_names_its_device_and_dtype(path: Path) -> None:
    assert list(unnamed(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("torch.zeros(3)", ["device", "dtype"]),
        ("torch.rand(3, generator=rng, device='cpu')", ["dtype"]),
        ("torch.arange(3)", ["device"]),
        ("torch.tensor([0.5], device='cpu')", ["dtype"]),
        ("torch.rand(3, **settings)", ["device", "dtype"]),
        ("torch.rand(3, generator=rng, **DRAWN)", []),
        ("torch.tensor(labels, device='cpu')", []),
        ("x.new_zeros(3) + torch.zeros_like(x)", []),
    ],
)
def test_the_search_finds_what_it_looks_for(source: str, missing: list[str]) -> None:
    assert [what for _, _, what in unnamed(source)] == missing


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
MAPS = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
PLACES = MAPS[:, 0] > 1


def means(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3)).softmax(dim=1)


def game() -> metrics.PointingGame:
    return metrics.PointingGame(PLACES[0, 0].double(), *PLACES.new_ones(2, 8).long())


CALLS: dict[str, Callable[[], Any]] = {
    "weights from a file": lambda: models.load("cnn_mnist")(
        IMAGES[:, :1].repeat(1, 1, 4, 4)[..., :28, :28]
    ),
    "random weights": lambda: models.load("scenes_classifier", pretrained=False)(
        IMAGES[:, :1]
    ),
    "the state of a model": lambda: list(
        models.load("cnn_mnist").state_dict().values()
    ),
    "a photograph": lambda: photos.load("chelsea", 32).image,
    "digits": lambda: digits.mnist(3)[:2],
    "scenes": lambda: scenes.make(2, seed=3)[:5],
    "scenes_detector": lambda: detectors.load("scenes_detector")(
        scenes.make(1, seed=3).images
    ),
    "deletion": lambda: metrics.deletion(means, IMAGES, MAPS, n_steps=5),
    "flipping": lambda: metrics.flipping(means, IMAGES, MAPS),
    "map_distance": lambda: metrics.map_distance(MAPS, MAPS.flip(0)),
    "pointing_hits": lambda: metrics.pointing_hits(MAPS, PLACES),
    "energy_inside": lambda: metrics.energy_inside(MAPS, PLACES),
    "the pointing game": lambda: game().interval(seed=1),
    "box_masks": lambda: metrics.box_masks(
        8 * IMAGES[0, 0, :, :4].sort(dim=1).values, 8, 8
    ),
    "photo_grids": lambda: metrics.photo_grids(
        IMAGES.repeat(2, 1, 1, 1), PLACES.new_ones(4).long().cumsum(0), 3
    ),
    "grid_pointing_game": lambda: metrics.grid_pointing_game(MAPS, 1),
    "bootstrap_mean": lambda: metrics.bootstrap_mean(MAPS[:, 0, 0]),
    "max_sensitivity": lambda: metrics.max_sensitivity(
        Gradient(means).attribute, IMAGES, 1, n_samples=2
    ),
    "violation_rates": lambda: violation_rates(
        means, IMAGES, Box(IMAGES / 4, IMAGES / 2), n_samples=70
    ),
    "worst_point": lambda: worst_point(
        means, IMAGES, Box(IMAGES / 4, IMAGES / 2), n_steps=2, n_starts=2
    ),
}


def tensors(value: Any) -> list[Any]:
    """All tensors and numbers in a result, in order."""
    if isinstance(value, Tensor | float):
        return [value]
    if isinstance(value, list | tuple):
        return [part for element in value for part in tensors(element)]
    return tensors(list(vars(value).values()))


@pytest.fixture(params=[torch.float64, "meta"], ids=str)
def changed_default(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    def change() -> None:
        if isinstance(request.param, torch.dtype):
            torch.set_default_dtype(request.param)
        else:
            torch.set_default_device(request.param)

    yield change
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.parametrize("name", CALLS)
def test_torchs_defaults_have_no_say(name: str, changed_default: Callable) -> None:
    expected = tensors(CALLS[name]())
    assert expected
    changed_default()
    for got, right in zip(tensors(CALLS[name]()), expected, strict=True):
        if isinstance(right, Tensor):
            assert got.dtype == right.dtype
            assert got.device == right.device
            assert torch.equal(got, right)
        else:
            assert got == right


def test_a_users_default_is_what_the_users_model_sees() -> None:
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(torch.empty(0).device.type)
        return means(x)

    with torch.device("meta"):
        IntegratedGradients(model, n_steps=2).attribute(IMAGES, 1)
        LIME(model, n_samples=4).attribute(IMAGES, 1)
    assert set(seen) == {"meta"}
