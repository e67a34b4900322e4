"""D-RISE against a loop over masks, on detectors whose answers are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xai_lib.baselines import DRISE, RISE
from xai_lib.core.blackbox import BudgetExceeded
from xai_lib.core.detection import Detection

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

SQUARES = torch.tensor([[2.0, 4, 8, 10], [12, 1, 18, 7], [11, 9, 19, 15]])
LABELS = torch.tensor([3, 5, 3])


def image() -> Tensor:
    """16 rows, 20 columns; a bright square at each of SQUARES."""
    x = torch.full((1, 3, 16, 20), 0.1)
    for x0, y0, x1, y1 in SQUARES.int().tolist():
        x[:, :, y0:y1, x0:x1] = 1
    return x


class Squares(nn.Module):
    """Finds each square that is visible at all; its score is how much of it is, and
    its box is wider, the less is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.calls: list[int] = []

    def forward(self, images: Tensor) -> list[Detection]:
        self.calls.append(len(images))
        found = []
        for one in images:
            seen = [
                one[0, y0:y1, x0:x1].mean() for x0, y0, x1, y1 in SQUARES.int().tolist()
            ]
            scores = self.gain * torch.stack(seen)
            keep = scores > 0.2
            boxes = SQUARES.to(one) + torch.tensor([0.0, 0, 1, 0]).to(one) * (
                4 * (1 - scores[:, None])
            )
            labels = LABELS.to(one.device)
            found.append(Detection(boxes[keep], scores[keep], labels[keep]))
        return found


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return both / (sum(areas) - both)


def by_loop(detector: Any, x: Tensor, box: list[float], label: int, n: int) -> Tensor:
    total = torch.zeros(16, 20, dtype=torch.float64)
    coverage = torch.zeros(16, 20, dtype=torch.float64)
    for masks in RISE(detector, n, mask_size=16).masks(16, 20):
        for mask in masks:
            with torch.no_grad():
                (found,) = detector(x * mask)
            score = 0.0
            for b, s, c in zip(found.boxes, found.scores, found.labels, strict=True):
                if int(c) == label:
                    score = max(score, iou(box, b.tolist()) * float(s))
            total += score * mask.double()
            coverage += mask.double()
    return total / coverage


@pytest.mark.parametrize("which", [0, 1, 2])
def test_equals_a_loop(which: int) -> None:
    detector = Squares()
    box, label = SQUARES[which].tolist(), int(LABELS[which])
    drawn = DRISE(detector, n_samples=150).attribute(image(), (box, label))
    assert drawn.shape == (1, 1, 16, 20)
    expected = by_loop(detector, image(), box, label, 150)
    torch.testing.assert_close(drawn[0, 0].double(), expected, rtol=0, atol=1e-6)
    assert expected.max() > 0.1


def test_the_map_points_at_the_square_of_the_box() -> None:
    for box, label in zip(SQUARES, LABELS, strict=True):
        drawn = DRISE(Squares(), n_samples=1500).attribute(image(), (box, int(label)))
        row, column = divmod(int(drawn.argmax()), 20)
        x0, y0, x1, y1 = box.tolist()
        assert x0 <= column < x1
        assert y0 <= row < y1


def test_all_detections_from_one_set_of_queries() -> None:
    detector = Squares()
    (found,) = detector(image())
    found = Detection(found.boxes.detach(), found.scores, found.labels)
    assert found.labels.tolist() == [3, 5, 3]
    explainer = DRISE(detector, n_samples=200)
    maps = explainer.attribute_all(image(), found)
    assert maps.shape == (1, 3, 16, 20)
    assert explainer.queries == 200
    for i in range(3):
        alone = explainer.attribute(image(), (found.boxes[i], int(found.labels[i])))
        torch.testing.assert_close(alone[0, 0], maps[0, i])
    assert explainer.queries == 800
    assert sum(detector.calls) == 801


@pytest.mark.parametrize("n_samples", [1, 64, 65])
def test_exact_number_of_queries(n_samples: int) -> None:
    detector = Squares()
    explainer = DRISE(detector, n_samples=n_samples)
    explainer.attribute(image(), (SQUARES[0], 3))
    assert sum(detector.calls) == explainer.queries == n_samples


def test_queries_are_counted_when_a_call_fails() -> None:
    class Failing(Squares):
        def forward(self, images: Tensor) -> list[Detection]:
            if sum(self.calls) > 60:
                raise BudgetExceeded("no more")
            return super().forward(images)

    explainer = DRISE(Failing(), n_samples=500)
    with pytest.raises(BudgetExceeded):
        explainer.attribute(image(), (SQUARES[0], 3))
    assert 60 < explainer.queries < 500


def test_what_is_never_found_has_a_map_of_zeros() -> None:
    explainer = DRISE(Squares(), n_samples=50)
    other_class = explainer.attribute(image(), (SQUARES[0], 9))
    elsewhere = explainer.attribute(image(), ([0.0, 11, 2, 16], 3))
    blind = DRISE(
        lambda images: [
            Detection(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())
            for _ in images
        ],
        n_samples=50,
    ).attribute(image(), (SQUARES[0], 3))
    for drawn in (other_class, elsewhere, blind):
        assert torch.equal(drawn, torch.zeros(1, 1, 16, 20))


def test_a_detector_need_not_be_a_module_and_the_seed_decides() -> None:
    detector, x = Squares(), image()
    maps = [
        DRISE(lambda images: detector(images), 100, seed=s).attribute(
            x, (SQUARES[1], 5)
        )
        for s in (0, 0, 1)
    ]
    assert torch.equal(maps[0], maps[1])
    assert not torch.allclose(maps[0], maps[2])
    expected = DRISE(detector, 100).attribute(x, (SQUARES[1], 5))
    torch.testing.assert_close(maps[0], expected)
    assert not expected.requires_grad
    assert torch.equal(x, image())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((image(), ([1, 2, 3], 3)), ValueError, r"box must be \[4\].*got \[3\]"),
        ((image(), ([5, 2, 1, 8], 3)), ValueError, r"x0 <= x1 .* got \[5\.0, 2\.0"),
        ((image(), ([5, 2, 5, 8], 3)), ValueError, "box must have x0 < x1"),
        ((image(), ([21, 2, 25, 8], 3)), ValueError, "overlap the image of 20 x 16"),
        ((image(), ([1, 2, float("nan"), 8], 3)), ValueError, "box must be finite"),
        ((image(), (SQUARES[0], 1.5)), TypeError, "label must be an integer"),
        ((image(), (SQUARES[0], -1)), ValueError, "label must be at least 0"),
        ((image()[0], (SQUARES[0], 3)), ValueError, "inputs must be"),
        ((image(), SQUARES[0]), TypeError, "box and the label of a detection"),
        ((image(), [SQUARES[0], 3]), TypeError, "box and the label of a detection"),
    ],
)
def test_wrong_calls(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DRISE(Squares(), 10).attribute(*arguments)


def test_many_images() -> None:
    two = torch.cat([image(), image().flip(3)])
    explainer = DRISE(Squares(), 50)
    maps = explainer.attribute(two, [(SQUARES[0], 3), (SQUARES[1], 5)])
    assert explainer.queries == 100
    for one, x, box, label in zip(maps, two, SQUARES, (3, 5), strict=False):
        assert torch.equal(one[None], explainer.attribute(x[None], (box, label)))


def test_wrong_detections() -> None:
    explainer = DRISE(Squares(), 10)
    two = image().repeat(2, 1, 1, 1)
    with pytest.raises(ValueError, match=r"one image.*got 2"):
        explainer.attribute_all(two, Detection(SQUARES[:1], [1], [3]))
    with pytest.raises(TypeError, match=r"a Detection, got list.*inputs\)\[0\]"):
        explainer.attribute_all(image(), Squares()(image()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="detections must hold at least one"):
        explainer.attribute_all(image(), Detection([], [], []))
    flat = Detection([[1, 2, 4, 6], [3, 3, 3, 9]], [1, 1], [3, 3])
    with pytest.raises(ValueError, match=r"box must have x0 < x1 .* \[3\.0, 3\.0, 3"):
        explainer.attribute_all(image(), flat)
    assert explainer.queries == 0


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"detector": 7}, TypeError, "detector must be callable, got int"),
        ({"n_samples": 0}, ValueError, "n_samples must be at least 1, got 0"),
        ({"p": 1}, ValueError, "p must be above 0 and below 1"),
        ({"mask_size": 0}, ValueError, "mask_size must be at least 1, got 0"),
    ],
)
def test_wrong_settings(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        DRISE(**{"detector": Squares(), **settings})


@gpu
def test_cuda_agrees_with_the_cpu() -> None:
    expected = DRISE(Squares(), 100).attribute(image(), (SQUARES[0], 3))
    for x in (image(), image().cuda()):
        drawn = DRISE(Squares().cuda(), 100).attribute(x, (SQUARES[0], 3))
        torch.testing.assert_close(drawn.cpu(), expected, rtol=1e-4, atol=1e-5)
