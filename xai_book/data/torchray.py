"""The networks of the pointing game: Caffe's VGG16 and ResNet-50 for VOC and COCO.

Zhang et al. (2016) fine-tuned them in Caffe for several labels per image; TorchRay
(Fong et al., 2019) published them for PyTorch. `load("torchray_vgg16_voc")` gives them
the zoo's form. What differs from torchvision's networks:

- Colours: red, green, blue in [0, 1] as everywhere in the zoo; the stored first layer
  takes blue, green, red from 0 to 255 minus a mean.
- Max-pooling rounds sizes up.
- ResNet-50 halves the resolution in the first 1 × 1 convolution of a stage, not in the
  3 × 3 one; its first convolution has a bias, its max-pooling no padding.
- Fully convolutional: the dense layers are convolutions, so that images of any size
  from 224 pixels on are taken; the logits are the mean over places. At 224 × 224 there
  is one place, and nothing differs from the dense network.

Written for the names and shapes of the published files and never run on them: they
were not at hand.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet, vgg

from xai_book.data import coco, voc
from xai_lib.zoo import models
from xai_lib.zoo.listing import Row, lookup

# Red, green, blue; Caffe subtracts it from values up to 255.
MEAN = tuple(m / 255 for m in (123.68, 116.779, 103.939))
STD = (1 / 255,) * 3


def prepare(image: Tensor, size: int | tuple[int, int] = 224) -> Tensor:
    """An image `[1, 3, H, W]` at the networks' scale, bilinear without smoothing.

    Args:
        image: such as `Annotated.image`, in [0, 1].
        size: of the shorter side, the other one in proportion; or (height, width),
            as TorchRay has it for RISE, (224, 224).
    """
    height, width = image.shape[2:]
    if isinstance(size, int):
        short = min(height, width)
        size = (int(size * height / short), int(size * width / short))
    return F.interpolate(image, size, mode="bilinear", align_corners=False)


def vgg16(
    categories: int,
    plan: Sequence[int | str] = tuple(vgg.cfgs["D"]),
    hidden: int = 4096,
) -> nn.Module:
    """Caffe's VGG16 with random weights: normalised images to logits `[N, K]`.

    `plan` (channels, and "M" for pooling) and `hidden` are there for miniatures.
    """
    features = vgg.make_layers(list(plan))
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    channels = [entry for entry in plan if isinstance(entry, int)][-1]
    # Without dropout, so that layers carry the stored names.
    classifier = nn.Sequential(
        nn.Conv2d(channels, hidden, 7),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, categories, 1),
    )
    layers = OrderedDict(features=features, classifier=classifier)
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(layers)


def vgg16_state(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published state for `vgg16`."""
    state = dict(stored)
    state["features.0.weight"] = stored["features.0.weight"].flip(1)  # from BGR
    for layer, side in (("0", 7), ("2", 1), ("4", 1)):
        # Stored as a matrix or as a convolution: the same numbers in the same order.
        name = f"classifier.{layer}.weight"
        state[name] = stored[name].reshape(len(stored[name]), -1, side, side)
    return state


def resnet50(categories: int, layers: Sequence[int] = (3, 4, 6, 3)) -> nn.Module:
    """Caffe's ResNet-50 with random weights: normalised images to logits `[N, K]`.

    `layers`, the blocks of each stage, is there for miniatures. Global pooling before
    the last layer makes torchvision's network fully convolutional as it is.
    """
    network = resnet.ResNet(resnet.Bottleneck, list(layers), num_classes=categories)
    network.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
    network.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    for stage in (network.layer2, network.layer3, network.layer4):
        first = stage[0]
        first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
    return network


def resnet50_state(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published state for `resnet50`.

    Caffe has two layers, 0 and 1, where PyTorch has one batch normalisation: the
    statistics, and the scale with its shift.
    """
    state = {
        re.sub(r"(bn\d|downsample\.\d)\.[01]\.", r"\1.", name): value
        for name, value in stored.items()
    }
    state["conv1.weight"] = stored["conv1.weight"].flip(1)  # from BGR
    state["fc.weight"] = stored["fc.weight"].flatten(1)
    return state


def _known(
    file: str,
    size: int,
    build: Callable[[int], nn.Module],
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> models.Known:
    categories = voc.CATEGORIES if "_voc" in file else coco.CATEGORIES
    url = f"https://dl.fbaipublicfiles.com/torchray/{file}.pth.tar"
    return models.Known(
        lambda: build(len(categories)),
        partial(models.hub_file, url, 'models.load("scenes_classifier")'),
        source="TorchRay, after Zhang et al. (2016)",
        licence="CC BY-NC",
        download_size=size,
        mean=MEAN,
        std=STD,
        categories=categories,
        multi_label=True,
        convert=convert,
    )


_vgg16 = partial(_known, build=vgg16, convert=vgg16_state)
_resnet50 = partial(_known, build=resnet50, convert=resnet50_state)
MODELS = {
    # Sizes: four bytes per parameter.
    "torchray_vgg16_voc": _vgg16("vgg16_voc-b050e8c3", 537_369_936),
    "torchray_vgg16_coco": _vgg16("vgg16_coco-d82c8150", 538_353_216),
    "torchray_resnet50_voc": _resnet50("resnet50_voc-9ca920d6", 94_408_996),
    "torchray_resnet50_coco": _resnet50("resnet50_coco-e99468c5", 94_900_756),
}


def load(
    name: str, pretrained: bool = True, *, show_progress: bool = False
) -> models.Classifier:
    """A classifier of MODELS by name; arguments and errors are those of
    `models.load`."""
    return lookup(MODELS, name, "model").load(name, pretrained, show_progress)


def rows() -> list[Row]:
    """What `xai_book.data.list()` says about the networks."""
    return [model.row(name) for name, model in MODELS.items()]
