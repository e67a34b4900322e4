"""Checkers of the exercises of chapter 09, AISE for detectors."""

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, mismatch
from xai_lib.aise import AISEDetection, Detection, detection_score

SIZE = 64
BOX = torch.tensor([24.0, 24.0, 40.0, 40.0])
AREA = slice(16, 48)  # of rows and columns: the box and half of its size around it
LABEL = 1


@exercise("9.1")
def shifted_iou(answer: Answer) -> None:
    """What share of the box is the overlap? The union is both areas less the overlap;
    and boxes that have parted do not overlap."""
    box = torch.tensor([[10.0, 20.0, 50.0, 30.0]], dtype=torch.float64)  # 40 × 10
    for a, b in product((0, 0.1, 0.3, 0.9, 1.4), (0, 0.2, 0.9, 1.2)):
        moved = box + torch.tensor([40 * a, 10 * b] * 2, dtype=torch.float64)
        expect(answer, float(box_iou(box, moved)), a, b, atol=1e-6)


@exercise("9.2")
def anything(answer: Answer) -> None:
    """The largest IoU · score over all that was found in an image, whatever its label
    (the product of one detection, not of two); 0 where nothing was."""
    images: list[tuple[Any, Any, Any]] = [  # boxes, scores, labels
        ([[24, 24, 40, 40], [24, 24, 40, 40]], [0.6, 0.4], [0, 1]),
        ([[24, 24, 40, 40], [32, 24, 48, 40]], [0.3, 0.99], [1, 2]),
        ([[24, 24, 40, 40], [32, 24, 48, 40]], [0.5, 0.99], [1, 2]),
        ([], [], []),
        ([[26, 34, 60, 62]], [0.2], [3]),
        ([[50, 50, 60, 60]], [0.7], [1]),
    ]
    found = [Detection(*image) for image in images]
    products = [(box_iou(BOX[None], f.boxes)[0] * f.scores).tolist() for f in found]
    best = torch.tensor([max(values, default=0.0) for values in products])
    for k, (boxes, scores, _) in enumerate(images):
        if wrong := mismatch(answer(found[k : k + 1], BOX), best[k : k + 1]):
            case = f"{boxes = }, {scores = } in one image, box = {BOX.tolist()}"
            raise WrongAnswer(f"for {case}: {wrong}")
    expect(answer, best, found, BOX)


@exercise("9.3")
def two_parts(answer: Answer) -> None:
    """Let the detector need one bright part in the box and one outside the search area,
    so much or so far away that no spot shows enough of both."""

    def score(images: Tensor) -> float:
        found = answer(images)
        if not isinstance(found, list | tuple) or len(found) != len(images):
            raise WrongAnswer("return a list with a Detection for each image [C, H, W]")
        return float(detection_score(found, BOX, LABEL)[0])

    image = torch.ones(1, 1, SIZE, SIZE)
    inside, outside = torch.zeros_like(image), image.clone()
    inside[..., AREA, AREA], outside[..., AREA, AREA] = 1, 0
    if (all_white := score(image)) < 0.9:
        raise WrongAnswer(
            f"on the white image the box {[int(v) for v in BOX.tolist()]} with the "
            f"label {LABEL} scores {all_white:.2f}, not at least 0.9"
        )
    for shown, black in ((inside, "outside"), (outside, "inside")):
        if (left := score(shown)) > 0.1:
            raise WrongAnswer(
                f"with all {black} the search area black it still scores {left:.2f}, "
                "not at most 0.1"
            )
    drawn = AISEDetection(answer, n_kernels=33).attribute(image, (BOX, LABEL))
    if bool((drawn != 0).any()):
        raise WrongAnswer("AISE's map is not 0: some spot shows enough of both parts")
