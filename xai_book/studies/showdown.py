"""Chapter 10: every explainer of the library on one bench.

A *case* is a method with its settings, labelled by its name and its budget: the most
queries (methods that only ask) or forward passes (methods that differentiate) that it
may spend on an image. `run` measures the cases on images and stores a row for each;
`read` gives back one measure of all cases, for the images that all have:

    where = (bench("mnist"), "mnist")
    run(units(*where, range(40)), Results("showdown_mnist"))
    read(*where, Results("showdown_mnist"), "aopc")

`standings` turns such scores into statements.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from xai_book.methods import ALSO, ASKING, GRADIENT_LIKE, METHODS, WHITE_BOX
from xai_book.studies import aise, aise_detection, beds, costs, geex, hardware, pertmap
from xai_book.studies.beds import BUDGETS as BUDGETS
from xai_book.studies.beds import PLACE as PLACE
from xai_book.studies.beds import QUALITY as QUALITY
from xai_book.studies.beds import Bed, floor
from xai_book.studies.comparisons import FEWEST
from xai_book.studies.engine import Cases, Runner, Study, units_of
from xai_book.studies.results import Case, NotMeasured, Results, Unit
from xai_book.studies.standings import FLOORS, KNOWS_NOTHING, SMOOTH_FLOORS, Label
from xai_book.studies.standings import agreement as agreement
from xai_book.studies.standings import decide as decide
from xai_book.studies.standings import mean_rank as mean_rank
from xai_book.studies.standings import pareto as pareto
from xai_book.studies.standings import ranking as ranking
from xai_book.studies.standings import ties as ties
from xai_book.studies.standings import told as told
from xai_lib.aise.classification import PRESETS
from xai_lib.core.arguments import check_choice, check_count
from xai_lib.core.blackbox import BlackBox
from xai_lib.metrics import (
    deletion,
    energy_inside,
    flipping,
    insertion,
    max_sensitivity,
    pointing_hits,
)

DATA = {name: bed for name, bed in beds.BEDS.items() if bed.budgets}
MEASURES = DATA["scenes"].measures
N_SENSITIVE = 20
"""The images with the first indices are those whose maps are made again for
"stability"."""
STEPS = 98
"""Steps of a deletion or insertion: 8 of 28² pixels at a time, 512 of 224²."""
N_NEAR = 4
"""Perturbed copies of an image for "stability"; the AISE paper takes 10."""

_WINDOW = 5 / 28
"""The side of Occlusion's window, as a share of the image's."""


def bench(
    data: str = "mnist", budgets: Sequence[int] | None = None
) -> dict[Label, Case]:
    """All cases: white boxes, floors, and for each budget the methods that ask.

    Settings are those of the other studies for images of this size, but for the numbers
    of passes and queries. AISE's three widths have a third of the queries each. LIPO is
    left out above 1,000 queries, as its bound over all pairs of samples then costs
    several times more than the queries.

    Args:
        data: of DATA.
        budgets: numbers of queries, at least 100; None takes those of DATA.
    """
    bed = _bed(data)
    fixed = _fixed(bed.model)
    found = {Label(m, None): Case(m, fixed.get(m, {})) for m in (*WHITE_BOX, *FLOORS)}
    if not hardware.is_small(bed.model):
        smooth = geex.floors(bed.model)
        for name in SMOOTH_FLOORS:
            found[Label(name, None)] = Case(name, smooth[name].arguments)
    for n in bed.budgets if budgets is None else budgets:
        check_count("budgets", n, 100)
        found |= {Label(m, n): Case(m, a) for m, a in _asking(bed.model, n).items()}
    return found


def _fixed(model: str) -> dict[str, dict[str, Any]]:
    """The methods that differentiate, within the largest budget of queries.

    Small images have 4 areas × 250 steps of Extremal and 8 × 200 points of PertMap; the
    papers have 3,200 and 16,000 passes. Large ones have fewer, as in `aise` and
    `pertmap`.
    """
    found = {
        "SmoothGrad": geex.case("SmoothGrad", model, n_samples=100).arguments,
        "IG": geex.case("IG", model).arguments,
        "Linear PertMap": pertmap.arguments("LP", model),
    }
    if hardware.is_small(model):
        ascent = {"n_perturbations": 8, "n_iterations": 200, "lr": 0.01}
        return found | {"Extremal": {"n_iterations": 250}, "PertMap": ascent}
    return found | {
        "Extremal": aise.grid_table()["Extremal-200"].arguments,
        "PertMap": pertmap.arguments("Stochastic", model, pertmap.REDUCED),
    }


def _asking(model: str, n: int) -> dict[str, dict[str, Any]]:
    """The methods that ask, with settings for at most n queries."""
    side, channels = hardware.size(model), hardware.channels(model)
    waves = min(side, geex.subspace(n, channels))
    waving = {"n_samples": n, "noise": "low-frequency", "mask_size": waves}
    found: dict[str, dict[str, Any]] = {
        **{m: geex.case(m, model, n_samples=n).arguments for m in geex.FAMILY},
        "GERS waves": geex.case("GERS", model, **waving).arguments,
    }
    last = ("AISE-LIPO", "Occlusion")
    for name in ASKING:
        if name not in (*found, *last):
            found[name] = METHODS[name].settings(n)
    if n <= 1000:
        found["AISE-LIPO"] = METHODS["AISE-LIPO"].settings(n)
    # The smallest stride that n queries pay for.
    window = round(_WINDOW * side)
    across = (math.ceil((side - window) / s) + 1 for s in range(1, window + 1))
    stride = next(s for s, k in enumerate(across, start=1) if 1 + k**2 <= n)
    found["Occlusion"] = {"window": window, "stride": stride}
    return found


def units(cases: Cases, data: str, images: Iterable[int]) -> list[Unit]:
    """What `run` measures.

    Args:
        cases: what to measure, by label.
        data: of DATA; it says which model is explained.
        images: indices in the data.
    """
    return units_of([_settings(one, data) for one in cases.values()], images)


def measure(unit: Unit) -> dict[str, Any]:
    """One case on one image: how good is the map, and what did it cost?

    Returns:
        "target": the predicted class.
        "aopc", "insertion": the normalised area over the deletion curve and the area
            under the insertion curve, in STEPS.
        "kept": the share of the quantiles 0, 5, …, 100 % at which the class is still
            predicted when the lowest scores are grey, one minus Ikeno and Hara's.
        "energy": the share of the map above its mean that lies in the article's box, or
            in the photograph that is named; the mean, so that it does not matter where
            a method has its zero.
        "pointing": whether the map's maximum lies there, on scenes near it, as in
            `aise`; the share of several maxima.
        "agreement": Spearman's rank correlation with Integrated Gradients, over pixels;
            0 for a constant map, nothing for that method itself.
            All of these of the map as it is; for GRADIENT_LIKE also "aopc_input" and so
            on, of map × input. Only those of `Bed.measures`.
        "stability": minus the max-sensitivity (radius 0.02, N_NEAR copies), for
            N_SENSITIVE images and at most 500 queries, without floors.
        "queries" or, of white boxes, "passes": how many inputs went forward through
            the model; counted, with those that the library spends on checks.
        "cost": processor time of the map in units of a bare query, that is of the
            model's time for one of a whole batch, measured just before. It is the only
            number that differs from run to run.
        "bytes": the largest memory that torch held at once while it made the map, for
            image 0; NumPy's is not in it.
    """
    settings = unit.settings
    method, explains, data = (settings[k] for k in ("method", "explains", "data"))
    bed = _bed(data)
    image, place = load(data, unit.image)
    model = hardware.model(settings["model"])
    asks = method in ASKING
    probability = blackbox(settings["model"], "probability")
    target = int(probability(image).argmax())
    found: dict[str, Any] = {"target": target}
    if method in KNOWS_NOTHING:
        plain = image.mean(dim=1, keepdim=True)
        attribution = floor(method, plain, unit.image, settings["arguments"])
    else:
        box = blackbox(settings["model"], explains)
        arguments = settings["arguments"]
        explainer = METHODS[method].explainer(box if asks else model, **arguments)
        bare = costs.bare(box, image)
        before = box.queries
        with costs.passes(model) as count:
            began = time.process_time()
            attribution = explainer.attribute(image, target)
            seconds = time.process_time() - began
        spent = box.queries - before if asks else count[0]
        found["queries" if asks else "passes"] = spent
        found["cost"] = round(seconds / bare, 1)
        if unit.image == 0:
            found["bytes"] = costs.peak_memory(
                lambda: explainer.attribute(image, target)
            )
        sensitive = "stability" in bed.measures and unit.image < N_SENSITIVE
        if sensitive and not (asks and spent > 500):

            def explained(images: Tensor, target: Tensor) -> Tensor:
                # The map of the image itself is there, and may have taken a minute.
                if torch.equal(images, image):
                    return attribution
                return explainer.attribute(images, target)

            change = max_sensitivity(explained, image, target, n_samples=N_NEAR)
            found["stability"] = round(-float(change), 5)
    readings = {"": attribution}
    if method in GRADIENT_LIKE:
        readings["_input"] = attribution * image
    for suffix, reading in readings.items():
        scores = {}
        if "aopc" in bed.measures:
            curves = (probability, image, reading, target, STEPS)
            flips = flipping(probability, image, reading, ties="position")
            scores = {
                "aopc": float(deletion(*curves).aopc),
                "insertion": float(insertion(*curves).auc),
                "kept": 1 - float(flips.ratio.mean()),
            }
        if place is not None:
            scores |= _on_place(reading, place, bed.tolerance)
        if method != "IG":
            theirs = _integrated(data, unit.image)
            scores["agreement"] = rank_correlation(reading.sum(dim=1), theirs)
        found |= {name + suffix: round(s, 5) for name, s in scores.items()}
    return found


run = Runner(measure)


def _on_place(reading: Tensor, place: Tensor, tolerance: float) -> dict[str, float]:
    """PLACE for a map `[1, C, H, W]` and the bool `[1, H, W]` of where the class is."""
    flat = reading.detach().double().sum(dim=1, keepdim=True)
    return {
        "energy": float(energy_inside(flat - flat.mean(), place)),
        "pointing": float(pointing_hits(flat, place, tolerance)),
    }


class Placed(NamedTuple):
    """An image of the bench, and where in it the class is."""

    image: Tensor
    """`[1, C, H, W]`."""
    place: Tensor | None
    """Bool `[1, H, W]`, or None if nobody knows."""


def load(data: str, index: int) -> Placed:
    """An image of DATA.

    Raises:
        ValueError: an index that the data do not have.
    """
    bed = _bed(data)
    image = beds.load(data, [index], bed.model)
    return Placed(image, bed.places()[index][None] if bed.places else None)


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's correlation of two maps over pixels, 0 if one of them is constant."""
    a, b = (values.detach().double().numpy().ravel() for values in (first, second))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


def blackbox(name: str, explains: str) -> BlackBox:
    """One backend and one size for all: a change half-way would change the cost."""
    small = (256, "torch") if hardware.is_small(name) else (16,)
    return hardware.blackbox(name, explains, *small)


@lru_cache(maxsize=64)
def _integrated(data: str, index: int) -> Tensor:
    """The map of Integrated Gradients, summed over channels, `[1, H, W]`."""
    model = _bed(data).model
    explainer = METHODS["IG"].explainer(hardware.model(model), **_fixed(model)["IG"])
    return explainer.attribute(load(data, index).image).sum(dim=1)


def _bed(data: str) -> Bed:
    return DATA[check_choice("data", data, tuple(DATA))]


def _settings(one: Case, data: str) -> dict[str, Any]:
    known = METHODS.get(one.method)
    return {
        "model": _bed(data).model,
        "data": data,
        "explains": "probability" if known and known.probability else "logit",
        "method": one.method,
        "arguments": one.arguments,
        "steps": STEPS,
    }


def read(
    cases: Cases, data: str, results: Results, measure: str, reading: str = "map"
) -> dict[Label, Tensor]:
    """One measure of the cases that have it, for the images that they all have.

    Cases with less than half of the images of another one are left out, see
    `Results.shared`.

    Args:
        cases, data, results: as in `run`.
        measure: of MEASURES, or "queries", "passes", "cost", "bytes".
        reading: "map", the map as it is, or "input", map × input for GRADIENT_LIKE;
            others have the one score.

    Returns:
        For each label `[N]`, in the order of the images.

    Raises:
        ValueError: an unknown reading.
        NotMeasured: no case has the measure, or no image is common to those that do.
    """
    check_choice("reading", reading, ("map", "input"))
    wanted = {label: _settings(one, data) for label, one in cases.items()}
    what = f"image of {data} with {measure!r}"
    found, _ = results.shared(wanted, what, lambda row: measure in row, well=True)
    suffix = "_input" if reading == "input" else ""
    return {
        label: torch.tensor(
            [row.get(measure + suffix, row[measure]) for row in of_images.values()],
            dtype=torch.float64,
        )
        for label, of_images in found.items()
    }


class Table(NamedTuple):
    """One measure on one kind of data, for some methods and the same images."""

    data: str
    """The name of a bed; "scenes (08)" and "grids (08)", chapter 08's, of which several
    classes are explained; or "detections"."""
    measure: str
    scores: dict[Label, Tensor]
    """A number per image, `[N]`; high is good."""

    @property
    def decides(self) -> bool:
        """Whether there are enough images for a recommendation."""
        return len(next(iter(self.scores.values()))) >= FEWEST


def tables(folder: str | Path | None = None) -> list[Table]:
    """What all studies have measured so far, by data and measure.

    The beds are this study's, with map × input for GRADIENT_LIKE. The others are those
    of `aise` and `aise_detection`, with the budgets of these studies and maps as they
    are. A table holds the images that all of its methods share. Left out are methods
    with less than half of the images of the others, and what has not been measured.

    Args:
        folder: of the stores; None is the book's `data/results`.
    """
    asked: list[tuple[str, str, Callable[[], dict[Label, Tensor]]]] = []
    for data, bed in DATA.items():
        where = (bench(data), data, Results(f"showdown_{data}", folder))
        for measure in bed.measures:
            asked.append((bed.name, measure, partial(read, *where, measure, "input")))
    scenes, on_grids = (
        partial(_pointing, data, folder) for data in ("scenes", "grids 2x2")
    )
    asked += [
        ("scenes (08)", "energy", partial(scenes, "energy_box")),
        ("scenes (08)", "pointing", partial(scenes, "hits_box")),
        ("scenes (08)", "stability", partial(_scenes_stability, folder)),
        ("grids (08)", "energy", partial(on_grids, "energy_cell")),
        ("grids (08)", "pointing", partial(on_grids, "hits_cell")),
        ("detections", "energy", partial(_detections, folder)),
    ]
    found = []
    for name, measure, scores in asked:
        with suppress(NotMeasured):
            found.append(Table(name, measure, scores()))
    return found


def _scenes_stability(folder: str | Path | None) -> dict[Label, Tensor]:
    cases, results = aise.table(), Results("aise_scenes", folder)
    found = aise.read_sensitivity(cases, "scenes", results, well=True)
    return {_label(cases[name]): -values for name, values in found.items()}


def _pointing(
    data: str, folder: str | Path | None, measure: str
) -> dict[Label, Tensor]:
    on_grids = data.startswith("grids")
    cases, store = aise.rows_of(data)
    found = aise.read(cases, data, Results(store, folder), well=True)
    # In a grid a point belongs to one photograph; the centre is near all of them.
    tolerance = aise.TOLERANCES.index(0.0 if on_grids else aise.SCALED)
    scores: dict[Label, Tensor] = {}
    for name, values in found.items():
        numbers = values[measure].double()
        if numbers.ndim == 2:
            numbers = numbers[:, tolerance]
        # The table's own row comes first: "Extremal" before "Extremal-200".
        means = aise.image_means(numbers, values["image"])
        scores.setdefault(_label(cases[name]), means)
    return scores


def _detections(folder: str | Path | None) -> dict[Label, Tensor]:
    cases = aise_detection.cases()
    found = aise_detection.read(cases, Results("aise_detection", folder))
    return {
        _label(cases[name]): values["energy_mask"] for name, values in found.items()
    }


def _label(one: Case) -> Label:
    """What the bench calls a case of `aise` or `aise_detection`."""
    arguments = one.arguments
    if "n_kernels" not in arguments:
        name = "random" if one.method == "flat" else one.method
        return Label(name, arguments.get("n_samples"))
    kernels = arguments["n_kernels"]
    queries = 3 * kernels  # of a detection; the presets of the others have names
    if "kernel_widths" in arguments:
        presets = {known["n_kernels"]: int(name) for name, known in PRESETS.items()}
        queries = presets[kernels]
    sampler = "shuffled" if one.method == "shuffled" else arguments["sampler"]
    return Label(ALSO.get(sampler, f"AISE-{sampler}"), queries)


def _units(data: str) -> list[Unit]:
    return units(bench(data), data, range(DATA[data].n_images))


STUDIES = {
    f"showdown_{data}": Study(
        "all explainers on one bench; chapter 10", partial(_units, data), run
    )
    for data in DATA
}
