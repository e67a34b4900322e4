"""On a GPU that is not there: mixed devices, waits, and float64, for every method.

A pretended GPU holds its values on the CPU, says that it is "cuda:0", and asks torch's
FakeTensorMode at each operation what a GPU would say: two devices in one operation
raise as they do there. Each wait of the host for the device, and each tensor of
float64 on it (which Apple's MPS cannot have), is noted with the module of xai_lib that
asked for it. As values are real, maps are compared with the CPU's.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import xai_lib
from xai_lib import baselines, geex, metrics, pertmap
from xai_lib.aise import AISE, AISEDetection
from xai_lib.core import blackbox, gradients
from xai_lib.core.detection import Detection
from xai_lib.geex import noise
from xai_lib.kernels import masks, philox, search

LIBRARY = str(Path(xai_lib.__file__).parent)
GPU = torch.device("cuda:0")
aten = torch.ops.aten


class OnGPU(Tensor):
    """A tensor that says it is on a GPU. To torch's dispatcher it is a meta tensor."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGPU:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
            requires_grad=False,
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGPU({list(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise RuntimeError(f"{func} was called outside of the pretended GPU")


def held(value: Any) -> Any:
    return value.held if isinstance(value, OnGPU) else value


class PretendedGPU(TorchDispatchMode):
    """What happens on it: how often (what, in which module of xai_lib)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[str, str]] = Counter()
        self.fake = FakeTensorMode()

    def note(self, what: str) -> None:
        frame: Any = sys._getframe(1)
        # Modes of the library that watch a model do not ask for what passes them.
        while frame is not None and (
            not frame.f_code.co_filename.startswith(LIBRARY)
            or frame.f_code.co_name in ("__torch_dispatch__", "__torch_function__")
        ):
            frame = frame.f_back
        if frame is not None:
            file = Path(frame.f_code.co_filename).relative_to(LIBRARY).with_suffix("")
            self.seen[what, file.as_posix()] += 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        asked = kwargs.get("device")
        to_gpu = asked is not None and torch.device(asked).type in ("cuda", "meta")
        if to_gpu:
            kwargs = {**kwargs, "device": GPU}
        if not to_gpu and not any(isinstance(t, OnGPU) for t in tensors):
            return func(*args, **kwargs)
        kept = {id(t.held): t for t in tensors if isinstance(t, OnGPU)}
        on_gpu = self.lands_on_gpu(func, args, kwargs, tensors)
        plain = {**kwargs, "device": "cpu"} if to_gpu else kwargs
        plain.pop("pin_memory", None)
        found = func(*tree_map(held, args), **tree_map(held, plain))

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if id(value) in kept:
                return kept[id(value)]
            if not on_gpu:
                return value
            if value.dtype in (torch.float64, torch.complex128):
                self.note("float64")
            return OnGPU(value)

        return tree_map(wrapped, found)

    def lands_on_gpu(
        self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]
    ) -> bool:
        """Whether the outcome lies on the GPU; raises what a GPU would raise."""
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[1] if func is aten.copy_.default else args[0]
            to = args[0].device if func is aten.copy_.default else kwargs.get("device")
            to = source.device if to is None else torch.device(to)
            if to.type != source.device.type and not kwargs.get("non_blocking"):
                self.note("upload" if to.type == "cuda" else "wait")
            return to.type == "cuda"
        fakes: dict[int, Tensor] = {}

        def fake(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return None if isinstance(value, torch.Generator) else value
            if id(value) not in fakes:
                fakes[id(value)] = torch.empty_strided(
                    value.shape, value.stride(), dtype=value.dtype, device=value.device
                )
            return fakes[id(value)]

        try:
            with self.fake:
                found = func(*tree_map(fake, args), **tree_map(fake, kwargs))
        except (DataDependentOutputException, DynamicOutputShapeException):
            self.note("wait")
            return True
        except UnsupportedOperatorException:
            return True
        devices = [t.device for t in tree_leaves(found) if isinstance(t, Tensor)]
        return any(device.type == "cuda" for device in devices)


def is_list(value: Any) -> bool:
    return isinstance(value, list)


def listed(value: Any) -> Any:
    """What an index in a list is: a tensor, copied to the device."""
    return torch.tensor(value, device="cpu").to(GPU) if is_list(value) else value


class Copied(TorchFunctionMode):
    """Tensors of numbers are made on the CPU and copied: torch would ask the driver."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.new_tensor and isinstance(args[0], OnGPU):
            kwargs = {"dtype": args[0].dtype, "device": GPU, **kwargs}
            func, args = torch.tensor, args[1:]
        indexed = func in (Tensor.__getitem__, Tensor.__setitem__)
        if indexed and isinstance(args[0], OnGPU):
            index = tree_map(listed, args[1], is_leaf=is_list)
            args = (args[0], index, *args[2:])
        to = kwargs.get("device")
        made_of_numbers = func in (torch.tensor, torch.as_tensor, torch.asarray)
        if made_of_numbers and to is not None and torch.device(to).type == "cuda":
            return func(*args, **{**kwargs, "device": "cpu"}).to(GPU)
        return func(*args, **kwargs)


def made_there(*arguments: Any) -> Tensor:
    """What the kernel of `philox.words` makes on the device: NumPy makes it here."""
    *place, device = arguments
    words = torch.from_numpy(philox._words_on_cpu(*place).view("int64"))
    return OnGPU(words) if torch.device(device).type == "cuda" else words


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGPU]:
    """A GPU; the place of its kernels, but for the generator, is taken by torch."""
    monkeypatch.setattr(philox, "_words", made_there)
    monkeypatch.setattr(philox, "kernels_run_on", lambda d: torch.device(d) == GPU)
    for module in (noise, masks, search):
        monkeypatch.setattr(module, "kernels_run_on", lambda _: False)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    with warnings.catch_warnings(), PretendedGPU() as gpu, Copied():
        warnings.filterwarnings("ignore", message=".*CUDA is not available.*")
        yield gpu


CLASSES, SIZE, BOX = 5, 16, (2.0, 3.0, 12.0, 13.0)
Make = Callable[[nn.Module, int], Callable[[Tensor], Tensor]]


def network() -> nn.Sequential:
    source = torch.Generator("cpu").manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
        nn.Softmax(dim=1),
    )
    for p in layers.parameters():
        p.data = torch.randn(p.shape, generator=source) * 0.5
    return layers.eval()


def photographs() -> Tensor:
    """Two, with parts that superpixels find."""
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator("cpu").manual_seed(1))
    x[:, 0, : SIZE // 2] += 2
    x[:, 1, :, SIZE // 2 :] += 2
    return x / 3


def detector(images: Tensor) -> list[Detection]:
    """The brighter the box, the surer; its answers lie where the images do."""
    box = images.new_tensor([BOX])
    scores = images[:, :, 3:13, 2:12].mean(dim=(1, 2, 3)).clamp(0, 1)
    label = box.new_ones(1, dtype=torch.int64)
    return [Detection(box, score[None], label) for score in scores]


def of(method: Callable, **settings: Any) -> Make:
    """An explainer whose queries the number of samples decides."""
    counted = "n_kernels" if method is AISE else "n_samples"
    return lambda model, n: (
        lambda x: method(model, **{counted: n}, **settings).attribute(x, 1)
    )


def on_logits(method: Callable, **settings: Any) -> Make:
    return lambda model, _: lambda x: method(model[:5], **settings).attribute(x, 1)


def of_detection(method: Callable) -> Make:
    """Its box as a detector gives it, on the device of the image."""
    counted = "n_kernels" if method is AISEDetection else "n_samples"
    return lambda _, n: (
        lambda x: method(detector, **{counted: n}).attribute(
            x[:1], (x.new_tensor(BOX), 1)
        )
    )


EXPLAINERS: dict[str, Make] = {
    "GEEX": of(geex.GEEX),
    "GERS": of(geex.GERS, mask_size=4),
    "IGEEX": of(geex.IGEEX),
    "AISE": of(AISE),
    "AISE, lipo": of(AISE, sampler="lipo"),
    "AISEDetection": of_detection(AISEDetection),
    "PertMap": lambda model, n: (
        lambda x: pertmap.StochasticPertMap(
            model, n_iterations=n // 10, n_perturbations=3
        ).attribute(x, 1)
    ),
    "LinearPertMap": on_logits(pertmap.LinearPertMap),
    "RISE": of(baselines.RISE, mask_size=4),
    "RISE, ridge": of(baselines.RISE, mask_size=4, estimator="ridge"),
    "DRISE": of_detection(baselines.DRISE),
    "LIME": of(baselines.LIME, n_segments=8),
    "KernelSHAP": of(baselines.KernelSHAP, n_segments=8),
    "Occlusion": lambda model, n: (
        lambda x: baselines.Occlusion(model, window=8, stride=8 - n // 50).attribute(
            x, 1
        )
    ),
    "ExtremalPerturbation": lambda model, n: (
        lambda x: baselines.ExtremalPerturbation(model, n_iterations=n // 20).attribute(
            x, 1
        )
    ),
    "Gradient": lambda model, _: lambda x: baselines.Gradient(model).attribute(x, 1),
    "SmoothGrad": of(baselines.SmoothGrad),
    "IntegratedGradients": lambda model, n: (
        lambda x: baselines.IntegratedGradients(model, n_steps=n).attribute(x, 1)
    ),
    "GradCAM": on_logits(baselines.GradCAM, layer="0"),
    "GuidedBackprop": on_logits(baselines.GuidedBackprop),
    "DeepLift": on_logits(baselines.DeepLift),
    "LRP": on_logits(baselines.LRP),
}


def some_map(x: Tensor) -> Tensor:
    return x.mean(dim=1, keepdim=True)


def _box(x: Tensor) -> pertmap.Box:
    return pertmap.Box(torch.full_like(x, 0.1), torch.full_like(x, 0.1))


def _sensitivity(model: nn.Module, x: Tensor) -> Tensor:
    attribute = baselines.Gradient(model).attribute
    return metrics.max_sensitivity(attribute, x, 1, n_samples=2)


def _in_grid(_: nn.Module, x: Tensor) -> Tensor:
    game = metrics.grid_pointing_game(some_map(x), torch.tensor([0, 3], device="cpu"))
    return torch.stack(list(game))


METRICS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "deletion": lambda m, x: metrics.deletion(m, x, some_map(x), 1, n_steps=8).aopc,
    "insertion": lambda m, x: metrics.insertion(m, x, some_map(x), 1, n_steps=8).auc,
    "flipping": lambda m, x: metrics.flipping(m, x, some_map(x)).ratio,
    "map_distance": lambda _, x: metrics.map_distance(some_map(x), x),
    "pointing_hits": lambda _, x: metrics.pointing_hits(some_map(x), x[:, 0] > 0.5),
    "energy_inside": lambda _, x: metrics.energy_inside(some_map(x), x[:, 0] > 0.5),
    "grid_pointing_game": _in_grid,
    "max_sensitivity": _sensitivity,
    "violation_rates": lambda m, x: torch.stack(
        list(pertmap.violation_rates(m, x, _box(x), 1, n_samples=20))
    ),
    "worst_point": lambda m, x: (
        pertmap.worst_point(m, x, _box(x), 1, n_steps=3, n_starts=2).excess
    ),
}


def on_cpu(value: Tensor) -> Tensor:
    return value.held if isinstance(value, OnGPU) else value


def explain(name: str, n: int, gpu: PretendedGPU | None = None) -> Tensor:
    model, x = network(), photographs()
    if gpu is not None:
        model, x = model.to(GPU), x.to(GPU)
        gpu.seen.clear()
    return EXPLAINERS[name](model, n)(x)


def measure(name: str, gpu: PretendedGPU | None = None) -> Tensor:
    model, x = network(), photographs()
    if gpu is not None:
        model, x = model.to(GPU), x.to(GPU)
        gpu.seen.clear()
    return METRICS[name](model, x)


FEW, MANY = 50, 100  # samples
LARGE = (2100, 6300)
MORE = {"GEEX": LARGE, "GERS": LARGE, "IGEEX": LARGE, "KernelSHAP": (250, 600)}
"""Where a chunk of them, for images this small, holds more."""

ALLOWED = {
    "core/arguments": "inputs are checked; a target of infinite score, after its batch",
    "core/attribution": "a map that is not finite is refused, once",
    "core/blackbox": "answers that are not finite are refused, once a batch",
    "core/boxes": "boxes, scores and labels of a detection are handled on the CPU",
    "core/gradients": "a model without a gradient is refused, once; slopes are checked",
    "aise/classification": "the search decides on the CPU where to look next",
    "baselines/segments": "superpixels and both regressions are made on the CPU",
    "baselines/estimators": "a regression is made on the CPU, once",
    "baselines/extremal": "the sizes are compared at the end",
    "baselines/deeplift": "the sum of a map is compared with the scores, once",
    "baselines/layerwise": "the rewritten model must score as the model does, once",
    "pertmap/box": "a box that is not finite is refused; the worst point is kept",
    "pertmap/linear": "the linear program is solved on the CPU",
    "pertmap/stochastic": "the history is fetched when all steps are done",
    "metrics/deletion": "answers that are no probabilities are refused, once a batch",
    "metrics/flipping": "classes are compared on the CPU",
    "metrics/pointing": "the distance transform is SciPy's",
}
"""Modules that wait for the device, and why they may."""

IN_THE_LOOP = {
    "core/blackbox",
    "core/arguments",
    "aise/classification",
    "baselines/segments",
}
"""Those that may as often as there are batches of queries."""

DETECTORS = {"AISEDetection", "DRISE"}
WITH_DETECTIONS = {"core/detection", "core/boxes", "core/blackbox"}
"""Where an answer is a list of boxes, each is checked on the CPU, image by image, as
the number of boxes differs; their scores go back to the device."""


def places(seen: Counter[tuple[str, str]], *whats: str) -> set[str]:
    return {where for what, where in seen if what in whats}


@pytest.mark.parametrize("name", EXPLAINERS)
def test_maps_on_a_gpu_are_those_on_a_cpu(name, monkeypatch) -> None:
    """No two devices meet, and every wait is one of those allowed."""
    expected = explain(name, FEW)
    assert float(expected.abs().max()) > 0
    with pretended(monkeypatch) as gpu:
        found = explain(name, FEW, gpu)
    assert isinstance(found, OnGPU), "a map lies where its image does"
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.held, expected, rtol=0, atol=1e-5 * scale)
    assert places(gpu.seen, "wait") <= set(ALLOWED)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_neither_batches_nor_other_images_change_a_map(name, monkeypatch) -> None:
    """In parts as small as they get, and each image alone."""
    expected = explain(name, FEW)
    monkeypatch.setattr(blackbox, "BLOCK", 5 * 3 * SIZE**2)
    numbers = dict.fromkeys(("cpu", "accelerator"), 2 * 3 * SIZE**2)
    monkeypatch.setattr(gradients, "BATCH_NUMBERS", numbers)
    images = photographs().split(1)[: len(expected)]
    apart = torch.cat([EXPLAINERS[name](network(), FEW)(x) for x in images])
    scale = float(expected.abs().max())
    torch.testing.assert_close(apart, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_on_a_gpu_are_those_on_a_cpu(name, monkeypatch) -> None:
    expected = measure(name)
    with pretended(monkeypatch) as gpu:
        found = measure(name, gpu)
    scale = max(1.0, float(expected.abs().max()))  # deletion's are of logits
    torch.testing.assert_close(on_cpu(found), expected, rtol=0, atol=1e-5 * scale)
    assert places(gpu.seen, "wait") <= set(ALLOWED)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_no_explainer_makes_float64_but_on_the_cpu(name, monkeypatch) -> None:
    with pretended(monkeypatch) as gpu:
        explain(name, FEW, gpu)
    assert not places(gpu.seen, "float64")


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_makes_float64_but_on_the_cpu(name, monkeypatch) -> None:
    with pretended(monkeypatch) as gpu:
        measure(name, gpu)
    assert not places(gpu.seen, "float64")


@pytest.mark.parametrize("name", EXPLAINERS)
def test_no_loop_waits_for_the_device(name, monkeypatch) -> None:
    """What happens more often with more queries is no wait, and no copy that waits,
    but the checks of a batch's answers."""
    seen = []
    for n in MORE.get(name, (FEW, MANY)):
        with pretended(monkeypatch) as gpu:
            explain(name, n, gpu)
        seen.append(gpu.seen)
    grown = seen[1] - seen[0]
    detections = WITH_DETECTIONS if name in DETECTORS else set()
    assert places(grown, "upload") <= detections
    assert places(grown, "wait") <= IN_THE_LOOP | detections


def test_the_pretended_gpu_notices(monkeypatch) -> None:
    """Two devices in one operation, waits, uploads and float64."""
    with pretended(monkeypatch) as gpu:
        x = torch.ones(3, device="cpu").to(GPU)
        assert x.device == GPU
        with pytest.raises(RuntimeError, match=r"device"):
            x + torch.ones(3, device="cpu")
        assert float((x + 1).sum()) == 6
        assert torch.equal((2 * x).cpu(), torch.full((3,), 2.0, device="cpu"))
        monkeypatch.setattr(
            sys.modules[__name__], "LIBRARY", str(Path(__file__).parent)
        )
        gpu.seen.clear()
        x.double()
        bool(x.sum() > 1)
        torch.zeros(2, device="cpu").to(GPU)
        x.nonzero()
    here = Path(__file__).stem
    expected = {("float64", here): 1, ("wait", here): 2, ("upload", here): 1}
    assert dict(gpu.seen) == expected


def test_every_explainer_and_metric_is_here() -> None:
    known = {*baselines.__all__, *geex.__all__, *metrics.__all__}
    missing = {name for name in known if name[0].isupper()} - set(EXPLAINERS)
    others = {"NOISES", "Estimate", "SearchNoise", "FlipCurve", "GridGame", "Grids"}
    assert missing <= others | {"PerturbationCurve", "PointingGame"}
    measured = {name for name in metrics.__all__ if name.islower()} - set(METRICS)
    no_model = {"bootstrap_mean", "box_masks", "confident", "photo_grids", "sign"}
    assert measured <= no_model
