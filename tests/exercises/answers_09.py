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


def of_the_surest(detections, box):
    surest = [
        Detection(d.boxes[k], d.scores[k], d.labels[k])
        for d in detections
        for k in [d.scores.argsort(descending=True)[:1]]
    ]
    return anything(surest, box)


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
        lambda a, b: "none",
    ],
    chapter09.anything: [
        lambda found, box: detection_score(found, box, 1),  # only one label
        best_iou_times_best_score,
        of_the_first,
        of_the_surest,
        lambda found, box: anything(found, box).tolist(),
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
