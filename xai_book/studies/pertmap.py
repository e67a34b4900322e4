"""Ikeno and Hara (2018): Figure 1 and footnote 6, Figures 2 to 4, and violations.

https://arxiv.org/abs/1807.05077, section 4. The published setting is VGG16 on 200
COCO-animals validation images: `units("vgg16", "coco_animals", 200)`. Cases are
labelled as in the paper, see LABELS.

    run(units("cnn_mnist", "mnist", 200), Results("pertmap_figure1_mnist"))
    curves(Results("pertmap_figure1_mnist"), "cnn_mnist", "mnist")

What Figure 1 shows depends on three choices, of which the paper states one and the
authors' notebooks two. A `Cell` is one choice of each; `figure1_mnist`,
`figure1_fashion_mnist` and `figure1_photos` measure all twelve, and `cells` reads them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_book.methods import ALSO
from xai_book.methods import METHODS as EVERY
from xai_book.studies import beds, hardware
from xai_book.studies.beds import floor
from xai_book.studies.engine import Runner, Study, kept_maps, units_of
from xai_book.studies.results import Results, Unit, rounded
from xai_lib.core.arguments import check_choice, check_count, check_number
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.extras import extra
from xai_lib.metrics import flipping
from xai_lib.metrics.flipping import TIES
from xai_lib.metrics.intervals import bootstrap_mean, sign
from xai_lib.metrics.sweep import ranks
from xai_lib.pertmap import Box, StochasticPertMap, violation_rates, worst_point
from xai_lib.zoo import photos

with extra("book"):
    import pandas as pd

_IN_THE_PAPER = (
    *("Gradient", "GuidedBP", "SmoothGrad", "IntGrad", "LRP", "DeepLIFT"),
    *("Occlusion", "LP", "LP (Smooth)", "Stochastic"),
)
LABELS = {n: ALSO.get(n.removesuffix(" (Smooth)"), n) for n in _IN_THE_PAPER}
"""What the paper calls a method, and its name."""
FLOORS = ("random", "centre")
METHODS = (*LABELS, *FLOORS)
BOXES = ("LP", "LP (Smooth)", "Stochastic")
_LAYERWISE = ("LRP", "DeepLift")
_BOXES = ("Linear PertMap", "PertMap")
_SEEDED = ("SmoothGrad", *_BOXES)

_LINEAR = {"bound": 0.1, "patch": 8, "penalty": 16.0}
_STOCHASTIC = {"optimizer": "adam", "lr": 0.01, "bound": 1.0}
PUBLISHED: dict[str, dict[str, Any]] = {
    "SmoothGrad": {"n_samples": 25, "stdevs": 0.15},
    "IntGrad": {"n_steps": 25},
    "Occlusion": {"window": 12, "stride": 6},
    "LP": _LINEAR,
    "LP (Smooth)": {**_LINEAR, "n_smooth": 10, "stdevs": 0.05},
    "Stochastic": {**_STOCHASTIC, "n_perturbations": 32, "n_iterations": 500},
}
"""The settings of section 4.1 for 224 × 224 pixels, and of the authors' notebooks where
it has none (iterations, noisy copies); SmoothGrad and IntGrad as the `saliency` package
sets them, whose squares in SmoothGrad are left out."""

# For 28 × 28 pixels, where 0.5 per side of a patch makes the linear program's map
# constant. Of a few values, these changed the fewest decisions on 60 MNIST digits
# that Figure 1 here does not use.
SMALL = {
    "Occlusion": {"window": 12, "stride": 4},
    "LP": {"patch": 2},
    "LP (Smooth)": {"patch": 2},
}
REDUCED: dict[str, dict[str, Any]] = {
    "Stochastic": {**_STOCHASTIC, "n_perturbations": 4, "n_iterations": 150},
    "LP (Smooth)": {"n_smooth": 2},
}
"""For photographs on a CPU: 27 times fewer passes, and two noisy copies, not ten."""
CONVERGED: dict[str, dict[str, dict[str, Any]]] = {
    explains: REDUCED
    | {"Stochastic": {**_STOCHASTIC, "n_perturbations": 1, "n_iterations": steps}}
    for explains, steps in (("probability", 6000), ("logit", 2000))
}
"""For photographs, by what is explained: one draw a step, and steps until the boxes
hardly grow. Those of probabilities then have the .9 d that section 4.1's λ = 0.1 d
promises of the best one."""

COLOURS = {"grey": 0.5, "black": 0.0, "white": 1.0}
"""What flipped features become: Figure 1, and footnote 6."""
QUANTILES = tuple(range(0, 101, 5))
OF_MAPS = ("size", "uniform", "corners", "worst", "tied", "ratio", "highest")
TOGETHER = 4
"""Images that are explained together at most: faster than one by one."""


class Cell(NamedTuple):
    """How Figure 1 is measured."""

    explains: str = "logit"
    """"logit" or "probability": to which outputs λ, and every method, belongs."""
    absolute: bool = False
    """Whether rivals are ranked by the mean over channels of their absolute scores, or
    by their signed scores, each channel for itself. Boxes have no sign."""
    ties: str = "position"
    """The rule for equal scores, of `metrics.flipping`."""


CELLS = tuple(
    Cell(*one) for one in product(("probability", "logit"), (True, False), TIES)
)
PAPER = Cell("probability", True, "below")
"""The cell nearest to the authors' own. Their stochastic notebook explains softmax,
their linear one logits, and both take the absolute gradient for Gradient and
SmoothGrad; here all methods of a cell are treated alike, and all of this one explain
probabilities but LRP and DeepLIFT. "Smaller than the quantile" is the text of section
4.2: a map of one value flips nothing, which on small images its boxes mostly are."""


def units(
    model: str,
    data: str,
    n_images: int,
    methods: Sequence[str] = METHODS,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    n_points: int | None = 1000,
    *,
    explains: Sequence[str] = ("",),
) -> list[Unit]:
    """What Figure 1 and footnote 6 need: flip low scores, has the class changed?

    Args:
        model: a name of `models.load`; its logits are explained, unless `explains`
            says otherwise.
        data: of `beds.BEDS`.
        n_images: how many.
        methods: of METHODS.
        settings: per method, arguments that replace those of `arguments`.
        n_points: random points, and random corners, that test each box; None is none,
            and no search for the worst point either.
        explains: outputs of which all cells are measured, "probability" or "logit"; ""
            is logits in one cell, with signs and ties by position.
    """
    check_count("n_images", n_images)
    check_choice("data", data, tuple(beds.BEDS))
    of = (model, data, methods, settings, n_points)
    every = [one for score in explains for one in _settings(*of, score)]
    few = (range(n_images)[i : i + TOGETHER] for i in range(0, n_images, TOGETHER))
    return [unit for some in few for unit in units_of(every, some, together=True)]


def _settings(
    model: str,
    data: str,
    methods: Iterable[str],
    settings: Mapping[str, Mapping[str, Any]] | None,
    n_points: int | None = None,
    explains: str = "",
) -> list[dict[str, Any]]:
    """What rows hold for each method; without `n_points` for any number of them."""
    more = {"explains": explains} if explains else {}
    return [
        {
            "model": model,
            "data": data,
            "method": LABELS.get(check_choice("methods", method, METHODS), method),
            "arguments": arguments(method, model, settings),
            **more,
        }
        | ({} if n_points is None else {"n_points": n_points * (method in BOXES)})
        for method in methods
    ]


def arguments(
    method: str, model: str, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The settings of a method in Figure 1, for the image size of a model; `settings`
    holds, per method, what replaces them."""
    small = SMALL if hardware.is_small(model) else {}
    chosen = [PUBLISHED, small, settings or {}]
    return {k: v for part in chosen for k, v in part.get(method, {}).items()}


def measure(units: Sequence[Unit]) -> list[dict[str, Any]]:
    """One method on a few images: decisions after flipping, and what its boxes break.

    Returns:
        For each image "target": the predicted class; "grey", "black", "white": for each
        of QUANTILES, "1" if the class has changed, else "0"; equal scores go by
        position. "queries": the model's evaluations where they are the method's budget.
        With boxes also "size", the mean of w_i, and of the stochastic form "sizes", the
        same before the last step of each tenth of its steps. "highest": whether the
        class changes when the half with the highest scores is grey, ties by position.
        "ratio": see `signal_to_noise`, where it is finite.

        If the settings have "n_points", with boxes "uniform" and "corners", the shares
        of random points and corners of the box that change the class; "worst", the
        excess that `worst_point` finds, in units of the scores.

        If they say what is explained, decisions for each `Cell`, under the names of
        `_column`, and "tied", the share of numbers with the lowest score. LRP and
        DeepLIFT have no rule for a softmax: theirs are always maps of logits.
    """
    settings = units[0].settings
    data, method, name = settings["data"], settings["method"], settings["model"]
    explains = settings.get("explains", "logit")
    blackbox = hardware.blackbox(name, explains)
    images = beds.load(data, [unit.image for unit in units], name)
    targets = blackbox(images).argmax(dim=1)
    rows: list[dict[str, Any]] = [{} for _ in units]
    if method in FLOORS:
        attributions = torch.cat([floor(method, images[:1], u.image) for u in units])
    else:
        attributions, rows = _explain(units[0], blackbox, images, targets)
    cells = [c for c in CELLS if c.explains == settings.get("explains")] or [Cell()]
    for i, found in enumerate(rows):
        image, target, attribution = (
            x[i : i + 1] for x in (images, targets, attributions)
        )
        found["target"] = int(target)
        for cell in cells:
            ranked = attribution
            if cell.absolute:
                if method in (*_BOXES, *FLOORS):
                    continue
                ranked = attribution.abs().mean(dim=1, keepdim=True)
            for colour, value in COLOURS.items():
                curve = flipping(blackbox, image, ranked, QUANTILES, value, cell.ties)
                changed = "".join(str(int(c)) for c in curve.changed[0])
                found[_column(colour, cell)] = changed
        if "explains" in settings:
            lowest = (attribution == attribution.min()).double().mean()
            found["tied"] = round(float(lowest), 5)
        ratio = float(signal_to_noise(attribution))
        if method not in FLOORS and math.isfinite(ratio):
            found["ratio"] = float(f"{ratio:.4g}")
        if method not in _BOXES:
            continue
        found["size"] = round(float(-attribution.mean()), 5)
        half = flipping(blackbox, image, -attribution, [50], ties="position")
        found["highest"] = bool(half.changed)
        if "n_points" in settings:
            box = Box(-attribution, -attribution)
            rates = violation_rates(blackbox, image, box, target, settings["n_points"])
            worst = worst_point(hardware.scorer(name, explains), image, box, target)
            found["uniform"] = round(float(rates.uniform), 5)
            found["corners"] = round(float(rates.corners), 5)
            found["worst"] = round(float(worst.excess), 4)
    return rows


def _explain(
    unit: Unit, blackbox: BlackBox, images: Tensor, targets: Tensor
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The maps of a method, and what their rows say of how they were made."""
    settings, one = unit.settings, EVERY[unit.settings["method"]]
    layerwise = settings["method"] in _LAYERWISE
    explains = "logit" if layerwise else settings.get("explains", "logit")
    before = blackbox.queries
    explainer = one.explainer(
        blackbox if one.asks else hardware.scorer(settings["model"], explains),
        **settings["arguments"],
        **({"seed": unit.seed} if settings["method"] in _SEEDED else {}),
    )
    if isinstance(explainer, StochasticPertMap):
        solution = explainer.solve(images, targets)
        steps = explainer.n_iterations
        budget = {"queries": explainer.n_perturbations * steps}
        tenths = solution.size[[-(-steps * k // 10) - 1 for k in range(1, 11)]]
        means = (tenths / images[0].numel()).T
        return -solution.w, [budget | {"sizes": rounded(m)} for m in means]
    attributions = explainer.attribute(images, targets)
    queries = (blackbox.queries - before) // len(images)
    return attributions, [{"queries": queries} if one.asks else {} for _ in images]


def signal_to_noise(attributions: Tensor) -> Tensor:
    """Of maps `[N, C, H, W]`, summed over C: the variance `[N]` of the means of 8 × 8
    pixels over that within them. What averaging leaves is the signal, what it takes
    away the noise; infinite or NaN without noise, as where squares share a score."""
    values = attributions.sum(dim=1, keepdim=True).double()
    coarse = F.avg_pool2d(values, 8)
    height, width = (8 * n for n in coarse.shape[2:])
    rest = values[..., :height, :width] - F.interpolate(coarse, scale_factor=8)
    return coarse.flatten(1).var(dim=1) / rest.flatten(1).var(dim=1)


def _column(colour: str, cell: Cell) -> str:
    """Of a row, such as "grey" by position, or "grey, below, absolute"."""
    ties = "" if cell.ties == "position" else f", {cell.ties}"
    return f"{colour}{ties}{', absolute' * cell.absolute}"


run = Runner(measure, TOGETHER)


class Curves(NamedTuple):
    """What one method's rows say about the images that all asked methods have: by
    colour whether the class has changed, bool `[N, len(QUANTILES)]`; and of OF_MAPS,
    see `measure`, what all rows have, `[N]`."""

    images: tuple[int, ...]
    changed: dict[str, Tensor]
    maps: dict[str, Tensor]


def curves(
    results: Results,
    model: str,
    data: str,
    methods: Sequence[str] = METHODS,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    cell: Cell | None = None,
) -> dict[str, Curves]:
    """Read Figure 1 back: for each method, the images that every method has.

    Arguments as in `units`; `cell` is for stores that have all cells.

    Raises:
        NotMeasured: a method has no row, or no image is common to all.
        ValueError: an image has several rows.
    """
    explains = cell.explains if cell else ""
    of_each = _settings(model, data, methods, settings, explains=explains)
    wanted = dict(zip(methods, of_each, strict=True))
    found, common = results.shared(wanted, f"image of {data}")
    return {
        m: _curves([rows[i] for i in common], common, cell or Cell(), m)
        for m, rows in found.items()
    }


def _curves(
    rows: Sequence[dict[str, Any]], images: Sequence[int], cell: Cell, method: str
) -> Curves:
    if method in (*BOXES, *FLOORS):
        cell = cell._replace(absolute=False)
    columns = {colour: _column(colour, cell) for colour in COLOURS}
    changed = {
        colour: torch.tensor([[c == "1" for c in row[name]] for row in rows])
        for colour, name in columns.items()
    }
    maps: dict[str, Tensor] = {
        name: torch.tensor([row[name] for row in rows])
        for name in OF_MAPS
        if all(name in row for row in rows)
    }
    return Curves(tuple(images), changed, maps)


class Verdict(NamedTuple):
    """The paper's two claims about Figure 1, in numbers: the largest share of changed
    classes at any quantile up to 50 % ("almost zeros"); the methods with fewer changes
    on average over the quantiles (none); those of them, and those with more, for which
    the 95 % bootstrap interval over images leaves out zero, and does not end there."""

    worst_to_half: float
    better: tuple[str, ...]
    surely_better: tuple[str, ...]
    surely_worse: tuple[str, ...]


def verdict(found: Mapping[str, Curves], colour: str = "grey") -> Verdict:
    """Test "almost zero up to 50 %" and "below every other method" on the curves."""
    own = found["Stochastic"].changed[colour]
    half = own[:, [q <= 50 for q in QUANTILES]].double().mean(dim=0)
    # Counted, so that as many changes are a tie, in each resample too.
    more = {
        method: own.sum(dim=1) - theirs.changed[colour].sum(dim=1)
        for method, theirs in found.items()
        if method != "Stochastic"
    }
    ends = {method: bootstrap_mean(counts) for method, counts in more.items()}
    return Verdict(
        float(half.max()),
        tuple(method for method in more if more[method].sum() > 0),
        tuple(method for method in more if sign(ends[method][0]) > 0),
        tuple(method for method in more if sign(ends[method][1]) < 0),
    )


def cells(
    results: Results,
    data: str,
    methods: Sequence[str] = METHODS,
    wanted: Iterable[Cell] = CELLS,
) -> dict[Cell, dict[str, Curves]]:
    """Figure 1 in each of the `wanted` cells, of the images that all methods have;
    `methods` and errors as in `curves`, `results` such as `Results("figure1_mnist")`.
    """
    model, by = beds.BEDS[data].model, CONVERGED if data == "photos" else {}
    return {
        cell: curves(results, model, data, methods, by.get(cell.explains), cell)
        for cell in wanted
    }


def cells_table(found: Mapping[Cell, Mapping[str, Curves]]) -> pd.DataFrame:
    """What `cells` found, a line for each: of the stochastic form, the share of changed
    classes, at most up to the 50 % quantile and on average over all, and the share of
    its numbers that have the lowest score; and how many of the paper's rivals surely
    change fewer classes (better) or more (worse). * is the cell nearest to the authors'
    own, PAPER."""
    return pd.DataFrame(
        {
            "outputs": cell.explains + "*" * (cell == PAPER),
            "rivals": "absolute" if cell.absolute else "signed",
            "ties": cell.ties,
            "images": len(own.images),
            "to 50 %": said.worst_to_half,
            "mean": float(own.changed["grey"].double().mean()),
            "tied": float(own.maps["tied"].mean()),
            "better": len(said.surely_better),
            "worse": len(said.surely_worse),
        }
        for cell, of in found.items()
        for own in [of["Stochastic"]]
        for said in [verdict({m: c for m, c in of.items() if m not in FLOORS})]
    ).round(2)


def box_map(
    model: str,
    photo: str,
    method: str,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    folder: str | Path | None = None,
    explains: str = "logit",
) -> Tensor:
    """The map -ŵ of a photograph for Figures 2 to 4, stored once it is computed.

    Args:
        model: a name of `models.load`.
        photo: a name of `photos.load`; its predicted class is the target.
        method: of BOXES.
        settings: as in `units`.
        folder: None is the book's `data/results/pertmap_maps`.
        explains: "logit" or "probability".

    Returns:
        `[1, 3, H, W]`, at most 0.
    """
    check_choice("method", method, BOXES)
    chosen = arguments(method, model, settings)
    name = f"{photo}_{''.join(c for c in method.lower() if c.isalpha())}"

    def make(_: Unit) -> Tensor:
        scores = hardware.scorer(model, explains)
        explainer = EVERY[LABELS[method]].explainer(scores, **chosen)
        return explainer.attribute(photos.load(photo).image)

    about = {} if explains == "logit" else {"explains": explains}
    unit = Unit({"model": model, "photo": photo, "arguments": chosen, **about}, 0)
    return kept_maps({name: unit}, make, lambda _: name, folder, "pertmap_maps")[name]


def keep_top(image: Tensor, attribution: Tensor, quantile: float = 80) -> Tensor:
    """Paint the pixels with scores under the quantile (in percent) red: Figures 2 to 4.

    Args:
        image: `[3, H, W]` in [0, 1].
        attribution: `[C, H, W]`, summed over C for one score per pixel.
    """
    check_number("quantile", quantile, 0, 100)
    scores = attribution.sum(dim=0)
    hidden = ranks(scores[None], descending=False)[0] < quantile / 100 * scores.numel()
    return torch.where(hidden, torch.tensor([1.0, 0, 0])[:, None, None], image)


def _study(what: str, data: str, n: int, needs: str = "", **changes: Any) -> Study:
    of = partial(units, beds.BEDS[data].model, data, n, **changes)
    return Study(f"Ikeno & Hara: {what}; reproduce/pertmap", of, run, needs)


def _photographs() -> list[Unit]:
    of = (beds.BEDS["photos"].model, "photos", beds.PHOTOS, METHODS)
    return [
        unit
        for explains, settings in CONVERGED.items()
        for unit in units(*of, settings, 100, explains=[explains])
    ]


_FIGURE1 = "Figure 1, footnote 6, violations"
_CELLS = "Figure 1 in twelve cells: outputs, signs, ties"
_BOTH: dict[str, Any] = {"explains": ("probability", "logit"), "n_points": None}
_SMALL_BEDS = ("mnist", "fashion_mnist")
STUDIES = {
    **{f"pertmap_figure1_{data}": _study(_FIGURE1, data, 200) for data in _SMALL_BEDS},
    **{f"figure1_{data}": _study(_CELLS, data, 200, **_BOTH) for data in _SMALL_BEDS},
    "pertmap_figure1_photos": _study(
        _FIGURE1, "photos", beds.PHOTOS, settings=REDUCED, n_points=100
    ),
    "figure1_photos": Study(
        f"Ikeno & Hara: {_CELLS}; reproduce/pertmap", _photographs, run
    ),
    "pertmap_figure1_coco_animals": _study(
        f"{_FIGURE1}, as published",
        "coco_animals",
        200,
        needs="VGG16 (528 MB) and COCO-animals",
    ),
}
