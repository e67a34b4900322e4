"""AISE for detectors against D-RISE, measured on scenes (supplement, 9 and 10.2).

The paper shows maps, Figures 10 and 11, and has no number for detection. This study
has: each confident detection of the scenes' detector is explained by each case, and
its map is judged by where it lies and by what happens to the detection.

    results = Results("aise_detection")
    run(cases(), range(100), results)
    read(cases(), results)["AISE-99"]["energy_box"]

Two cases ask nothing about the detection and are the floor for the others: a "blob" in
the middle of the box, and AISE's places with their scores shuffled, which knows where
AISE looks, but not what it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xai_book.studies import hardware, map_files
from xai_book.studies.aise import centred
from xai_book.studies.results import Case, Results, Spread, Unit, rounded
from xai_book.studies.stored_names import renamed
from xai_lib.aise.density import saliency
from xai_lib.aise.detection import AISEDetection
from xai_lib.baselines.drise import DRISE
from xai_lib.core.arguments import check_choice, check_count
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.detection import Detection, Detector, detection_score
from xai_lib.core.extras import extra
from xai_lib.core.paths import data_path
from xai_lib.metrics import box_masks, energy_inside, pointing_hits
from xai_lib.metrics.sweep import ranks, sweep
from xai_lib.zoo import scenes

with extra("book"):
    from torchvision.ops import box_iou

METHODS = ("AISE", "shuffled", "D-RISE", "blob")
CONFIDENT = 0.5
"""Detections below are left out, as in the paper (section 9)."""
FRACTIONS = (0.125, 0.25, 0.5, 1.0)
"""How many pixels are kept or removed, as shares of the box's area."""
MEASURES = {
    "energy_box": ("energy in the box", 1),
    "energy_mask": ("energy on the article", 1),
    "kept": ("top pixels kept", 1),
    "removed": ("top pixels removed", -1),
}
"""What two methods are compared by: its words, and -1 where low is good."""
AS_GOOD = 0.02
"""Shares of mass, and scores of a detection, that differ by less are as good."""
SEED = 9
"""Of the scenes."""
LIMIT = 200
"""How many scenes there are to choose from."""


Cases = Mapping[str, Case]


def cases() -> dict[str, Case]:
    """The paper's budgets, what they are compared with, and two floors."""

    def aise(n_samples: int, sampler: str = "direct", method: str = "AISE") -> Case:
        return Case(method, {"sampler": sampler, "n_samples": n_samples})

    found = {
        "AISE-99": aise(33),
        "AISE-150": aise(50),
        "AISE-150, LIPO": aise(50, "lipo"),
        "AISE-150, lattice": aise(50, "lattice"),
        "AISE-150, shuffled": aise(50, method="shuffled"),
        "blob": Case("blob", {}),
    }
    for n in (150, 1000, 5000):
        found[f"D-RISE-{n}"] = Case("D-RISE", {"n_samples": n})
    return found


def units(cases: Cases, images: Iterable[int]) -> list[Unit]:
    """What `run` measures: all cases of a scene before the next scene, so that a part
    is of use.

    Raises:
        ValueError: a scene that there is not.
    """
    numbers = [check_count("images", i, at_least=0) for i in images]
    for number in numbers:
        if number >= LIMIT:
            raise ValueError(f"images must be below {LIMIT}, got {number}")
    return [_unit(one, i) for i in numbers for one in cases.values()]


def run(
    cases: Cases,
    images: Iterable[int],
    results: Results,
    *,
    show_progress: bool = False,
    spread: Spread = map,
) -> int:
    """Measure and store the cases on scenes; rows that are there are not repeated.

    Args:
        cases: what to measure, by label; labels are not stored.
        images: numbers of scenes, below LIMIT.
        results: the store.
        show_progress: draw a bar.
        spread: who measures, see `Results.run`.

    Returns:
        How many rows were measured now.

    Raises:
        ValueError: as `units`.
    """
    todo = units(cases, images)
    return results.run(todo, measure, show_progress=show_progress, spread=spread)


def measure(unit: Unit) -> dict[str, Any]:
    """One method on one scene: a list with an entry for each confident detection.

    Returns:
        "score", "right": of the detection; right is 1 if it has an IoU of at least 0.5
            with an article of its label, else 0;
        "energy_box", "energy_mask": the share of the map's positive mass in its box,
            and on the article with the largest IoU;
        "hit_box", "hit_mask": whether the map's maximum lies there, without tolerance;
        "kept", "removed": its similarity (`detection_score`) if only the top pixels of
            the map are visible, or all but these: a list, by FRACTIONS;
        "queries": what the method asked, for all of the scene's detections together;
            AISE asks for each of them, D-RISE once for all.
    """
    scene = _scenes()
    image = scene.images[unit.image][None]
    found = confident(image)
    maps, queries = _explain(unit, image, found)
    boxes, article, right = _match(found, unit.image)
    result: dict[str, Any] = {
        "score": rounded(found.scores),
        "right": right.int().tolist(),
        "queries": queries,
    }
    if not len(maps):
        return result | {name: [] for name in _MEASURES}
    places = {
        "box": box_masks(found.boxes, *image.shape[2:]),
        "mask": scene.masks[unit.image][article],
    }
    for name, place in places.items():
        result[f"energy_{name}"] = rounded(energy_inside(maps, place))
        result[f"hit_{name}"] = rounded(pointing_hits(maps, place, tolerance=0))
    result["kept"], result["removed"] = [], []
    for one, box, label in zip(maps, boxes, found.labels.tolist(), strict=True):
        kept, removed = keep_and_remove(image, one[None], box, label)
        result["kept"].append(rounded(kept))
        result["removed"].append(rounded(removed))
    return result


def keep_and_remove(
    image: Tensor, attribution: Tensor, box: Tensor, label: int
) -> tuple[Tensor, Tensor]:
    """The similarity with the top pixels of a map alone, and without them.

    Args:
        image, attribution: `[1, 1, H, W]`.
        box, label: the detection. As many pixels are taken as FRACTIONS of its area.

    Returns:
        Two tensors `[len(FRACTIONS)]`. Hidden pixels are black.
    """
    blackbox = BlackBox(
        lambda images: detection_score(_detector()(images), box, label)[:, None],
        batch_size=2 * len(FRACTIONS),
        backend="torch",
    )
    area = (box[2:] - box[:2]).prod()
    counts = (torch.tensor(FRACTIONS) * area).round().long()
    rank = ranks(attribution, descending=True)
    black = torch.zeros_like(image)
    kept = sweep(blackbox, black, image, rank, counts)
    removed = sweep(blackbox, image, black, rank, counts)
    return kept[0, :, 0], removed[0, :, 0]


def confident(image: Tensor) -> Detection:
    """What the detector finds in one scene `[1, 1, S, S]` with a score of at least
    CONFIDENT."""
    with torch.inference_mode():
        (found,) = _detector()(image)
    sure = found.scores >= CONFIDENT
    return Detection(found.boxes[sure], found.scores[sure], found.labels[sure])


def blob(boxes: Tensor, height: int, width: int) -> Tensor:
    """A hill in the middle of each box `[k, 4]`, a quarter of its sides wide (σ):
    `[k, 1, height, width]`. What one can say without a question."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    middle, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    columns, rows = (
        (-((at - middle[:, i, None]) ** 2) / (2 * (side[:, i, None] / 4) ** 2)).exp()
        for i, at in enumerate((x, y))
    )
    return (rows[:, :, None] * columns[:, None, :])[:, None]


def drise_maps(
    detector: Detector,
    image: Tensor,
    found: Detection,
    name: str,
    n_samples: int = 5000,
    folder: str | Path | None = None,
) -> Tensor:
    """D-RISE's maps of all detections of an image, for figures: each is kept in a file,
    from which it is read the next time.

    Args:
        detector: what found them.
        image: `[1, C, H, W]`.
        found: its k detections.
        name: of the image and the detector; whoever changes one of them, or which
            detections are explained, must change the name.
        n_samples: masks, for all detections together.
        folder: where maps are kept; None is the book's `data/results/aise_maps`.

    Returns:
        `[k, 1, H, W]`, centred, each in steps of 1/127 of its largest value.
    """
    if not len(found.labels):
        return image.new_zeros(0, 1, *image.shape[2:])
    folder = data_path("results") / "aise_maps" if folder is None else Path(folder)
    settings = {"n_samples": n_samples, "seed": 0}
    # A box is not named by its corners: threads and batches change their last digits.
    files = {}
    for number, label in enumerate(found.labels.tolist()):
        about = {"image": name, "method": "D-RISE", "arguments": settings}
        key = Unit({**about, "detection": number, "label": label}, 0).key
        files[map_files.map_path(folder, f"{name}_drise", key)] = key

    def make() -> Tensor:
        drise = DRISE(detector, **settings)
        return centred(drise.attribute_all(image, found)[0, :, None])

    return map_files.kept(files, make)


def read(
    cases: Cases, results: Results, *, right: bool = True
) -> dict[str, dict[str, Tensor]]:
    """The rows of the cases, for the scenes that every case has.

    Args:
        cases: by label.
        results: the store.
        right: the right detections, or the wrong ones.

    Returns:
        For each label what `measure` lists, as means over the scene's detections: one
        row per scene with such a detection, `[N]`, and `[N, len(FRACTIONS)]` for "kept"
        and "removed". Also "image", the scene's number, and "detections", how many
        there are in it.

    Raises:
        NotMeasured: a case has no row, or no scene is common to all.
    """
    wanted = {label: _unit(one, 0).settings for label, one in cases.items()}
    rows, common = results.shared(
        wanted, "scene", lambda result: int(right) in result["right"]
    )
    found = {}
    for label, of_case in rows.items():
        chosen = [torch.tensor(of_case[i]["right"]) == int(right) for i in common]
        found[label] = {
            "image": torch.tensor(common),
            "detections": torch.stack([keep.sum() for keep in chosen]),
            "queries": torch.tensor([of_case[i]["queries"] for i in common]),
        } | {
            name: torch.stack(
                [
                    torch.tensor(of_case[i][name])[keep].double().mean(dim=0)
                    for i, keep in zip(common, chosen, strict=True)
                ]
            )
            for name in ("score", *_MEASURES)
        }
    return found


_MEASURES = ("energy_box", "energy_mask", "hit_box", "hit_mask", "kept", "removed")


def _explain(unit: Unit, image: Tensor, found: Detection) -> tuple[Tensor, int]:
    """The maps `[k, 1, H, W]` of all detections, and the queries asked for them."""
    method = check_choice("method", unit.settings["method"], METHODS)
    arguments = unit.settings["arguments"]
    if not len(found.boxes):
        return image.new_zeros(0, 1, *image.shape[2:]), 0
    if method == "blob":
        return blob(found.boxes, *image.shape[2:]), 0
    # Other draws for each scene: the interval over scenes then covers them too.
    settings = arguments | {"seed": unit.image}
    if method == "D-RISE":
        drise = DRISE(_detector(), **settings)
        maps = drise.attribute_all(image, found)[0, :, None]
        return centred(maps), drise.queries
    aise = AISEDetection(_detector(), **renamed(AISEDetection, settings))
    parts = []
    for box, label in zip(found.boxes, found.labels.tolist(), strict=True):
        if method == "AISE":
            parts.append(aise.attribute(image, (box, label))[0])
            continue
        samples = aise.sample(image, (box, label))
        rng = generator(unit.image)
        of_width = [
            saliency(p, s[torch.randperm(len(s), generator=rng)], w, *image.shape[2:])
            for p, s, w in zip(
                samples.centres[0],
                samples.scores[0],
                samples.widths.tolist(),
                strict=True,
            )
        ]
        parts.append(torch.stack(of_width).sum(dim=0)[None].to(image))
    return torch.stack(parts), aise.queries


def _match(found: Detection, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes; for each the article with the largest IoU; whether it is right."""
    scene = _scenes()
    iou = box_iou(found.boxes, scene.boxes[number])
    same = found.labels[:, None] == scene.classes[number]
    return found.boxes, iou.argmax(dim=1), ((iou >= 0.5) & same).any(dim=1)


@lru_cache
def _scenes() -> scenes.Scenes:
    return scenes.make(LIMIT, SEED)


@lru_cache
def _detector() -> Callable[[Tensor], list[Detection]]:
    return hardware.detector("scenes_detector")


def _unit(one: Case, image: int) -> Unit:
    settings = {
        "detector": "scenes_detector",
        "scenes_seed": SEED,
        "method": one.method,
        "arguments": one.arguments,
    }
    return Unit(settings, image)
