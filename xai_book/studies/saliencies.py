"""The maps of a picture by the methods of AISE's table and by changed forms of AISE."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from xai_book.methods import METHODS
from xai_book.studies import hardware, pictures
from xai_book.studies.beds import floor
from xai_book.studies.pictures import Picture
from xai_book.studies.results import Case
from xai_lib.aise import AISE, DirectSampler
from xai_lib.aise.density import saliency, weighted_density
from xai_lib.aise.samplers import UNIT_SQUARE, Bounds, Sampler
from xai_lib.baselines.extremal import blurred
from xai_lib.core.arguments import check_choice

REACH = 2.0
"""Half the side of a narrowed search area of "coarse to fine", in kernel widths."""
WHITE_BOX = ("Gradient", "GuidedBackprop", "GradCAM", "Extremal")
QUERYING = ("RISE", "KernelSHAP")
FLOORS = ("flat", "centre")
NAMES = (*WHITE_BOX, *QUERYING, "AISE", "coarse to fine", *FLOORS)
SAMPLERS: dict[str, Callable[[Bounds, int, int], Sampler]] = {
    "locally biased": lambda bounds, n, seed: DirectSampler(bounds, 0.1, True),
    "convex hull": lambda bounds, n, seed: DirectSampler(bounds, 0.1, convex_hull=True),
}
"""Forms of DIRECT that AISE does not know by name."""
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "square": lambda away: (away.abs() < (math.pi / 2) ** 0.5).double(),
    "triangle": lambda away: (1 - away.abs() / (2 * math.pi) ** 0.5).clamp_min(0),
}
"""Masks other than the Gaussian: the profile over rows and over columns, of the
distance in kernel widths. Each has the Gaussian's integral, so that they cover the same
area. The map is a sum of Gaussians for all of them: only the question changes."""
SUM = "sum with f(x)"
FORMS = ("covariance", "normalised", "plain sum", SUM)
"""How the scores of the centres become a map; see `aise.density`. SUM is the paper's P
of drops that are written with f(x), which the others leave out: M does not change by a
constant in all scores, and the sum does."""


def explain(case: Case, picture: Picture, seed: int) -> tuple[Tensor, int | None]:
    """The maps `[k, 1, H, W]` of all classes of a picture by one method, and its
    queries; None for methods that use gradients.

    Methods that query explain the probability, the others the logit.
    """
    k, size = len(picture.target), picture.image.shape[2:]
    if k == 0:
        return torch.zeros(0, 1, *size), 0
    if case.method in FLOORS:
        return floor(case.method, picture.image[:, :1]).expand(k, -1, -1, -1), 0
    blackbox = pictures.blackbox(picture.model)
    before = blackbox.queries
    maps = attribute(case, picture.model, picture.image, picture.target, seed)
    asked = None if case.method in WHITE_BOX else blackbox.queries - before
    return maps, asked


def by_queries(
    case: Case, picture: Picture, seed: int, budgets: Sequence[int]
) -> list[tuple[Tensor, int | None]]:
    """The maps of a case at each budget, and the queries they are made of."""
    settings = {k: v for k, v in case.arguments.items() if k != "queries"}
    k, size = len(picture.target), "n_samples" if case.method == "RISE" else "n_kernels"
    each = 2 * len(settings.get("kernel_widths", ())) or 1
    counts = [n // each for n in budgets]
    if case.method != "AISE" or settings["sampler"] == "lattice" or k == 0:
        cases = [Case(case.method, settings | {size: n}) for n in counts]
        return [explain(one, picture, seed) for one in cases]
    longest = settings | {size: max(counts)}
    where = picture.model, picture.image, picture.target
    centres, scores, widths, form = _searched(longest, *where, seed)
    return [
        (
            density(centres[:, :, :n], scores[:, :, :n], widths, picture.image, form),
            k * n * each + (form == SUM),
        )
        for n in counts
    ]


def centred(maps: Tensor) -> Tensor:
    """Maps `[..., H, W]` of RISE or D-RISE less their means: mean scores are above 0
    everywhere; AISE's are centred, so these must be."""
    return maps - maps.mean(dim=(-2, -1), keepdim=True)


def attribute(
    case: Case, model: str, image: Tensor, target: Tensor, seed: int
) -> Tensor:
    """The maps `[k, 1, H, W]` of the classes `[k]` of one image `[1, C, H, W]`."""
    settings = dict(case.arguments)
    if case.method in QUERYING:
        # Other draws for each image: the interval over images then covers them too.
        kind = METHODS[case.method].explainer
        explainer = kind(pictures.blackbox(model), seed=seed, **settings)
        maps = explainer.attribute_all(image)[0, target, None]
        return maps if case.method == "KernelSHAP" else centred(maps)
    if case.method == "coarse to fine":
        parts = [
            coarse_to_fine(
                pictures.blackbox(model), image, int(t), seed=seed, **settings
            )
            for t in target
        ]
        return torch.cat(parts)
    images = image.expand(len(target), -1, -1, -1)
    if case.method == "AISE":
        centres, scores, widths, form = _searched(settings, model, image, target, seed)
        return density(centres, scores, widths, image, form)
    smooth = settings.pop("smooth", None)
    explainer = METHODS[case.method].explainer(hardware.model(model), **settings)
    maps = explainer.attribute(images, target)
    if smooth is None:
        return maps
    strength = maps.abs().amax(dim=1, keepdim=True)
    return blurred(strength, smooth * max(image.shape[2:]), mode="constant")


def _searched(
    settings: dict[str, Any], model: str, image: Tensor, target: Tensor, seed: int
) -> tuple[Tensor, Tensor, Tensor, str]:
    """AISE's centres, scores and widths for the classes of an image, and the form of
    the map; SUM asks for f(x), once for all classes, and adds it to the scores."""
    settings = dict(settings)
    form = settings.pop("form", FORMS[0])
    images = image.expand(len(target), -1, -1, -1)
    found = _aise(model, settings, seed).sample(images, target)
    scores = found.scores
    if form == SUM:
        f_x = pictures.blackbox(model)(image)[0, target.to(image.device)]
        scores = scores + f_x.cpu().double()[:, None, None]
    return found.centres, scores, found.widths, form


def _aise(model: str, settings: dict[str, Any], seed: int) -> AISE:
    sampler = settings["sampler"]
    known = settings | {"sampler": SAMPLERS.get(sampler, sampler), "seed": seed}
    if "kernel" in known:
        known["kernel"] = KERNELS[known["kernel"]]
    return AISE(pictures.blackbox(model), **known)


def density(
    centres: Tensor, scores: Tensor, widths: Tensor, image: Tensor, form: str = FORMS[0]
) -> Tensor:
    """Maps `[k, 1, H, W]` from the samples `[k, W, n]` of k searches in one image."""
    check_choice("form", form, FORMS)
    height, width = image.shape[2:]

    def of_width(p: Tensor, s: Tensor, sigma: float) -> Tensor:
        if form in ("plain sum", SUM):
            return weighted_density(p, s, sigma, height, width)
        return saliency(p, s, sigma, height, width, form == "normalised")

    maps = [
        torch.stack(list(map(of_width, of_search, s, widths.tolist()))).sum(dim=0)
        for of_search, s in zip(centres, scores, strict=True)
    ]
    return torch.stack(maps)[:, None].to(image)


def coarse_to_fine(
    blackbox: Callable,
    image: Tensor,
    target: int,
    kernel_widths: Sequence[float],
    n_kernels: int,
    seed: int = 0,
) -> Tensor:
    """AISE-DIRECT with its widths one after the other, the widest first.

    Section 6 says that wide optimal regions contain the narrow ones "with high
    probability", and that this might speed up the search. So each next width searches
    only a square around the maximum of the sum of the maps so far, which reaches
    REACH widths of the kernel that found it to each side. The queries are AISE's.

    A narrowed area draws the map's mass together, whatever is in it, and a second
    object of the class outside is given up: compare by the maximum first.

    Args:
        blackbox: images to scores.
        image: `[1, C, H, W]`.
        target: the class.
        kernel_widths, n_kernels, seed: as for `AISE`.

    Returns:
        The map `[1, 1, H, W]`.
    """
    total = torch.zeros(1, 1, *image.shape[2:]).to(image)
    bounds: Bounds = UNIT_SQUARE
    for width in sorted(kernel_widths, reverse=True):
        aise = AISE(blackbox, "direct", (width,), n_kernels, seed=seed, bounds=bounds)
        total = total + aise.attribute(image, target)
        row, column = divmod(int(total.argmax()), image.shape[3])
        height, across = image.shape[2:]
        peak = ((column + 0.5) / across, (row + 0.5) / height)
        reach = REACH * width
        bounds = (
            tuple(max(0.0, at - reach) for at in peak),
            tuple(min(1.0, at + reach) for at in peak),
        )
    return total
