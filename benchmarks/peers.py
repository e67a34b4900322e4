"""Beside its peers: our time over theirs, on one model and image, in turns.

    python benchmarks/peers.py [--peers] [--quick]

What is there is compared; of the rest a line says how to get it. `--peers` first puts
the versions below into `_build/peers/`, beside the project: its own environment stays
as it was, and the peers run on the project's torch, OpenVINO and NumPy.

"On our copy" means that both ask the network as `BlackBox` has converted it. The column
r is the correlation of the two results: 1 where both compute the same, less where they
draw other random numbers or define a map in another way.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from aise import scipy_direct
from timing import compare, ratio
from torch import Tensor, nn

from xai_lib import AISE, GEEX, RISE, BlackBox, baselines, metrics
from xai_lib.aise import DirectSampler
from xai_lib.aise.samplers import search
from xai_lib.core.image_range import stepping_outside
from xai_lib.core.openvino_backend import NotConvertible, compiled
from xai_lib.zoo import digits, models, photos, scenes

FOLDER = Path(__file__).resolve().parents[1] / "_build" / "peers"
# Without what they depend on: the project has it, and OpenVINO XAI would bring a NumPy
# and an OpenVINO of 2024.
INSTALL = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps"]
INSTALL += ["--target", str(FOLDER)]
OPENCV = "opencv-python-headless==4.12.0.88"
REPEATS = 5


class Pair(NamedTuple):
    """Two ways to the same result, and the goal of the ratio of their times."""

    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    goal: str = "<= 1"


Compared = Callable[[bool], Iterator[Pair]]
"""All pairs with a peer; few queries in each, if True."""


class OnCopy(nn.Module):
    """A network that peers can ask as a module of torch: our copy of it answers."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.copy = compiled(model, x)
        self.place = nn.Parameter(torch.zeros(()))  # where peers look for the device
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.copy(x)


def places(model: nn.Module, x: Tensor) -> dict[str, nn.Module]:
    """Where peers ask a network, which we ask on the copy."""
    return {"on our copy": OnCopy(model, x), "on torch": model}


def photographs(n: int) -> tuple[nn.Module, Tensor, Tensor]:
    """EfficientNet-Lite0, n photographs, and the classes it sees in them."""
    model, images = models.load("efficientnet_lite0"), photos.labelled().images[:n]
    return model, images, model(images).argmax(dim=1)


def with_scipy(quick: bool) -> Iterator[Pair]:
    """DIRECT's own work, 20 searches at a time: the function costs next to nothing."""

    def bowl(points: np.ndarray) -> Any:
        x, y = points.T
        return (x - 0.3) ** 2 + (y - 0.6) ** 2

    def ours(n: int) -> np.ndarray:
        samplers = [DirectSampler() for _ in range(20)]
        for sampler in samplers:
            search([sampler], n, lambda _, points: -bowl(points))
        return samplers[0].points

    def theirs(n: int) -> np.ndarray:
        searches = [scipy_direct(bowl, n) for _ in range(20)]
        return searches[0]

    for n in (50,) if quick else (50, 300):
        yield Pair(f"DIRECT, {n} points / SciPy", partial(ours, n), partial(theirs, n))


def with_captum(quick: bool) -> Iterator[Pair]:
    """What both do with gradients, on torch."""
    from captum import attr

    n, steps = (2, 4) if quick else (6, 20)
    model, images, target = photographs(n)
    ours = baselines.IntegratedGradients(model, n_steps=steps).attribute
    theirs = partial(attr.IntegratedGradients(model).attribute, images, target=target)
    for size, internal in {"all": None, str(n): n}.items():
        yield Pair(
            f"IG, {n} photographs, {steps} steps / Captum, {size} at once",
            partial(ours, images, target),
            partial(theirs, n_steps=steps, internal_batch_size=internal),
        )
    x, explainer = images[:1], baselines.GradCAM(model)
    layer = model.get_submodule(explainer.chosen_layer(x))
    small = partial(attr.LayerGradCam(model, layer).attribute, relu_attributions=True)
    upsample = attr.LayerAttribution.interpolate
    yield Pair(
        "Grad-CAM, photograph / Captum",
        partial(explainer.attribute, x, target[:1]),
        lambda: upsample(small(x, target[:1]), x.shape[2:], "bilinear").detach(),
    )


def of_class(explain: Callable, x: Tensor, target: int, **how: int) -> np.ndarray:
    """One of the maps that OpenVINO XAI gives by class."""
    return explain(x.numpy(), [target], **how)[target]


def with_openvino_xai(quick: bool) -> Iterator[Pair]:
    """AISE and RISE: at equal precision, and each as it comes."""
    import openvino
    from openvino.utils.data_helpers import wrappers

    # It asks for OpenVINO by names of 2024.
    names = {"": openvino, ".utils.data_helpers.wrappers": wrappers}
    sys.modules.update({f"openvino.runtime{name}": names[name] for name in names})
    openvino.runtime = openvino
    from openvino_xai.methods import AISEClassification
    from openvino_xai.methods.black_box import rise

    rise.tqdm = lambda rounds, **_: rounds  # a bar that cannot be switched off
    points, masks = (5, 40) if quick else (50, 300)
    methods: dict[str, tuple[Callable, Callable, dict[str, int]]] = {
        f"AISE-{6 * points}": (
            partial(AISE, n_kernels=points),
            AISEClassification,
            {"num_iterations_per_kernel": points},
        ),
        f"RISE-{masks}": (
            partial(RISE, n_samples=masks),
            rise.RISE,
            {"num_masks": masks, "num_cells": 7},
        ),
    }
    equal = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    cases = {
        "float32": equal | {"INFERENCE_PRECISION_HINT": "f32"},
        "bfloat16": equal | {"INFERENCE_PRECISION_HINT": "bf16"},
        "as they come": {},
    }
    lite, photo, _ = photographs(1)
    small, scene = models.load("scenes_classifier"), scenes.make(1).images
    for subject, model, x in ("photograph", lite, photo), ("scene, 112²", small, scene):
        network = models.probabilities(model)
        target = int(network(x).argmax())
        graph = openvino.convert_model(network, example_input=x, input=list(x.shape))
        for case, settings in cases.items():
            precision = case if settings else "float32"
            try:
                compiled(network, x, precision)
            except NotConvertible as error:
                print(f"{case} is left out: {error}")
                continue
            copy = openvino.compile_model(graph, "CPU", settings)
            for method, (our_class, their_class, how) in methods.items():
                box = BlackBox(network, backend="openvino", precision=precision)
                peer = their_class(graph, itemgetter(0), prepare_model=False)
                peer._model_compiled = copy
                yield Pair(
                    f"{method}, {subject}, {case} / OpenVINO XAI",
                    partial(our_class(box).attribute, x, target),
                    partial(of_class, peer.generate_saliency_map, x, target, **how),
                    "<= 1" if settings else "",
                )


def with_torchray(quick: bool) -> Iterator[Pair]:
    """Extremal perturbations of one area on torch, and RISE on our copy."""
    from torchray.attribution.extremal_perturbation import extremal_perturbation
    from torchray.attribution.rise import rise_class

    steps, masks = (2, 40) if quick else (40, 300)
    model, x, target = photographs(1)
    ours = baselines.ExtremalPerturbation(model, [0.1], n_iterations=steps, smooth=0)
    theirs = partial(extremal_perturbation, model, x, int(target), [0.1])
    yield Pair(
        f"Extremal perturbation, {steps} steps / TorchRay",
        partial(ours.attribute, x, target),
        lambda: theirs(max_iter=steps)[0],
    )
    network = models.probabilities(model)
    box = BlackBox(network, backend="openvino")
    yield Pair(
        f"RISE-{masks}, photograph / TorchRay, on our copy",
        partial(RISE(box, masks).attribute, x, target),
        partial(rise_class, OnCopy(network, x), x, target=target, num_masks=masks),
    )


def with_quantus(quick: bool) -> Iterator[Pair]:
    """Deletion, and max-sensitivity of gradients."""
    from quantus import MaxSensitivity, PixelFlipping

    steps, n, draws = (21, 1, 2) if quick else (84, 2, 10)
    model, images, target = photographs(n)
    explain = baselines.Gradient(model).attribute
    maps, network = explain(images, target), models.probabilities(model)
    arrays = {"x_batch": images.numpy(), "y_batch": target.numpy()}
    flip = PixelFlipping(images[0].numel() // steps, normalise=False)

    def our_curves() -> Tensor:
        box = BlackBox(network, backend="openvino")
        return metrics.deletion(box, images, maps, target, steps).scores[:, 1:]

    for place, asked in places(network, images).items():
        # A last layer that is a softmax is taken away, unless they are asked for one.
        how = {"a_batch": maps.numpy(), "softmax": asked is network}
        yield Pair(
            f"Deletion, {steps} steps, {n} photographs / Quantus, {place}",
            our_curves,
            partial(flip, asked, **arrays, **how),
        )

    def explained(model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        with stepping_outside(by=0.02):
            maps = explain(torch.as_tensor(inputs), torch.as_tensor(targets))
        return maps.numpy()

    stability = MaxSensitivity(nr_samples=draws, lower_bound=0.02)
    yield Pair(
        f"Max-sensitivity of gradients, {draws} draws / Quantus",
        partial(metrics.max_sensitivity, explain, images, target, n_samples=draws),
        partial(stability, model, **arrays, explain_func=explained),
    )


def with_geex(quick: bool) -> Iterator[Pair]:
    """The gradient estimate; the authors' has one noise for all colours."""
    # Not the benchmark beside this file, which has the same name.
    with mock.patch.object(sys, "path", [str(FOLDER / "GEEX"), *sys.path[1:]]):
        from geex import GE

    lite, photo, _ = photographs(1)
    digit, cnn = digits.mnist(1).images, models.load("cnn_mnist")
    subjects = ("photograph", lite, photo, 300), ("digit", cnn, digit, 5000)
    for subject, model, x, n in subjects[quick:]:
        n, target = 16 if quick else n, int(model(x).argmax())

        def theirs(asked: nn.Module, x: Tensor = x, n: int = n, t: int = target) -> Any:
            # A query gets half their sigma as standard deviation.
            return GE(n, 0.3, tuple(x.shape[1:])).explain(asked, x, target_class=t)

        box = BlackBox(model, backend="openvino")
        estimate = GEEX(box, n, 0.15).attribute

        for place, asked in places(model, x).items():
            yield Pair(
                f"GEEX-{n}, {subject} / the authors', {place}",
                lambda ask=estimate, x=x, t=target: ask(x, t).sum(dim=1),
                partial(theirs, asked),
            )


PEERS: dict[str, tuple[Compared, list[str]]] = {
    "SciPy": (with_scipy, []),
    "Captum": (with_captum, [*INSTALL, "captum==0.9.0"]),
    "OpenVINO XAI": (with_openvino_xai, [*INSTALL, "openvino-xai==1.1.0", OPENCV]),
    "TorchRay": (with_torchray, [*INSTALL, "torchray==1.0.0.2"]),
    "Quantus": (
        with_quantus,
        [*INSTALL, "quantus==0.6.0", OPENCV, "cachetools==6.2.0"],
    ),
    "GEEX's authors": (
        with_geex,
        ["git", "clone", "https://github.com/caiy0220/GEEX", str(FOLDER / "GEEX")],
    ),
}
"""The comparisons with each peer, and the command that fetches it."""


def correlation(ours: Any, theirs: Any) -> float:
    """Of two results with as many numbers; NaN for one or two, which tell nothing."""
    both = np.stack([np.ravel(ours), np.ravel(theirs)]).astype(np.float64)
    return float(np.corrcoef(both)[0, 1]) if both.shape[1] > 2 else float("nan")


def measured(pair: Pair, repeats: int) -> str:
    """A line of the table; the ratio is kept."""
    # First what is done once: the copy, and the search for a size of batch.
    alike = correlation(pair.ours(), pair.theirs())
    ours, theirs = compare({"ours": pair.ours, "theirs": pair.theirs}, repeats).values()
    ratio(pair.name, ours, theirs, pair.goal)
    times = median(ours), median(theirs)
    share = median(a / b for a, b in zip(ours, theirs, strict=True))
    row = f"{times[0]:9.3f}{times[1]:9.3f}{share:7.2f}{alike:7.2f}  {pair.goal}"
    return f"{pair.name:<62}{row}"


def pairs_with(peer: str, fetching: bool, quick: bool) -> list[Pair]:
    """What is compared with a peer, which is fetched if it is missing and wanted.

    Raises:
        ImportError: it is not there.
    """
    make, fetch = PEERS[peer]
    try:
        return [*make(quick)]
    except ImportError:
        if not fetching or subprocess.run(fetch).returncode:
            raise
    importlib.invalidate_caches()
    return [*make(quick)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", action="store_true", help="fetch what is missing")
    parser.add_argument("--quick", action="store_true", help="few queries, not kept")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module=r"(torch|quantus)\b")  # not for readers
    sys.path.append(str(FOLDER))
    rows, left_out = [], []
    for peer in PEERS:
        print(f"{peer} ...", flush=True)
        try:
            pairs = pairs_with(peer, options.peers, options.quick)
        except ImportError as error:
            way = shlex.join(PEERS[peer][1])
            left_out.append(f"{peer} is left out ({error}); get it by: {way}")
            continue
        rows += [measured(pair, 2 if options.quick else REPEATS) for pair in pairs]
    head = f"{'seconds, medians':<62}{'ours':>9}{'theirs':>9}{'ratio':>7}{'r':>7}  goal"
    print("", head, *rows, *left_out, sep="\n")


if __name__ == "__main__":
    main()
