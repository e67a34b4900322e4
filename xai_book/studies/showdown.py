"""Chapter 10: every explainer of the library on one bench.

A *case* is a method with its settings, labelled by its name and its budget: the most
queries (methods that only ask) or forward passes (methods that differentiate) that it
may spend on an image. `run` measures the cases on images and stores a row for each;
`read` gives back one measure of all cases, for the images that all have:

    where = (bench("mnist"), "mnist")
    run(units(*where, range(40)), Results("showdown_mnist"))
    read(*where, Results("showdown_mnist"), "aopc")

The second half turns such scores into statements: `ranking` with its intervals, `told`
for pairs, `agreement` between measures, `pareto`, and `decide`. They take any scores
per image, those of other studies too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from xai_book.methods import ASKING, GRADIENT_LIKE, METHODS, WHITE_BOX
from xai_book.studies import aise, aise_detection, beds, geex, hardware, pertmap
from xai_book.studies.beds import BUDGETS, floor
from xai_book.studies.comparisons import FEWEST
from xai_book.studies.engine import Runner, Study, units_of
from xai_book.studies.results import Case, NotMeasured, Results, Unit, well_measured
from xai_lib.aise.classification import PRESETS
from xai_lib.core.arguments import check_choice, check_count
from xai_lib.core.blackbox import BlackBox
from xai_lib.metrics import (
    box_masks,
    deletion,
    energy_inside,
    flipping,
    grids,
    insertion,
    max_sensitivity,
    pointing_hits,
)
from xai_lib.metrics.intervals import bootstrap_mean, places, sign, times_drawn

FLOORS = ("random", "centre", "image")
"""Maps that know nothing about the model; "image" is the image itself."""
SMOOTH_FLOORS = ("lumps", "waves")
"""Floors of large images, where smooth noise deletes better than single pixels; see
`geex.floors`."""
KNOWS_NOTHING = (*FLOORS, *SMOOTH_FLOORS, "blob", "AISE-shuffled")
"""The floors of all studies."""

MEASURES = (
    "aopc",
    "insertion",
    "kept",
    "energy",
    "pointing",
    "agreement",
    "stability",
)
"""High is good in all of them."""
QUALITY = MEASURES[:3]
"""Those that ask the model whether a map's order is its own."""
PLACE = ("energy", "pointing")
"""Those that ask whether the map lies on what the class is named after."""


class Bench(NamedTuple):
    """A bed on the bench."""

    name: str
    model: str
    budgets: tuple[int, ...]
    n_images: int
    """How many the book's stores hold."""
    measures: tuple[str, ...]
    """Of MEASURES."""
    tolerance: float | None = None
    """How many pixels beside the place "pointing" allows; None if nobody knows which
    pixels show the class, and PLACE is not measured."""


_EVERYWHERE = tuple(m for m in MEASURES if m not in PLACE)
DATA: dict[str, Bench] = {
    **{
        name: Bench(bed.title, bed.model, bed.budgets, bed.n_images, _EVERYWHERE)
        for name, bed in beds.BEDS.items()
        if bed.budgets
    },
    # Those of `aise` with a single article, as "the class" must be one.
    "scenes": Bench("scenes", "scenes_classifier", BUDGETS, 20, MEASURES, aise.SCALED),
    # Four photographs, of which the network names one; where is it? Its belief is too
    # low, .1 to .3, to be deleted.
    "grids": Bench("grids", beds.LITE, (100,), 20, (*PLACE, "agreement"), 0),
}
N_SENSITIVE = 20
"""The images with the first indices are those whose maps are made again for
"stability"."""
N_GRIDS = 60
"""How many grids are looked through for "grids"."""
STEPS = 98
"""Steps of a deletion or insertion: 8 of 28² pixels at a time, 512 of 224²."""
N_NEAR = 4
"""Perturbed copies of an image for "stability"; the AISE paper takes 10."""

T = TypeVar("T", bound=Hashable)


class Label(NamedTuple):
    """What a case is called."""

    method: str
    budget: int | None
    """Queries at most, of methods that only ask; else None."""

    def __str__(self) -> str:
        return self.method if self.budget is None else f"{self.method} {self.budget:,}"


Cases = Mapping[Label, Case]

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
    probability = _blackbox(settings["model"], "probability")
    target = int(probability(image).argmax())
    found: dict[str, Any] = {"target": target}
    if method in KNOWS_NOTHING:
        plain = image.mean(dim=1, keepdim=True)
        attribution = floor(method, plain, unit.image, settings["arguments"])
    else:
        box = _blackbox(settings["model"], explains)
        arguments = settings["arguments"]
        explainer = METHODS[method].explainer(box if asks else model, **arguments)
        bare = _bare(box, image)
        before = box.queries
        with _passes(model) as count:
            began = time.process_time()
            attribution = explainer.attribute(image, target)
            seconds = time.process_time() - began
        spent = box.queries - before if asks else count[0]
        found["queries" if asks else "passes"] = spent
        found["cost"] = round(seconds / bare, 1)
        if unit.image == 0:
            found["bytes"] = peak_memory(lambda: explainer.attribute(image, target))
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
        if place is not None and bed.tolerance is not None:
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
    if bed.tolerance is None:
        return Placed(beds.load(data, [index], bed.model), None)
    pictures = _single_scenes() if data == "scenes" else _named_grids()
    if index >= len(pictures):
        raise ValueError(f"{data} has {len(pictures)} images, got index {index}")
    return pictures[index]


@lru_cache
def _single_scenes() -> list[Placed]:
    """The scenes of `aise` that show one article."""
    every = aise.scenes_of("scenes")
    return [
        Placed(image[None], box_masks(boxes, *image.shape[1:]))
        for image, boxes in zip(every.images, every.boxes, strict=True)
        if len(boxes) == 1
    ]


@lru_cache
def _named_grids() -> list[Placed]:
    """Those of `aise`'s first N_GRIDS whose likeliest class is that of one of the four
    photographs. For any other class PertMap would have to keep what is not there."""
    settings = aise.DATA["grids 2x2"]
    side, size, seed = (settings[k] for k in ("side", "size", "seed"))
    every = grids.photo_grids(*aise.sure_photos(), N_GRIDS, side, size, seed)
    named = _blackbox(DATA["grids"].model, "probability")(every.images).argmax(dim=1)
    found = []
    for image, cells, c in zip(every.images, every.target, named.cpu(), strict=True):
        if c in cells:
            place = aise.cell_mask(int((cells == c).nonzero()), side, size)
            found.append(Placed(image[None], place[None]))
    return found


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's correlation of two maps over pixels, 0 if one of them is constant."""
    a, b = (values.detach().double().numpy().ravel() for values in (first, second))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


def peak_memory(work: Callable[[], object]) -> int:
    """The most bytes that torch held at once on the CPU while it worked.

    Sums what torch's allocator reports, so it is a count and not a measurement; what
    was held before, as the model's weights, and NumPy's arrays are not in it.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as seen:
        work()
    assert seen.profiler is not None
    assert seen.profiler.kineto_results is not None
    events = seen.profiler.kineto_results.events()
    sizes = [
        (event.start_ns(), event.nbytes())
        for event in events
        if event.name() == "[memory]" and event.device_type().name == "CPU"
    ]
    in_order = np.array([size for _, size in sorted(sizes, key=lambda one: one[0])])
    return int(in_order.cumsum().max(initial=0))


def _bare(box: BlackBox, image: Tensor) -> float:
    """Processor seconds of a query in a whole batch: best of 3."""
    images = image.expand(box.batch_size.best, -1, -1, -1).contiguous()
    times = []
    for _ in range(3):
        began = time.process_time()
        box(images)
        times.append(time.process_time() - began)
    return min(times) / len(images)


@contextmanager
def _passes(model: nn.Module) -> Any:
    """Counts inputs that go through the model, or through the copies that layer-wise
    methods make of it, which keep a layer's hooks."""
    count = [0]
    once = (nn.Flatten, nn.AdaptiveAvgPool2d)  # what every input passes one time
    layer = next(part for part in model.modules() if isinstance(part, once))

    def add(_: nn.Module, arguments: tuple[Tensor]) -> None:
        count[0] += len(arguments[0])

    hook = layer.register_forward_pre_hook(add)
    try:
        yield count
    finally:
        hook.remove()


def _blackbox(name: str, explains: str) -> BlackBox:
    # One backend and one size for all: a change half-way would change the cost.
    if hardware.is_small(name):
        return hardware.blackbox(name, explains, 256, "torch")
    return hardware.blackbox(name, explains, 16)


@lru_cache(maxsize=64)
def _integrated(data: str, index: int) -> Tensor:
    """The map of Integrated Gradients, summed over channels, `[1, H, W]`."""
    model = _bed(data).model
    explainer = METHODS["IG"].explainer(hardware.model(model), **_fixed(model)["IG"])
    return explainer.attribute(load(data, index).image).sum(dim=1)


def _bed(data: str) -> Bench:
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
    cases: Cases,
    data: str,
    results: Results,
    measure: str,
    reading: str = "map",
) -> dict[Label, Tensor]:
    """One measure of the cases that have it, for the images that they all have.

    Cases with less than half of the images of another one are left out, see
    `well_measured`.

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
    found: dict[Label, dict[int, float]] = {}
    for label, one in cases.items():
        name = measure
        if reading == "input" and one.method in GRADIENT_LIKE and measure in MEASURES:
            name += "" if measure == "stability" else "_input"
        rows = results.rows(**_settings(one, data))
        of_images = {
            row["image"]: row["result"][name] for row in rows if name in row["result"]
        }
        found[label] = of_images
    counts = {label: len(of_images) for label, of_images in found.items()}
    found = {label: found[label] for label in well_measured(counts)}
    common = sorted(set.intersection(*map(set, found.values()))) if found else []
    if not common:
        raise NotMeasured(
            f"{results.path.name} has no image of {data} with {measure!r} of all "
            "cases that are measured"
        )
    return {
        label: torch.tensor([of_images[i] for i in common], dtype=torch.float64)
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
    found = []
    for data, bed in DATA.items():
        cases, store = bench(data), Results(f"showdown_{data}", folder)
        for measure in bed.measures:
            ask = partial(read, cases, data, store, measure, "input")
            found += _table_of(bed.name, measure, ask)
    for data, measure, scores in (
        ("scenes (08)", "energy", partial(_pointing, "scenes", "energy_box")),
        ("scenes (08)", "pointing", partial(_pointing, "scenes", "hits_box")),
        ("scenes (08)", "stability", _scenes_stability),
        ("grids (08)", "energy", partial(_pointing, "grids 2x2", "energy_cell")),
        ("grids (08)", "pointing", partial(_pointing, "grids 2x2", "hits_cell")),
        ("detections", "energy", _detections),
    ):
        found += _table_of(data, measure, partial(scores, folder))
    return found


def _table_of(
    data: str, measure: str, scores: Callable[[], dict[Label, Tensor]]
) -> list[Table]:
    try:
        return [Table(data, measure, scores())]
    except NotMeasured:
        return []


def _scenes_stability(folder: str | Path | None) -> dict[Label, Tensor]:
    results = Results("aise_scenes", folder)
    cases = aise.most_measured(aise.table(), "scenes", results, "sensitivity")
    found = aise.read_sensitivity(cases, "scenes", results)
    return {_label(cases[name]): -values for name, values in found.items()}


def _pointing(
    data: str, measure: str, folder: str | Path | None
) -> dict[Label, Tensor]:
    on_grids = data.startswith("grids")
    every, store = aise.rows_of(data)
    results = Results(store, folder)
    cases = aise.most_measured(every, data, results)
    found = aise.read(cases, data, results)
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
    names = {"direct": "DIRECT", "lipo": "LIPO"}
    sampler = names.get(arguments["sampler"], arguments["sampler"])
    return Label(f"AISE-{'shuffled' if one.method == 'shuffled' else sampler}", queries)


# From here on: statements. `scores` are always a number per image, high is good, and
# the same images in the same order for every name: all comparisons are paired.

Scores = Mapping[T, Tensor]


class Place(NamedTuple):
    """Where a name stands among others; 1 is best."""

    rank: float
    low: float
    high: float
    """The 95 % bootstrap interval of the rank, over images."""


def ranking(
    scores: Scores[T], n_resamples: int = 2000, seed: int = 0
) -> dict[T, Place]:
    """The names by mean score, best first, each with the interval of its rank.

    Every resample draws images, the same for all names, and ranks the means again;
    equal means share a rank, and keep their order.
    """
    names, values = _table(scores)
    resampled = places(_resampled(values, n_resamples, seed))
    ends = np.quantile(resampled, [0.025, 0.975], axis=1)
    ranks = places(values.mean(axis=1))
    return {
        names[i]: Place(float(ranks[i]), *map(float, ends[:, i]))
        for i in np.argsort(ranks, kind="stable")
    }


def told(better: Tensor, worse: Tensor) -> bool:
    """Whether images tell two apart: the 95 % bootstrap interval of the mean paired
    difference lies above zero."""
    low, _ = bootstrap_mean(better - worse)
    return bool(sign(low) > 0)


def ties(scores: Scores[T]) -> list[tuple[T, T]]:
    """Neighbours in the ranking that the images cannot tell apart."""
    return [
        (a, b) for a, b in pairwise(ranking(scores)) if not told(scores[a], scores[b])
    ]


class Agreement(NamedTuple):
    """Kendall's τ_b of two rankings, and its 95 % bootstrap interval over images."""

    tau: float
    low: float
    high: float


def agreement(
    first: Scores[T], second: Scores[T], n_resamples: int = 500, seed: int = 0
) -> Agreement:
    """How far two measures rank the names alike: 1 the same order, -1 the opposite.

    Only names that both have count. Both measures are of the same data: as many images
    are the same images, and drawn together.
    """
    common = [name for name in first if name in second]
    if len(common) < 3:
        raise ValueError(f"agreement needs at least 3 common names, got {len(common)}")
    tables = [_table({name: s[name] for name in common})[1] for s in (first, second)]
    tau = _kendall(*(t.mean(axis=1)[:, None] for t in tables))[0]
    together = tables[0].shape[1] == tables[1].shape[1]
    drawn = [
        _resampled(t, n_resamples, seed + (0 if together else i))
        for i, t in enumerate(tables)
    ]
    low, high = np.quantile(_kendall(*drawn), [0.025, 0.975])
    return Agreement(float(tau), float(low), float(high))


def _kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """τ_b of the columns of two tables `[names, columns]`."""
    i, j = np.triu_indices(len(first), 1)
    a, b = (sign(t[i] - t[j]) for t in (first, second))
    norm = np.sqrt((a != 0).sum(axis=0) * (b != 0).sum(axis=0))
    return (a * b).sum(axis=0) / np.maximum(norm, 1)


def mean_rank(measures: Sequence[Scores[T]]) -> dict[T, Tensor]:
    """Several measures in one: minus the mean, over measures, of the rank per image.

    Ranks have no unit, so that no measure counts more because its numbers are larger.
    """
    names = list(measures[0])
    total = np.zeros((len(names), len(measures[0][names[0]])))
    for scores in measures:
        _, values = _table({name: scores[name] for name in names})
        total += places(values)  # halves of whole numbers, so that equal sums are equal
    means = torch.from_numpy(-total / len(measures))
    return dict(zip(names, means, strict=True))


def pareto(costs: Mapping[T, float], quality: Mapping[T, float]) -> list[T]:
    """The names that no other one beats at a cost as low, cheapest first.

    Costs may have any unit; they are equal if `places` finds them so as shares of the
    highest one.
    """
    names = list(quality)
    spent = np.array([costs[name] for name in names], dtype=np.float64)
    dear = places(-spent / (np.abs(spent).max(initial=0) or 1))
    good = places([quality[name] for name in names])
    front: list[T] = []
    best = -math.inf
    for i in np.lexsort((good, dear)):
        if sign(quality[names[i]] - best) > 0:
            front.append(names[i])
            best = quality[names[i]]
    return front


def alike(scores: Scores[T]) -> list[T]:
    """All that the images cannot tell apart from the best one, the best first."""
    best, *others = ranking(scores)
    return [best, *(n for n in others if not told(scores[best], scores[n]))]


class Decision(NamedTuple):
    """What to take from a table, under a condition."""

    label: Label | None
    """None if the images do not tell the best apart from the best floor."""
    alike: tuple[Label, ...]
    """All that cannot be told apart from the best one allowed, the best first."""
    floor: Label | None
    """The best floor, if there is one."""


def decide(
    scores: Scores[Label], budget: int | None, *, gradients: bool
) -> Decision | None:
    """What a table of scores recommends to somebody with a budget.

    Of all methods that are allowed and that the images cannot tell apart from the best
    one, the cheapest in queries that is surely above every floor.

    Args:
        scores: for each label a number per image, with those of some KNOWS_NOTHING.
        budget: the most queries; None allows any number.
        gradients: whether methods that differentiate are allowed.

    Returns:
        None if the scores have no method that is allowed.
    """
    limit = math.inf if budget is None else budget
    allowed = {
        label: values
        for label, values in scores.items()
        if label.method not in KNOWS_NOTHING
        and (gradients if label.budget is None else label.budget <= limit)
    }
    if not allowed:
        return None
    floors = {n: v for n, v in scores.items() if n.method in KNOWS_NOTHING}
    best = alike(allowed)
    above = [
        n for n in best if all(told(allowed[n], floor) for floor in floors.values())
    ]
    return Decision(
        min(above, key=lambda n: n.budget or 0) if above else None,
        tuple(best),
        next(iter(ranking(floors))) if floors else None,
    )


def _table(scores: Scores[T]) -> tuple[list[T], np.ndarray]:
    """Names, and their scores `[names, N]`."""
    names = list(scores)
    if not names:
        raise ValueError("scores must hold at least one name, got none")
    lengths = {len(scores[name]) for name in names}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError(
            "scores must have one number per image, for the same images, got "
            f"{sorted(lengths)} numbers"
        )
    return names, torch.stack([scores[n].double() for n in names]).numpy()


def _resampled(values: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Means over drawn images, `[names, n_resamples]`."""
    n = values.shape[1]
    return values @ times_drawn(n, n_resamples, seed).numpy().T / n


def _units(data: str) -> list[Unit]:
    return units(bench(data), data, range(DATA[data].n_images))


STUDIES = {
    f"showdown_{data}": Study(
        "all explainers on one bench; chapter 10", partial(_units, data), run
    )
    for data in DATA
}
