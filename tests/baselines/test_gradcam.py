"""Grad-CAM against autograd by hand, and the layer that it finds."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from xai_book.data import torchray
from xai_lib.baselines.gradcam import GradCAM
from xai_lib.core import gradients as whitebox
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox
from xai_lib.zoo import models, photos

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def numbers(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


def by_hand(
    features: Callable[[Tensor], Tensor],
    head: Callable[[Tensor], Tensor],
    image: Tensor,
    target: int,
    relu: bool,
) -> Tensor:
    """Equations 1 and 2 for one image `[1, C, H, W]`, in loops over channels."""
    a = features(image).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(head(a)[0, target], a)
    places = a.shape[2] * a.shape[3]
    total = sum(gradient[0, k].sum() / places * a[0, k] for k in range(a.shape[1]))
    total = total.clamp_min(0) if relu else total
    size = image.shape[2:]
    return F.interpolate(total.detach()[None, None], size, mode="bilinear")


@pytest.fixture
def cnn() -> models.Classifier:
    return models.load("cnn_mnist").double()


def split(cnn: models.Classifier, at: int) -> tuple[nn.Module, nn.Module]:
    layers = list(cnn.network)
    return nn.Sequential(*layers[:at]), nn.Sequential(*layers[at:])


class Reusing(nn.Module):
    """A residual block, whose ReLU runs again after the dense layer."""

    def __init__(self, dense: bool = True) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 5, 3), nn.Conv2d(5, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.dense = nn.Linear(5 * 9, 4)
        self.again = dense

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x) + x)
        x = self.dense(torch.flatten(F.max_pool2d(x, 2, 2), 1))
        return self.relu(x) if self.again else x


@pytest.fixture
def reusing() -> Callable[[bool], nn.Module]:
    def build(again: bool) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Reusing(again).double().eval()

    return build


# The map


@pytest.mark.parametrize("relu", [True, False])
def test_on_the_papers_cnn(cnn: models.Classifier, relu: bool) -> None:
    x, target = numbers(5, 1, 28, 28), torch.tensor([0, 9, 3, 4, 4])
    maps = GradCAM(cnn, relu=relu).attribute(x, target)
    assert maps.shape == (5, 1, 28, 28)
    assert maps.dtype == x.dtype
    assert bool((maps < 0).any()) is not relu
    front, back = split(cnn, 5)  # after conv2, relu2
    for i in range(5):
        image = x[i : i + 1]
        expected = by_hand(
            lambda im: front(cnn.normalize(im)), back, image, int(target[i]), relu
        )
        torch.testing.assert_close(maps[i : i + 1], expected)
        assert expected.abs().max() > 0


@pytest.mark.parametrize("relu", [True, False])
def test_on_efficientnet_lite0(relu: bool) -> None:
    model = models.load("efficientnet_lite0")
    x = torch.cat([photos.load(n).image for n in ("chelsea", "coffee")])
    target = model(x).argmax(dim=1)
    maps = GradCAM(model, relu=relu).attribute(x)
    network = model.network

    def head(a: Tensor) -> Tensor:
        return network._fc(a.mean(dim=(2, 3)))

    for i in range(2):
        image = x[i : i + 1]
        expected = by_hand(
            lambda im: network.extract_features(model.normalize(im)),
            head,
            image,
            int(target[i]),
            relu,
        )
        scale = float(expected.abs().max())
        torch.testing.assert_close(maps[i : i + 1], expected, rtol=0, atol=1e-4 * scale)
    # The cup of the photo coffee fills its middle: there is the map's maximum.
    row, column = divmod(int(maps[1].argmax()), 224)
    assert 56 <= row < 168
    assert 56 <= column < 168


def test_before_a_mean_and_a_dense_layer_the_places_sum_to_the_score() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
        model = nn.Sequential(body, head).double().eval()
    x = numbers(4, 1, 10, 10)
    maps = GradCAM(model, relu=False).attribute(x, 1)
    a = body(x)
    dense = head[2]
    # α_k = w_k / Z, so that Σ_ij L_ij = Σ_k w_k mean(A^k).
    expected = (model(x)[:, 1] - dense.bias[1]).detach()
    cells = torch.einsum("k,nkhw->nhw", dense.weight[1] / 64, a)
    torch.testing.assert_close(cells.sum((1, 2)), expected)
    drawn = F.interpolate(cells[:, None], (10, 10), mode="bilinear")
    torch.testing.assert_close(maps, drawn.detach())


# The layer


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("cnn_mnist", "network.relu2"),
        ("efficientnet_lite0", "network._swish"),
        # TorchRay's choices for these two.
        ("vgg16", "network.features.29"),
        ("resnet50", "network.layer4"),
        ("inception_v3", "network.Mixed_7c"),
        ("mobilenet_v2", "network.features"),
        ("torchray_resnet50_voc", "network.layer4"),
        ("scenes_classifier", "network.block6"),
    ],
)
def test_the_layer_it_finds(name: str, layer: str) -> None:
    if name == "vgg16":  # without the dense layers of 500 MB
        network = torchvision.models.vgg16(num_classes=10)
        network.classifier = nn.Linear(512 * 7 * 7, 10)
        model: nn.Module = nn.Sequential(OrderedDict(network=network))
    else:
        load = torchray.load if name in torchray.MODELS else models.load
        model = load(name, pretrained=False)
    sides = {"cnn_mnist": 28, "inception_v3": 139}
    channels = 1 if name in ("cnn_mnist", "scenes_classifier") else 3
    side = sides.get(name, 64)
    x = torch.rand(1, channels, side, side, generator=generator(0))
    assert GradCAM(model.eval()).chosen_layer(x) == layer


def test_a_named_layer(cnn: models.Classifier) -> None:
    x = numbers(2, 1, 28, 28)
    for name, at in (("relu1", 2), ("pool1", 3), ("conv2", 4), ("pool2", 6)):
        front, back = split(cnn, at)
        explainer = GradCAM(cnn, layer=f"network.{name}")
        maps = explainer.attribute(x, target=7)
        for i in range(2):
            expected = by_hand(
                lambda im, front=front: front(cnn.normalize(im)),
                back,
                x[i : i + 1],
                7,
                True,
            )
            torch.testing.assert_close(maps[i : i + 1], expected)


def test_a_layer_that_runs_again(reusing: Callable[[bool], nn.Module]) -> None:
    """The ReLU after the sum is the last map, unless dense layers use it again."""
    x, target = numbers(3, 2, 8, 8), 2
    for again, name in ((False, "relu"), (True, "conv2")):
        model = reusing(again)
        explainer = GradCAM(model, relu=False)
        assert explainer.chosen_layer(x) == name
        maps = explainer.attribute(x, target)
        for i in range(3):

            def features(im: Tensor, model: nn.Module = model) -> Tensor:
                first = model.conv1(im).relu()
                a = model.conv2(first)
                model.first = first.detach()
                return a if model.again else (a + first).relu()

            def head(a: Tensor, model: nn.Module = model) -> Tensor:
                if model.again:
                    a = (a + model.first).relu()
                scores = model.dense(F.max_pool2d(a, 2, 2).flatten(1))
                return scores.relu() if model.again else scores

            expected = by_hand(features, head, x[i : i + 1], target, False)
            torch.testing.assert_close(maps[i : i + 1], expected)
    with pytest.raises(ValueError, match=r"'relu' gave \[1, 4\] for one image"):
        GradCAM(reusing(True), layer="relu").attribute(x, target)


def test_layers_that_cannot_be_looked_at(cnn: models.Classifier) -> None:
    x = numbers(2, 1, 28, 28)
    with pytest.raises(ValueError, match=r"layer must name a module.*got 'conv7'"):
        GradCAM(cnn, layer="conv7")
    with pytest.raises(ValueError, match=r"'network.dense1' gave \[1, 120\]"):
        GradCAM(cnn, layer="network.dense1").attribute(x, 0)
    cnn.unused = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match="'unused' did not run for one image"):
        GradCAM(cnn, layer="unused").attribute(x, 0)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(784, 3)).double()
    with pytest.raises(ValueError, match=r"runs no convolution.*layer=…"):
        GradCAM(dense).attribute(x, 0)
    whole = nn.Sequential(nn.Conv2d(1, 3, 28), nn.Flatten()).double()
    with pytest.raises(ValueError, match=r"convolution, '0', gives a single place"):
        GradCAM(whole).attribute(x, 0)


# Transformers


def vit() -> nn.Module:
    size = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.VisionTransformer(
            **size, hidden_dim=12, mlp_dim=24, num_classes=5
        )
        nn.init.normal_(model.heads.head.weight)
    return model.double().eval()


def swin() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.SwinTransformer(
            [4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=5
        )
        nn.init.normal_(model.head.weight)
    return model.double().eval()


def places(tokens: Tensor) -> Tensor:
    return tokens[:, 1:].unflatten(1, (4, 4)).movedim(-1, 1)


def test_tokens_of_a_vision_transformer() -> None:
    model, x, layer = (
        vit(),
        numbers(2, 3, 32, 32),
        "encoder.layers.encoder_layer_1.ln_1",
    )
    block = model.encoder.layers.encoder_layer_1
    maps = GradCAM(model, layer, False, places).attribute(x, 3)
    kept: list[Tensor] = []
    hook = block.ln_1.register_forward_hook(lambda *args: kept.append(args[2]))
    score = model(x)[:, 3].sum()
    hook.remove()
    (slope,) = torch.autograd.grad(score, kept[0])
    for i in range(2):
        grid = torch.zeros(4, 4).double()
        alpha = slope[i, 1:].mean(dim=0)
        for token in range(16):
            grid[token // 4, token % 4] = alpha @ kept[0][i, 1 + token]
        expected = F.interpolate(grid.detach()[None, None], (32, 32), mode="bilinear")
        torch.testing.assert_close(maps[i : i + 1], expected)
    assert maps.any()


def test_channels_last_are_the_same_as_channels_first() -> None:
    model, x = swin(), numbers(2, 3, 32, 32)
    first = GradCAM(model, "permute", relu=False).attribute(x, 3)
    last = GradCAM(model, "norm", False, lambda a: a.movedim(-1, 1)).attribute(x, 3)
    torch.testing.assert_close(last, first)
    assert first.any()


@pytest.mark.parametrize("model", [vit(), swin()])
def test_a_transformer_s_layer_has_to_be_named(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"as in a transformer.*layer=…, reshape=…"):
        GradCAM(model).attribute(numbers(1, 3, 32, 32), 3)


class Pooled(nn.Sequential):
    """Features, their mean over places, and a dense layer."""

    def __init__(self, *features: nn.Module, channels: int = 8) -> None:
        pool, dense = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, 3)
        super().__init__(*features, pool, nn.Flatten(), dense)


class Tokens(nn.Module):
    """Attention written out, with no dense layer at the places."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 8, 8), nn.LayerNorm(8)
        self.dense = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + (x @ x.transpose(1, 2)).softmax(dim=-1) @ x
        return self.dense(self.norm(x).mean(dim=1))


def test_tokens_without_a_dense_layer_are_tokens() -> None:
    with pytest.raises(ValueError, match="'patches', is followed by 'norm'"):
        GradCAM(Tokens().double()).attribute(numbers(1, 3, 32, 32), 1)


class ChannelAttention(nn.Module):
    """As in ECA-Net: a convolution along the channels, of which no map comes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv(x.mean((2, 3))[:, None]).sigmoid()
        return x * gate[:, 0, :, None, None]


def test_a_convolution_along_channels_gives_no_map() -> None:
    model, x = (
        Pooled(nn.Conv2d(3, 8, 3), ChannelAttention()).double(),
        numbers(2, 3, 9, 9),
    )
    assert GradCAM(model).chosen_layer(x) == "1"
    named = GradCAM(model, "1").attribute(x, 1)
    assert torch.equal(GradCAM(model).attribute(x, 1), named)


class LayerNorm2d(nn.LayerNorm):
    """Of the channels, which come first, as in timm and torchvision."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def test_a_norm_of_a_user_may_have_its_channels_first() -> None:
    model = Pooled(nn.Conv2d(3, 8, 3), LayerNorm2d(8), nn.Identity()).double()
    x = numbers(2, 3, 12, 12)
    maps = GradCAM(model, "1", relu=False).attribute(x, 1)
    assert torch.equal(maps, GradCAM(model, "2", relu=False).attribute(x, 1))
    assert maps.any()


class Mirrored(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Pooled(nn.Conv2d(3, 8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.cat([x, x.flip(3)])).unflatten(0, (2, -1)).mean(dim=0)


def test_a_layer_that_sees_other_images_as_well_is_refused() -> None:
    for layer in (None, "net.0"):
        with pytest.raises(ValueError, match=r"layer must give.*\[N, C, h, w\]"):
            GradCAM(Mirrored().double(), layer).attribute(numbers(2, 3, 9, 9), 1)


@pytest.mark.parametrize("layer", [None, "0"])
@pytest.mark.parametrize("in_place", [False, True])
def test_compiled_models_are_refused(layer: str | None, in_place: bool) -> None:
    """What was compiled passes hooks by: GradCAM would see nothing, or old numbers."""
    model, x = Pooled(nn.Conv2d(3, 8, 3)).double(), numbers(1, 3, 9, 9)
    if in_place:
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")
        layer = layer and f"_orig_mod.{layer}"
    model(x)
    with pytest.raises(ValueError, match="forward_func must not be compiled"):
        GradCAM(model, layer).attribute(x, 1)


def test_scripted_layers_have_no_hooks() -> None:
    x = numbers(1, 3, 9, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that scripts are deprecated
        script = torch.jit.script(Pooled(nn.Conv2d(3, 8, 3)).double())
    with pytest.raises(ValueError, match="runs no convolution"):
        GradCAM(script).attribute(x, 1)
    with pytest.raises(ValueError, match="did not run"):
        GradCAM(script, "0").attribute(x, 1)


def test_an_error_says_how_to_reshape() -> None:
    x = numbers(1, 3, 32, 32)
    with pytest.raises(
        ValueError, match=r"gave \[1, 17, 12\].*reshape=(lambda.*)$"
    ) as e:
        GradCAM(vit(), "encoder.ln").attribute(x, 3)
    advice = eval(str(e.value).rpartition("reshape=")[2])
    tokens = numbers(1, 17, 12)
    assert torch.equal(advice(tokens), places(tokens))
    for layer in ("norm", "features.3.0", "features.3.0.mlp.0"):
        with pytest.raises(
            ValueError, match=r"last.*reshape=lambda a: a\.movedim"
        ) as e:
            GradCAM(swin(), layer).attribute(x, 3)
    advice = eval(str(e.value).rpartition("reshape=")[2])
    assert advice(numbers(1, 2, 3, 7)).shape == (1, 7, 2, 3)
    with pytest.raises(ValueError, match=r"reshape must give \[N, C, h, w\]"):
        GradCAM(swin(), "norm", reshape=lambda a: a.flatten(1)).attribute(x, 3)
    for settings in ({"reshape": places}, {"layer": "norm", "reshape": (4, 4)}):
        with pytest.raises(TypeError, match="reshape must be a function"):
            GradCAM(swin(), **settings)


def test_convnext_ends_in_channels_first() -> None:
    stage = torchvision.models.convnext.CNBlockConfig
    model = torchvision.models.ConvNeXt([stage(8, 16, 1), stage(16, None, 2)]).eval()
    assert GradCAM(model).chosen_layer(torch.rand(1, 3, 32, 48)) == "features"


# What all methods keep


def test_an_image_is_explained_alike_in_any_batch(
    cnn: models.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, target = numbers(5, 1, 28, 28), torch.tensor([0, 3, 1, 2, 0])
    maps = GradCAM(cnn).attribute(x, target)
    monkeypatch.setattr(whitebox, "BATCH_NUMBERS", {"cpu": 2 * x[0].numel()})
    torch.testing.assert_close(GradCAM(cnn).attribute(x, target), maps)
    for i in range(5):
        one = slice(i, i + 1)
        alone = GradCAM(cnn).attribute(x[one], target[one])
        torch.testing.assert_close(alone, maps[one])
    predicted = cnn(x).argmax(dim=1)
    explainer = GradCAM(cnn)
    assert torch.equal(explainer.attribute(x), explainer.attribute(x, predicted))


@pytest.mark.filterwarnings("error")
def test_nothing_is_touched_and_gradients_may_be_off(
    reusing: Callable[[bool], nn.Module],
) -> None:
    model, x = reusing(False), numbers(2, 2, 8, 8)
    before, state = x.clone(), copy.deepcopy(model.state_dict())
    chance = torch.get_rng_state()
    maps = GradCAM(model).attribute(x)
    with torch.no_grad():
        assert torch.equal(GradCAM(model).attribute(x), maps)
    with torch.inference_mode():
        assert torch.equal(GradCAM(model).attribute(x.clone()), maps)
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.equal(x, before)
    assert not x.requires_grad
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    for layer in model.modules():
        assert not any((layer._forward_hooks, layer._backward_hooks))
    assert all(p.grad is None for p in model.parameters())


def test_follows_the_model(reusing: Callable[[bool], nn.Module]) -> None:
    model, x = reusing(False), numbers(2, 2, 8, 8)
    made_before = GradCAM(model, layer="conv2")
    first = made_before.attribute(x, 1)
    model.conv2 = copy.deepcopy(model.conv2)
    with torch.no_grad():
        model.conv2.weight.mul_(-1)
    again = made_before.attribute(x, 1)
    assert not torch.equal(again, first)
    assert torch.equal(again, GradCAM(model, layer="conv2").attribute(x, 1))


def test_wrong_arguments(cnn: models.Classifier) -> None:
    x = numbers(2, 1, 28, 28)
    with pytest.raises(TypeError, match="is a BlackBox, which gives no gradients"):
        GradCAM(BlackBox(cnn))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be an nn.Module.*got function"):
        GradCAM(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"target 10 is out of range.*10 scores"):
        GradCAM(cnn).attribute(x, 10)
    with pytest.raises(ValueError, match=r"inputs must be \[N, C, H, W\]"):
        GradCAM(cnn).attribute(numbers(2, 784), 0)
    with pytest.raises(ValueError, match="training mode"):
        GradCAM(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Dropout()))


@gpu
def test_cuda_agrees_with_the_cpu() -> None:
    model = models.load("cnn_mnist")
    x = numbers(3, 1, 28, 28).float()
    expected = GradCAM(model).attribute(x, 1)
    maps = GradCAM(models.load("cnn_mnist").cuda()).attribute(x, 1)
    torch.testing.assert_close(maps, expected, rtol=1e-2, atol=1e-3)


class DeepForLarge(nn.Module):
    """Its last feature map depends on the size of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        features = self.first(images).relu()
        if images.shape[-1] > 20:
            features = self.second(features).tanh()
        return features.square().mean(dim=(2, 3))


def test_the_layer_that_was_found_is_looked_at_again() -> None:
    model = DeepForLarge().eval()
    explainer = GradCAM(model)
    source = torch.Generator().manual_seed(3)
    sizes = [(16, "first"), (16, "first"), (32, "second"), (16, "first")]
    for size, layer in sizes:
        images = torch.rand(1, 3, size, size, generator=source)
        assert explainer.chosen_layer(images) == layer
        expected = GradCAM(model, layer).attribute(images, 1)
        assert torch.equal(explainer.attribute(images, 1), expected)


class MoreForBright(nn.Module):
    """What follows its only convolution depends on the brightness of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Tanh(), nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.late(self.early(images))
        if images.mean() > 0.5:
            features = self.early(features)
        return features.square().mean(dim=(2, 3))


def test_a_module_that_ran_early_may_run_late() -> None:
    model = MoreForBright().eval()
    explainer = GradCAM(model)
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    for light, layer in [(0.1, "late"), (0.9, "early"), (0.1, "late"), (0.9, "early")]:
        x = (images + 9 * light) / 10
        assert explainer.chosen_layer(x) == layer
        expected = GradCAM(model, layer).attribute(x, 1)
        assert torch.equal(explainer.attribute(x, 1), expected)


@pytest.mark.parametrize("layer", ["first", None])
def test_one_image_is_asked_once(layer: str | None) -> None:
    model = DeepForLarge().eval()
    explainer = GradCAM(model, layer)
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    explainer.attribute(images, 1)
    model.calls = 0
    explainer.attribute(images, 1)
    assert model.calls == 1
