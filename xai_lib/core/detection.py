"""What a detector is, what it answers, and how well a detection is found again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.core.arguments import check_count, check_inputs
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.boxes import as_box, as_boxes, as_numbers
from xai_lib.core.conduct import device_of, refuse_training_mode


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
    return [x if isinstance(x, Detection) else _from_dictionary(x) for x in answer]


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


class DetectorAttribution(ABC):
    """Base of the methods that explain one detection of a detector.

    A method implements `_explain` for one image and one detection.

    Attributes:
        queries: how many images the detector has answered so far.
    """

    def __init__(self, detector: Detector) -> None:
        if not callable(detector):
            raise TypeError(f"detector must be callable, got {type(detector).__name__}")
        self.detector = detector
        self.queries = 0

    def attribute(
        self, inputs: Tensor, target: Any, *, show_progress: bool = False
    ) -> Tensor:
        """The maps `[N, 1, H, W]` of one detection in each image.

        Args:
            inputs: float `[N, C, H, W]`.
            target: (box, label), or a list of N such pairs; a box is x0, y0, x1, y1
                in pixels.
            show_progress: draw a progress bar that vanishes when it is full.

        Raises:
            TypeError, ValueError: a wrong argument, by name, with the fix.
        """
        check_inputs(inputs)
        pairs = zip(inputs.split(1), check_detections(target, inputs), strict=True)
        with torch.autocast(inputs.device.type, enabled=False):  # as in a BlackBox
            maps = [self._explain(image, *pair, show_progress) for image, pair in pairs]
        return torch.cat(maps)

    @abstractmethod
    def _explain(
        self, image: Tensor, box: Tensor, label: int, show_progress: bool
    ) -> Tensor:
        """The map `[1, 1, H, W]` of one detection in an image `[1, C, H, W]`."""

    @contextmanager
    def _scores(self, pairs: Sequence[tuple[Any, int]]) -> Iterator[BlackBox]:
        """How well each of k detections is found again, images to `[N, k]`; counted."""

        def scores(images: Tensor) -> Tensor:
            found = ask(self.detector, images)
            return torch.stack([detection_score(found, *pair) for pair in pairs], dim=1)

        if isinstance(self.detector, nn.Module):
            refuse_training_mode(self.detector, "detector")
        home = device_of(self.detector, None)
        blackbox = BlackBox(scores, device=home, backend="torch")
        try:
            yield blackbox
        finally:
            self.queries += blackbox.queries


def one_image(inputs: Tensor) -> None:
    """Refuse anything but one image `[1, C, H, W]`: a TypeError, a ValueError."""
    check_inputs(inputs)
    if len(inputs) != 1:
        raise ValueError(f"inputs must be one image [1, C, H, W], got {len(inputs)}")


def check_detections(target: Any, inputs: Tensor) -> list[tuple[Tensor, int]]:
    """The box `[4]` and the label that are to be explained in each image.

    Args:
        target: (box, label), the same for all images, or a list of N such pairs; a box
            is x0, y0, x1, y1 in pixels, a label an integer.
        inputs: `[N, C, H, W]`.

    Raises:
        TypeError, ValueError: anything else, with what is expected.
    """
    pairs = target if isinstance(target, list) else [target] * len(inputs)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                "target must be the box and the label of a detection, such as "
                f"([4, 9, 40, 30], 1), or a list of such pairs, got {pair!r}"
            )
    if len(pairs) != len(inputs):
        raise ValueError(
            f"target must be one (box, label), or a list of {len(inputs)}, one for "
            f"each image, got a list of {len(pairs)}"
        )
    return [
        (as_box(box, *inputs.shape[2:]), check_count("label", label, at_least=0))
        for box, label in pairs
    ]


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
