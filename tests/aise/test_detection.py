"""AISE for detectors: what a planted detector rests on, boxes and budgets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xai_lib.aise.classification import AISE
from xai_lib.aise.detection import AISEDetection, place
from xai_lib.baselines import DRISE
from xai_lib.core.detection import Detection, detection_score

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

BOX = [27.0, 3.0, 35.0, 9.0]  # the planted rectangle: columns 27 to 34, rows 3 to 8
SAMPLERS = ("direct", "lipo", "random", "lattice")


def found(*rows: tuple[list[float], float, int]) -> Detection:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ([], [], [])
    return Detection(
        torch.tensor(boxes).reshape(-1, 4).float(),
        torch.tensor(scores).float(),
        torch.tensor(labels).long(),
    )


def detector(images: Tensor) -> list[Detection]:
    """Finds the rectangle (label 1) as surely as it is bright, if at least half of it
    is; and always a box elsewhere, with another label."""
    out = []
    for image in images:
        bright = float(image[:, 3:9, 27:35].mean())
        elsewhere = ([0.0, 0.0, 10.0, 20.0], 0.9, 2)
        out.append(found(elsewhere, *[(BOX, bright, 1)] * (bright > 0.35)))
    return out


# The score of a query


def test_score_by_hand() -> None:
    """Boxes of 8 × 6 with an offset of 4 columns overlap in 4 × 6: IoU 24 / 72."""
    shifted = [31.0, 3.0, 39.0, 9.0]
    detections = [
        found((BOX, 0.5, 1)),
        found((shifted, 0.9, 1)),
        found((BOX, 0.2, 1), (shifted, 0.9, 1)),
        found((BOX, 0.9, 2)),
        found(),
        found(([0.0, 0.0, 5.0, 5.0], 1.0, 1)),
    ]
    scores = detection_score(detections, torch.tensor(BOX), 1)
    torch.testing.assert_close(scores, torch.tensor([0.5, 0.3, 0.3, 0.0, 0.0, 0.0]))


def turned(row: list[float]) -> np.ndarray:
    """The row as an array that NumPy reads from its end."""
    return np.array(row[::-1])[::-1]


TRIPLE = ([BOX, [0.0, 0.0, 5.0, 5.0]], [0.5, 1.0], [1, 2])


@pytest.mark.parametrize(
    "form",
    [
        lambda b, s, c: Detection(b, s, c),
        lambda b, s, c: Detection(np.array(b), np.array(s), np.array(c)),
        lambda b, s, c: Detection(np.array(b)[::-1], np.array(s)[::-1], c[::-1]),
        lambda b, s, c: Detection(
            torch.tensor(b).half(), torch.tensor(s).bfloat16(), torch.tensor(c).int()
        ),
        lambda b, s, c: Detection([torch.tensor(row) for row in b], s, c),
        lambda b, s, c: Detection([torch.tensor(b[0]), turned(b[1])], s, c),
        lambda b, s, c: Detection(
            torch.tensor(b, requires_grad=True), torch.tensor(s).double(), c
        ),
        lambda b, s, c: {"boxes": torch.tensor(b), "scores": s, "labels": c},
        lambda b, s, c: {"boxes": b, "scores": s, "labels": c, "masks": None},
    ],
)
def test_forms_of_a_detection(form: Callable) -> None:
    for answer in ([form(*TRIPLE)], (form(*TRIPLE),)):
        assert detection_score(answer, BOX, 1).tolist() == [0.5]
        assert detection_score(answer, BOX, 2).tolist() == [0.0]
        assert detection_score(answer, np.array([0, 0, 5, 5]), 2).tolist() == [1.0]


def test_a_detection_is_on_the_cpu_in_one_type() -> None:
    made = Detection(torch.tensor([[1, 2, 3, 4]]), torch.tensor([1]), np.uint8([7]))
    for values, dtype, expected in (
        (made.boxes, torch.float32, [[1, 2, 3, 4]]),
        (made.scores, torch.float32, [1]),
        (made.labels, torch.int64, [7]),
    ):
        assert values.dtype is dtype
        assert values.device.type == "cpu"
        assert values.tolist() == expected


@pytest.mark.parametrize(
    "empty",
    [[], torch.zeros(0), torch.zeros(0, 4), np.zeros((0, 4)), torch.zeros(0, 0)],
)
def test_no_detection(empty: Any) -> None:
    nothing = Detection(empty, [], torch.zeros(0))
    assert nothing.boxes.shape == (0, 4)
    assert nothing.scores.shape == nothing.labels.shape == (0,)
    assert nothing.labels.dtype is torch.int64
    assert detection_score([nothing, found((BOX, 0.5, 1))], BOX, 1).tolist() == [0, 0.5]


XYWH = [[27.0, 3.0, 8.0, 6.0]]  # BOX by its corner and its sides
GOOD = torch.tensor([BOX])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (XYWH, [0.5], [1]),
            r"boxes must be x0, y0, x1, y1 .*27\.0, 3\.0.*box_con",
        ),
        ((GOOD / 40, [0.5], [1]), r"boxes must be in pixels, but all lie in \[0, 1\]"),
        ((GOOD[0], [0.5], [1]), r"boxes must be \[k, 4\].*got shape \[4\].*\[None\]"),
        ((GOOD[None], [0.5], [1]), r"boxes must be \[k, 4\].*got shape \[1, 1, 4\]"),
        (
            (torch.zeros(1, 6), [0.5], [1]),
            r"boxes must be \[k, 4\].*shape \[1, 6\]",
        ),
        ((GOOD * math.inf, [0.5], [1]), "boxes must be finite, got"),
        ((["a box"], [0.5], [1]), "boxes must be a tensor, an array or a list of numb"),
        (([[1, 2], [3]], [0.5], [1]), "boxes must be a tensor, an array or a list of"),
        ((None, [0.5], [1]), "boxes must be a tensor, an array or a list of numbers"),
        ((GOOD, [[0.5]], [1]), r"scores must be \[1\].*\[1, 1\]; use scores\[:, 0\]"),
        (
            (GOOD, [[0.5, 0.3]], [1]),
            r"scores must be \[1\].*K class scores take scores.max\(dim",
        ),
        ((GOOD, 0.5, [1]), r"scores must be \[1\], one for each box, got shape \[\]"),
        ((GOOD, [0.5, 0.4], [1]), r"scores must be \[1\], one for each box.*\[2\]"),
        (
            (GOOD, [87.0], [1]),
            r"scores must lie in \[0, 1\], got 87.*/ 100 for perc",
        ),
        ((GOOD, [-2.5], [1]), r"scores must lie in \[0, 1\], got -2\.5; .*sigmoid\(\)"),
        ((GOOD, [math.nan], [1]), r"scores must lie in \[0, 1\], got nan"),
        ((GOOD, [0.5], [1.0]), r"labels must be integers, got .*use labels\.long"),
        ((GOOD, [0.5], [True]), "labels must be integers, got torch.bool"),
        ((GOOD, [0.5], [[1]]), r"labels must be \[1\].*use labels\[:, 0\]"),
        ((GOOD, [0.5], ["dog"]), "labels must be a tensor, an array or a list of numb"),
        ((GOOD, [0.5], []), r"labels must be \[1\], one for each box, got shape \[0\]"),
    ],
)
def test_what_is_no_detection(arguments: tuple, message: str, images) -> None:
    with pytest.raises(ValueError, match=message):
        Detection(*arguments)
    keys = ("boxes", "scores", "labels")
    answer = dict(zip(keys, arguments, strict=True))  # torchvision's form
    for explainer in (AISEDetection, DRISE):
        with pytest.raises(ValueError, match=message):
            explainer(lambda x: [answer] * len(x)).attribute(images[:1], (BOX, 1))


def test_rounding_is_no_wrong_score() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        above = torch.ones(1, dtype=dtype) + torch.finfo(dtype).eps
        assert Detection(GOOD, above, [1]).scores.tolist() == pytest.approx([1], 2e-3)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([{"boxes": 1}], r"one Detection per image, got dict; use .*dictionary of the"),
        (
            [None],
            r"one Detection per image, got NoneType; .*\(\[\], \[\], \[\]\)",
        ),
        ([(GOOD, [0.5], [1])], "one Detection per image, got tuple"),
        ([torch.zeros(1, 6)], "one Detection per image, got Tensor"),
        (
            found((BOX, 0.5, 1)),
            "a list with one Detection per image, got one Det",
        ),
        ({"boxes": GOOD, "scores": [0.5], "labels": [1]}, "a list .* got one dict for"),
        (torch.zeros(1, 1, 6), "a list with one Detection per image, got one Tensor"),
    ],
)
def test_a_detector_must_return_detections(answer: Any, message: str, images) -> None:
    with pytest.raises(TypeError, match=message):
        detection_score(answer, torch.tensor(BOX), 1)
    for explainer in (AISEDetection, DRISE):
        with pytest.raises(TypeError, match=message):
            explainer(lambda x: answer).attribute(images[:1], (BOX, 1))


@gpu
def test_boxes_of_a_detector_on_the_gpu(images) -> None:
    def answer(batch: Tensor) -> list[dict[str, Tensor]]:
        parts = ("boxes", "scores", "labels")
        return [
            {name: getattr(one, name).to(batch.device) for name in parts}
            for one in detector(batch)
        ]

    expected = AISEDetection(detector).attribute(images[:1], (BOX, 1))
    box = torch.tensor(BOX, device="cuda")
    for x in (images[:1], images[:1].cuda()):
        drawn = AISEDetection(answer).attribute(x, (box, 1))
        assert drawn.device == x.device
        torch.testing.assert_close(drawn.cpu(), expected, rtol=1e-4, atol=1e-5)


# Widths and search area


def test_widths_and_area_in_units_of_the_sides() -> None:
    """8 of 40 columns, 6 of 24 rows: the shorter side is 0.2. With the paper's 0.4,
    {7, 4, 1} give {0.057, 0.1, 0.4}."""
    widths, area = place(BOX, 24, 40)
    assert widths == pytest.approx([0.2 / 7, 0.05, 0.2])
    assert area[0] == pytest.approx(((27 - 4) / 40, 0.0))  # 3 - 3 rows: the edge
    assert area[1] == pytest.approx(((35 + 4) / 40, (9 + 3) / 24))
    paper, _ = place([30, 20, 70, 80], 100, 100)
    assert paper == pytest.approx([0.4 / 7, 0.1, 0.4])


def test_the_area_ends_at_the_image() -> None:
    widths, area = place([-10, 50, 30, 130], 100, 60, [2])
    assert area == ((0.0, pytest.approx(0.1)), (pytest.approx(50 / 60), 1.0))
    assert widths == pytest.approx([40 / 60 / 2])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([5, 5, 5, 9], "box must have x0 < x1"),
        ([5, 9, 8, 5], "box must be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1"),
        ([5, 5, 8], r"box must be \[4\], x0, y0, x1, y1 in pixels, got \[3\]"),
        ([[5, 5, 8, 9]], r"box must be \[4\], x0, y0, x1, y1 in pixels, got \[1, 4\]"),
        ([5, 5, 8, math.nan], "box must be finite"),
        ([0.1, 0.2, 0.5, 0.9], r"box must be in pixels, but all lie in \[0, 1\]"),
        ("face", "box must be a tensor, an array or a list of numbers, got 'face'"),
        ([41, 5, 48, 9], "box must overlap the image of 40 x 24 pixels"),
        ([5, -9, 8, 0], "box must overlap the image"),
    ],
)
def test_wrong_boxes(box: Any, message: str, images) -> None:
    with pytest.raises(ValueError, match=message):
        place(box, 24, 40)
    for explainer in (AISEDetection(detector), DRISE(detector)):
        with pytest.raises(ValueError, match=message):
            explainer.attribute(images[:1], (box, 1))
        assert explainer.queries == 0


# Maps


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_planted_detection_is_explained(images, in_rectangle, sampler: str) -> None:
    explainer = AISEDetection(detector, sampler)
    values = explainer.attribute(images[:1], (BOX, 1))
    assert values.shape == (1, 1, 24, 40)
    assert values.dtype is images.dtype
    assert in_rectangle(values[0])
    assert explainer.queries == 150


def test_many_images(images) -> None:
    explainer = AISEDetection(detector, n_kernels=9)
    targets = [(BOX, 1), (BOX, 2), ([2, 3, 12, 14], 1)]
    maps = explainer.attribute(images, targets)
    assert explainer.queries == 3 * 27
    for one, x, target in zip(maps, images, targets, strict=True):
        assert torch.equal(one[None], explainer.attribute(x[None], target))
    alike = explainer.attribute(images, (BOX, 1))
    assert torch.equal(alike[:1], maps[:1])


def test_by_loops(images) -> None:
    """One query at a time: preserve, with the widths and the area of the box."""
    x = images[:1].double()
    samples = AISEDetection(detector, n_kernels=33).sample(x, (BOX, 1))
    widths, area = place(BOX, 24, 40)
    assert samples.widths.tolist() == pytest.approx(widths)
    assert samples.centres.shape == (1, 3, 33, 2)
    assert (samples.centres >= torch.tensor(area[0], dtype=torch.float64) - 1e-12).all()
    assert (samples.centres <= torch.tensor(area[1], dtype=torch.float64) + 1e-12).all()
    y, z = ((torch.arange(side).double() + 0.5) / side for side in (24, 40))
    for w, sigma in enumerate(widths):
        for p, s in zip(samples.centres[0, w], samples.scores[0, w], strict=True):
            mask = torch.exp(
                -((z - p[0]) ** 2 + (y[:, None] - p[1]) ** 2) / (2 * sigma**2)
            )
            one = detection_score(detector(x * mask), torch.tensor(BOX), 1)
            assert s.item() == pytest.approx(one.item(), abs=1e-6)
    assert samples.scores.max() > 0.3
    assert samples.scores.min() == 0


@pytest.mark.parametrize(("n_kernels", "queries"), [(33, 99), (50, 150)])
def test_the_papers_budgets(images, n_kernels: int, queries: int) -> None:
    asked: list[int] = []

    def counting(batch: Tensor) -> list[Detection]:
        asked.append(len(batch))
        return detector(batch)

    explainer = AISEDetection(counting, n_kernels=n_kernels)
    explainer.attribute(images[:1], (BOX, 1))
    assert sum(asked) == explainer.queries == queries
    explainer.attribute(images[1:2], (torch.tensor(BOX), 1))
    assert sum(asked) == explainer.queries == 2 * queries


def test_it_is_aise_with_a_score_of_ones_own(images) -> None:
    def score(batch: Tensor) -> Tensor:
        return detection_score(detector(batch), torch.tensor(BOX), 1)

    widths, area = place(BOX, 24, 40)
    expected = AISE(
        score, kernel_widths=widths, delete=False, eps=0.05, bounds=area
    ).attribute(images[:1], 0)
    values = AISEDetection(detector).attribute(images[:1], (BOX, 1))
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_found_and_always_found_are_maps_of_zeros(images, sampler: str) -> None:
    blind = AISEDetection(lambda x: [found()] * len(x), sampler, n_kernels=20)
    stuck = AISEDetection(lambda x: [found((BOX, 0.8, 1))] * len(x), sampler)
    for explainer in (blind, stuck):
        values = explainer.attribute(images[:1], (BOX, 1))
        assert torch.equal(values, torch.zeros(1, 1, 24, 40))
    # A label that is never found.
    values = AISEDetection(detector, sampler).attribute(images[:1], (BOX, 3))
    assert torch.equal(values, torch.zeros(1, 1, 24, 40))


def test_detectors_that_misbehave(images) -> None:
    nan = AISEDetection(lambda x: [found((BOX, math.nan, 1))] * len(x))
    with pytest.raises(ValueError, match=r"scores must lie in \[0, 1\], got nan"):
        nan.attribute(images[:1], (BOX, 1))
    short = AISEDetection(lambda x: [found((BOX, 0.5, 1))] * (len(x) - 1))
    with pytest.raises(ValueError, match="one Detection per image, got 3 for 4 images"):
        short.attribute(images[:1], (BOX, 1))


@pytest.mark.parametrize("explainer", [AISEDetection, DRISE])
def test_boxes_in_pixels_of_another_size(explainer: type, images) -> None:
    """The explained images are 40 x 24; a box may end at their edge."""
    twice = torch.tensor([2 * v for v in BOX])
    for box, right in ((twice, False), ([40, 2, 40, 9], True), ([-3, -2, 0, 0], True)):
        answers = [found((BOX, 0.5, 1), (list(box), 0.4, 1))]
        method = explainer(lambda x, one=answers: one * len(x))
        if right:
            assert method.attribute(images[:1], (BOX, 1)).shape == (1, 1, 24, 40)
            continue
        with pytest.raises(ValueError, match=r"in pixels of its input of 40 x 24, got"):
            method.attribute(images[:1], (BOX, 1))


def test_modules_are_detectors(images) -> None:
    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> list[Detection]:
            assert not torch.is_grad_enabled()
            return detector(x * self.scale)

    values = AISEDetection(Module().eval()).attribute(images[:1], (BOX, 1))
    assert torch.equal(values, AISEDetection(detector).attribute(images[:1], (BOX, 1)))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"kernel_divisors": ()}, ValueError, "kernel_divisors must hold at least one"),
        ({"kernel_divisors": (4, 0)}, ValueError, "kernel_divisors must be above 0"),
        ({"n_kernels": 0}, ValueError, "n_kernels must be at least 1"),
        ({"sampler": "cma"}, ValueError, "sampler must be one of"),
        ({"eps": -1}, ValueError, "eps must be"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
    ],
)
def test_wrong_settings(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        AISEDetection(detector, **settings)


def test_wrong_arguments(images) -> None:
    with pytest.raises(TypeError, match="detector must be callable, got str"):
        AISEDetection("yolox")  # type: ignore[arg-type]
    explainer = AISEDetection(detector)
    with pytest.raises(ValueError, match=r"inputs must be one image .* got 3"):
        explainer.sample(images, (BOX, 1))
    with pytest.raises(TypeError, match="the box and the label of a detection"):
        explainer.attribute(images, BOX)
    with pytest.raises(ValueError, match=r"a list of 3.* a list of 2"):
        explainer.attribute(images, [(BOX, 1)] * 2)
    with pytest.raises(TypeError, match="label must be an integer"):
        explainer.attribute(images[:1], (BOX, "person"))  # type: ignore[arg-type]
