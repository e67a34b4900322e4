"""The published files are not at hand: small ones with their names and shapes are made
here, and the networks compared with Caffe's arithmetic written out."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import resnet

from xai_book.data import torchray
from xai_lib.zoo import models

PLAN = (4, "M", 4, "M", 6, "M", 6, "M", 8, "M")
BGR_MEAN = torch.tensor([103.939, 116.779, 123.68])


def stored_vgg(dense_as_matrix: bool) -> dict[str, Tensor]:
    """Names as in the published files: no dropout is counted."""
    draw = torch.Generator().manual_seed(0)
    channels = [3, 4, 4, 6, 6, 8]
    shapes = {
        f"features.{3 * i}": (b, a, 3, 3)
        for i, (a, b) in enumerate(itertools.pairwise(channels))
    }
    shapes |= {
        "classifier.0": (16, 8, 7, 7),
        "classifier.2": (16, 16, 1, 1),
        "classifier.4": (20, 16, 1, 1),
    }
    state = {}
    for name, shape in shapes.items():
        weight = torch.randn(shape, generator=draw) / (shape[1] * shape[2] ** 2) ** 0.5
        if dense_as_matrix and name.startswith("classifier"):
            weight = weight.flatten(1)
        state[f"{name}.weight"] = weight
        state[f"{name}.bias"] = torch.randn(shape[0], generator=draw) / 10
    return state


def caffe_pixels(images: Tensor) -> Tensor:
    """Blue, green, red from 0 to 255, minus the mean."""
    return images[:, [2, 1, 0]] * 255 - BGR_MEAN[:, None, None]


def caffe_vgg(state: dict[str, Tensor], images: Tensor) -> Tensor:
    x = caffe_pixels(images)
    for i in range(0, 15, 3):
        weight, bias = state[f"features.{i}.weight"], state[f"features.{i}.bias"]
        x = F.max_pool2d(F.conv2d(x, weight, bias, padding=1).relu(), 2, ceil_mode=True)
    x = x.flatten(1)
    for i in (0, 2, 4):
        weight, bias = state[f"classifier.{i}.weight"], state[f"classifier.{i}.bias"]
        x = F.linear(x, weight.flatten(1), bias)
        x = x.relu() if i < 4 else x
    return x


@pytest.fixture
def from_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """`torchray.load` with a smaller network and a file of our own."""

    def load(name: str, build: object, state: dict[str, Tensor]) -> models.Classifier:
        path = tmp_path / "weights.pth.tar"
        torch.save(state, path)
        known = torchray.MODELS[name]._replace(build=build, weights=lambda _: path)
        monkeypatch.setitem(torchray.MODELS, name, known)
        return torchray.load(name)

    return load


@pytest.mark.parametrize("dense_as_matrix", [False, True])
def test_vgg16(from_file, dense_as_matrix: bool) -> None:  # type: ignore[no-untyped-def]
    state = stored_vgg(dense_as_matrix)
    model = from_file(
        "torchray_vgg16_voc", lambda: torchray.vgg16(20, PLAN, hidden=16), state
    )
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    expected = caffe_vgg(state, images)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(images), expected, atol=1e-3, rtol=1e-3)
    assert model.categories[14] == "person"
    assert model.multi_label
    torch.testing.assert_close(
        models.probabilities(model)(images), expected.sigmoid(), atol=1e-3, rtol=1e-3
    )


def test_vgg16_on_a_larger_image(from_file) -> None:  # type: ignore[no-untyped-def]
    """The mean over the places at which the dense network fits."""
    state = stored_vgg(False)
    build = lambda: torchray.vgg16(20, PLAN, hidden=16)  # noqa: E731
    model = from_file("torchray_vgg16_voc", build, state)
    maps = torch.nn.Sequential(model.normalize, model.network[:2])
    images = torch.rand(1, 3, 224, 230, generator=torch.Generator().manual_seed(1))
    # 230 columns become 8 when sizes are rounded up, and 7 when they are cut.
    assert maps(images).shape == (1, 20, 1, 2)
    torch.testing.assert_close(model(images), maps(images).mean(dim=(2, 3)))


def stored_resnet() -> dict[str, Tensor]:
    """Batch normalisation in two parts, as Caffe has it; one block per stage."""
    draw = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def convolution(name: str, out: int, channels: int, side: int) -> None:
        spread = (channels * side**2) ** 0.5
        shape = (out, channels, side, side)
        state[f"{name}.weight"] = torch.randn(shape, generator=draw) / spread

    def norm(name: str, channels: int) -> None:
        for part, low in (("running_mean", -0.5), ("running_var", 0.5)):
            state[f"{name}.0.{part}"] = torch.rand(channels, generator=draw) + low
        for part, low in (("weight", 0.5), ("bias", -0.5)):
            state[f"{name}.1.{part}"] = torch.rand(channels, generator=draw) + low

    convolution("conv1", 64, 3, 7)
    state["conv1.weight"] /= 100  # pixels reach 255
    state["conv1.bias"] = torch.randn(64, generator=draw)
    norm("bn1", 64)
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        block = f"layer{stage}.0"
        convolution(f"{block}.conv1", width, channels, 1)
        convolution(f"{block}.conv2", width, width, 3)
        convolution(f"{block}.conv3", 4 * width, width, 1)
        convolution(f"{block}.downsample.0", 4 * width, channels, 1)
        for i, size in ((1, width), (2, width), (3, 4 * width)):
            norm(f"{block}.bn{i}", size)
        norm(f"{block}.downsample.1", 4 * width)
        channels = 4 * width
    convolution("fc", 80, 2048, 1)
    state["fc.weight"] = state["fc.weight"].flatten(1)
    state["fc.bias"] = torch.randn(80, generator=draw)
    return state


def caffe_resnet(state: dict[str, Tensor], images: Tensor) -> Tensor:
    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.0.running_mean"], state[f"{name}.0.running_var"]
        scale, shift = state[f"{name}.1.weight"], state[f"{name}.1.bias"]
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return x * scale[:, None, None] + shift[:, None, None]

    def convolution(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], None, stride, padding)

    x = caffe_pixels(images)
    x = F.conv2d(x, state["conv1.weight"], state["conv1.bias"], stride=2, padding=3)
    x = F.max_pool2d(norm(x, "bn1").relu(), 3, 2, ceil_mode=True)
    for stage in range(1, 5):
        block, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        side = norm(
            convolution(x, f"{block}.downsample.0", stride), f"{block}.downsample.1"
        )
        x = norm(convolution(x, f"{block}.conv1", stride), f"{block}.bn1").relu()
        x = norm(convolution(x, f"{block}.conv2", padding=1), f"{block}.bn2").relu()
        x = norm(convolution(x, f"{block}.conv3"), f"{block}.bn3")
        x = (x + side).relu()
    return F.linear(x.mean(dim=(2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("shape", [(64, 64), (70, 51)])
def test_resnet50(from_file, shape: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    state = stored_resnet()
    model = from_file(
        "torchray_resnet50_coco", lambda: torchray.resnet50(80, (1, 1, 1, 1)), state
    )
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    expected = caffe_resnet(state, images)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(images), expected, atol=1e-3, rtol=1e-3)
    assert model.categories[79] == "toothbrush"


def test_the_whole_networks() -> None:
    """Of the right depth, and with all their names."""
    with torch.device("meta"):
        vgg, residual = torchray.vgg16(20), torchray.resnet50(20)
        reference = resnet.resnet50(num_classes=20)
    convolutions = [m for m in vgg.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 16
    names = {*reference.state_dict(), "conv1.bias"}
    assert set(residual.state_dict()) == names
    assert type(vgg.features[29]) is torch.nn.ReLU  # where GradCAM looks
    assert vgg(torch.rand(1, 3, 224, 224, device="meta")).shape == (1, 20)
    assert residual(torch.rand(1, 3, 224, 224, device="meta")).shape == (1, 20)


def test_published_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(url: str, sha256: str, folder: Path, **options: object) -> Path:
        asked.append((url.rpartition("/")[2], sha256))
        raise FileNotFoundError

    monkeypatch.setattr(models, "fetch", fetch)
    for arch in ("vgg16", "resnet50"):
        for data in ("voc", "coco"):
            with pytest.raises(FileNotFoundError):
                torchray.load(f"torchray_{arch}_{data}")
    assert asked == [
        ("vgg16_voc-b050e8c3.pth.tar", "b050e8c3"),
        ("vgg16_coco-d82c8150.pth.tar", "d82c8150"),
        ("resnet50_voc-9ca920d6.pth.tar", "9ca920d6"),
        ("resnet50_coco-e99468c5.pth.tar", "e99468c5"),
    ]


def test_prepare() -> None:
    image = torch.rand(1, 3, 50, 100, generator=torch.Generator().manual_seed(0))
    assert torchray.prepare(image).shape == (1, 3, 224, 448)
    assert torchray.prepare(image, (224, 224)).shape == (1, 3, 224, 224)
    assert torchray.prepare(image.mT).shape == (1, 3, 448, 224)
    assert torch.equal(torchray.prepare(image, 50), image)
    # Without smoothing: half of the pixels' size takes the mean of two by two.
    expected = F.avg_pool2d(image, 2)
    torch.testing.assert_close(torchray.prepare(image, 25), expected)
