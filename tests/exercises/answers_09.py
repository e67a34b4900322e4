"""Right and wrong answers to the exercises of chapter 09."""

from __future__ import annotations

import torch
from torchvision.ops import box_iou

from xai_book.exercises import chapter09
from xai_lib.aise import Detection, detection_score


def shifted(a, b):
    overlap = max(0, 1 - a) * max(0, 1 - b)
    return overlap / (2 - overlap)


def anything(detections, box):
    return torch.stack(
        [
            torch.cat([box_iou(box[None], d.boxes)[0] * d.scores, torch.zeros(1)]).max()
            for d in detections
        ]
    )


def best_iou_times_best_score(detections, box):
    zero = torch.zeros(1)
    return torch.stack(
        [
            torch.cat([box_iou(box[None], d.boxes)[0], zero]).max()
            * torch.cat([d.scores, zero]).max()
            for d in detections
        ]
    )


def of_the_first(detections, box):
    return torch.stack(
        [
            (box_iou(box[None], d.boxes)[0] * d.scores)[0]
            if len(d.scores)
            else torch.zeros(())
            for d in detections
        ]
    )


def only(found, which):
    return Detection(found.boxes[which], found.scores[which], found.labels[which])


def of_the_surest(detections, box):
    surest = [only(d, d.scores.argsort(descending=True)[:1]) for d in detections]
    return anything(surest, box)


def by_side(detections, box, sides):
    """IoU · score of some sides alone, and as if boxes always overlapped."""
    scores = []
    for found in detections:
        best = [0.0]
        for other, score in zip(found.boxes, found.scores, strict=True):
            low, high = (
                torch.maximum(box[:2], other[:2]),
                torch.minimum(box[2:], other[2:]),
            )
            common = (high - low)[sides].prod()
            areas = [(b[2:] - b[:2])[sides].prod() for b in (box, other)]
            best.append(float(common / (sum(areas) - common) * score))
        scores.append(max(best))
    return torch.tensor(scores)


def detector(images, score):
    """One detection of the checker's box and label in each image."""
    return [
        Detection(
            torch.tensor([[24.0, 24.0, 40.0, 40.0]]),
            torch.as_tensor(float(score(image))).reshape(1),
            torch.tensor([1]),
        )
        for image in images
    ]


def both(image):
    return image[:, 28:36, 28:36].mean() > 0.9 and image[:, :4, :4].mean() > 0.9


RIGHT = {
    chapter09.shifted_iou: shifted,
    chapter09.anything: anything,
    chapter09.two_parts: lambda images: detector(images, both),
}

WRONG = {
    chapter09.shifted_iou: [
        lambda a, b: (1 - a) * (1 - b),  # the overlap
        lambda a, b: (1 - a) / (1 + a) * (1 - b) / (1 + b),  # axis by axis
        lambda a, b: (1 - a) * (1 - b) / (2 - (1 - a) * (1 - b)),  # never parts
        lambda a, b: max(0, 1 - a) * (1 - b) / (2 - max(0, 1 - a) * (1 - b)),
        lambda a, b: (1 - a) * max(0, 1 - b) / (2 - (1 - a) * max(0, 1 - b)),
        lambda a, b: max(0, (1 - a) * (1 - b)) / (2 - (1 - a) * (1 - b)),
        lambda a, b: shifted(max(a, b), 0),
        lambda a, b: shifted(a, b) * (2 - max(0, 1 - a) * max(0, 1 - b)) / (1 + a + b),
        lambda a, b: "none",
    ],
    chapter09.anything: [
        lambda found, box: detection_score(found, box, 1),  # only one label
        best_iou_times_best_score,
        of_the_first,
        of_the_surest,
        lambda found, box: anything(found, box).tolist(),
        lambda found, box: by_side(found, box, [0, 1]),  # apart on both sides
        lambda found, box: by_side(found, box, [0]),  # rows forgotten
        lambda found, box: anything(found, box)[[len(f.boxes) > 0 for f in found]],
        lambda found, box: anything([only(f, f.scores >= 0.5) for f in found], box),
    ],
    chapter09.two_parts: [
        lambda images: detector(images, lambda image: 1),  # rests on nothing
        lambda images: detector(images, lambda image: image[:, 28:36, 28:36].mean()),
        lambda images: detector(images, lambda image: image[:, :4, :4].mean()),
        lambda images: detector(images, lambda image: image.mean()),  # seen by spots
        lambda images: detector(images, both)[:0],
        lambda images: torch.ones(len(images)),
    ],
}
