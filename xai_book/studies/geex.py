"""Cai and Wunder (GEEX, first arXiv version): Table 1, Figures 2 to 4, S1 to S6.

A figure or table is a set of cases: a label for each method with its settings. `run`
measures them on images and stores a row for each, `read` gives the rows back as
tensors, and `maps` the maps themselves:

    where = (table1("cnn_mnist"), "cnn_mnist", "mnist")
    run(units(*where, range(200)), Results("geex_mnist"))
    read(*where, Results("geex_mnist"))["GEEX"]["aopc"]

| cases | what they reproduce |
| --- | --- |
| `table1` | Table 1; Figures 3, 4; curves and maps of Figures 2, S1 to S3 |
| `samples`, `stdevs` | Figure S4 |
| `floors` | the lowest scores that mean something: random pixels, lumps and waves |
| `mask_sizes` | Figure S5; with the two above, the maps of Figure S6 |
| `samplers` | the paper's open question: the same map from fewer queries |

The published setting on ImageNet is `table1("inception_v3")` with the path of a
validation folder as `data`. The paper's text lost its numbers of samples, widths and
mask sizes on the way to us; SMALL and LARGE say what is used here, and why.
"""

import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xai_book import methods
from xai_book.studies import hardware, map_files
from xai_book.studies.beds import BEDS, LITE, PHOTOS, floor, load, photo_names
from xai_book.studies.engine import Cases, Runner, Study, kept_maps, units_of
from xai_book.studies.hardware import channels, is_small, size
from xai_book.studies.results import Case, Results, Unit, published
from xai_lib.baselines.quickshift import quick_shift
from xai_lib.core.arguments import check_choice, check_count
from xai_lib.core.blackbox import BlackBox
from xai_lib.geex import GEEX, GERS, IGEEX
from xai_lib.metrics import deletion, map_distance

WHITE_BOX = ("SmoothGrad", "IG")
FAMILY = ("GEEX", "GERS", "iGEEX")
TABLE = (*WHITE_BOX, "RISE", "LIME", *FAMILY)
FLOOR = "random"
METHODS = (*TABLE, FLOOR)
GRADIENT_LIKE = tuple(name for name in TABLE if name in methods.GRADIENT_LIKE)
"""Maps of derivatives; the others are in units of the score, as map × input is."""

SMALL: dict[str, dict[str, Any]] = {
    # Another seed than GEEX's: the same draws would make the two alike by chance.
    "SmoothGrad": {"n_samples": 2000, "stdevs": 0.5, "seed": 1},
    "IG": {"n_steps": 100},
    "RISE": {"n_samples": 5000, "mask_size": 7, "p": 0.5},
    "LIME": {"n_samples": 1000, "n_segments": 50},
    "GEEX": {"n_samples": 5000, "stdevs": 0.5, "noise": "mirrored"},
    "GERS": {"n_samples": 5000, "stdevs": 0.5, "noise": "mirrored", "mask_size": 14},
    "iGEEX": {"n_samples": 5000, "stdevs": 0.5, "noise": "mirrored"},
}
"""For 28 × 28 pixels. n counts queries, and sigma is half in units of the pixels, as
chapters 04 and 05 have it; Table 1 is also measured at AUTHORS_STDEVS. GERS's masks
have half the image's size. LIME fits 50 weights, for which 1,000 samples are its
authors' default."""
LARGE: dict[str, dict[str, Any]] = {
    "SmoothGrad": {"n_samples": 50, "stdevs": 0.15, "seed": 1},
    "IG": {"n_steps": 25},
    "RISE": {"n_samples": 2000, "mask_size": 7, "p": 0.5},
    "LIME": {"n_samples": 1000, "n_segments": 50},
    "GEEX": {"n_samples": 5000, "stdevs": 0.15, "noise": "mirrored"},
    "GERS": {"n_samples": 5000, "stdevs": 0.15, "noise": "mirrored", "mask_size": 28},
    "iGEEX": {"n_samples": 5000, "stdevs": 0.15, "noise": "mirrored", "mask_size": 28},
}
"""For 224 × 224 pixels and more. On two photographs without a label GERS had a higher
AOPC with 0.15 than with 0.3. iGEEX has resized masks, as in the paper; RISE's 49 cells,
LIME's 50 weights and gradients need fewer samples."""

AUTHORS_STDEVS = {"small": 0.154, "large": 0.034}
"""The authors' sigma in units of pixels, from https://github.com/caiy0220/GEEX: half a
unit normal mask, times 1.0 for MNIST and 0.3 for ImageNet, on images that were divided
by 0.3081 and by about 0.226. (Fashion-MNIST is not in their code; here as MNIST.) Up to
commit 3934322 of May 2024 they draw 5,000 masks and ask with both signs, 10,000
queries, at random places of the path. Commit 4b8d841 of August 2024, and the newest,
84ebd31, first halve the number: 2,500 masks, 5,000 queries and one for the class; and
places that were laid out for 5,000 masks end at 0.4999 of the path."""
QUICK_SHIFT = "quick shift"
"""In place of a `feature_mask`, which each image has of its own."""
SCORES = ("probability", "logit")
"""What can be explained; see `default_score`."""
TOGETHER = 100
"""Small images that are measured together at most."""
MAPS = "geex_maps"
"""The folder of maps beside a store."""
POINTS = 57
"""Points of a stored deletion curve, evenly spaced over the share of deleted pixels."""
SIZES = (98, 200, 392, 500, 784, 1568, 5000)
"""Numbers of queries for `samplers` on small images. 1,568 are a forward and a backward
one for each of 784 pixels, and less than a third of 5,000."""


def case(method: str, model: str, **changes: Any) -> Case:
    """A method with the settings of Table 1 for a model's image size, and changes."""
    check_choice("method", method, METHODS)
    defaults = SMALL if is_small(model) else LARGE
    return Case(method, {**defaults.get(method, {}), **changes})


def default_score(model: str) -> str:
    """Which score of the target is explained: "logit" or "probability".

    On 60 digits and 60 articles that Table 1 here does not use, the logit gave the
    family the higher AOPC on average, as probabilities near 1 are flat; cross-entropy
    to a "non-informative" outcome gave less than either. On four photographs GERS was
    as good with both, so large images have the probability, as for RISE and LIME.
    """
    return "logit" if is_small(model) else "probability"


def _score_of(model: str, explains: str | None) -> str:
    if explains is None:
        return default_score(model)
    return check_choice("explains", explains, SCORES)


def table1(model: str, stdevs: float | None = None) -> dict[Hashable, Case]:
    """Table 1 and Figure 3: the seven methods, and a random order as the floor;
    `stdevs` are those of SmoothGrad and of FAMILY, None for the book's. With the
    authors' on large images RISE has as many queries as the family, IG 100 steps, as
    25 leave its sum incomplete, and LIME the superpixels of its authors."""
    found: dict[Hashable, Case] = {
        method: case(method, model, **_wide(method, stdevs)) for method in METHODS
    }
    if stdevs and not is_small(model):
        found["RISE"] = case("RISE", model, n_samples=5000)
        found["IG"] = case("IG", model, **SMALL["IG"])
        found["LIME"] = Case("LIME", {"n_samples": 1000, "feature_mask": QUICK_SHIFT})
    return found


def _wide(method: str, stdevs: float | None) -> dict[str, Any]:
    return {"stdevs": stdevs} if stdevs and method in ("SmoothGrad", *FAMILY) else {}


def floors(model: str) -> dict[Hashable, Case]:
    """What knows nothing: a random order of pixels, and one direction of GERS's noise
    ("lumps") or of low frequencies ("waves"), as deleting in lumps may delete a class
    faster than pixel by pixel, whatever the lumps are."""
    cells = case("GERS", model).arguments["mask_size"]
    low = min(size(model), subspace(1000, channels(model)))
    return {
        FLOOR: case(FLOOR, model),
        "lumps": case(FLOOR, model, noise="mirrored", mask_size=cells),
        "waves": case(FLOOR, model, noise="low-frequency", mask_size=low),
    }


def samples(model: str, counts: Sequence[int] | None = None) -> dict[Hashable, Case]:
    """Figure S4, right: GEEX by the number of samples, and its two bounds."""
    if counts is None:
        more = (4000, 5000) if is_small(model) else ()
        counts = (250, 500, 1000, 2000, *more, 8000)
    return {n: case("GEEX", model, n_samples=n) for n in counts} | _bounds(model)


def stdevs(model: str, values: Sequence[float] | None = None) -> dict[Hashable, Case]:
    """Figure S4, left: GEEX by the width of the search, and its two bounds; on large
    images with `_fewer` samples."""
    if values is None:
        values = (0.05, 0.15, *([0.3] * is_small(model)), 0.5, 1.0)
    fewer = _fewer(model)
    return {s: case("GEEX", model, stdevs=s, **fewer) for s in values} | _bounds(model)


def mask_sizes(model: str) -> dict[Hashable, Case]:
    """Figure S5: GERS by the size of its masks, and its two bounds; on large images
    with `_fewer` samples."""
    sizes = (2, 4, 7, 10, 14, 20, 28) if is_small(model) else (7, 14, 28, 56)
    few = _fewer(model)
    return {s: case("GERS", model, mask_size=s, **few) for s in sizes} | _bounds(model)


def samplers(model: str, counts: Sequence[int] = SIZES) -> dict[Hashable, Case]:
    """Search noise by the number of queries, labelled (noise, n).

    On small images, for each of `counts`: "mirrored" (the paper's) and "orthogonal"
    noise on pixels, and "independent" for some; "resized", GERS as in Table 1;
    "low-frequency" with `subspace(n)` frequencies per axis, or always with 14. On
    large ones "low-frequency" with 1,000 queries, and GERS with 5,000 and 1,000, also
    with masks of 14, and of 12, which have as many cells as there are frequencies.
    """
    if not is_small(model):
        low = subspace(1000, channels(model))
        few = {"n_samples": 1000, "mask_size": low}
        return {
            ("low-frequency", 1000): case("GERS", model, noise="low-frequency", **few),
            ("resized", 5000): case("GERS", model),
            ("resized", 1000): case("GERS", model, n_samples=1000),
            ("resized 14", 5000): case("GERS", model, mask_size=14),
            (f"resized {low}", 1000): case("GERS", model, **few),
        }
    found: dict[Hashable, Case] = {}
    for n in counts:
        for noise in ("independent", "mirrored", "orthogonal"):
            if noise != "independent" or n in (500, 1568, 5000):
                found[noise, n] = case("GEEX", model, n_samples=n, noise=noise)
        found["resized", n] = case("GERS", model, n_samples=n)
        by_rule = min(size(model), subspace(n, channels(model)))
        for label, low in (("low-frequency", by_rule), ("low-frequency 14", 14)):
            found[label, n] = case(
                "GERS", model, n_samples=n, noise="low-frequency", mask_size=low
            )
    return found


def subspace(n_samples: int, channels: int) -> int:
    """How many frequencies per axis n queries can afford: the largest s with
    2 C s² <= n, so that each of the C s² directions is asked forwards and backwards."""
    n = check_count("n_samples", n_samples, 2 * check_count("channels", channels))
    return math.isqrt(n // (2 * channels))


def _fewer(model: str) -> dict[str, Any]:
    """Figures S4 and S5 on large images: a fifth of Table 1's samples."""
    return {} if is_small(model) else {"n_samples": 1000}


def _bounds(model: str) -> dict[Hashable, Case]:
    return {method: case(method, model) for method in ("SmoothGrad", FLOOR)}


def units(
    cases: Cases,
    model: str,
    data: str,
    images: Iterable[int],
    *,
    explains: str | None = None,
    stdevs: float | None = None,
) -> list[Unit]:
    """What `run` measures, in its order; small images together, with one noise set.

    Args:
        cases: what to measure, by label.
        model: a name of `models.load`.
        data: of `beds.BEDS`, or the path of an ImageNet validation folder.
        images: indices in the data.
        explains: "probability" or "logit" of the predicted class, None for
            `default_score`; curves are always of its probability.
        stdevs: of the SmoothGrad to which maps are held; None is the book's.
    """
    explains = _score_of(model, explains)
    every = [_settings(one, model, data, explains, stdevs) for one in cases.values()]
    return units_of(every, images, together=is_small(model))


def measure(units: Sequence[Unit]) -> list[dict[str, Any]]:
    """One method on some images: deletion curves, and distances to white-box maps.

    Returns, for each image:
        "target", "probability": the predicted class, and its probability;
        "aopc", "curve": the normalised area over the deletion curve (metrics.deletion)
            of the map as it is, and POINTS of the curve in thousandths;
        "aopc_input", "curve_input": the same of map × input, for GRADIENT_LIKE;
        "to_smoothgrad", "to_ig": the paper's distance to the map of a white-box method
            in Table 1, both summed over the channels (Figure 3);
        "cosine": to SmoothGrad with the same width, for GEEX and GERS;
        "noise": for FAMILY, the sum of squared standard errors over that of squared
            map values: the part of the map's energy that is noise, or an upper bound
            of it for orthogonal directions of a single block;
        "bright": for FAMILY, the part of that noise on the pixels that are brighter
            than the image's median (Figure 4);
        "queries": the model's evaluations, for methods that only query;
        "map": for photographs in SHOWN, what `keep` saves.
    """
    settings = units[0].settings
    model, data, method = settings["model"], settings["data"], settings["method"]
    indices = tuple(unit.image for unit in units)
    images = load(data, indices, model)
    blackbox = _blackbox(model, "probability")
    probabilities = blackbox(images)
    target = probabilities.argmax(dim=1)
    attribution, error, queries = _explain(units, images, target)
    found: dict[str, Tensor] = {
        "target": target,
        "probability": probabilities.amax(dim=1),
    }
    rankings = {"": attribution}
    if method in GRADIENT_LIKE:
        rankings["_input"] = attribution * images
    for name, ranking in rankings.items():
        curve = deletion(blackbox, images, ranking, target, settings["steps"])
        found["aopc" + name] = curve.aopc
        points = _points(settings["steps"])
        found["curve" + name] = (curve.scores[:, points] * 1000).round().long()
    explained = (model, data, indices, settings["explains"])
    if method != FLOOR:
        for reference in set(WHITE_BOX) - {method}:
            wide = _wide(reference, settings.get("reference_stdevs"))
            theirs = _white_box(case(reference, model, **wide), *explained)
            found["to_" + reference.lower()] = map_distance(attribution, theirs)
    if method in ("GEEX", "GERS"):
        same_width = case("SmoothGrad", model, stdevs=settings["arguments"]["stdevs"])
        found["cosine"] = torch.cosine_similarity(
            attribution.flatten(1), _white_box(same_width, *explained).flatten(1)
        )
    if error is not None:
        variance = error.square().sum(dim=1)
        brightness = images.mean(dim=1)
        median = brightness.flatten(1).median(dim=1).values
        bright = variance * (brightness > median[:, None, None])
        energy = attribution.flatten(1).square().sum(dim=1)
        of_noise = variance.flatten(1).sum(dim=1)
        # Zero where the estimate has vanished, and its error with it.
        tiny = torch.finfo(energy.dtype).tiny
        found["noise"] = of_noise / energy.clamp_min(tiny)
        found["bright"] = bright.flatten(1).sum(dim=1) / of_noise.clamp_min(tiny)
    if queries is not None:
        found["queries"] = torch.full((len(units),), queries)
    scores = attribution.sum(dim=1)
    return [
        {
            **{name: _plain(values[i]) for name, values in found.items()},
            **({"map": map_files.in_steps(scores[i])} if _is_shown(unit) else {}),
        }
        for i, unit in enumerate(units)
    ]


def keep(folder: Path, unit: Unit, found: dict[str, Any]) -> dict[str, Any]:
    """Save the map that `measure` found beside the store, if there is one; return the
    rest."""
    if "map" in found:
        path = map_files.map_path(folder / MAPS, _map_name(unit), unit.key)
        map_files.write(path, unit.key, found["map"])
    return {name: value for name, value in found.items() if name != "map"}


run = Runner(measure, TOGETHER, keep)
"""Maps of photographs in SHOWN are saved beside the store."""


def _explain(
    units: Sequence[Unit], images: Tensor, target: Tensor
) -> tuple[Tensor, Tensor | None, int | None]:
    """The maps, their standard errors where they have some, and queries per image."""
    settings = units[0].settings
    model, method, explains = (settings[k] for k in ("model", "method", "explains"))
    if method == FLOOR:
        orders = [
            floor(method, images[:1, :1], u.image, u.settings["arguments"])
            for u in units
        ]
        return torch.cat(orders), None, None
    if method in WHITE_BOX:
        indices = tuple(unit.image for unit in units)
        this = Case(method, settings["arguments"])
        return _white_box(this, model, settings["data"], indices, explains), None, None
    blackbox = _blackbox(model, explains)
    before = blackbox.queries
    arguments = {**settings["arguments"], "seed": units[0].seed}
    if arguments.get("feature_mask") == QUICK_SHIFT:
        arguments["feature_mask"] = quick_shift(images.squeeze(0))
    explainer = methods.METHODS[method].explainer(blackbox, **arguments)
    if isinstance(explainer, GEEX | GERS | IGEEX):
        attribution, error = explainer.estimate(images, target)
    else:
        attribution, error = explainer.attribute(images, target), None
    queries, rest = divmod(blackbox.queries - before, len(units))
    assert rest == 0, f"{method} asked images unequally"
    return attribution, error, queries


def _white_box(of: Case, *where: Any) -> Tensor:
    """The maps of SmoothGrad or IG, computed once: other methods are held to them.
    `where` is the model, the data, indices, and what is explained."""
    return _white_box_once(of.method, json.dumps(of.arguments, sort_keys=True), *where)


@lru_cache(maxsize=32)
def _white_box_once(method: str, arguments: str, *where: Any) -> Tensor:
    model, data, indices, explains = where
    images = load(data, indices, model)
    target = _blackbox(model, "probability")(images).argmax(dim=1)
    kind = methods.METHODS[method].explainer
    explainer = kind(hardware.scorer(model, explains), **json.loads(arguments))
    return explainer.attribute(images, target)


def _blackbox(model: str, explains: str) -> BlackBox:
    return hardware.blackbox(model, explains, 256 if is_small(model) else "auto")


def _steps(model: str) -> int:
    """Small images lose pixel by pixel, as in the paper; at 224 × 224 as many pixels
    go at once as a row has, as a map would need 50,176 queries."""
    return size(model) ** (2 if is_small(model) else 1)


def _settings(
    one: Case, model: str, data: str, explains: str, stdevs: float | None = None
) -> dict[str, Any]:
    return {
        **({"reference_stdevs": stdevs} if stdevs else {}),
        "model": model,
        "data": data,
        "explains": explains,
        "method": one.method,
        "arguments": one.arguments,
        "steps": _steps(model),
    }


def _points(steps: int) -> Tensor:
    """The steps of a deletion curve that a row keeps, int64 `[POINTS]`."""
    return (torch.arange(POINTS) * steps / (POINTS - 1)).round().long()


def _plain(value: Tensor) -> Any:
    """A number or list for JSON, rounded to what is meant."""
    return round(float(value), 5) if value.is_floating_point() else value.tolist()


def read(
    cases: Cases,
    model: str,
    data: str,
    results: Results,
    *,
    explains: str | None = None,
    stdevs: float | None = None,
) -> dict[Hashable, dict[str, Tensor]]:
    """The rows of the cases, for the images that every case has.

    Arguments as in `units`.

    Returns:
        For each label what `measure` lists, as tensors with one row per image, in the
        same order for all: `[N]`, and for curves `[N, POINTS]` in [0, 1]; "image" is
        the index in the data, and "fractions" `[POINTS]` the share of deleted pixels.

    Raises:
        NotMeasured: a case has no row, or no image is common to all.
    """
    of = model, data, _score_of(model, explains), stdevs
    wanted = {label: _settings(one, *of) for label, one in cases.items()}
    rows, common = results.shared(wanted, f"image of {data}")
    steps = _steps(model)
    points = _points(steps)
    return {
        label: {
            "image": torch.tensor(common),
            "fractions": points / steps,
            **{
                name: torch.tensor([of_case[i][name] for i in common])
                / (1000 if name.startswith("curve") else 1)
                for name in of_case[common[0]]
            },
        }
        for label, of_case in rows.items()
    }


def score(found: Mapping[str, Tensor], ranking: str = "map") -> Tensor:
    """The normalised AOPC `[N]` of a case, from what `read` returns for it: of the
    "map", or of map × "input" for GRADIENT_LIKE; others have the one score."""
    check_choice("ranking", ranking, ("map", "input"))
    plain = found["aopc"]
    return found.get("aopc_input", plain) if ranking == "input" else plain


SHOWN = ("chelsea", "coffee", "rocket")
"""Photographs whose maps are saved, as their licences allow them in figures."""


def maps(
    cases: Cases,
    model: str,
    data: str,
    image: int,
    folder: str | Path | None = None,
    *,
    explains: str | None = None,
    stdevs: float | None = None,
) -> dict[Hashable, Tensor]:
    """The maps of one image: Figures 2, 4 and S6, S1 to S3.

    Maps of photographs in SHOWN are saved, in steps of 1/127 of their largest value,
    when `run` measures them, or else here; other maps are computed at every call.

    Args:
        cases, model, data, explains, stdevs: as in `units`, so that rows and maps are
            of one measurement.
        image: its index in the data.
        folder: where maps are saved; None is the book's `data/results/geex_maps`.

    Returns:
        For each label `[1, 1, H, W]`, summed over the channels.
    """
    settings = partial(_settings, explains=_score_of(model, explains), stdevs=stdevs)
    units = {x: Unit(settings(one, model, data), image) for x, one in cases.items()}
    shown = {label: unit for label, unit in units.items() if _is_shown(unit)}
    found = kept_maps(shown, _map_of, _map_name, folder, MAPS)
    return {x: found[x] if x in found else _map_of(unit) for x, unit in units.items()}


def _map_of(unit: Unit) -> Tensor:
    """The map `[1, 1, H, W]` of the class that is predicted."""
    model = unit.settings["model"]
    images = load(unit.settings["data"], [unit.image], model)
    target = _blackbox(model, "probability")(images).argmax(dim=1)
    attribution, _, _ = _explain([unit], images, target)
    return attribution.sum(dim=1, keepdim=True)


def _is_shown(unit: Unit) -> bool:
    """Whether the map of a unit is saved."""
    of_photo = unit.settings["data"] == "photos" and unit.settings["method"] != FLOOR
    return of_photo and photo_names("photos")[unit.image] in SHOWN


def _map_name(unit: Unit) -> str:
    """Of the file of a map that is shown."""
    return f"{photo_names('photos')[unit.image]}_{unit.settings['method'].lower()}"


def published_table1() -> dict[str, dict[str, float]]:
    """Table 1 of the paper: for "MNIST", "Fashion-MNIST", "ImageNet" the methods'
    normalised AOPC, and on ImageNet that of a "random" order (S-V)."""
    found: dict[str, dict[str, float]] = {}
    for row in published("geex"):
        data, colon, method = row["quantity"].partition(": ")
        if row["item"] == "Table 1" and colon:
            found.setdefault(data, {})[method] = float(row["value"])
    return found


def _table1(data: str, explains: str) -> list[Unit]:
    model = BEDS[data].model
    return units(table1(model), model, data, range(200), explains=explains)


def authors_stdev(data: str) -> float:
    """The authors' sigma for a bed, see AUTHORS_STDEVS."""
    return AUTHORS_STDEVS["small" if is_small(BEDS[data].model) else "large"]


def _authors(data: str, n: int, together: int) -> list[Unit]:
    """Some images of all methods before the next ones, so that a part is of use."""
    model, stdevs = BEDS[data].model, authors_stdev(data)
    parts = [range(at, min(at + together, n)) for at in range(0, n, together)]
    how = partial(units, table1(model, stdevs), model, data, stdevs=stdevs)
    return [unit for part in parts for unit in how(part)]


def _effects(data: str, n: int) -> list[Unit]:
    model = BEDS[data].model
    every = (mask_sizes(model), samples(model), stdevs(model))
    return [unit for cases in every for unit in units(cases, model, data, range(n))]


def _photos() -> list[Unit]:
    """Cheap cases first, for all photographs; then the dear ones, one by one."""
    table = table1(LITE)
    dear = {name: table.pop(name) for name in ("RISE", "GEEX", "iGEEX", "LIME")}
    cheap = {**table, **samplers(LITE), **floors(LITE)}
    return [
        unit
        for cases in (cheap, dear)
        for unit in units(cases, LITE, "photos", range(PHOTOS))
    ]


def _choices() -> list[Unit]:
    """On images that no other study uses."""
    found: list[Unit] = []
    cases: Cases
    for data in ("mnist", "fashion_mnist"):
        model = BEDS[data].model
        where = (model, data, range(800, 860))
        for explains in SCORES:
            found += units(table1(model), *where, explains=explains)
        for change in ({"loss": "non-informative"}, {"stdevs": 0.15}):
            cases = {m: case(m, model, **change) for m in FAMILY}
            found += units(cases, *where, explains="logit")
    for stdev in (0.15, 0.3):
        few = {"n_samples": 1000, "mask_size": 28, "stdevs": stdev}
        cases = {"GERS": case("GERS", LITE, **few)}
        found += units(cases, LITE, "unlabelled_photos", range(2))
    return found


def _study(what: str, units: Callable[..., Sequence[Unit]], *of: Any) -> Study:
    return Study(f"Cai & Wunder: {what}; reproduce/geex", partial(units, *of), run)


STUDIES: dict[str, Study] = {}
for _data in ("mnist", "fashion_mnist"):
    STUDIES |= {
        f"geex_{_data}": _study("Table 1 at a σ of .5", _table1, _data, "logit"),
        f"geex_{_data}_probability": _study(
            "Table 1, the probability explained", _table1, _data, "probability"
        ),
        f"table1_{_data}": _study(
            *("Table 1, Figures 2 to 4, S1, S2, at the authors' σ", _authors),
            *(_data, 200, 20),
        ),
        f"geex_{_data}_effects": _study("Figures S4 and S5", _effects, _data, 60),
    }
STUDIES |= {
    "table1_photos": _study(
        *("Table 1, Figures 2 to 4, S3, at the authors' σ", _authors),
        *("photos", PHOTOS, 1),
    ),
    "geex_mnist_samplers": _study(
        "section 3, mirrored noise, fewer queries",
        lambda: units(samplers("cnn_mnist"), "cnn_mnist", "mnist", range(60)),
    ),
    "geex_photos": Study(
        "Cai & Wunder: Table 1 at a σ of .15, fewer queries; reproduce/geex, "
        "chapter 11",
        _photos,
        run,
    ),
    "geex_photos_effects": _study(
        "Figures S4 and S5 on photographs", _effects, "photos", PHOTOS
    ),
    "geex_choices": Study(
        "Cai & Wunder: no figure: how settings were chosen", _choices, run
    ),
}
