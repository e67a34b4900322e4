"""AISE for detectors: which parts of an image does one detection rest on?

As for classifiers (`classification`), with three changes (supplement, section 9). The
score of a query is how well the detection is found again: the largest product of IoU
and class score among the detections of the label. The widths come from the box, its
shorter side divided by 7, 4 and 1. And kernels are placed only in the box and half a
box around it. Only *preserve* is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.aise.classification import AISE, Samples
from xai_lib.aise.samplers import Bounds, Sampler
from xai_lib.arguments import check_count, check_inputs, check_numbers
from xai_lib.attribution import as_maps
from xai_lib.blackbox import BlackBox
from xai_lib.boxes import as_box, as_boxes, as_numbers


@dataclass(frozen=True)
class Detection:
    """What a detector found in one image, checked and moved to the CPU.

    Tensors, arrays and lists are taken; k = 0 is no detection, of shape `[0]` too.

    Attributes:
        boxes: float32 `[k, 4]`, x0, y0, x1, y1 in pixels, x0 <= x1 and y0 <= y1.
        scores: float32 `[k]` in [0, 1], of the class.
        labels: int64 `[k]`.

    Raises:
        ValueError: anything else, with what to do.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes).float()
        for name, check in (("scores", _check_scores), ("labels", _check_labels)):
            values = as_numbers(name, getattr(self, name))
            if values.ndim != 1 or len(values) != len(boxes):
                raise ValueError(
                    f"{name} must be [{len(boxes)}], one for each box, got shape "
                    f"{list(values.shape)}{_column_hint(name, values)}"
                )
            object.__setattr__(self, name, check(values))
        object.__setattr__(self, "boxes", boxes)


def _column_hint(name: str, values: Tensor) -> str:
    """What to do about a column, or a number for each class in a row for each box."""
    if values.ndim != 2:
        return ""
    if values.shape[1] == 1:
        return f"; use {name}[:, 0]"
    return "; of K class scores take scores.max(dim=1), which gives the labels too"


def _check_scores(scores: Tensor) -> Tensor:
    rounding = torch.finfo(scores.dtype).eps if scores.is_floating_point() else 0
    # A comparison with NaN is false.
    wrong = ~((scores >= 0) & (scores <= 1 + rounding))
    if bool(wrong.any()):
        raise ValueError(
            f"scores must lie in [0, 1], got {scores[wrong][0].item():g}; use "
            "scores.sigmoid() for logits, scores / 100 for percents"
        )
    return scores.float()


def _check_labels(labels: Tensor) -> Tensor:
    whole = not (labels.is_floating_point() or labels.is_complex())
    if len(labels) and (not whole or labels.dtype is torch.bool):
        raise ValueError(
            f"labels must be integers, got {labels.dtype}; use labels.long() if they "
            "are class numbers"
        )
    return labels.long()


Answer = Sequence[Detection | Mapping[str, Any]]
Detector = Callable[[Tensor], Answer]
"""A batch of images `[N, C, H, W]` -> N detections; no module is needed. torchvision's
dictionaries of "boxes", "scores" and "labels" are taken too."""


def as_detections(answer: Any) -> list[Detection]:
    """What a detector returned for a batch, as one `Detection` per image.

    Raises:
        TypeError: anything but a list of detections or torchvision's dictionaries.
        ValueError: a dictionary whose values are no `Detection`.
    """
    if not isinstance(answer, (list, tuple)):
        raise TypeError(
            "a detector must return a list with one Detection per image, got one "
            f"{type(answer).__name__} for the batch"
        )
    return [
        one if isinstance(one, Detection) else _from_dictionary(one) for one in answer
    ]


def ask(detector: Detector, images: Tensor) -> list[Detection]:
    """What a detector finds in each of N images.

    Raises:
        TypeError, ValueError: as `as_detections`; not N detections; a box outside of
            the image, as in pixels of another size.
    """
    answer = as_detections(detector(images))
    if len(answer) != len(images):
        raise ValueError(
            f"a detector must return one Detection per image, got {len(answer)} for "
            f"{len(images)} images"
        )
    height, width = images.shape[2:]
    for found in answer:
        x0, y0, x1, y1 = found.boxes.unbind(dim=1)
        outside = (x0 > width) | (y0 > height) | (x1 < 0) | (y1 < 0)
        if bool(outside.any()):
            raise ValueError(
                f"a detector's boxes must be in pixels of its input of {width} x "
                f"{height}, got {found.boxes[outside][0].tolist()}; scale them back if "
                "the detector resizes its input"
            )
    return answer


def _from_dictionary(found: Any) -> Detection:
    try:
        return Detection(*(found[key] for key in ("boxes", "scores", "labels")))
    except (TypeError, KeyError, IndexError):
        raise TypeError(
            f"a detector must return one Detection per image, got "
            f"{type(found).__name__}; use Detection(boxes, scores, labels), or a "
            "dictionary of the three, and Detection([], [], []) where nothing is found"
        ) from None


def detection_score(detections: Answer, box: Any, label: int) -> Tensor:
    """max IoU(box, found) · score over what was found with the label: `[N]`.

    An image in which nothing with the label was found scores 0.

    Raises:
        TypeError: what the detector returned is not a `Detection` per image.
        ValueError: a wrong box.
    """
    wanted = as_box(box).float()
    scores = []
    for found in as_detections(detections):
        same = found.labels == label
        product = overlap(wanted, found.boxes[same].float()) * found.scores[same]
        scores.append(product.max() if len(product) else product.new_zeros(()))
    return torch.stack(scores)


def overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of a box `[4]` with each of `boxes` `[k, 4]`: `[k]`."""
    sides = torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])
    common = sides.clamp(min=0).prod(dim=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return common / ((box[2:] - box[:2]).prod() + area - common)


class AISEDetection:
    """AISE for detectors.

    It asks exactly n_samples · divisors queries: AISE-150 is 50 · 3, and the paper's
    figures use 33 · 3 = 99.

    Args:
        detector: any callable from images `[N, C, H, W]` to N `Detection`s.
        sampler: as in `AISE`.
        n_samples: kernels per width.
        kernel_divisors: the widths are the box's shorter side divided by these.
        seed: of the samplers that draw.
        eps: precision of the search (section 9: 0.05).
        normalise: as in `AISE`.

    Attributes:
        queries: how many images the detector has answered so far.
    """

    def __init__(
        self,
        detector: Detector,
        sampler: str | Callable[[Bounds, int, int], Sampler] = "direct",
        n_samples: int = 50,
        kernel_divisors: Sequence[float] = (7, 4, 1),
        seed: int = 0,
        eps: float = 0.05,
        normalise: bool = False,
    ) -> None:
        if not callable(detector):
            raise TypeError(f"detector must be callable, got {type(detector).__name__}")
        self.detector = detector
        self.kernel_divisors = check_numbers("kernel_divisors", kernel_divisors, 0)
        if 0 in self.kernel_divisors:
            raise ValueError(f"kernel_divisors must be above 0, got {kernel_divisors}")
        self.settings: dict[str, Any] = {
            "sampler": sampler,
            "n_samples": n_samples,
            "seed": seed,
            "eps": eps,
            "normalise": normalise,
        }
        # Wrong settings are noticed here.
        AISE(detector, kernel_widths=self.kernel_divisors, **self.settings)
        self.queries = 0

    def attribute(
        self, inputs: Tensor, box: Any, label: int, *, show_progress: bool = False
    ) -> Tensor:
        """The map `[1, 1, H, W]` of one detection.

        Args:
            inputs: float `[1, C, H, W]`.
            box: `[4]`, x0, y0, x1, y1 in pixels.
            label: its class.
            show_progress: draw a progress bar that vanishes when it is full.

        Raises:
            TypeError, ValueError: a wrong argument, by name, with the fix.
        """
        maps = self.sample(inputs, box, label, show_progress=show_progress).maps
        return as_maps(maps.sum(dim=1, keepdim=True).to(inputs.device), inputs)

    def sample(
        self, inputs: Tensor, box: Any, label: int, *, show_progress: bool = False
    ) -> Samples:
        """The centres, scores and maps behind `attribute`, which see."""
        check_inputs(inputs)
        if len(inputs) != 1:
            raise ValueError(
                f"inputs must be one image [1, C, H, W], got {len(inputs)}"
            )
        check_count("label", label, at_least=0)
        height, width = inputs.shape[2:]
        widths, area = place(box, height, width, self.kernel_divisors)
        blackbox = BlackBox(
            lambda images: detection_score(ask(self.detector, images), box, label),
            device=home(self.detector),
            backend="torch",
        )
        explainer = AISE(
            blackbox, kernel_widths=widths, bounds=area, delete=False, **self.settings
        )
        try:
            return explainer.sample(inputs, 0, show_progress=show_progress)
        finally:
            self.queries += blackbox.queries


def place(
    box: Any, height: int, width: int, divisors: Sequence[float] = (7, 4, 1)
) -> tuple[list[float], Bounds]:
    """Kernel widths and search area for a box, in units of the image's sides.

    The widths are the shorter side of the box, in the unit square, over the divisors.
    The area is the box and half of its size around it, cut at the edges of the image:
    in (6) and (7) p is a pixel.

    Args:
        box: `[4]`, x0, y0, x1, y1 in pixels; it may stick out of the image.
        height, width: of the image.
        divisors: of the shorter side.

    Raises:
        ValueError: the box is not finite, has no area, or lies outside the image.
    """
    corners = as_box(box, height, width).double()
    x0, y0, x1, y1 = (corners / corners.new_tensor([width, height] * 2)).tolist()
    half_w, half_h = (x1 - x0) / 2, (y1 - y0) / 2
    lower = (max(0.0, x0 - half_w), max(0.0, y0 - half_h))
    upper = (min(1.0, x1 + half_w), min(1.0, y1 + half_h))
    return [2 * min(half_w, half_h) / d for d in divisors], (lower, upper)


def home(detector: Detector) -> torch.device | None:
    """The device of a detector that is a module; None if it is not."""
    if isinstance(detector, nn.Module):
        for parameter in detector.parameters():
            return parameter.device
    return None
