"""EfficientNet-Lite0 in float32, bfloat16 and int8: images a second, and maps.

    python benchmarks/precision.py [--quick] [--photos 4]

First the speed of each copy against float32's, side by side. Then what that buys: maps
for the time of RISE-1000 and AISE-300 in float32, with as many more queries as each is
faster, correlated with a map of many queries in float32. A processor without the
instructions leaves a precision out, and so does int8 without NNCF.
"""

from __future__ import annotations

import argparse

import torch
from timing import compare, ratio, report
from torch import Tensor, nn

from xai_lib.aise import AISE
from xai_lib.baselines import RISE
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.openvino_backend import NotConvertible
from xai_lib.core.precision import PRECISIONS
from xai_lib.zoo import models, photos

BATCH, BATCHES, REPEATS = 4, 16, 7
RISE_QUERIES, AISE_QUERIES = 1000, 300
CONVERGED = 4  # times as many queries, from another seed
WIDTHS = 3  # of AISE's kernels, each of which is asked about twice


def boxes(network: nn.Module, images: Tensor) -> dict[str, BlackBox]:
    """A converted copy in each precision that there is here."""
    found = {}
    for precision in PRECISIONS:
        blackbox = BlackBox(network, BATCH, backend="openvino", precision=precision)
        try:
            blackbox(images)
        except NotConvertible as error:
            print(f"{precision} is left out: {error}")
        else:
            found[precision] = blackbox
            print(blackbox.agreement or precision)
    return found


def explained(
    name: str, blackbox: BlackBox, image: Tensor, target: int, share: float, seed: int
) -> Tensor:
    """A map by so many times the queries."""
    explainer: RISE | AISE
    if name == "RISE":
        explainer = RISE(blackbox, int(RISE_QUERIES * share), seed=seed)
    else:
        kernels = int(AISE_QUERIES * share) // (2 * WIDTHS)
        explainer = AISE(blackbox, n_kernels=kernels)
    return explainer.attribute(image, target, show_progress=True).flatten()


def correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="store nothing")
    options = parser.parse_args()
    network = models.probabilities(models.load("efficientnet_lite0"))
    names = photos.names()[: options.photos]
    images = torch.cat([photos.load(name).image for name in names])
    found = boxes(network, images)
    targets = found["float32"](images).argmax(dim=1).tolist()  # the same for all
    same = images[torch.arange(BATCH * BATCHES) % len(images)]
    runs = {name: lambda box=box: box(same) for name, box in found.items()}
    times = compare(runs, REPEATS)
    report(times)
    shares = {}
    for name in found:
        if name != "float32":
            ratio(f"float32 / {name}, the same queries", times["float32"], times[name])
        shares[name] = min(times["float32"]) / min(times[name])
    for method in ("RISE", "AISE"):
        reached: dict[str, list[float]] = {name: [] for name in found}
        for image, target in zip(images.split(1), targets, strict=True):
            exact = found["float32"]
            goal = explained(method, exact, image, target, CONVERGED, seed=1)
            for name, box in found.items():
                heat = explained(method, box, image, target, shares[name], seed=0)
                reached[name].append(correlation(heat, goal))
        for name, values in reached.items():
            title = f"{method}, correlation with a converged map, {name}"
            ratio(title, values, [1.0] * len(values))


if __name__ == "__main__":
    main()
