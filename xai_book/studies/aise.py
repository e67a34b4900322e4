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
| `as_written` | the paper's map P for cases of AISE, where the book has M |

The published table itself is `units(table(data), data, range(LIMITS["voc07"]))` with
"voc07 vgg16" and so on as `data`, for those who have the photographs.
"""

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from xai_book.studies import saliencies
from xai_book.studies.engine import Cases, Runner, Study, below, kept_maps, units_of
from xai_book.studies.pictures import DATA, LIMIT, LIMITS, Picture, network, picture
from xai_book.studies.pictures import scenes_of as scenes_of
from xai_book.studies.pointing_game import CELL as CELL
from xai_book.studies.pointing_game import SCALED as SCALED
from xai_book.studies.pointing_game import TOLERANCES as TOLERANCES
from xai_book.studies.pointing_game import game as game
from xai_book.studies.pointing_game import image_means as image_means
from xai_book.studies.pointing_game import pairs
from xai_book.studies.pointing_game import per_image as per_image
from xai_book.studies.pointing_game import scores as scores
from xai_book.studies.results import Case, Results, Unit, published, rounded
from xai_book.studies.saliencies import FLOORS, KERNELS, QUERYING, SUM
from xai_book.studies.saliencies import coarse_to_fine as coarse_to_fine
from xai_lib.aise.classification import PRESETS
from xai_lib.core.arguments import check_choice
from xai_lib.metrics import energy_inside, max_sensitivity

QUERIES = (30, 60, 96, 150, 300, 696, 1500, 3000)
"""Budgets of `convergence`; two queries for each sample of each of three widths."""
WIDTHS = {"default": (0.1, 0.175, 0.25), "narrow": (0.05,)}
"""The paper's kernels, and one that fits the smallest articles."""
SMOOTH = 0.02
"""TorchRay smooths gradients by this share of the image before it looks for the
maximum."""
MEASURES = ("pointing", "sensitivity")


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
    direct = _preset("300", "direct").arguments
    return {
        (name, n): Case("AISE", direct | {"n_kernels": n // 6, "sampler": name})
        for n in (102, 300)
        for name in ("direct", "random", "lattice")
    }


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
    samplers = dict(random="random", lattice="lattice", LIPO="lipo", DIRECT="direct")
    for widths, sigmas in WIDTHS.items():
        for label, sampler in samplers.items():
            arguments = {
                "sampler": sampler,
                "kernel_widths": list(sigmas),
                "queries": list(QUERIES if widths == "default" else QUERIES[:-1]),
            }
            found[label, widths] = Case("AISE", arguments)
    few = {"kernel_widths": list(WIDTHS["default"]), "queries": list(QUERIES[:-2])}
    found["coarse to fine", "default"] = Case("coarse to fine", few)
    rise = {"mask_size": 7, "p": 0.5, "queries": list(QUERIES)}
    found["RISE", "default"] = Case("RISE", rise)
    return found


def as_written(cases: Cases, **changes: Any) -> dict[Any, Case]:
    """The cases of AISE among these with the paper's map P, the plain sum of scores
    with f(x), where the book has the centred M; `changes` of their arguments."""
    return {
        label: Case("AISE", one.arguments | {"form": SUM} | changes)
        for label, one in cases.items()
        if one.method == "AISE"
    }


def convergence_as_written() -> dict[tuple[str, str], Case]:
    """`convergence` of P for the paper's widths and samplers, up to 300 queries."""
    every = convergence()
    three = {(s, "default"): every[s, "default"] for s in ("random", "LIPO", "DIRECT")}
    return as_written(three, queries=list(QUERIES[:5]))


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
    numbers = below(LIMITS.get(data.partition(" ")[0], LIMIT), images)
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
    check_choice("method", case.method, saliencies.NAMES)
    seen = picture(settings["data"], unit.image)
    if settings["measures"] == "sensitivity":
        return _sensitivity(case, seen, unit.image)
    about = {
        "target": seen.target.tolist(),
        "probability": rounded(seen.probability),
        "difficult": seen.difficult.int().tolist(),
        "area": rounded(seen.area),
        "objects": [seen.objects] * len(seen.target),
    }
    budgets = case.arguments.get("queries")
    if budgets is None:
        maps, queries = saliencies.explain(case, seen, unit.image)
        return about | {"queries": queries} | judge(maps, seen.places)
    by_budget = [
        judge(maps, seen.places) | {"queries": queries}
        for maps, queries in saliencies.by_queries(case, seen, unit.image, budgets)
    ]
    return about | {name: [one[name] for one in by_budget] for name in by_budget[0]}


run = Runner(measure)


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
        return saliencies.attribute(case, model, image, torch.tensor([target]), 0)

    def named(unit: Unit) -> str:
        return f"{name}_{unit.settings['method'].lower()}"

    return kept_maps(units, make, named, folder, "aise_maps")


def _sensitivity(case: Case, seen: Picture, seed: int) -> dict[str, Any]:
    """Max-sensitivity of the map of the class that the model is surest of."""
    if case.method in FLOORS:
        raise ValueError(f"{case.method} does not look at the image")
    if not len(seen.target):
        return {"target": []}
    target = seen.target[seen.probability.argmax()][None]

    def attribute(images: Tensor, target: Tensor) -> Tensor:
        return saliencies.attribute(case, seen.model, images, target, seed)

    found = max_sensitivity(attribute, seen.image, target, radius=0.02, n_samples=10)
    return {"target": int(target), "sensitivity": round(float(found), 5)}


def judge(maps: Tensor, places: Mapping[str, Tensor]) -> dict[str, Any]:
    """Where maps `[k, 1, H, W]` point: "distance", "maxima" and "energy" of `measure`
    for places, bool `[k, H', W']`, by their names. Maps are brought to the size of the
    places, as the tolerance is in pixels of the photograph."""
    found: dict[str, Any] = {}
    for name, regions in places.items():
        if maps.shape[2:] != regions.shape[1:]:
            maps = F.interpolate(maps, regions.shape[1:], mode="bilinear")
        away = [
            torch.from_numpy(distance_transform_edt(~region.numpy()))[
                heat == heat.max()
            ]
            for heat, region in zip(maps[:, 0].cpu(), regions, strict=True)
        ]
        found[f"distance_{name}"] = [round(float(d.mean()), 3) for d in away]
        found[f"maxima_{name}"] = [_shares(d) for d in away]
        energy = energy_inside(maps, regions) if len(maps) else torch.zeros(0)
        found[f"energy_{name}"] = rounded(energy)
    return found


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


def _settings(cases: Cases, data: str, measures: str) -> dict[Any, dict[str, Any]]:
    """What rows hold of each case, by its label."""
    settings = {
        "data": data,
        **{name: value for name, value in DATA[data].items() if name != "network"},
        "model": network(data),
        "measures": measures,
    }
    return {label: settings | one._asdict() for label, one in cases.items()}


def read(
    cases: Cases, data: str, results: Results, *, well: bool = False
) -> dict[Any, dict[str, Tensor]]:
    """The rows of cases that are measured once, for the images that every case has.

    Args:
        cases, data, results: as for `units`.
        well: leave out cases with few images, see `Results.shared`.

    Returns:
        For each label, one entry per pair of an image and a class in it, in the same
        order for all: "image", "target", "probability", "difficult", "area", "objects",
        "distance_…" and "energy_…" as in `measure`, `[M]`; "queries" `[M]` of the
        whole image, -1 for methods that use gradients; and "hits_…"
        `[M, len(TOLERANCES)]`. Places are "box" and "mask", in grids "cell".

    Raises:
        NotMeasured: a case has no row, or no image is common to all.
    """
    found = _common(cases, data, results, "pointing", well)
    return {label: pairs(of_case) for label, of_case in found.items()}


def read_convergence(
    data: str, results: Results, cases: Cases | None = None
) -> dict[tuple[str, str, int], dict[str, Tensor]]:
    """The rows of `convergence`, or of some of its cases, as from `read`; labelled
    (sampler, widths, queries per class).

    Raises:
        NotMeasured: as `read`.
    """
    cases = convergence() if cases is None else cases
    fixed = ("target", "probability", "difficult", "area", "objects")
    return {
        (*label, n): pairs(
            {
                image: {k: v if k in fixed else v[b] for k, v in row.items()}
                for image, row in of_case.items()
            }
        )
        for label, of_case in _common(cases, data, results, "pointing").items()
        for b, n in enumerate(cases[label].arguments["queries"])
    }


def read_sensitivity(
    cases: Cases, data: str, results: Results, *, well: bool = False
) -> dict[Any, Tensor]:
    """The max-sensitivity of each case, float64 `[N]`, for the images of all cases;
    `well` as for `read`.

    Raises:
        NotMeasured: as `read`.
    """
    found = {}
    for label, of_case in _common(cases, data, results, "sensitivity", well).items():
        numbers = [row["sensitivity"] for row in of_case.values()]
        found[label] = torch.tensor(numbers, dtype=torch.float64)
    return found


def _common(
    cases: Cases, data: str, results: Results, measures: str, well: bool = False
) -> dict[Any, dict[int, dict[str, Any]]]:
    """The results by label and image, for the images that all labels have, of those
    in which a class is explained."""
    asked = _settings(cases, data, measures), f"image of {data}"
    return results.shared(*asked, lambda r: r["target"] != [], well=well)[0]


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
        *units(as_written(every), "scenes", range(325)),
        *units(variants(), "scenes", range(100)),
        *units(ours, "unsure", range(325)),
        *units(felt, "scenes", range(24), "sensitivity"),
    ]


def _convergence() -> list[Unit]:
    return [
        unit
        for data in ("scenes", "small", "large")
        for cases in (convergence(), convergence_as_written())
        for unit in units(cases, data, range(40))
    ]


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
        "max-sensitivity; reproduce/aise",
        _scenes,
        run,
    ),
    "aise_convergence": Study(
        f"{_PAPER}: adaptive against random samples; reproduce/aise", _convergence, run
    ),
    "aise_grids": Study(
        f"{_PAPER}: the table, on grids of photographs; reproduce/aise", _grids, run
    ),
}
