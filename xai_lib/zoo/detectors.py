"""Named detectors: a batch of images in [0, 1] to one `Detection` per image.

An explainer sees nothing else of a detector, so that a network, dlib's face detector,
which is no network, and a remote service are explained alike. Scores lie in [0, 1];
what is below `threshold` is not reported. It is low by default, because an explainer
needs the weak answers to perturbed images too; to show detections, keep 0.5 and above.
"""

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai_lib.core.arguments import check_count, check_flag, check_inputs, check_number
from xai_lib.core.attribution import default_device
from xai_lib.core.detection import Detection
from xai_lib.core.extras import extra
from xai_lib.core.image_range import check_range
from xai_lib.core.paths import data_path
from xai_lib.zoo import models, scenes
from xai_lib.zoo.listing import Row, lookup
from xai_lib.zoo.scene_networks import STRIDE, CentreNetwork, boxes_around

with extra("detect"):
    import torchvision.models as tv
    from torchvision.datasets import FashionMNIST
    from torchvision.ops import batched_nms, clip_boxes_to_image

THRESHOLD = 0.05


class Detector(Protocol):
    """What `load` returns."""

    name: str
    categories: tuple[str, ...]
    """The class names, in the order of the labels."""
    image_range: tuple[float, float]

    def __call__(self, images: Tensor) -> list[Detection]:
        """Float images `[N, C, H, W]` in [0, 1] to N detections."""


class SceneDetector(nn.Module):
    """`CentreNetwork` with its normalisation and the reading of its maps.

    Attributes:
        normalize, network: together, images `[N, 1, H, W]` to the network's maps.
    """

    image_range = (0.0, 1.0)

    def __init__(self, network: CentreNetwork, threshold: float = THRESHOLD) -> None:
        super().__init__()
        self.name = "scenes_detector"
        self.categories: tuple[str, ...] = tuple(FashionMNIST.classes)
        self.threshold = _check_threshold(threshold)
        self.normalize = models.normalization((scenes.MEAN,), (scenes.STD,))
        self.network = network

    def maps(self, images: Tensor) -> Tensor:
        """The maps of `CentreNetwork`."""
        return self.network(self.normalize(images))

    def forward(self, images: Tensor) -> list[Detection]:
        """The peaks of the heat map, best first, with the edges told at their place.

        A peak scores highest among its eight neighbours. Of two boxes of one class
        with an IoU above 0.5 the better one is kept.

        Raises:
            TypeError, ValueError: images that are not float `[N, 1, H, W]`, with H and
                W multiples of 8.
        """
        _check_images(self, images, channels=(1,))
        height, width = images.shape[2:]
        if height % 8 or width % 8:
            raise ValueError(
                f"images must have sides in multiples of 8, got {height} x {width}"
            )
        logits, edges = self.maps(images).split([len(self.categories), 4], dim=1)
        heat = logits.sigmoid()
        peaks = heat * (heat == F.max_pool2d(heat, 3, stride=1, padding=1))
        found = []
        for peak, edge in zip(peaks, edges, strict=True):
            label, row, column = (peak >= self.threshold).nonzero(as_tuple=True)
            scores = peak[label, row, column]
            points = (torch.stack([column, row], dim=1).to(edge) + 0.5) * STRIDE
            boxes = boxes_around(points, edge[:, row, column].T)
            boxes = clip_boxes_to_image(boxes, (height, width))
            with default_device("cpu"):
                best = batched_nms(boxes, scores, label, 0.5)
            found.append(Detection(boxes[best], scores[best], label[best]))
        return found


class DlibFaces:
    """dlib's frontal face detector: support vector machines on histograms of gradients.

    A black box in earnest: no network, no gradient, no documented score. It scans
    windows of 80 × 80 pixels at many scales; `upsample` doubles the image so many
    times, which finds faces down to 80 / 2^upsample pixels and costs four times as
    much each time. Its boxes may reach beyond the image, and are left so.

    dlib's score is a margin m without bounds, with its own threshold at 0. Reported is
    1 / (1 + exp(-3 m)), which has the same order: 0.05, 0.5 and 0.95 for m = -1, 0 and
    1. A score, not a probability that anyone measured.
    """

    SLOPE = 3.0
    image_range = (0.0, 1.0)

    def __init__(self, threshold: float = THRESHOLD, upsample: int = 1) -> None:
        with extra("detect"):
            import dlib
        self.name = "dlib_faces"
        self.categories: tuple[str, ...] = ("face",)
        self.upsample = check_count("upsample", upsample, at_least=0)
        odds = _check_threshold(threshold) / (1 - threshold)
        self.least_margin = math.log(odds) / self.SLOPE
        self._detector = dlib.get_frontal_face_detector()

    def __call__(self, images: Tensor) -> list[Detection]:
        """Float images `[N, 3, H, W]` or `[N, 1, H, W]`, rounded to 8 bits.

        Raises:
            TypeError, ValueError: other shapes; values outside [0, 1].
        """
        _check_images(self, images, channels=(1, 3))
        if float(images.min()) < -1e-6 or float(images.max()) > 1 + 1e-6:
            raise ValueError(
                "images must lie in [0, 1], as dlib takes 8 bits per channel, got "
                f"values from {float(images.min()):.3g} to {float(images.max()):.3g}"
            )
        pixels = (images.detach() * 255).round().byte().permute(0, 2, 3, 1).cpu()
        return [self._one(image.squeeze(2)) for image in pixels]

    def _one(self, pixels: Tensor) -> Detection:
        found, margins, _ = self._detector.run(
            pixels.contiguous().numpy(), self.upsample, self.least_margin
        )
        edges = [(f.left(), f.top(), f.right() + 1, f.bottom() + 1) for f in found]
        boxes = torch.tensor(edges, dtype=torch.float32, device="cpu")
        margins = torch.tensor([*margins], dtype=torch.float32, device="cpu")
        labels = torch.zeros(len(found), dtype=torch.int64, device="cpu")
        return Detection(boxes, torch.sigmoid(self.SLOPE * margins), labels)


class TorchvisionDetector(nn.Module):
    """A detector of torchvision's interface: a list of images to dictionaries of
    "boxes", "scores" and "labels". Its label 0 is the background, never reported."""

    image_range = (0.0, 1.0)

    def __init__(
        self,
        name: str,
        network: nn.Module,
        categories: tuple[str, ...],
        threshold: float = THRESHOLD,
    ) -> None:
        super().__init__()
        self.name, self.network, self.categories = name, network, categories
        self.threshold = _check_threshold(threshold)

    def forward(self, images: Tensor) -> list[Detection]:
        """Float images `[N, 3, H, W]`; the network resizes and normalises by itself.

        Raises:
            TypeError, ValueError: images of another type or shape.
        """
        _check_images(self, images, channels=(3,))
        found = []
        for answer in self.network(list(images)):
            parts = [answer[name] for name in ("boxes", "scores", "labels")]
            found.append(Detection(*(p[parts[1] >= self.threshold] for p in parts)))
        return found


class _Known(NamedTuple):
    build: Callable[[float, bool], Detector]
    """From the threshold, and whether to draw a progress bar."""
    role: str
    source: str
    licence: str
    size: Callable[[], int]
    supply: str = "offline"


def _load_scenes(threshold: float, show_progress: bool) -> Detector:
    with torch.device("meta"):
        network = CentreNetwork()
    network.load_state_dict(models.read_weights(_scenes_file()), assign=True)
    return SceneDetector(network, threshold).eval().requires_grad_(False)


def _scenes_file() -> Path:
    return data_path("weights/scenes_detector.safetensors")


def _dlib_size() -> int:
    spec = find_spec("_dlib_pybind11")  # the detector is compiled into the module
    return Path(spec.origin).stat().st_size if spec and spec.origin else 0


def _torchvision(name: str) -> _Known:
    weights = tv.get_model_weights(name).DEFAULT

    def build(threshold: float, show_progress: bool) -> Detector:
        instead = 'detectors.load("scenes_detector") or load("dlib_faces")'
        file = models.hub_file(weights.url, instead, show_progress)
        # torchvision's builder reads the file, and would unpickle anything; this
        # refuses all but tensors.
        torch.load(file, map_location="cpu", weights_only=True)
        with torch.device("cpu"):
            network = tv.get_model(name, weights=weights, weights_backbone=None)
        network = network.float()
        categories = tuple(weights.meta["categories"])
        detector = TorchvisionDetector(name, network, categories, threshold)
        return detector.eval().requires_grad_(False)

    return _Known(
        build,
        f"detector, {len(weights.meta['categories'])} labels",
        f"torchvision, {weights.name}",
        "BSD-3-Clause",
        lambda: round(weights.meta["_file_size"] * 2**20),  # given in MiB
        "download",
    )


_DETECTORS: dict[str, _Known] = {
    "scenes_detector": _Known(
        _load_scenes,
        *("detector, 10 classes", "tools/train_scenes.py", "MIT"),
        lambda: _scenes_file().stat().st_size,
    ),
    "dlib_faces": _Known(
        lambda threshold, _: DlibFaces(threshold),
        *("detector of faces", "dlib, get_frontal_face_detector", "BSL-1.0"),
        _dlib_size,
    ),
} | {
    name: _torchvision(name)
    for name in tv.list_models(module=tv.detection)
    # The others tell masks or key points as well, and are larger for it.
    if not name.startswith(("maskrcnn", "keypointrcnn"))
}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(_DETECTORS)


def load(
    name: str, *, threshold: float = THRESHOLD, show_progress: bool = False
) -> Detector:
    """A detector by name, in eval mode on the CPU, its parameters frozen.

    Args:
        name: see `names()`.
        threshold: the least score to report, in (0, 1).
        show_progress: draw a bar while weights are downloaded.

    Raises:
        ValueError: an unknown name; a threshold outside (0, 1).
        ImportError: "dlib_faces" without dlib.
        OfflineError: the weights must be downloaded and cannot be.
        CorruptDownload: what came is not the right file.
    """
    known = lookup(_DETECTORS, name, "detector")
    check_flag("show_progress", show_progress)
    return known.build(_check_threshold(threshold), show_progress)


def _check_threshold(threshold: float) -> float:
    return check_number("threshold", threshold, 0.001, 0.999)


def _check_images(
    detector: Detector, images: Tensor, channels: tuple[int, ...]
) -> None:
    check_inputs(images, "images")
    check_range(detector, images, name="images")
    if images.shape[1] not in channels:
        wanted = " or ".join(f"[N, {c}, H, W]" for c in channels)
        raise ValueError(f"images must be {wanted}, got {list(images.shape)}")


def rows() -> list[Row]:
    """What `zoo.list()` says about the detectors."""
    return [
        Row(name, d.role, d.source, d.size(), d.licence, d.supply)
        for name, d in _DETECTORS.items()
    ]
