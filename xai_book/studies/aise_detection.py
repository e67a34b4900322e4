"""AISE for detectors against D-RISE, measured on scenes (supplement, 9 and 10.2).

The paper shows maps, Figures 10 and 11, and has no number for detection. This study
has: each confident detection of the scenes' detector is explained by each case, and
its map is judged by where it lies and by what happens to the detection.

    results = Results("aise_detection")
    run(units(cases(), range(100)), results)
    read(cases(), results)["AISE-99"]["energy_box"]

Two cases ask nothing about the detection and are the floor for the others: a "blob" in
the middle of the box, and AISE's places with their scores shuffled, which knows where
AISE looks, but not what it saw.
"""

from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xai_book.studies import hardware
from xai_book.studies.engine import Cases, Runner, Study, below, kept_maps, units_of
from xai_book.studies.results import Case, Results, Unit, rounded
from xai_book.studies.saliencies import centred, density
from xai_lib.aise.detection import AISEDetection, place
from xai_lib.baselines.drise import DRISE
from xai_lib.core.arguments import check_choice
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.detection import Detection, Detector, detection_score
from xai_lib.core.extras import extra
from xai_lib.metrics import box_masks, energy_inside, pointing_hits
from xai_lib.metrics.sweep import ranks, sweep
from xai_lib.zoo import scenes

with extra("book"):
    import pandas as pd
    from torchvision.ops import box_iou

DETECTOR = "scenes_detector"
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


def cases() -> dict[str, Case]:
    """The paper's budgets, what they are compared with, and two floors."""

    def aise(n_kernels: int, sampler: str = "direct", method: str = "AISE") -> Case:
        return Case(method, {"sampler": sampler, "n_kernels": n_kernels})

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
    """What `run` measures.

    Args:
        cases: what to measure, by label.
        images: numbers of scenes, below LIMIT.

    Raises:
        ValueError: a scene that there is not.
    """
    return units_of(map(_settings, cases.values()), below(LIMIT, images))


def measure(unit: Unit) -> dict[str, Any]:
    """One method on one scene: a list with an entry for each confident detection.

    Returns:
        "score", "right": of the detection; right is 1 if it has an IoU of at least 0.5
            with an article of its label, else 0;
        "energy_box", "energy_mask", "energy_area": the share of the map's positive mass
            in its box, on the article with the largest IoU, and in the area that AISE
            would search;
        "hit_box", …: whether the map's maximum lies there, without tolerance;
        "kept", "removed": its similarity (`detection_score`) if only the top pixels of
            the map are visible, or all but these: a list, by FRACTIONS;
        "queries": what the method asked, for all of the scene's detections together;
            AISE asks for each of them, D-RISE once for all.
    """
    scene = _scenes()
    image = scene.images[unit.image][None]
    found = confident(image)
    maps, queries = _explain(unit, image, found)
    article, right = _match(found, unit.image)
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
        "area": search_areas(found.boxes, *image.shape[2:]),
    }
    for name, where in places.items():
        result[f"energy_{name}"] = rounded(energy_inside(maps, where))
        result[f"hit_{name}"] = rounded(pointing_hits(maps, where, tolerance=0))
    result["kept"], result["removed"] = [], []
    for one, box, label in zip(maps, found.boxes, found.labels.tolist(), strict=True):
        kept, removed = keep_and_remove(image, one[None], box, label)
        result["kept"].append(rounded(kept))
        result["removed"].append(rounded(removed))
    return result


run = Runner(measure)


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
    detector = hardware.detector(DETECTOR)
    blackbox = BlackBox(
        lambda images: detection_score(detector(images), box, label)[:, None],
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
        (found,) = hardware.detector(DETECTOR)(image)
    sure = found.scores >= CONFIDENT
    return Detection(found.boxes[sure], found.scores[sure], found.labels[sure])


def search_areas(boxes: Tensor, height: int, width: int) -> Tensor:
    """Where AISE searches (`place`) for boxes `[k, 4]`: bool `[k, height, width]`."""
    areas = torch.tensor([place(box, height, width)[1] for box in boxes]).view(-1, 4)
    return box_masks(areas * torch.tensor([width, height] * 2), height, width)


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
    settings = {"n_samples": n_samples, "seed": 0}
    about = {"image": name, "method": "D-RISE", "arguments": settings}
    # A box is not named by its corners: threads and batches change their last digits.
    units = {
        number: Unit({**about, "detection": number, "label": label}, 0)
        for number, label in enumerate(found.labels.tolist())
    }

    @cache
    def every() -> Tensor:
        drise = DRISE(detector, **settings)
        return centred(drise.attribute_all(image, found)[0, :, None])

    def make(unit: Unit) -> Tensor:
        return every()[unit.settings["detection"], None]

    kept = kept_maps(units, make, lambda _: f"{name}_drise", folder, "aise_maps")
    return torch.cat([image.new_zeros(0, 1, *image.shape[2:]), *kept.values()])


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
        there are in it. What some of the rows lack is left out.

    Raises:
        NotMeasured: a case has no row, or no scene is common to all.
    """
    wanted = {label: _settings(one) for label, one in cases.items()}
    rows, common = results.shared(
        wanted, "scene", lambda result: int(right) in result["right"]
    )
    found = {}
    for label, of_case in rows.items():
        table = pd.DataFrame(map(_with_area, of_case.values()))
        chosen = [torch.tensor(row) == int(right) for row in table["right"]]
        found[label] = {
            "image": torch.tensor(common),
            "detections": torch.stack([keep.sum() for keep in chosen]),
            "queries": torch.tensor(table["queries"].tolist()),
        }
        measured = table.columns[table.notna().all()]
        for name in measured.intersection(["score", *_MEASURES], sort=False):
            kept = map(lambda row, keep: torch.tensor(row)[keep], table[name], chosen)
            found[label][name] = torch.stack([k.double().mean(dim=0) for k in kept])
    return found


def _with_area(row: dict[str, Any]) -> dict[str, Any]:
    """Older rows, of November 2026, lack the area; but maxima in the box lie in it."""
    inside = all(row.get("hit_box", [0]))
    return {"hit_area": row["hit_box"], **row} if inside else row


_PLACES = ("box", "mask", "area")
_MEASURES = (
    *(f"{what}_{where}" for where in _PLACES for what in ("energy", "hit")),
    *("kept", "removed"),
)


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
        drise = DRISE(hardware.detector(DETECTOR), **settings)
        maps = drise.attribute_all(image, found)[0, :, None]
        return centred(maps), drise.queries
    aise = AISEDetection(hardware.detector(DETECTOR), **settings)
    parts = []
    for box, label in zip(found.boxes, found.labels.tolist(), strict=True):
        if method == "AISE":
            parts.append(aise.attribute(image, (box, label))[0])
            continue
        samples = aise.sample(image, (box, label))
        rng = generator(unit.image)
        drawn = [s[torch.randperm(len(s), generator=rng)] for s in samples.scores[0]]
        shuffled = torch.stack(drawn)[None]
        parts.append(density(samples.centres, shuffled, samples.widths, image)[0])
    return torch.stack(parts), aise.queries


def _match(found: Detection, number: int) -> tuple[Tensor, Tensor]:
    """For each detection the article with the largest IoU; whether it is right."""
    scene = _scenes()
    iou = box_iou(found.boxes, scene.boxes[number])
    same = found.labels[:, None] == scene.classes[number]
    return iou.argmax(dim=1), ((iou >= 0.5) & same).any(dim=1)


@lru_cache
def _scenes() -> scenes.Scenes:
    return scenes.make(LIMIT, SEED)


def _settings(one: Case) -> dict[str, Any]:
    return {"detector": DETECTOR, "scenes_seed": SEED, **one._asdict()}


STUDIES = {
    "aise_detection": Study(
        "Tsykunov et al.: Figures 10 and 11, in numbers; reproduce/aise",
        lambda: units(cases(), range(100)),
        run,
    )
}
