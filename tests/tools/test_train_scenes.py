from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

import train_scenes
from xai_lib.core.detection import Detection
from xai_lib.zoo import scenes
from xai_lib.zoo.detectors import SceneDetector
from xai_lib.zoo.scene_networks import CentreNetwork, scenes_cnn
from xai_lib.zoo.scenes import Scenes

SOME = scenes.make(4, seed=2)


class Table(nn.Module):
    """A network whose maps are its parameters."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.full((n, 10, 28, 28), -2.0))
        self.edges = nn.Parameter(torch.zeros(n, 4, 28, 28))

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.logits, 16 * self.edges.exp()], dim=1)


def test_the_loss_teaches_what_the_detector_reads() -> None:
    """Maps fitted to the loss are read as the true boxes and classes, and no others."""
    table = Table(len(SOME.images))
    optimizer = torch.optim.Adam(table.parameters(), lr=0.3)
    for _ in range(80):
        loss = train_scenes.centre_loss(table(SOME.images), SOME.boxes, SOME.classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    with torch.no_grad():
        found = SceneDetector(table, 0.5)(SOME.images)  # type: ignore[arg-type]
    for detections, boxes, classes in zip(found, SOME.boxes, SOME.classes, strict=True):
        assert len(detections.boxes) == len(boxes)
        for box, kind in zip(boxes, classes, strict=True):
            overlap, best = box_iou(detections.boxes, box[None])[:, 0].max(dim=0)
            assert overlap > 0.85
            assert detections.labels[best] == kind


def test_loss_of_one_box_by_hand() -> None:
    """A 16 × 16 box whose centre is the middle of cell (row 2, column 3)."""
    box, kind = torch.tensor([[6.0, 2.0, 22.0, 18.0]]), torch.tensor([1])
    maps = torch.zeros(1, 4 + 2, 6, 8)
    maps[:, 2:] = 8.0  # right at the middle, shifted by 4 pixels elsewhere
    loss = train_scenes.centre_loss(maps, [box], [kind])

    sigma = 16 / 4 / 6
    heat, edges = 0.0, []
    for label, row, column in itertools.product(range(2), range(6), range(8)):
        away = (row - 2) ** 2 + (column - 3) ** 2
        truth = np.exp(-away / 2 / sigma**2) if label == 1 else 0.0
        weight = 0.25 if truth == 1 else (1 - truth) ** 4 * 0.25
        heat -= weight * np.log(0.5)
        if label == 1 and abs(row - 2) <= 1 and abs(column - 3) <= 1:
            dx, dy = 4 * abs(column - 3), 4 * abs(row - 2)
            inner = (16 - dx) * (16 - dy)
            union, hull = 2 * 16**2 - inner, (16 + dx) * (16 + dy)
            edges.append(1 - inner / union + (hull - union) / hull)
    assert len(edges) == 9
    assert float(loss) == pytest.approx(heat + np.mean(edges), rel=1e-4)


def truth(*boxes: list[list[float]], classes: list[list[int]]) -> Scenes:
    n = len(boxes)
    return Scenes(
        torch.zeros(n, 1, 8, 8),
        torch.zeros(n, 2, dtype=torch.bool),
        [torch.tensor(b) for b in boxes],
        [torch.tensor(c) for c in classes],
        [],
        ("a", "b"),
    )


def test_average_precision_by_hand() -> None:
    left, right, below = [0.0, 0, 10, 10], [50.0, 0, 60, 10], [0.0, 50, 10, 60]
    known = truth([left, right], [below, left], classes=[[0, 0], [0, 1]])
    found = [
        Detection(
            torch.tensor([left, [1.0, 0, 11, 10], right, [30.0, 30, 40, 40]]),
            torch.tensor([0.9, 0.8, 0.6, 0.7]),
            torch.tensor([0, 0, 0, 0]),
        ),
        # The right place and the wrong class; too far off for 0.5.
        Detection(
            torch.tensor([below, [4.0, 50, 14, 60]]),
            torch.tensor([0.95, 0.5]),
            torch.tensor([1, 0]),
        ),
    ]
    precision = train_scenes.detection_average_precision(found, known)
    # Class a, from the best: right, taken already, wrong, right, wrong: the precision
    # is 1 and 2/4 where the recall grows to 1/3 and 2/3.
    np.testing.assert_allclose(precision, [(1 + 2 / 4) / 3, 0])


def test_average_precision_of_the_truth_is_one() -> None:
    found = [
        Detection(boxes, torch.linspace(0.5, 1, len(boxes)), classes)
        for boxes, classes in zip(SOME.boxes, SOME.classes, strict=True)
    ]
    expected = np.where(SOME.labels.any(dim=0).numpy(), 1, np.nan)
    precision = train_scenes.detection_average_precision(found, SOME)
    np.testing.assert_allclose(precision, expected)


def test_the_detector_starts_from_the_classifier() -> None:
    classifier, network = scenes_cnn(), CentreNetwork()
    train_scenes.start_from(network, classifier.state_dict())
    images = torch.rand(2, 1, 32, 32)
    expected = classifier.eval()[:6](images)
    network.eval()
    torch.testing.assert_close(network.coarse(network.fine(images)), expected)


def test_a_fit_lowers_the_loss_and_ends_frozen() -> None:
    torch.manual_seed(0)
    few = scenes.make(128, seed=5, size=32, sides=(0.4, 0.5), n_objects=(1, 1))
    part = few._replace(images=(few.images * 255).byte())
    network = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 10))
    losses = []

    def loss(images: Tensor, chosen: Tensor, mirrored: bool) -> Tensor:
        expected = part.images[chosen].float() / 255
        assert torch.equal(images, expected.flip(-1) if mirrored else expected)
        wanted = part.labels[chosen].float()
        value = nn.functional.binary_cross_entropy_with_logits(network(images), wanted)
        losses.append(float(value.detach()))
        return value

    train_scenes.fit(network, [part], loss, epochs=20)
    assert len(losses) == 40
    assert losses[-1] < 0.7 * losses[0]
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
