from __future__ import annotations

import json
import urllib.error
from collections.abc import Callable
from pathlib import Path

import dlib
import pytest
import torch
import torchvision.models as tv
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, box_iou

from xai_lib.core.detection import Detection
from xai_lib.core.paths import data_path
from xai_lib.zoo import detectors, photos, scenes
from xai_lib.zoo.download import OfflineError
from xai_lib.zoo.scene_networks import CentreNetwork


class Maps(nn.Module):
    """A network that answers with maps of our own."""

    def __init__(self, height: int, width: int, n: int = 1) -> None:
        super().__init__()
        self.maps = torch.full((n, 14, height, width), -10.0)
        self.maps[:, 10:] = 1.0

    def put(self, label: int, row: int, column: int, logit: float, edges: list) -> None:
        self.maps[0, label, row, column] = logit
        self.maps[0, 10:, row, column] = torch.tensor(edges)

    def forward(self, images: Tensor) -> Tensor:
        return self.maps


def read(maps: Maps, **settings: float) -> list[Detection]:
    n, _, height, width = maps.maps.shape
    detector = detectors.SceneDetector(maps, **settings)  # type: ignore[arg-type]
    return detector(torch.zeros(n, 1, 4 * height, 4 * width))


def test_reading_of_the_maps() -> None:
    """Columns are not taken for rows; edges are measured from a cell's middle."""
    maps = Maps(10, 20, n=2)
    maps.put(7, row=2, column=15, logit=0.0, edges=[10, 4, 6, 8])
    maps.put(3, row=6, column=4, logit=2.0, edges=[3, 20, 30, 7])
    maps.put(3, row=6, column=5, logit=1.0, edges=[7, 20, 26, 7])  # no peak
    first, second = read(maps)
    assert first.labels.tolist() == [3, 7]  # the best first
    torch.testing.assert_close(first.scores, torch.tensor([2.0, 0.0]).sigmoid())
    # The middles are (18, 26) and (62, 10).
    assert first.boxes.tolist() == [[15, 6, 48, 33], [52, 6, 68, 18]]
    assert second.boxes.shape == (0, 4)
    assert second.scores.shape == second.labels.shape == (0,)
    assert second.labels.dtype == torch.int64


def test_boxes_end_at_the_image() -> None:
    maps = Maps(10, 20)
    maps.put(0, row=9, column=19, logit=3.0, edges=[10, 10, 10, 10])
    assert read(maps)[0].boxes.tolist() == [[68, 28, 80, 40]]


def test_the_better_of_two_boxes_of_a_class() -> None:
    maps = Maps(10, 10)
    maps.put(1, row=3, column=3, logit=1.0, edges=[10, 10, 10, 10])
    maps.put(1, row=3, column=5, logit=2.0, edges=[14, 10, 6, 10])
    maps.put(2, row=5, column=5, logit=0.0, edges=[14, 18, 6, 2])
    found = read(maps)[0]
    assert found.labels.tolist() == [1, 2]
    assert found.scores[0] == torch.tensor(2.0).sigmoid()


def test_threshold() -> None:
    maps = Maps(10, 10)
    maps.put(1, row=3, column=3, logit=-1.0, edges=[4, 4, 4, 4])
    assert len(read(maps)[0].scores) == 1
    assert len(read(maps, threshold=0.3)[0].scores) == 0
    for threshold in (0.0, 1.0, -1):
        with pytest.raises(ValueError, match="threshold must be"):
            read(maps, threshold=threshold)


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 1, 20, 16), (1, 1, 16, 20)])
def test_scene_detector_refuses(shape: tuple) -> None:
    detector = detectors.SceneDetector(CentreNetwork().eval())
    with pytest.raises(ValueError, match="images must"):
        detector(torch.zeros(shape))


@pytest.fixture(scope="module")
def scene_detector() -> detectors.Detector:
    return detectors.load("scenes_detector")


def test_scene_detector_finds_articles(scene_detector: detectors.Detector) -> None:
    """Confident answers are mostly right, and most articles are found."""
    some = scenes.make(100, seed=11)
    right = told = boxes = 0
    for found, box, classes in zip(
        scene_detector(some.images), some.boxes, some.classes, strict=True
    ):
        sure = found.scores >= 0.5
        same = found.labels[sure][:, None] == classes
        hits = (box_iou(found.boxes[sure], box) >= 0.5) & same
        right += int(hits.any(dim=0).sum())
        told += int(sure.sum())
        boxes += len(box)
    assert right / told > 0.75
    assert right / boxes > 0.6
    record = json.loads(data_path("weights/training.json").read_text())
    assert record["scenes_detector"]["mean_average_precision_at_iou_50"] > 0.7
    assert data_path("weights/scenes_detector.safetensors").stat().st_size < 3_000_000


def test_a_detection_does_not_depend_on_its_batch(
    scene_detector: detectors.Detector,
) -> None:
    images = scenes.make(4, seed=12).images
    for i, found in enumerate(scene_detector(images)):
        (alone,) = scene_detector(images[i : i + 1])
        assert torch.equal(found.labels, alone.labels)
        torch.testing.assert_close(found.boxes, alone.boxes, atol=1e-2, rtol=1e-4)
        torch.testing.assert_close(found.scores, alone.scores)
    assert not any(p.requires_grad for p in scene_detector.parameters())  # type: ignore[attr-defined]
    assert scene_detector.categories == scenes.make(1).categories


def test_dlib_finds_the_astronaut() -> None:
    detector = detectors.load("dlib_faces")
    image = photos.load("astronaut").image
    (found,) = detector(image)
    best = found.boxes[0].tolist()
    # As one sees it in the picture: the eyes and the mouth.
    assert best[0] < 85 < 105 < best[2]
    assert best[1] < 40 < 60 < best[3]
    assert best[2] - best[0] < 70
    assert found.scores[0] > 0.9
    assert (found.scores[1:] < 0.5).all()
    assert (found.scores >= 0.05).all()
    assert found.labels.tolist() == [0] * len(found.scores)
    assert detector.categories == ("face",)


def test_dlib_is_asked_what_we_say() -> None:
    image = photos.load("astronaut", 320).image
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy().copy()
    reference = dlib.get_frontal_face_detector()
    boxes, margins, _ = reference.run(pixels, 0, -0.5)
    assert len(boxes) == 2  # one of them is a false alarm
    found = detectors.DlibFaces(upsample=0)(image)[0]
    both = found.scores >= 1 / (1 + torch.tensor(3 * 0.5).exp())
    for box, expected in zip(found.boxes[both], boxes, strict=True):
        x0, y0, x1, y1 = box.tolist()
        assert (x0, y0) == (expected.left(), expected.top())
        assert (x1 - x0, y1 - y0) == (expected.width(), expected.height())
    expected_scores = torch.sigmoid(3 * torch.tensor(list(margins)))
    torch.testing.assert_close(found.scores[both], expected_scores)
    assert detectors.DlibFaces(0.5, upsample=0).least_margin == 0


def test_dlib_many_images() -> None:
    faces = detectors.load("dlib_faces", threshold=0.5)
    astronaut, cat = (photos.load(n).image for n in ("astronaut", "chelsea"))
    empty = torch.zeros(1, 3, 224, 224, dtype=torch.float64)
    both = faces(torch.cat([cat, astronaut]))
    assert [len(d.scores) for d in both] == [0, 1]
    assert both[0].boxes.shape == (0, 4)
    (nothing,) = faces(empty)
    assert nothing.boxes.dtype == torch.float32
    assert nothing.labels.dtype == torch.int64
    grey = astronaut.mean(dim=1, keepdim=True)
    assert len(faces(grey)[0].scores) == 1


def test_dlib_refuses() -> None:
    faces = detectors.load("dlib_faces")
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\].* 0 to 2"):
        faces(torch.tensor([0.0, 2.0]).expand(1, 1, 2, 2))
    with pytest.raises(ValueError, match="images must be"):
        faces(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="upsample must be at least 0"):
        detectors.DlibFaces(upsample=-1)


def miniature(seed: int = 0) -> nn.Module:
    """A Faster R-CNN of torchvision with three layers and random weights."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8), nn.ReLU())
    backbone.out_channels = 8  # type: ignore[assignment]
    return FasterRCNN(
        backbone,
        min_size=64,
        max_size=96,
        rpn_anchor_generator=AnchorGenerator(((16, 32),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=3, sampling_ratio=1),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(72, 16)),
        box_predictor=tv.detection.faster_rcnn.FastRCNNPredictor(16, 4),
    ).eval()


@torch.no_grad()
def test_torchvision_detector() -> None:
    network = miniature()
    names = ("__background__", "a", "b", "c")
    images = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    found = detectors.TorchvisionDetector("mini", network, names)(images)
    expected = network(list(images))
    assert len(found) == 3
    assert sum(len(d.scores) for d in found) > 3
    level = float(torch.cat([d.scores for d in found]).median())
    few = detectors.TorchvisionDetector("mini", network, names, level)(images)
    for one, all_of_it, above in zip(found, expected, few, strict=True):
        assert torch.equal(one.boxes, all_of_it["boxes"])
        assert torch.equal(one.scores, all_of_it["scores"])
        assert torch.equal(one.labels, all_of_it["labels"])
        assert torch.equal(above.boxes, one.boxes[one.scores >= level])
    with pytest.raises(ValueError, match=r"images must be \[N, 3, H, W\]"):
        detectors.TorchvisionDetector("mini", network, names)(images[:, :1])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Torch hub's folder, empty, and no network."""

    def urlopen(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


SMALL = "ssdlite320_mobilenet_v3_large"


def unchecked(hub: Path) -> Callable[..., Path]:
    """`fetch` for a file of our own, whose hash is not the published one."""
    return lambda url, digits, folder, **_: hub / url.rpartition("/")[2]


def test_torchvision_weights(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    network = tv.get_model(SMALL, weights=None, weights_backbone=None)
    weights = tv.get_model_weights(SMALL).DEFAULT
    torch.save(network.state_dict(), hub / weights.url.rpartition("/")[2])
    monkeypatch.setattr("xai_lib.zoo.models.fetch", unchecked(hub))
    detector = detectors.load(SMALL)
    for key, value in detector.network.state_dict().items():  # type: ignore[attr-defined]
        assert torch.equal(value, network.state_dict()[key])
    assert detector.categories[1] == "person"
    (found,) = detector(torch.rand(1, 3, 40, 60))
    assert found.boxes.shape[1] == 4


class Evil:
    def __reduce__(self) -> tuple:
        return (print, ("unpickled",))


def test_a_file_that_is_more_than_tensors(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tv.get_model_weights(SMALL).DEFAULT
    torch.save({"x": Evil()}, hub / weights.url.rpartition("/")[2])
    monkeypatch.setattr("xai_lib.zoo.models.fetch", unchecked(hub))
    with pytest.raises(Exception, match="weights_only"):
        detectors.load(SMALL)
    assert "unpickled" not in capsys.readouterr().out


def test_offline(hub: Path) -> None:
    with pytest.raises(OfflineError) as caught:
        detectors.load("fasterrcnn_mobilenet_v3_large_320_fpn")
    message = str(caught.value)
    assert "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth" in message
    assert 'load("dlib_faces")' in message


def test_names() -> None:
    names = detectors.names()
    assert names[:2] == ("scenes_detector", "dlib_faces")
    assert "fasterrcnn_resnet50_fpn" in names
    with pytest.raises(
        ValueError, match=r"unknown detector 'dlib_face' \(did you mean 'dlib_faces'\?"
    ):
        detectors.load("dlib_face")
