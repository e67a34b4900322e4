"""Ikeno and Hara (2018): Figure 1 and footnote 6, Figures 2 to 4, and violations.

https://arxiv.org/abs/1807.05077, section 4. The published setting is VGG16 on 200
COCO-animals validation images: `figure1("vgg16", "coco_animals", 200, …)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xai_book.studies import hardware, map_files
from xai_book.studies.results import NotMeasured, Results, Spread, Unit
from xai_book.studies.stored_names import renamed
from xai_lib import baselines
from xai_lib.core.arguments import check_choice, check_count, check_number
from xai_lib.core.attribution import Attribution, generator
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.paths import data_path
from xai_lib.metrics import flipping
from xai_lib.metrics.intervals import bootstrap_mean, sign
from xai_lib.metrics.sweep import ranks
from xai_lib.pertmap import (
    Box,
    LinearPertMap,
    StochasticPertMap,
    violation_rates,
    worst_point,
)
from xai_lib.zoo import coco_animals, digits, models, photos

EXPLAINERS: dict[str, type[Attribution]] = {
    "Gradient": baselines.Gradient,
    "GuidedBP": baselines.GuidedBackprop,
    "SmoothGrad": baselines.SmoothGrad,
    "IntGrad": baselines.IntegratedGradients,
    "LRP": baselines.LRP,
    "DeepLIFT": baselines.DeepLift,
    "Occlusion": baselines.Occlusion,
    "LP": LinearPertMap,
    "LP (Smooth)": LinearPertMap,
    "Stochastic": StochasticPertMap,
}
FLOORS = ("random", "centre")
METHODS = (*EXPLAINERS, *FLOORS)
SEEDED = ("SmoothGrad", "LP (Smooth)", "Stochastic")
BOXES = ("LP", "LP (Smooth)", "Stochastic")
DATA = ("mnist", "fashion_mnist", "photos", "coco_animals")

_STOCHASTIC = {"optimizer": "adam", "lr": 0.01, "bound": 1.0}
PUBLISHED: dict[str, dict[str, Any]] = {
    "SmoothGrad": {"n_samples": 25, "stdev": 0.15},
    "IntGrad": {"n_steps": 25},
    "Occlusion": {"window": 12, "stride": 6},
    "LP": {"delta": 0.1, "patch": 8, "penalty": 16.0},
    "LP (Smooth)": {
        "delta": 0.1,
        "patch": 8,
        "penalty": 16.0,
        "n_smooth": 10,
        "noise": 0.05,
    },
    "Stochastic": {**_STOCHASTIC, "n_samples": 32, "n_iterations": 500},
}
"""The settings of section 4.1 for 224 × 224 pixels; SmoothGrad and IntGrad as the
`saliency` package sets them, whose squares in SmoothGrad are left out."""

# For 28 × 28 pixels, where 0.5 per side of a patch makes the linear program's map
# constant. Of a few values, these changed the fewest decisions on 60 MNIST digits
# that Figure 1 here does not use.
SMALL = {
    "Occlusion": {"window": 12, "stride": 4},
    "LP": {"patch": 2},
    "LP (Smooth)": {"patch": 2},
}
REDUCED: dict[str, dict[str, Any]] = {
    "Stochastic": {**_STOCHASTIC, "n_samples": 4, "n_iterations": 150},
    "LP (Smooth)": {"n_smooth": 2},
}
"""For photographs on a CPU: 27 times fewer passes, and two noisy copies, not ten."""

COLOURS = {"grey": 0.5, "black": 0.0, "white": 1.0}
"""What flipped features become: Figure 1, and footnote 6."""
QUANTILES = tuple(range(0, 101, 5))


def units(
    model: str,
    data: str,
    n_images: int,
    methods: Sequence[str] = METHODS,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    n_points: int = 1000,
    *,
    first: int = 0,
) -> list[Unit]:
    """What `figure1` measures, image by image; `measure` does one of them."""
    n_images, first = check_count("n_images", n_images), check_count("first", first, 0)
    return [
        Unit(
            {
                "model": model,
                "data": data,
                "method": check_choice("methods", method, METHODS),
                "arguments": arguments(method, model, settings),
                "n_points": n_points if method in BOXES else 0,
            },
            image,
        )
        for image in range(first, first + n_images)
        for method in methods
    ]


def figure1(
    model: str,
    data: str,
    n_images: int,
    results: Results,
    methods: Sequence[str] = METHODS,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    n_points: int = 1000,
    *,
    first: int = 0,
    show_progress: bool = False,
    spread: Spread = map,
) -> int:
    """Figure 1 and footnote 6: flip low scores, ask whether the class has changed.

    The rows are read back by `curves`.

    Args:
        model: a name of `models.load`; its logits are explained.
        data: "mnist", "fashion_mnist", "photos" or "coco_animals".
        n_images: how many.
        results: the store; rows that are there are not measured again.
        methods: of METHODS.
        settings: per method, arguments that replace those of `arguments`.
        n_points: random points, and random corners, that test each box.
        first: index of the first image.
        show_progress: draw a bar.
        spread: who measures, see `Results.run`.

    Returns:
        How many rows were measured now.
    """
    todo = units(model, data, n_images, methods, settings, n_points, first=first)
    return results.run(todo, measure, show_progress=show_progress, spread=spread)


def arguments(
    method: str, model: str, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The settings of a method in Figure 1, for the image size of a model.

    `settings` holds, per method, what replaces them.
    """
    small = SMALL if _model(model).input_size < 64 else {}
    chosen = [PUBLISHED, small, settings or {}]
    return {k: v for part in chosen for k, v in part.get(method, {}).items()}


def measure(unit: Unit) -> dict[str, Any]:
    """One method on one image: decisions after flipping, and violations of its box.

    Returns:
        "target": the predicted class; "grey", "black", "white": for each of QUANTILES,
        "1" if the class has changed, else "0". With boxes also "size", the mean of
        w_i; "uniform" and "corners", the shares of random points and corners of the
        box that change the class; "worst", the excess that `worst_point` finds, in
        logits. "queries": the model's evaluations where they are the method's budget.
    """
    settings, index = unit.settings, unit.image
    data, method, name = settings["data"], settings["method"], settings["model"]
    image, blackbox = load_image(data, index), _blackbox(name)
    target = int(blackbox(image).argmax())
    found: dict[str, Any] = {"target": target}
    if method in FLOORS:
        attribution = floor(method, image, index)
    else:
        before = blackbox.queries
        explainer = EXPLAINERS[method](
            blackbox if method == "Occlusion" else _model(name),
            **renamed(EXPLAINERS[method], settings["arguments"]),
            **({"seed": unit.seed} if method in SEEDED else {}),
        )
        attribution = explainer.attribute(image, target)
        if method == "Occlusion":
            found["queries"] = blackbox.queries - before
        if isinstance(explainer, StochasticPertMap):
            found["queries"] = explainer.n_perturbations * explainer.n_iterations
    for colour, value in COLOURS.items():
        changed = flipping(blackbox, image, attribution, QUANTILES, value).changed[0]
        found[colour] = "".join(str(int(c)) for c in changed)
    if method in BOXES:
        box = Box(-attribution, -attribution)
        rates = violation_rates(blackbox, image, box, target, settings["n_points"])
        worst = worst_point(_model(name), image, box, target)
        found["size"] = round(float(box.w.mean()), 5)
        found["uniform"] = round(float(rates.uniform), 5)
        found["corners"] = round(float(rates.corners), 5)
        found["worst"] = round(float(worst.excess), 4)
    return found


def floor(method: str, image: Tensor, index: int) -> Tensor:
    """A map that knows nothing about the model: "random", or "centre", minus the
    distance from the centre in pixels; `[1, C, H, W]` and `[1, 1, H, W]`."""
    if method == "random":
        return torch.rand(image.shape, generator=generator(index))
    down, across = (torch.arange(n) - (n - 1) / 2 for n in image.shape[2:])
    return -torch.hypot(down[:, None], across[None])[None, None]


def load_image(data: str, index: int) -> Tensor:
    """One image of a dataset of the study, float `[1, C, H, W]` in [0, 1].

    Raises:
        ValueError: an unknown dataset, or an index that it does not have.
    """
    check_choice("data", data, DATA)
    images = _images(data)
    if index >= len(images):
        raise ValueError(f"{data} has {len(images)} images, got index {index}")
    return images[index : index + 1]


@lru_cache
def _images(data: str) -> Tensor:
    if data == "photos":
        return photos.labelled().images
    if data == "coco_animals":
        return coco_animals.load().images
    return (digits.mnist() if data == "mnist" else digits.fashion_mnist()).images


@lru_cache
def _model(name: str) -> models.Classifier:
    return hardware.model(name)


@lru_cache
def _blackbox(name: str) -> BlackBox:
    return hardware.blackbox(_model(name))


class Curves(NamedTuple):
    """What one method's rows say about the images that all asked methods have."""

    images: tuple[int, ...]
    changed: dict[str, Tensor]
    """For each colour, whether the class has changed, bool `[N, len(QUANTILES)]`."""
    boxes: dict[str, Tensor]
    """"size", "uniform", "corners", "worst" `[N]`, see `measure`; empty without."""


def curves(
    results: Results,
    model: str,
    data: str,
    methods: Sequence[str] = METHODS,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Curves]:
    """Read Figure 1 back: for each method, the images that every method has.

    Arguments as in `figure1`.

    Raises:
        NotMeasured: a method has no row, or no image is common to all.
        ValueError: an image has several rows.
    """
    found = {}
    for method in methods:
        wanted = arguments(method, model, settings)
        rows = results.rows(model=model, data=data, method=method, arguments=wanted)
        found[method] = {row["image"]: row["result"] for row in rows}
        if not rows or len(found[method]) < len(rows):
            count = "several rows for an image" if rows else "no row"
            raise (ValueError if rows else NotMeasured)(
                f"{results.path.name} has {count} of {method} on {data} with {wanted}"
            )
    common = sorted(set.intersection(*(set(rows) for rows in found.values())))
    if not common:
        raise NotMeasured(f"no image of {data} has rows of all of {', '.join(methods)}")
    return {
        method: Curves(
            tuple(common),
            {
                colour: torch.tensor(
                    [[c == "1" for c in rows[i][colour]] for i in common]
                )
                for colour in COLOURS
            },
            {
                name: torch.tensor([rows[i][name] for i in common])
                for name in ("size", "uniform", "corners", "worst")
                if name in rows[common[0]]
            },
        )
        for method, rows in found.items()
    }


class Verdict(NamedTuple):
    """The paper's two claims about Figure 1, in numbers."""

    worst_to_half: float
    """The largest share of changed classes at any quantile up to 50 %; the paper:
    "almost zeros"."""
    better: tuple[str, ...]
    """Methods with fewer changes on average over the quantiles; the paper: none."""
    surely_better: tuple[str, ...]
    """Of these, the ones for which the 95 % bootstrap interval of the difference, over
    images, leaves out zero, which it does not if it ends there."""
    surely_worse: tuple[str, ...]
    """Likewise, methods with more changes."""


def verdict(found: Mapping[str, Curves], colour: str = "grey") -> Verdict:
    """Test "almost zero up to 50 %" and "below every other method" on the curves."""
    own = found["Stochastic"].changed[colour]
    half = [q <= 50 for q in QUANTILES]
    better, surely_better, surely_worse = [], [], []
    for method, theirs in found.items():
        if method == "Stochastic":
            continue
        # Counted, so that as many changes are a tie, in each resample too.
        more = own.sum(dim=1) - theirs.changed[colour].sum(dim=1)
        low, high = bootstrap_mean(more)
        if more.sum() > 0:
            better.append(method)
        if sign(low) > 0:
            surely_better.append(method)
        if sign(high) < 0:
            surely_worse.append(method)
    return Verdict(
        float(own[:, half].double().mean(dim=0).max()),
        tuple(better),
        tuple(surely_better),
        tuple(surely_worse),
    )


def box_map(
    model: str,
    photo: str,
    method: str,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    folder: str | Path | None = None,
    *,
    show_progress: bool = False,
) -> Tensor:
    """The map -ŵ of a photograph for Figures 2 to 4, stored once it is computed.

    Stored in steps of 1/255 of the largest w_i that is possible.

    Args:
        model: a name of `models.load`; its logits are explained.
        photo: a name of `photos.load`; its predicted class is the target.
        method: of BOXES.
        settings: as in `figure1`.
        folder: None is the book's `data/results/pertmap_maps`.
        show_progress: draw a bar while it is computed.

    Returns:
        `[1, 3, H, W]`, at most 0.
    """
    check_choice("method", method, BOXES)
    chosen = arguments(method, model, settings)
    wanted = Unit({"model": model, "photo": photo, "arguments": chosen}, 0).key
    folder = data_path("results") / "pertmap_maps" if folder is None else Path(folder)
    name = "".join(c for c in method.lower() if c.isalpha())
    path = map_files.map_path(folder, f"{photo}_{name}", wanted)
    bound = chosen["bound" if method == "Stochastic" else "delta"]
    if not path.exists():
        kind = EXPLAINERS[method]
        explainer = kind(_model(model), **renamed(kind, chosen))
        image = photos.load(photo).image
        w = -explainer.attribute(image, show_progress=show_progress)
        steps = (w / bound * 255).round().to(torch.uint8).numpy()
        map_files.write(path, wanted, {"steps": steps})
    (stored,) = map_files.read_arrays(path, "steps")
    return -torch.from_numpy(stored).float() / 255 * bound


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
