"""AISE-DIRECT-300 on photographs with EfficientNet-Lite0, as ratios within one run.

    python benchmarks/aise.py [--quick]

Against bare inference of the very same 300 queries, in batches of the best size;
against SciPy's DIRECT with one query at a time; and 16 photographs together against
one alone. All use the same backend (OpenVINO on a CPU, torch on CUDA). On CUDA also
AISE on ResNet-50 in batches against one query at a time.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from scipy.optimize import direct
from timing import compare, ratio, report
from torch import Tensor

from xai_lib.aise import AISE, gaussian_masks
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.openvino_backend import compiled
from xai_lib.zoo import models, photos


class Enough(Exception):
    """SciPy overshoots its budget; this ends it exactly."""


def scipy_direct(lost: Callable[[np.ndarray], float], n: int) -> np.ndarray:
    """The first n points that SciPy's DIRECT asks for, `[n, 2]`."""
    visited: list[np.ndarray] = []

    def counted(p: np.ndarray) -> float:
        if len(visited) == n:
            raise Enough
        visited.append(p.copy())
        return lost(p)

    # SciPy 1.15 goes on asking, and makes a SystemError of it.
    with contextlib.suppress(Enough, SystemError):
        direct(counted, [(0, 1)] * 2, eps=0.1, maxfun=10 * n, locally_biased=False)
    return np.array(visited)


def scipy_one_at_a_time(
    blackbox: BlackBox, x: Tensor, target: int, widths: tuple[float, ...], n: int
) -> None:
    for sigma in widths:

        def lost(p: np.ndarray, sigma: float = sigma) -> float:
            mask = gaussian_masks(p[None], sigma, *x.shape[2:]).to(x)
            shown, hidden = blackbox(x * mask), blackbox(x * (1 - mask))
            return float(hidden[0, target] - shown[0, target])

        scipy_direct(lost, n)


def recorded(blackbox: BlackBox, x: Tensor, target: int) -> Tensor:
    """The queries of AISE-300, in its order."""
    queries: list[Tensor] = []

    def listen(images: Tensor) -> Tensor:
        queries.append(images.clone())
        return blackbox(images)

    AISE.preset(BlackBox(listen, 300, backend="torch"), "300").attribute(x, target)
    return torch.cat(queries)


def batched_against_single(x: Tensor, repeats: int) -> None:
    """ResNet-50 on CUDA; its weights do not matter for time."""
    model = models.probabilities(torchvision.models.resnet50().eval()).to(x.device)
    explainers = [
        AISE.preset(BlackBox(model, batch_size=size, backend="torch"), "300")
        for size in ("auto", 1)
    ]
    for explainer in explainers:
        explainer.attribute(x, 0)  # the black box finds its batch size
    single, batched = (
        lambda explainer=explainer: explainer.attribute(x, 0).cpu()
        for explainer in reversed(explainers)
    )
    times = compare({"one query at a time": single, "in batches": batched}, repeats)
    report(times)
    ratio("ResNet-50, one query at a time / in batches", *times.values(), ">= 5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    repeats = 3 if parser.parse_args().quick else 5
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = models.probabilities(models.load("efficientnet_lite0")).to(device)
    backend = "torch" if device == "cuda" else "openvino"
    blackbox = BlackBox(model, backend=backend)
    # The 20 labelled photographs of the zoo: pixels do not matter for time.
    images = photos.labelled().images[:16].to(device)
    x = images[:1]
    target = int(blackbox(x).argmax())
    explainer = AISE.preset(blackbox, "300")
    queries = recorded(blackbox, x, target)
    assert len(queries) == 300
    for _ in range(4):  # the black box finds its batch size
        blackbox(queries)
    batches = list(queries.split(blackbox.batch_size.best))
    if device == "cuda":
        batches = [b.to(memory_format=torch.channels_last) for b in batches]
        bare: Callable[[Tensor], Tensor] = model
    else:
        bare = compiled(model, x)

    @torch.inference_mode()
    def bare_inference() -> None:
        for batch in batches:
            bare(batch).cpu()

    widths, n = explainer.kernel_widths, explainer.n_samples
    times = compare(
        {
            "bare inference of the same queries": bare_inference,
            "AISE-DIRECT-300": lambda: explainer.attribute(x, target),
            "SciPy's DIRECT, one query at a time": lambda: scipy_one_at_a_time(
                blackbox, x, target, widths, n
            ),
        },
        repeats,
    )
    many = compare(
        {
            "16 photographs together": lambda: explainer.attribute(images, target),
            "16 photographs, one after the other": lambda: [
                explainer.attribute(image[None], target) for image in images
            ],
        },
        repeats,
    )
    print(f"EfficientNet-Lite0 at 224², {device}, {blackbox}")
    report(times)
    ours = times["AISE-DIRECT-300"]
    ratio("AISE / bare", ours, times["bare inference of the same queries"], "<= 1.15")
    ratio("AISE / SciPy", ours, times["SciPy's DIRECT, one query at a time"], "<= 1")
    report(many)
    together, alone = many.values()
    ratio("16 together / one after the other", together, alone, "<= 1")
    if device == "cuda":
        batched_against_single(x, repeats)


if __name__ == "__main__":
    main()
