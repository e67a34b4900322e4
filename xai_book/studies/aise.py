"""AISE for classifiers: the pointing-game table, convergence and max-sensitivity.

Tsykunov, Lee and Park show one table, a pointing game on VOC and COCO, and say in words
that adaptive sampling converges faster and that few queries are enough. Here scenes,
whose objects are known to the pixel, stand in for VOC, and grids of photographs for a
large network. A set of cases gives a label to each method with its settings; one row
holds what a case found for all classes of one scene:

    run(units(table(), "scenes", range(300)), Results("aise_scenes"))
    found = read(table(), "scenes", Results("aise_scenes"))
    game(found["AISE-DIRECT-300"]).accuracy

| cases | what they reproduce |
| --- | --- |
| `table` | the table's ten rows, and two floors; max-sensitivity |
| `grid_table` | the same rows on grids of photographs, and the dear ones with less |
| `grid_samplers` | adaptive, random and regular sampling on grids of photographs |
| `variants` | what each choice of AISE-DIRECT-300 is worth |
| `convergence` | quality by queries: adaptive, random and regular sampling, and RISE |

The published table itself is `units(table(data), data, range(LIMITS["voc07"]))` with
"voc07 vgg16" and so on as `data`, for those who have the photographs.

The published tolerance of 15 pixels is generous on a scene of 112: a circle of that
radius is a twentieth of a scene, and a three-hundredth of a VOC photograph. So rows
hold how far a map's maximum lies from the object, for any tolerance, and SCALED is the
one that compares with the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from xai_book.data import coco, torchray, voc
from xai_book.data.annotated import Annotated, of_scene
from xai_book.methods import METHODS as EVERY
from xai_book.studies import hardware
from xai_book.studies.beds import floor
from xai_book.studies.engine import Cases, Runner, Study, kept_maps, units_of
from xai_book.studies.results import (
    Case,
    NotMeasured,
    Results,
    Unit,
    published,
    rounded,
    well_measured,
)
from xai_lib.aise import AISE, DirectSampler
from xai_lib.aise.classification import PRESETS
from xai_lib.aise.density import saliency, weighted_density
from xai_lib.aise.samplers import UNIT_SQUARE, Bounds, Sampler
from xai_lib.baselines.extremal import blurred
from xai_lib.core.arguments import check_choice, check_count, check_number
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.paths import cache_path
from xai_lib.metrics import (
    PointingGame,
    box_masks,
    energy_inside,
    grids,
    max_sensitivity,
)
from xai_lib.metrics.intervals import bootstrap_mean, image_mean
from xai_lib.zoo import photos, scenes

DATA: dict[str, dict[str, Any]] = {
    "scenes": {"seed": 5, "n_objects": [1, 4], "sides": [0.2, 0.5]},
    # The same scenes, and the classes in them that the model does not believe in.
    "unsure": {"seed": 5, "n_objects": [1, 4], "sides": [0.2, 0.5], "sure": False},
    "small": {"seed": 6, "n_objects": [1, 4], "sides": [0.2, 0.25]},
    "large": {"seed": 7, "n_objects": [1, 2], "sides": [0.4, 0.5]},
    # Cells of 112 pixels, all four or four of the nine explained.
    "grids 2x2": {"seed": 0, "side": 2, "size": 224, "explained": 4},
    "grids 3x3": {"seed": 0, "side": 3, "size": 336, "explained": 4},
    # The paper's own; whoever has the images and TorchRay's networks can run them.
    **{
        f"{source} {network}": {"network": f"torchray_{network}_{source[:-2]}"}
        for source in ("voc07", "coco14")
        for network in ("vgg16", "resnet50")
    },
}
"""Scenes (`zoo.scenes.make`), grids (`metrics.grids.photo_grids`) of photographs that
the model is sure of, and VOC and COCO; rows hold these numbers."""
LIMIT = 330
"""How many scenes or grids there are of each kind."""
LIMITS = {"voc07": 4952, "coco14": 5000}
"""How many photographs the paper takes."""
CONFIDENT = 0.5
"""Classes with a lower probability are left out, as in the paper (section 9); on
"unsure" all others are."""
SCALED = round(15 / 500 * scenes.SIZE, 2)
"""15 pixels on a VOC photograph, whose longer side has 500, are 3.36 on a scene."""
TOLERANCES = (0.0, SCALED, 5.0, 10.0, 15.0)
"""In pixels: for which `read` gives the hits."""
QUERIES = (30, 60, 96, 150, 300, 696, 1500, 3000)
"""Budgets of `convergence`; two queries for each sample of each of three widths."""
WIDTHS = {"default": (0.1, 0.175, 0.25), "narrow": (0.05,)}
"""The paper's kernels, and one that fits the smallest articles."""
REACH = 2.0
"""Half the side of a narrowed search area of "coarse to fine", in kernel widths."""
CELL: dict[str, Any] = {"tolerance": 0.0, "place": "cell"}
"""The pointing game on grids: a point belongs to one photograph. See `game`."""
SMOOTH = 0.02
"""TorchRay smooths gradients by this share of the image before it looks for the
maximum."""
BATCH = 64
MEASURES = ("pointing", "sensitivity")
WHITE_BOX = ("Gradient", "GuidedBackprop", "GradCAM", "Extremal")
QUERYING = ("RISE", "KernelSHAP")
FLOORS = ("flat", "centre")
METHODS = (*WHITE_BOX, *QUERYING, "AISE", "coarse to fine", *FLOORS)
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
FORMS = ("covariance", "normalised", "plain sum")
"""How the scores of the centres become a map; see `aise.density`."""


class Score(NamedTuple):
    """A row of the table: accuracies in [0, 1], with 95 % intervals over images."""

    accuracy: float
    low: float
    high: float
    difficult: float
    """The accuracy on the difficult pairs, or NaN if there are none."""
    difficult_low: float
    difficult_high: float
    energy: float
    """The mean share of the positive mass on the object."""
    energy_low: float
    energy_high: float
    pairs: int
    images: int


def table(data: str = "scenes") -> dict[str, Case]:
    """The ten rows of the paper's table, and two floors that ask nothing.

    "random point" is a flat map, which counts as often as a random point would hit;
    "centre" points at the middle of the image, as TorchRay's baseline does. As there,
    extremal perturbations have smaller areas on COCO.

    Args:
        data: of DATA; VGG16's feature map must be named, as its dense layers are
            convolutions there.
    """
    check_choice("data", data, tuple(DATA))
    layer = {"layer": "network.features.29"} if data.endswith("vgg16") else {}
    small = data.startswith("coco14")
    areas = [0.018, 0.025, 0.05, 0.1] if small else [0.025, 0.05, 0.1, 0.2]
    found = {
        "Gradient": Case("Gradient", {"smooth": SMOOTH}),
        "GuidedBackprop": Case("GuidedBackprop", {"smooth": SMOOTH}),
        "GradCAM": Case("GradCAM", layer),
        "Extremal": _extremal(areas, 800),
        "RISE-8000": Case("RISE", {"n_samples": 8000, "mask_size": 7, "p": 0.5}),
        "SHAP-8000": Case("KernelSHAP", {"n_samples": 8000, "n_segments": 50}),
    }
    for budget in ("300", "700"):
        for sampler in ("lipo", "direct"):
            found[f"AISE-{sampler.upper()}-{budget}"] = _preset(budget, sampler)
    return found | {"random point": Case("flat", {}), "centre": Case("centre", {})}


def grid_table() -> dict[str, Case]:
    """The table's rows for photographs, and the dear ones with less work too.

    RISE and SHAP also have a quarter of their queries, and extremal perturbations, of
    which a step costs ten times as much as on a scene, one area and 200 steps.
    """
    found: dict[str, Case] = {}
    for label, one in table().items():
        found[label] = one
        if one.method == "Extremal":
            found["Extremal-200"] = _extremal([0.1], 200)
        elif one.method in QUERYING:
            fewer = one.arguments | {"n_samples": 2000}
            found[label.replace("8000", "2000")] = Case(one.method, fewer)
    return found


def rows_of(data: str) -> tuple[dict[str, Case], str]:
    """The table's rows on "scenes" or grids, and the name of the store they are in."""
    if data.startswith("grids"):
        return grid_table(), "aise_grids"
    return table(), "aise_scenes"


def grid_samplers() -> dict[tuple[str, int], Case]:
    """AISE on grids of photographs, labelled (where its samples are, queries)."""
    found: dict[tuple[str, int], Case] = {}
    for queries in (102, 300):
        for sampler in ("direct", "random", "lattice"):
            changed = {"n_kernels": queries // 6, "sampler": sampler}
            arguments = _preset("300", "direct").arguments | changed
            found[sampler, queries] = Case("AISE", arguments)
    return found


def variants() -> dict[str, Case]:
    """AISE-DIRECT-300, and the same 300 queries with one choice changed.

    "lattice", "random": where the samples are. "locally biased", "convex hull": other
    forms of DIRECT, see `DirectSampler`. "eps 0.0001": a finer search. "one width": all
    150 samples with the middle one. "normalised", "plain sum": other maps from the same
    samples. "square kernel", "triangle kernel": see KERNELS. "coarse to fine": see
    `coarse_to_fine`.
    """
    direct = _preset("300", "direct").arguments
    changes: dict[str, dict[str, Any]] = {
        "AISE-DIRECT-300": {},
        **{
            name: {"sampler": name}
            for name in ("lattice", "random", "locally biased", "convex hull")
        },
        "eps 0.0001": {"eps": 1e-4},
        "one width": {"kernel_widths": [0.175], "n_kernels": 150},
        "normalised": {"form": "normalised"},
        "plain sum": {"form": "plain sum"},
        **{f"{kernel} kernel": {"kernel": kernel} for kernel in KERNELS},
    }
    found = {label: Case("AISE", direct | change) for label, change in changes.items()}
    del direct["sampler"]
    return found | {"coarse to fine": Case("coarse to fine", direct)}


def convergence() -> dict[tuple[str, str], Case]:
    """Quality by the number of queries, labelled (sampler, widths).

    Samplers whose first n points do not depend on how many follow are run once, with
    the largest budget; a lattice, coarse-to-fine and RISE for each budget.
    """
    found: dict[tuple[str, str], Case] = {}
    for widths, sigmas in WIDTHS.items():
        for label, sampler in _BY_QUERIES.items():
            arguments = {
                "sampler": sampler,
                "kernel_widths": list(sigmas),
                "queries": list(QUERIES if widths == "default" else QUERIES[:-1]),
            }
            found[label, widths] = Case("AISE", arguments)
    few = {"kernel_widths": list(WIDTHS["default"]), "queries": list(QUERIES[:-2])}
    found["coarse to fine", "default"] = Case("coarse to fine", few)
    found["RISE", "default"] = Case(
        "RISE", {"mask_size": 7, "p": 0.5, "queries": list(QUERIES)}
    )
    return found


_BY_QUERIES = {
    "random": "random",
    "lattice": "lattice",
    "LIPO": "lipo",
    "DIRECT": "direct",
}


def _preset(budget: str, sampler: str) -> Case:
    preset = PRESETS[budget]
    widths = list(preset["kernel_widths"])
    return Case("AISE", {**preset, "kernel_widths": widths, "sampler": sampler})


def _extremal(areas: list[float], n_iterations: int) -> Case:
    return Case("Extremal", {"areas": areas, "n_iterations": n_iterations})


def units(
    cases: Cases, data: str, images: Iterable[int], measures: str = "pointing"
) -> list[Unit]:
    """What `run` measures.

    Args:
        cases: what to measure, by label.
        data: of DATA.
        images: numbers below LIMIT, or below LIMITS for VOC and COCO.
        measures: "pointing" for what `read` returns, "sensitivity" for
            `read_sensitivity`.

    Raises:
        ValueError: unknown data or measures, or an image that there is not.
    """
    check_choice("measures", measures, MEASURES)
    check_choice("data", data, tuple(DATA))
    numbers = [check_count("images", i, at_least=0) for i in images]
    limit = LIMITS.get(data.partition(" ")[0], LIMIT)
    for number in numbers:
        if number >= limit:
            raise ValueError(f"images must be below {limit}, got {number}")
    return units_of(_settings(cases, data, measures).values(), numbers)


def measure(unit: Unit) -> dict[str, Any]:
    """One case on one image.

    Returns, for "pointing", lists with an entry for each class that is explained:
        "target", "probability": the class, and what the model gives it;
        "difficult": 1 if the pair belongs to the difficult subset, else 0;
        "area", "objects": the class's share of the image; the objects in the image;
        "distance_box", …_mask (grids: …_cell): pixels from the map's maximum to the
            nearest pixel of the place, in the mean if there are several maxima;
        "maxima_box", …: the shares of the maxima by distance, [[pixels, share], …];
            from 5 pixels on, distances are rounded down to multiples of 5;
        "energy_box", …: the share of the map's positive mass in the place;
        "queries": what the method asked, for all classes together; None for methods
            that use gradients.
    For a case of `convergence`, "distance", "maxima" and "energy" are lists with an
    entry for each budget, and so is "queries".

    For "sensitivity": "target", the class with the highest probability, and
    "sensitivity", of its map.
    """
    settings = unit.settings
    case = Case(settings["method"], settings["arguments"])
    check_choice("method", case.method, METHODS)
    picture = _picture(settings["data"], unit.image)
    if settings["measures"] == "sensitivity":
        return _sensitivity(case, picture, unit.image)
    about = {
        "target": picture.target.tolist(),
        "probability": rounded(picture.probability),
        "difficult": picture.difficult.int().tolist(),
        "area": rounded(picture.area),
        "objects": [picture.objects] * len(picture.target),
    }
    budgets = case.arguments.get("queries")
    if budgets is None:
        maps, queries = explain(case, picture, unit.image)
        return about | {"queries": queries} | judge(maps, picture.places)
    by_budget = [
        judge(maps, picture.places) | {"queries": queries}
        for maps, queries in _by_queries(case, picture, unit.image, budgets)
    ]
    return about | {name: [one[name] for one in by_budget] for name in by_budget[0]}


run = Runner(measure)


class Picture(NamedTuple):
    """An image, the k classes that are explained in it, and where they are."""

    model: str
    image: Tensor
    """`[1, C, H, W]`."""
    target: Tensor
    """Int64 `[k]`."""
    probability: Tensor
    difficult: Tensor
    """Bool `[k]`."""
    area: Tensor
    objects: int
    places: dict[str, Tensor]
    """By name, bool `[k, H', W']`, of the photograph's own size: "box" and "mask", or
    "cell"."""


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
    blackbox = _blackbox(picture.model)
    before = blackbox.queries
    maps = _attribute(case, picture.model, picture.image, picture.target, seed)
    asked = None if case.method in WHITE_BOX else blackbox.queries - before
    return maps, asked


def maps(
    cases: Cases,
    model: str,
    image: Tensor,
    name: str,
    target: int,
    folder: str | Path | None = None,
) -> dict[Hashable, Tensor]:
    """The maps of one class of an image, for figures: each is kept in a file, from
    which it is read the next time.

    Args:
        cases: by label.
        model: a name of `models.load`.
        image: `[1, C, H, W]`.
        name: of the image; whoever changes the image must change its name.
        target: the class.
        folder: where maps are kept; None is the book's `data/results/aise_maps`.

    Returns:
        For each label `[1, 1, H, W]`, in steps of 1/127 of its largest value.
    """
    units = {
        label: Unit(
            {"image": name, "model": model, "target": target, **case._asdict()}, 0
        )
        for label, case in cases.items()
    }

    def make(unit: Unit) -> Tensor:
        case = Case(unit.settings["method"], unit.settings["arguments"])
        return _attribute(case, model, image, torch.tensor([target]), 0)

    def named(unit: Unit) -> str:
        return f"{name}_{unit.settings['method'].lower()}"

    return kept_maps(units, make, named, folder, "aise_maps")


def centred(maps: Tensor) -> Tensor:
    """Maps `[..., H, W]` of RISE or D-RISE less their means: mean scores are above 0
    everywhere; AISE's are centred, so these must be."""
    return maps - maps.mean(dim=(-2, -1), keepdim=True)


def _attribute(
    case: Case, model: str, image: Tensor, target: Tensor, seed: int
) -> Tensor:
    """The maps `[k, 1, H, W]` of the classes `[k]` of one image `[1, C, H, W]`."""
    settings = dict(case.arguments)
    if case.method in QUERYING:
        # Other draws for each image: the interval over images then covers them too.
        kind = EVERY[case.method].explainer
        explainer = kind(_blackbox(model), seed=seed, **settings)
        maps = explainer.attribute_all(image)[0, target, None]
        if case.method == "KernelSHAP":
            return maps
        return centred(maps)
    if case.method == "coarse to fine":
        parts = [
            coarse_to_fine(_blackbox(model), image, int(t), seed=seed, **settings)
            for t in target
        ]
        return torch.cat(parts)
    images = image.expand(len(target), -1, -1, -1)
    if case.method == "AISE":
        form = settings.pop("form", FORMS[0])
        samples = _aise(model, settings, seed).sample(images, target)
        return _density(samples.centres, samples.scores, samples.widths, image, form)
    smooth = settings.pop("smooth", None)
    explainer = EVERY[case.method].explainer(hardware.model(model), **settings)
    maps = explainer.attribute(images, target)
    if smooth is None:
        return maps
    strength = maps.abs().amax(dim=1, keepdim=True)
    return blurred(strength, smooth * max(image.shape[2:]), mode="constant")


def _aise(model: str, settings: dict[str, Any], seed: int) -> AISE:
    sampler = settings["sampler"]
    known = settings | {"sampler": SAMPLERS.get(sampler, sampler), "seed": seed}
    if "kernel" in known:
        known["kernel"] = KERNELS[known["kernel"]]
    return AISE(_blackbox(model), **known)


def _density(
    centres: Tensor, scores: Tensor, widths: Tensor, image: Tensor, form: str
) -> Tensor:
    """Maps `[k, 1, H, W]` from the samples `[k, W, n]` of k searches in one image."""
    check_choice("form", form, FORMS)
    height, width = image.shape[2:]

    def of_width(p: Tensor, s: Tensor, sigma: float) -> Tensor:
        if form == "plain sum":
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


def _by_queries(
    case: Case, picture: Picture, seed: int, budgets: Sequence[int]
) -> list[tuple[Tensor, int | None]]:
    """The maps of a case at each budget, and the queries they are made of."""
    settings = {k: v for k, v in case.arguments.items() if k != "queries"}
    k = len(picture.target)
    if case.method == "RISE":
        cases = [Case("RISE", settings | {"n_samples": n}) for n in budgets]
        return [explain(one, picture, seed) for one in cases]
    each = 2 * len(settings["kernel_widths"])
    counts = [n // each for n in budgets]
    if case.method == "coarse to fine" or settings["sampler"] == "lattice" or k == 0:
        cases = [Case(case.method, settings | {"n_kernels": n}) for n in counts]
        return [explain(one, picture, seed) for one in cases]
    longest = settings | {"n_kernels": max(counts)}
    images = picture.image.expand(k, -1, -1, -1)
    found = _aise(picture.model, longest, seed).sample(images, picture.target)
    return [
        (
            _density(
                found.centres[:, :, :n],
                found.scores[:, :, :n],
                found.widths,
                picture.image,
                FORMS[0],
            ),
            k * n * each,
        )
        for n in counts
    ]


def _sensitivity(case: Case, picture: Picture, seed: int) -> dict[str, Any]:
    """Max-sensitivity of the map of the class that the model is surest of."""
    if case.method in FLOORS:
        raise ValueError(f"{case.method} does not look at the image")
    if not len(picture.target):
        return {"target": []}
    target = picture.target[picture.probability.argmax()][None]

    def attribute(images: Tensor, target: Tensor) -> Tensor:
        return _attribute(case, picture.model, images, target, seed)

    found = max_sensitivity(attribute, picture.image, target, radius=0.02, n_samples=10)
    return {"target": int(target), "sensitivity": round(float(found), 5)}


def judge(maps: Tensor, places: Mapping[str, Tensor]) -> dict[str, Any]:
    """Where maps `[k, 1, H, W]` point: "distance", "maxima" and "energy" of `measure`
    for places, bool `[k, H', W']`, by their names. Maps are brought to the size of the
    places, as the tolerance is in pixels of the photograph."""
    found: dict[str, Any] = {}
    for name, regions in places.items():
        if maps.shape[2:] != regions.shape[1:]:
            maps = F.interpolate(maps, regions.shape[1:], mode="bilinear")
        pairs = list(zip(maps[:, 0].cpu(), regions, strict=True))
        away = [_distances(values, region) for values, region in pairs]
        found[f"distance_{name}"] = [round(float(d.mean()), 3) for d in away]
        found[f"maxima_{name}"] = [_shares(d) for d in away]
        energy = energy_inside(maps, regions) if len(maps) else torch.zeros(0)
        found[f"energy_{name}"] = rounded(energy)
    return found


def _distances(values: Tensor, region: Tensor) -> Tensor:
    """From each maximum of a map `[H, W]` to the nearest pixel of a region."""
    away = torch.from_numpy(distance_transform_edt(~region.numpy()))
    return away[values == values.max()]


def _shares(distances: Tensor) -> list[list[float]]:
    """The distances that occur, and how many of all they are."""
    coarse = torch.where(distances < 5, distances, (distances / 5).floor() * 5)
    rounded = (coarse * 100).round() / 100
    values, counts = rounded.unique(return_counts=True)
    shares = counts / len(distances)
    return [
        [round(v, 2), round(s, 5)]
        for v, s in zip(values.tolist(), shares.tolist(), strict=True)
    ]


def _hits(maxima: Sequence[Sequence[float]], tolerance: float) -> float:
    """The share of the maxima that `metrics.pointing_hits` counts as hits."""
    # In hundredths of a pixel, as rows hold them; on the object is always a hit.
    limit = max(1, round(100 * tolerance))
    return sum(share for away, share in maxima if round(100 * away) < limit)


@lru_cache(maxsize=8)
def _picture(data: str, number: int) -> Picture:
    kind, _, _ = data.partition(" ")
    if kind == "grids":
        return _grid(data, number)
    if kind in LIMITS:
        one = _photographs(kind)[number]
        return _annotated(_network(data), one, torchray.prepare(one.image))
    one = of_scene(scenes_of(data), number)
    sure = DATA[data].get("sure", True)
    return _annotated(_network(data), one, one.image, sure)


def _annotated(model: str, one: Annotated, image: Tensor, sure: bool = True) -> Picture:
    """The classes in an image by which a method is judged, and of which the model is
    sure, or is not; `image` is what the model gets."""
    probability = _probabilities(model)(image)[0].cpu()
    present = one.labels.nonzero()[:, 0].tolist()
    asked = (probability >= CONFIDENT) == sure
    target = [t for t in present if asked[t] and one.judged(t)]
    height, width = one.image.shape[2:]
    box, mask = torch.zeros(2, len(target), height, width, dtype=torch.bool)
    for k, t in enumerate(target):
        mask[k] = one.region(t)
        box[k] = box_masks(one.boxes[one.classes == t], height, width).any(dim=0)
    difficult = [one.difficult(t) for t in target]
    return Picture(
        model,
        image,
        torch.tensor(target).long(),
        probability[target],
        torch.tensor(difficult).bool(),
        mask.double().mean(dim=(1, 2)),
        len(one.boxes),
        {"box": box, "mask": mask},
    )


def _grid(data: str, number: int) -> Picture:
    model, settings = _network(data), DATA[data]
    side, size = settings["side"], settings["size"]
    sure = sure_photos()
    # A grid depends on the seed and its number alone.
    every = grids.photo_grids(*sure, number + 1, side, size, settings["seed"])
    image = every.images[number][None]
    cells = torch.linspace(0, side**2 - 1, settings["explained"]).round().long()
    target = every.target[number][cells]
    return Picture(
        model,
        image,
        target,
        _probabilities(model)(image)[0].cpu()[target],
        torch.ones(len(target), dtype=torch.bool),
        torch.full((len(target),), 1 / side**2),
        side**2,
        {"cell": torch.stack([cell_mask(int(c), side, size) for c in cells])},
    )


def cell_mask(cell: int, side: int, size: int) -> Tensor:
    """Where a cell of a grid is, bool `[size, size]`; cells are numbered row by row."""
    where = torch.arange(side**2).view(side, side) == cell
    return where.repeat_interleave(size // side, 0).repeat_interleave(size // side, 1)


@lru_cache
def sure_photos() -> tuple[Tensor, Tensor]:
    """The photographs that may be part of a grid, and their classes."""
    name = _network("grids")
    known = photos.labelled(size=hardware.size(name))
    scorer = _probabilities(name)
    sure = grids.confident(scorer, known.images, known.labels, CONFIDENT)
    return known.images[sure], known.labels[sure]


def _network(data: str) -> str:
    """The model that is explained."""
    if data.startswith("grids"):
        return "efficientnet_lite0"
    return DATA[data].get("network", "scenes_classifier")


@lru_cache
def _photographs(kind: str) -> Sequence[Annotated]:
    """VOC from the book's cache, or downloaded; COCO from the folder coco2014 in it."""
    return voc.load() if kind == "voc07" else coco.load(cache_path() / "coco2014")


@lru_cache
def scenes_of(data: str) -> scenes.Scenes:
    """The LIMIT scenes of "scenes", "unsure", "small" or "large" in DATA."""
    settings = DATA[data]
    return scenes.make(
        LIMIT,
        settings["seed"],
        n_objects=tuple(settings["n_objects"]),
        sides=tuple(settings["sides"]),
    )


def _blackbox(name: str) -> BlackBox:
    """The one that counts."""
    return hardware.blackbox(name, batch_size=BATCH)


def _probabilities(name: str) -> BlackBox:
    """One that does not count, for what is known before a method starts."""
    return hardware.blackbox(name, batch_size=BATCH, backend="torch")


def _settings(cases: Cases, data: str, measures: str) -> dict[Any, dict[str, Any]]:
    """What rows hold of each case, by its label."""
    settings = {
        "data": data,
        **{name: value for name, value in DATA[data].items() if name != "network"},
        "model": _network(data),
        "measures": measures,
    }
    return {label: settings | one._asdict() for label, one in cases.items()}


def read(
    cases: Cases, data: str, results: Results
) -> dict[Hashable, dict[str, Tensor]]:
    """The rows of cases that are measured once, for the images that every case has.

    Args:
        cases, data, results: as for `units`.

    Returns:
        For each label, one entry per pair of an image and a class in it, in the same
        order for all: "image", "target", "probability", "difficult", "area", "objects",
        "distance_…" and "energy_…" as in `measure`, `[M]`; "queries" `[M]` of the
        whole image, -1 for methods that use gradients; and "hits_…"
        `[M, len(TOLERANCES)]`. Places are "box" and "mask", in grids "cell".

    Raises:
        NotMeasured: a case has no row, or no image is common to all.
    """
    rows, common = _common(cases, data, results, "pointing")
    return {
        label: _pairs([(i, of_case[i]) for i in common])
        for label, of_case in rows.items()
    }


def most_measured(
    cases: Cases, data: str, results: Results, measures: str = "pointing"
) -> dict[Any, Case]:
    """The cases without those that have less than half of the images of another one;
    see `well_measured`.

    Args:
        cases, data, results, measures: as for `units`.

    Raises:
        NotMeasured: no case has a row.
    """
    counts = {
        label: len(results.rows(**settings))
        for label, settings in _settings(cases, data, measures).items()
    }
    if not any(counts.values()):
        raise NotMeasured(f"{results.path.name} has no rows of {data}")
    return {label: cases[label] for label in well_measured(counts)}


def read_convergence(
    data: str, results: Results, cases: Cases | None = None
) -> dict[tuple[str, str, int], dict[str, Tensor]]:
    """The rows of `convergence`, or of some of its cases, as from `read`; labelled
    (sampler, widths, queries per class).

    Raises:
        NotMeasured: as `read`.
    """
    cases = convergence() if cases is None else cases
    rows, common = _common(cases, data, results, "pointing")
    found = {}
    for (sampler, widths), of_case in rows.items():
        for b, n in enumerate(cases[sampler, widths].arguments["queries"]):
            at_budget = [
                (
                    i,
                    {
                        name: values[b] if _by_budget(name) else values
                        for name, values in of_case[i].items()
                    },
                )
                for i in common
            ]
            found[sampler, widths, n] = _pairs(at_budget)
    return found


def read_sensitivity(cases: Cases, data: str, results: Results) -> dict[Any, Tensor]:
    """The max-sensitivity of each case, float64 `[N]`, for the images of all cases.

    Raises:
        NotMeasured: as `read`.
    """
    rows, common = _common(cases, data, results, "sensitivity")
    return {
        label: torch.tensor(
            [of_case[i]["sensitivity"] for i in common], dtype=torch.float64
        )
        for label, of_case in rows.items()
    }


def _common(
    cases: Cases, data: str, results: Results, measures: str
) -> tuple[dict[Any, dict[int, dict[str, Any]]], list[int]]:
    """The results by label and image, and the images that all labels have, of those
    in which a class is explained."""

    def explained(result: dict[str, Any]) -> bool:
        return result["target"] != []

    wanted = _settings(cases, data, measures)
    return results.shared(wanted, f"image of {data}", explained)


def _by_budget(name: str) -> bool:
    return name.partition("_")[0] in ("distance", "maxima", "energy", "queries")


def _pairs(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, Tensor]:
    """The pairs of all images in one list."""
    lengths = torch.tensor([len(row["target"]) for _, row in rows])
    images = torch.tensor([image for image, _ in rows])
    asked = [row.get("queries", -1) for _, row in rows]
    found = {
        "image": images.repeat_interleave(lengths),
        "queries": torch.tensor(asked).repeat_interleave(lengths),
    }
    for name in rows[0][1]:
        if name == "queries":
            continue
        values = [value for _, row in rows for value in row[name]]
        measured, _, place = name.partition("_")
        if measured == "maxima":
            hits = [[_hits(m, t) for t in TOLERANCES] for m in values]
            found[f"hits_{place}"] = torch.tensor(hits, dtype=torch.float64)
        elif name == "difficult":
            found[name] = torch.tensor(values).bool()
        elif name in ("target", "objects"):
            found[name] = torch.tensor(values)
        else:
            found[name] = torch.tensor(values, dtype=torch.float64)
    return found


def game(
    found: Mapping[str, Tensor],
    tolerance: float = SCALED,
    place: str = "box",
    difficult: bool = False,
) -> PointingGame:
    """The pointing game of one label of `read`.

    Args:
        tolerance: of TOLERANCES. 15 pixels is the published number, SCALED the one that
            means the same on a scene.
        place: "box" as for VOC, "mask" as for COCO, or "cell" of a grid.
        difficult: only the difficult pairs.

    Raises:
        ValueError: another tolerance or place; no difficult pair.
    """
    check_number("tolerance", tolerance, 0)
    if tolerance not in TOLERANCES:
        raise ValueError(f"tolerance must be one of {TOLERANCES}, got {tolerance}")
    places = tuple(n.partition("_")[2] for n in found if n.startswith("hits_"))
    check_choice("place", place, places)
    hits = found[f"hits_{place}"][:, TOLERANCES.index(tolerance)]
    whole = PointingGame(hits, found["target"], found["image"])
    if not difficult:
        return whole
    if not bool(found["difficult"].any()):
        raise ValueError("there is no difficult pair")
    return whole.subset(found["difficult"])


def scores(
    found: Mapping[Hashable, Mapping[str, Tensor]],
    tolerance: float = SCALED,
    place: str = "box",
) -> dict[Hashable, Score]:
    """The table: the accuracy of each label of `read`, on all and on difficult pairs,
    and the energy. Arguments as in `game`."""
    table = {}
    for label, rows in found.items():
        whole = game(rows, tolerance, place)
        low, high = whole.interval()
        hard = hard_low = hard_high = float("nan")
        if bool(rows["difficult"].any()):
            part = game(rows, tolerance, place, difficult=True)
            hard, (hard_low, hard_high) = part.accuracy, part.interval()
        energy = per_image(rows, f"energy_{place}")
        energy_low, energy_high = (float(end) for end in bootstrap_mean(energy))
        table[label] = Score(
            accuracy=whole.accuracy,
            low=low,
            high=high,
            difficult=hard,
            difficult_low=hard_low,
            difficult_high=hard_high,
            energy=float(image_mean(energy)),
            energy_low=energy_low,
            energy_high=energy_high,
            pairs=len(whole.hits),
            images=len(energy),
        )
    return table


def per_image(rows: Mapping[str, Tensor], name: str) -> Tensor:
    """The means over the pairs of each image, `[N]`, in the order of their numbers."""
    return image_means(rows[name], rows["image"])


def image_means(values: Tensor, image: Tensor) -> Tensor:
    """The means of the values `[M]` of each image `[M]`: `[N]`, by their numbers."""
    known, of = image.unique(return_inverse=True)
    total = torch.zeros(len(known), dtype=torch.float64)
    return total.index_add(0, of, values.double()) / of.bincount()


def published_table() -> dict[str, dict[str, float]]:
    """The paper's table, in percent: for "VOC07 VGG16", "VOC07 ResNet50", "COCO14
    VGG16" and "COCO14 ResNet50" the accuracy of each method."""
    found: dict[str, dict[str, float]] = {}
    for row in published("aise"):
        if row["item"] == "Pointing game":
            data, _, method = row["quantity"].partition(": ")
            found.setdefault(data, {})[method] = float(row["value"])
    return found


def _scenes() -> list[Unit]:
    every, floors = table(), ("random point", "centre")
    ours = {label: every[label] for label in ("AISE-DIRECT-300", "random point")}
    felt = {label: one for label, one in every.items() if label not in floors}
    return [
        *units(every, "scenes", range(325)),
        *units(variants(), "scenes", range(100)),
        *units(ours, "unsure", range(325)),
        *units(felt, "scenes", range(24), "sensitivity"),
    ]


def _convergence() -> list[Unit]:
    places, cases = ("scenes", "small", "large"), convergence()
    return [unit for data in places for unit in units(cases, data, range(40))]


def _grids() -> list[Unit]:
    cases = grid_table()
    return [
        *units(cases, "grids 2x2", range(20)),
        *units(grid_samplers(), "grids 2x2", range(20)),
        *units(cases, "grids 3x3", range(5)),
    ]


_PAPER = "Tsykunov et al."
STUDIES = {
    "aise_scenes": Study(
        f"{_PAPER}: the table, section 9's choices, predictions below 0.5, "
        "max-sensitivity; chapter 08",
        _scenes,
        run,
    ),
    "aise_convergence": Study(
        f"{_PAPER}: adaptive against random samples; chapter 08", _convergence, run
    ),
    "aise_grids": Study(
        f"{_PAPER}: the table, on grids of photographs; chapter 08", _grids, run
    ),
}
