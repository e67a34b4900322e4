"""Detectors whose answer for an image depends on the images beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from xai_lib.aise import AISEDetection, Detection
from xai_lib.baselines import DRISE
from xai_lib.core.detection import DetectorAttribution

BOX = [4.0, 3.0, 14.0, 12.0]
IMAGE = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(1))


def found(strength: Tensor) -> list[Detection]:
    """The planted box in each image, as sure as it is bright."""
    box, label = torch.tensor([BOX]), torch.ones(1, dtype=torch.int64)
    return [Detection(box, s.sigmoid()[None], label) for s in strength]


def honest(images: Tensor) -> list[Detection]:
    return found(images[:, :, 3:12, 4:14].mean((1, 2, 3)))


def beside_others(images: Tensor) -> list[Detection]:
    strength = images[:, :, 3:12, 4:14].mean((1, 2, 3))
    return found(strength - strength.mean())


EXPLAINERS: list[Callable[..., DetectorAttribution]] = [
    lambda detector: AISEDetection(detector, n_kernels=9),
    lambda detector: DRISE(detector, n_samples=27, mask_size=4),
]


@pytest.mark.parametrize("explainer", EXPLAINERS)
def test_images_that_meet_are_refused(explainer: Callable) -> None:
    with pytest.raises(ValueError, match="differently alone and in a batch"):
        explainer(beside_others).attribute(IMAGE, (BOX, 1))


@pytest.mark.parametrize("explainer", EXPLAINERS)
def test_others_are_asked_for_what_is_counted(explainer: Callable) -> None:
    asked: list[int] = []

    def counting(images: Tensor) -> list[Detection]:
        asked.append(len(images))
        return honest(images)

    made = explainer(counting)
    assert made.attribute(IMAGE, (BOX, 1)).abs().max() > 0
    assert sum(asked) == made.queries == 27


class InTraining(nn.Module):
    """As torchvision's, which in training mode want the boxes, and return losses."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> list[Detection]:
        assert not self.training, "targets should not be none when in training mode"
        return honest(self.drop(images))


@pytest.mark.parametrize("explainer", EXPLAINERS)
def test_a_detector_in_training_mode_is_refused(explainer: Callable) -> None:
    detector = InTraining()
    with pytest.raises(ValueError, match=r"detector is in .*call detector\.eval\(\)"):
        explainer(detector).attribute(IMAGE, (BOX, 1))
    expected = explainer(honest).attribute(IMAGE, (BOX, 1))
    with torch.autocast("cpu", torch.bfloat16):
        maps = explainer(detector.eval()).attribute(IMAGE, (BOX, 1))
    assert torch.equal(maps, expected)
