"""Peak memory above the images and their maps, at 4K (3,840 x 2,160 pixels).

    python benchmarks/memory.py [--quick]

Each case runs in a process of its own, with a model that needs next to no memory. What
counts is by how much the most that the process ever held exceeds what it held when the
images lay there, less the maps that it returns; the goal is 1 GiB. Three more runs at
a smaller size ask whether that grows: with four times the queries, sixteen times the
batch size, three times the images, whose maps are being added up. Only the first two
have a goal: at most a quarter. `--quick` takes an eighth of the pixels.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timing import ratio
from torch import Tensor, nn

from xai_lib import metrics
from xai_lib.aise import AISE, AISEDetection, Detection
from xai_lib.baselines import (
    DRISE,
    LIME,
    RISE,
    ExtremalPerturbation,
    GradCAM,
    Gradient,
    IntegratedGradients,
    KernelSHAP,
    Occlusion,
    SmoothGrad,
)
from xai_lib.core.blackbox import BlackBox
from xai_lib.geex import GEEX, GERS, IGEEX
from xai_lib.pertmap import (
    Box,
    LinearPertMap,
    StochasticPertMap,
    violation_rates,
    worst_point,
)

MIB = 2**20
BOX_AND_LABEL = ([10, 10, 90, 90], 0)
Run = Callable[[Tensor, int, int], Any]


class Small(nn.Module):
    """Scores of three classes from the means of coarse cells; it has one convolution,
    whose output is a hundredth of the image. Of the image itself, oneDNN would make a
    copy with eight channels for the gradient, which no method can help."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(F.avg_pool2d(images, 16)).mean(dim=(2, 3))


def net() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def model(images: Tensor) -> Tensor:
    """A black box, which leaves no graph: probabilities of two classes."""
    p = images[:, :, ::16, ::16].mean(dim=(1, 2, 3)).clamp(0, 1)
    return torch.stack([p, 1 - p], dim=1)


def detector(images: Tensor) -> list[Detection]:
    box = torch.tensor([[10.0, 10.0, 90.0, 90.0]])
    label = torch.zeros(1, dtype=torch.int64)
    return [Detection(box, score[None], label) for score in model(images)[:, 0]]


def queried(explainer: Callable[..., Any], **settings: Any) -> Run:
    """A method that only queries, with n samples in batches of b."""

    def run(x: Tensor, n: int, b: int) -> Tensor:
        return explainer(BlackBox(model, b), n_samples=n, **settings).attribute(x, 0)

    return run


def differentiated(explainer: Callable[..., Any], count: str = "") -> Run:
    """A white-box method, whose n, if it has one, is called `count`."""

    def run(x: Tensor, n: int, _: int) -> Tensor:
        return explainer(net(), **({count: n} if count else {})).attribute(x, 0)

    return run


def occlusion(x: Tensor, n: int, b: int) -> Tensor:
    window = int((x[0, 0].numel() / n) ** 0.5)
    return Occlusion(BlackBox(model, b), window).attribute(x, 0)


def measured(metric: Callable[..., Any], channels: int = 1) -> Run:
    """A metric of maps like the image's first channels."""

    def run(x: Tensor, n: int, b: int) -> None:
        metric(BlackBox(model, b), x, x[:, :channels], n)

    return run


def sensitivity(x: Tensor, n: int, _: int) -> Tensor:
    return metrics.max_sensitivity(lambda x, target: x[:, :1], x, 0, n_samples=n)


def pointing(x: Tensor, *_: int) -> None:
    masks = x[:, 0] > 0.5
    metrics.pointing_hits(x[:, :1], masks)
    metrics.energy_inside(x[:, :1], masks)


def versions(x: Tensor, n: int, b: int) -> Tensor:
    shift = torch.linspace(0, 1, n).view(1, -1, 1, 1, 1)
    make = lambda i, j: x[i, None] + shift[:, j]  # noqa: E731
    return BlackBox(model, b).versions(len(x), n, make)


def box(x: Tensor) -> Box:
    side = x.new_full((), 0.1).expand_as(x)
    return Box(side, side)


CASES: dict[str, Run] = {
    "BlackBox.versions": versions,
    "AISE": lambda x, n, b: AISE(BlackBox(model, b), n_kernels=n // 6).attribute(x, 0),
    "GEEX": queried(GEEX),
    "GEEX, independent": queried(GEEX, noise="independent"),
    "GERS": queried(GERS),
    "iGEEX": queried(IGEEX),
    "RISE": queried(RISE),
    "LIME": queried(LIME),
    "KernelSHAP": queried(KernelSHAP, n_segments=10),
    "Occlusion": occlusion,
    "RISE, all classes": lambda x, n, b: RISE(BlackBox(model, b), n).attribute_all(x),
    "D-RISE": lambda x, n, b: DRISE(detector, n).attribute(x, BOX_AND_LABEL),
    "AISE, detection": lambda x, n, b: AISEDetection(
        detector, n_kernels=n // 3
    ).attribute(x, BOX_AND_LABEL),
    "Gradient": differentiated(Gradient),
    "SmoothGrad": differentiated(SmoothGrad, "n_samples"),
    "IntegratedGradients": differentiated(IntegratedGradients, "n_steps"),
    "Grad-CAM": lambda x, *_: GradCAM(net(), "conv").attribute(x, 0),
    "ExtremalPerturbation": lambda x, n, _: ExtremalPerturbation(
        net(), n_iterations=max(1, n // 16)
    ).attribute(x, 0),
    "PertMap, stochastic": lambda x, n, _: StochasticPertMap(
        net(), n_iterations=2, n_perturbations=max(1, n // 2)
    ).attribute(x, 0),
    "PertMap, linear": lambda x, *_: LinearPertMap(net()).attribute(x, 0),
    "violation rates": lambda x, n, b: violation_rates(
        BlackBox(model, b), x, box(x), 0, n // 2
    ),
    "worst point": lambda x, n, b: (
        worst_point(
            net(), x, box(x), 0, n_steps=max(1, n // 16), n_starts=2
        ).perturbation
    ),
    "deletion": measured(lambda f, x, maps, n: metrics.deletion(f, x, maps, 0, n)),
    "insertion": measured(lambda f, x, maps, n: metrics.insertion(f, x, maps, 0, n), 3),
    "flipping": measured(
        lambda f, x, maps, n: metrics.flipping(
            f, x, maps, torch.linspace(0, 100, n).tolist()
        ),
        3,
    ),
    "max-sensitivity": sensitivity,
    "pointing game": pointing,
    "grid pointing game": lambda x, *_: metrics.grid_pointing_game(
        x[:, :1], torch.zeros(len(x), dtype=torch.int64)
    ),
    "map distance": lambda x, *_: metrics.map_distance(x, x[:, :1]),
}


class Size(NamedTuple):
    height: int
    width: int
    images: int
    queries: int
    batch_size: int


def peak(name: str, size: Size) -> float:
    """MiB above the images and the maps, in a process of its own."""
    command = [sys.executable, __file__, "--case", name, *map(str, size)]
    # With the limits of `make bench` nothing that was freed would go back.
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    answer = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=env
    )
    return float(answer.stdout.splitlines()[-1])


def one(name: str, size: Size) -> None:
    """Run a case here, and print what it took."""
    small = smooth(1, 64, 96)
    CASES[name](small, 48, 4)  # libraries load, and threads start
    x = smooth(size.images, size.height, size.width)
    before = _most()
    maps = CASES[name](x, size.queries, size.batch_size)
    own = maps.nbytes if isinstance(maps, Tensor) else 0
    print((_most() - before - own) / MIB)


def smooth(n: int, height: int, width: int) -> Tensor:
    """Images that have superpixels, made without more memory than their own."""
    images = torch.empty(n, 3, height, width)
    for i, image in enumerate(images):
        for c, channel in enumerate(image):
            for row, part in enumerate(channel.split(height // 4)):
                for column, cell in enumerate(part.split(width // 4, dim=1)):
                    cell.fill_((row + 2 * column + i + c) % 5 / 4)
    return images


def _most() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main(quick: bool, only: list[str]) -> None:
    height, width = (720, 1440) if quick else (2160, 3840)
    large = Size(height, width, images=1, queries=64, batch_size=16)
    small = Size(height // 2, width // 2, images=2, queries=48, batch_size=4)
    grown = {
        "queries": small._replace(queries=4 * small.queries),
        "batch": small._replace(batch_size=16 * small.batch_size),
        "images": small._replace(images=3 * small.images),
    }
    print(f"{'MiB above images and maps':<28}" + f"{'4K':>8}{'small':>8}", end="")
    print("".join(f"{'more ' + name:>14}" for name in grown))
    for name in only or CASES:
        found = [peak(name, s) for s in (large, small, *grown.values())]
        print(f"{name:<28}{found[0]:8.0f}{found[1]:8.0f}", end="")
        print("".join(f"{value:14.0f}" for value in found[2:]), flush=True)
        ratio(f"{name}: memory / 1 GiB", [found[0]], [1024.0], "<= 1")
        # Of less a ratio would tell of one batch of images, which weighs 47 MiB.
        base = max(found[1], 128.0)
        ratio(f"{name}: queries or batch grow", [max(found[2:4])], [base], "<= 1.25")
        ratio(f"{name}: three times the images", [found[4]], [base])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--case", nargs="+")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.case:
        one(options.case[0], Size(*map(int, options.case[1:])))
    else:
        main(options.quick, options.names)
