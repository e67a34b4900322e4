"""Checkers of the exercises of chapter 09, AISE for detectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.aise.detection import AISEDetection, place
from xai_lib.core.detection import Detection, detection_score

SIZE = 64
BOX = torch.tensor([24.0, 24.0, 40.0, 40.0])
LABEL = 1


@exercise("9.1")
def shifted_iou(answer: Callable) -> None:
    """`answer(a, b)`: IoU of a box and itself, moved by these shares of its sides."""
    shares = ((0.0, 0.0), (0.1, 0.0), (0.0, 0.5), (0.3, 0.2), (0.9, 0.9), (1.4, 1.2))
    box = torch.tensor([[10.0, 20.0, 50.0, 30.0]], dtype=torch.float64)  # 40 × 10
    for a, b in shares:
        moved = box + torch.tensor([40 * a, 10 * b] * 2, dtype=torch.float64)
        expected = float(box_iou(box, moved))
        if not math.isclose(_number(answer(a, b)), expected, abs_tol=1e-6):
            raise WrongAnswer(
                f"for a = {a:g}, b = {b:g} it is {expected:.3f}: what share of the box "
                "is the overlap? The union is both areas less the overlap; and boxes "
                "that have parted do not overlap"
            )


@exercise("9.2")
def anything(answer: Callable) -> None:
    """`answer(detections, box)`: how well *something* is found in the box, `[N]`."""
    detections = [
        _found(([24, 24, 40, 40], 0.6, 0), ([24, 24, 40, 40], 0.4, 1)),
        _found(([24, 24, 40, 40], 0.3, 1), ([32, 24, 48, 40], 0.99, 2)),
        _found(([24, 24, 40, 40], 0.2, 1), ([0, 0, 8, 8], 0.9, 1)),
        _found(),
        _found(([26, 24, 42, 40], 0.7, 3)),
    ]
    products = [
        (box_iou(BOX[None], d.boxes)[0] * d.scores).tolist() for d in detections
    ]
    expected = torch.tensor([max(found, default=0.0) for found in products])
    expect_close(
        answer(detections, BOX),
        expected,
        "the largest IoU · score over all that was found in an image, whatever its "
        "label (the product of one detection, not of two); 0 where nothing was",
    )


@exercise("9.3")
def reach(answer: Callable) -> None:
    """`answer(side, divisor, level)`: beyond this distance from the box a kernel of
    AISE shows less than `level`, in pixels."""
    for side, divisor, level in ((20.0, 1, 0.01), (70.0, 7, 0.01), (32.0, 4, 0.5)):
        expected = side / 2 + side / divisor * math.sqrt(2 * math.log(1 / level))
        got = _number(answer(side, divisor, level))
        if not math.isclose(got, expected, rel_tol=1e-4):
            raise WrongAnswer(
                f"for a box of side {side:g}, divisor {divisor} and level {level:g} it "
                f"is {expected:.2f} pixels: the outermost centre is half a side away "
                "from the box, and the kernel falls to the level at sigma times "
                "sqrt(2 ln(1 / level))"
            )


@exercise("9.4")
def two_parts(answer: Callable) -> None:
    """`answer(images)`: a detector that rests on two parts, which AISE cannot see."""
    (x0, y0), (x1, y1) = place(BOX, SIZE, SIZE)[1]
    near = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    near[..., int(y0 * SIZE) : int(y1 * SIZE), int(x0 * SIZE) : int(x1 * SIZE)] = True
    image = torch.ones(1, 1, SIZE, SIZE)
    scores = [
        _similarity(answer, images) for images in (image, image * near, image * ~near)
    ]
    if scores[0] < 0.9:
        raise WrongAnswer(
            f"on the white image of {SIZE} × {SIZE} the detection scores "
            f"{scores[0]:.2f}, not at least 0.9: return a Detection with the box "
            f"{[int(v) for v in BOX.tolist()]}, the label {LABEL} and a score near 1 "
            "for each image"
        )
    for score, what in zip(scores[1:], ("outside", "inside"), strict=True):
        if score > 0.1:
            raise WrongAnswer(
                f"with all {what} the search area black it still scores {score:.2f}, "
                f"not at most 0.1: let it need something {what}"
            )
    explainer = AISEDetection(answer, n_kernels=33)
    drawn = explainer.attribute(image, (BOX, LABEL))
    if bool((drawn != 0).any()):
        raise WrongAnswer(
            "AISE's map is not 0 everywhere: some spot shows enough of both parts. Ask "
            "for more brightness, or for a part that is farther away"
        )


def _similarity(answer: Callable, images: Tensor) -> float:
    try:
        return float(detection_score(answer(images), BOX, LABEL)[0])
    except (TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise WrongAnswer(
            f"return a list with a Detection for each image [C, H, W] ({error})"
        ) from None


def _found(*rows: tuple[list[int], float, int]) -> Detection:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ([], [], [])
    return Detection(
        torch.tensor(boxes).reshape(-1, 4).float(),
        torch.tensor(scores).float(),
        torch.tensor(labels).long(),
    )


def _number(answer: Any) -> float:
    try:
        return float(answer)
    except (TypeError, ValueError):
        raise WrongAnswer(f"return a number, not {type(answer).__name__}") from None
