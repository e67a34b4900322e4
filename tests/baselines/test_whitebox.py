"""The white-box baselines against autograd, closed forms and Captum."""

from __future__ import annotations

import copy
from collections.abc import Callable

import captum.attr
import captum.metrics
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai_lib.baselines import LRP, DeepLift, GuidedBackprop
from xai_lib.baselines.layerwise import LayerwiseAttribution
from xai_lib.baselines.whitebox import Gradient, IntegratedGradients, SmoothGrad
from xai_lib.core import gradients as whitebox
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox, NonFiniteOutput
from xai_lib.core.gradients import WhiteBoxAttribution
from xai_lib.kernels import philox

EXPLAINERS: dict[str, Callable[..., WhiteBoxAttribution]] = {
    "Gradient": Gradient,
    "SmoothGrad": lambda f: SmoothGrad(f, n_samples=7),
    "IntegratedGradients": lambda f: IntegratedGradients(f, n_steps=6),
    "GuidedBackprop": GuidedBackprop,
    "DeepLift": DeepLift,
    "LRP": LRP,
}
everyone = pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
layerwise = pytest.mark.parametrize("explainer", [GuidedBackprop, DeepLift, LRP])


def numbers(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


def autograd(model: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    scores = model(x)[range(len(x)), target]
    return torch.autograd.grad(scores.sum(), x)[0]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a.flatten(1), b.flatten(1))


@pytest.fixture
def cnn() -> nn.Module:
    """Reused ReLU, a residual sum, an overlapping max pool: 2 x 9 x 9 to 4 scores."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(2, 5, 3), nn.Conv2d(5, 5, 3, padding=1)
            self.norm = nn.BatchNorm2d(5)
            self.relu = nn.ReLU(inplace=True)
            self.dense = nn.Linear(5 * 16, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.norm(self.conv1(x)))
            x = F.max_pool2d(self.relu(self.conv2(x) + x), 3, 2, 1)
            return self.dense(torch.flatten(x, 1))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small().double()
        nn.init.uniform_(model.norm.running_mean, -0.3, 0.3)
        nn.init.uniform_(model.norm.bias, -0.3, 0.3)
    return model.eval()


@pytest.fixture
def mlp() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()


# What all of them keep


@everyone
def test_maps_have_the_shape_of_the_inputs(
    explainer: Callable, cnn: nn.Module, mlp: nn.Module
) -> None:
    for model, x in ((cnn, numbers(3, 2, 9, 9)), (mlp, numbers(3, 6))):
        maps = explainer(model).attribute(x, target=torch.tensor([0, 2, 1]))
        assert maps.shape == x.shape
        assert maps.dtype == x.dtype
        assert not maps.requires_grad
        assert (maps < 0).any() or isinstance(explainer(model), LRP)


@everyone
@pytest.mark.filterwarnings("error")
def test_nothing_is_touched(
    explainer: Callable, cnn: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    x = numbers(3, 2, 9, 9)
    inputs, state = x.clone(), copy.deepcopy(cnn.state_dict())
    seen: list[int] = []
    hook = cnn.conv1.register_forward_hook(lambda *_: seen.append(1))
    chance = torch.get_rng_state()
    explainer(cnn).attribute(x)
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.equal(x, inputs)
    assert not x.requires_grad
    assert x.grad is None
    assert all(p.grad is None for p in cnn.parameters())
    for name, value in cnn.state_dict().items():
        assert torch.equal(value, state[name])
    hook.remove()
    for layer in cnn.modules():
        hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
        assert not any(hooks)
        assert not hasattr(layer, "input")
    assert cnn.relu.inplace
    assert capsys.readouterr() == ("", "")


@everyone
def test_an_image_is_explained_alike_in_any_batch(
    explainer: Callable, cnn: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, target = numbers(5, 2, 9, 9), torch.tensor([0, 3, 1, 2, 0])
    x[:, :, 3:6] = 0  # equal to the baselines, where Captum's max pool mixes images
    maps = explainer(cnn).attribute(x, target)
    for image in range(5):
        one = slice(image, image + 1)
        alone = explainer(cnn).attribute(x[one], target[one])
        torch.testing.assert_close(alone, maps[one], rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(whitebox, "BATCH_NUMBERS", {"cpu": 2 * x[0].numel()})
    in_pairs = explainer(cnn).attribute(x, target)
    torch.testing.assert_close(in_pairs, maps, rtol=1e-9, atol=1e-12)


@everyone
def test_works_where_gradients_are_off(explainer: Callable, cnn: nn.Module) -> None:
    x = numbers(2, 2, 9, 9)
    expected = explainer(cnn).attribute(x)
    with torch.no_grad():
        assert torch.equal(explainer(cnn).attribute(x), expected)
    with torch.inference_mode():
        maps = explainer(cnn).attribute(x.clone())
    assert torch.equal(maps, expected)


@everyone
def test_follows_the_model(explainer: Callable, cnn: nn.Module) -> None:
    x = numbers(2, 2, 9, 9)
    made_before = explainer(cnn)
    made_before.attribute(x, 1)
    cnn.norm = copy.deepcopy(cnn.norm)
    with torch.no_grad():
        cnn.conv1.weight.mul_(-1)
        cnn.norm.running_mean += 0.1
    assert torch.equal(made_before.attribute(x, 1), explainer(cnn).attribute(x, 1))


@everyone
def test_wrong_arguments(explainer: Callable, cnn: nn.Module) -> None:
    x = numbers(2, 2, 9, 9)
    with pytest.raises(TypeError, match=r"is a BlackBox, which gives no gradients"):
        explainer(BlackBox(cnn))
    for target in (4, torch.tensor([0, 4])):
        with pytest.raises(ValueError, match=r"target 4 is out of range.*4 scores"):
            explainer(cnn).attribute(x, target)
    with pytest.raises(ValueError, match=r"training mode \(layer 'norm'\)"):
        explainer(cnn.train())


class Answers(nn.Module):
    """A model whose answers are wrong in a way of choice."""

    def __init__(self, how: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.dense, self.relu, self.how = nn.Linear(6, 3).double(), nn.ReLU(), how

    def forward(self, x: Tensor) -> object:
        return self.how(self.relu(self.dense(x)))


@everyone
def test_wrong_answers(explainer: Callable) -> None:
    x = numbers(2, 6)
    with pytest.raises(
        ValueError, match=r"rows of scores for [0-9]+ inputs, got shape"
    ):
        explainer(Answers(lambda s: s.flatten()[None])).attribute(x, 0)
    with pytest.raises(TypeError, match=r"must return a tensor.*got tuple"):
        explainer(Answers(lambda s: (s, s))).attribute(x, 0)
    nan = Answers(lambda s: torch.cat([s, s], 1))
    nn.init.constant_(nan.dense.bias, float("nan"))
    with pytest.raises(NonFiniteOutput, match=r"(?i)nan"):
        explainer(nan).attribute(x, 0)


def test_what_gives_no_gradient_is_refused(mlp: nn.Module) -> None:
    detached = Gradient(lambda x: mlp(x.detach()).detach())
    with pytest.raises(ValueError, match=r"gives no gradients.*RISE or Occlusion"):
        detached.attribute(numbers(2, 6), 0)


@layerwise
def test_a_function_has_no_layers(explainer: type[LayerwiseAttribution]) -> None:
    with pytest.raises(TypeError, match=r"must be an nn.Module.*got function"):
        explainer(lambda x: x)  # type: ignore[arg-type]


@layerwise
def test_a_copy_that_computes_something_else_is_found_out(
    explainer: type[LayerwiseAttribution],
) -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.relu = nn.Linear(6, 3).double(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            flat = self.dense(x)
            view = flat.view(-1)
            self.relu(flat)
            view.relu_()  # writes into flat, which the copy does not
            return flat

    torch.manual_seed(0)
    model, x = Viewing(), 20 * numbers(5, 6) - 10
    assert (model.dense(x)[:, 0] < 0).any()  # where the two differ
    with pytest.raises(ValueError, match=r"differs by|a map sums to"):
        explainer(model).attribute(x, 0)


@pytest.mark.parametrize("explainer", [Gradient, SmoothGrad])
def test_captum_accepts_them(explainer: type[WhiteBoxAttribution]) -> None:
    def half_square(x: Tensor) -> Tensor:
        return (x**2).sum(dim=(1, 2, 3))[:, None] / 2

    x = numbers(4, 1, 5, 5)
    worst = captum.metrics.sensitivity_max(
        explainer(half_square).attribute, x, perturb_radius=0.1, target=0
    )
    # The map is x plus a constant: a change of the input is the map's own change.
    norm = explainer(half_square).attribute(x, 0).flatten(1).norm(dim=1)
    assert (worst > 0).all()
    assert (worst <= 0.1 * 5 / norm + 1e-9).all()
    tunnel = captum.attr.NoiseTunnel(explainer(half_square))
    smooth = tunnel.attribute(x, nt_samples=400, stdevs=0.1, target=0)
    offset = explainer(half_square).attribute(x, 0) - x
    assert (smooth - x - offset).abs().max() < 6 * 0.1 / 400**0.5


# Gradient and SmoothGrad


def test_gradient_is_autograd(cnn: nn.Module) -> None:
    x, target = numbers(5, 2, 9, 9), torch.tensor([0, 3, 1, 2, 0])
    maps = Gradient(cnn).attribute(x, target)
    assert torch.equal(maps, autograd(cnn, x, target))
    assert torch.equal(Gradient(cnn).attribute(x), autograd(cnn, x, cnn(x).argmax(1)))


def quadratic(x: Tensor) -> Tensor:
    weights = numbers(*x.shape[1:], seed=8)
    return (weights * x**2).flatten(1).sum(dim=1, keepdim=True)


def test_smoothgrad_of_a_quadratic_is_the_gradient_at_the_mean_noise() -> None:
    x = numbers(3, 2, 4, 5)
    maps = SmoothGrad(quadratic, n_samples=37, stdevs=0.3, seed=5).attribute(x, 0)
    noise = 0.3 * philox.normals(5, 0, 37, 2 * 4 * 5).mean(dim=0).view(2, 4, 5)
    expected = 2 * numbers(2, 4, 5, seed=8) * (x + noise)
    torch.testing.assert_close(maps, expected, rtol=1e-6, atol=1e-6)


def test_smoothgrad_noise_has_its_stdev_in_input_units() -> None:
    x = numbers(1, 1, 100, 100)
    once = SmoothGrad(quadratic, n_samples=1, stdevs=0.2).attribute(x, 0)
    noise = once / (2 * numbers(1, 100, 100, seed=8)) - x
    assert abs(float(noise.std()) - 0.2) < 0.005
    assert abs(float(noise.mean())) < 0.01


def test_smoothgrad_seeds_and_limits(cnn: nn.Module) -> None:
    x = numbers(2, 2, 9, 9)
    maps = [SmoothGrad(cnn, seed=s).attribute(x, 0) for s in (0, 0, 1)]
    assert torch.equal(maps[0], maps[1])
    assert not torch.allclose(maps[0], maps[2])
    still = SmoothGrad(cnn, n_samples=3, stdevs=0).attribute(x, 0)
    torch.testing.assert_close(still, Gradient(cnn).attribute(x, 0))
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        SmoothGrad(cnn, n_samples=0)
    with pytest.raises(
        ValueError, match=r"stdevs must be finite and at least 0, got -1"
    ):
        SmoothGrad(cnn, stdevs=-1)


# IntegratedGradients


@pytest.mark.parametrize("baselines", [0, 0.4, numbers(2, 4, 5, seed=9)])
def test_integrated_gradients_of_polynomials(baselines: float | Tensor) -> None:
    x = numbers(3, 2, 4, 5)
    start = torch.zeros_like(x) + baselines

    def powers(x: Tensor) -> Tensor:
        return torch.stack([(x**k).flatten(1).sum(dim=1) for k in (1, 2, 5)], dim=1)

    for target, power in enumerate((1, 2, 5)):
        explainer = IntegratedGradients(powers, baselines, n_steps=3)
        # Three nodes integrate degree 5 exactly. Captum's weights are float32.
        maps = explainer.attribute(x, target)
        torch.testing.assert_close(maps, x**power - start**power, rtol=1e-6, atol=1e-7)


def test_integrated_gradients_is_captums(cnn: nn.Module) -> None:
    x, target = numbers(3, 2, 9, 9), torch.tensor([0, 3, 1])
    expected = captum.attr.IntegratedGradients(cnn).attribute(
        x, 0.5, target=target, n_steps=20
    )
    maps = IntegratedGradients(lambda x: cnn(x), 0.5, n_steps=20).attribute(x, target)
    torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-12)


def test_integrated_gradients_is_complete(cnn: nn.Module) -> None:
    x, target = numbers(3, 2, 9, 9), torch.tensor([0, 3, 1])
    change = (cnn(x) - cnn(0 * x))[range(3), target].detach()
    errors = []
    for n_steps in (10, 400):
        maps = IntegratedGradients(cnn, n_steps=n_steps).attribute(x, target)
        errors.append(float((maps.flatten(1).sum(dim=1) - change).abs().max()))
    assert errors[1] < 1e-3 * float(change.abs().max())
    assert errors[1] < errors[0]


# GuidedBackprop


@pytest.fixture
def guided_relus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ReLU and ReLU6 of torch gets the guided backward pass."""

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor, high: float) -> Tensor:
            ctx.save_for_backward((x > 0) & (x < high))  # type: ignore[attr-defined]
            return x.clamp(0, high)

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
            (passes,) = ctx.saved_tensors  # type: ignore[attr-defined]
            return grad * passes * (grad > 0), None

    def relu(x: Tensor, inplace: bool = False) -> Tensor:
        return Guided.apply(x, float("inf"))

    monkeypatch.setattr(F, "relu", relu)
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: relu(x))
    monkeypatch.setattr(nn.ReLU6, "forward", lambda self, x: Guided.apply(x, 6.0))


def test_guided_backprop_on_the_architectures(
    architecture: str,
    lively: Callable[..., nn.Module],
    photo: Tensor,
    request: pytest.FixtureRequest,
) -> None:
    model, target = lively(architecture), torch.tensor([7])
    maps = GuidedBackprop(model).attribute(photo, target)
    assert cosine(maps, autograd(model, photo, target)) < 0.7
    request.getfixturevalue("guided_relus")
    expected = autograd(model, photo, target)
    torch.testing.assert_close(maps, expected, rtol=1e-8, atol=1e-12)


def test_guided_backprop_where_a_relu_shares_its_input(
    request: pytest.FixtureRequest,
) -> None:
    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 9).double(), nn.Linear(9, 9).double()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            x = x + self.b(self.relu(x))  # Captum's hook would guide x as well
            return self.b(torch.relu(F.relu(self.relu(self.b(x)))))

    torch.manual_seed(0)
    model, x, target = Skipping(), numbers(4, 6), torch.tensor([0, 1, 2, 3])
    maps = GuidedBackprop(model).attribute(x, target)
    assert maps.abs().sum() > 0
    request.getfixturevalue("guided_relus")
    # torch.relu is not patched; after another ReLU it only drops what that one drops.
    torch.testing.assert_close(maps, autograd(model, x, target))


def squeeze_and_excite() -> nn.Module:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.out = nn.Linear(6, 6).double(), nn.Linear(6, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(F.relu(self.dense(x)) * torch.sigmoid(self.dense(x)))

    return Gate()


def dense(activation: nn.Module) -> nn.Module:
    layers = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), activation, nn.Linear(6, 3)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (dense(nn.SiLU()), "SiLU"),
        (dense(nn.GELU()), "GELU"),
        (dense(nn.LeakyReLU()), "LeakyReLU"),
        (dense(nn.Hardtanh(-1, 1)), "Hardtanh"),
        (squeeze_and_excite(), "Sigmoid"),
        (dense(nn.TransformerEncoderLayer(6, 1)), "MultiheadAttention"),
    ],
)
def test_guided_backprop_refuses_other_activations(model: nn.Module, name: str) -> None:
    with pytest.raises(ValueError, match=f"ReLU6 only, but forward_func uses {name}"):
        GuidedBackprop(model.eval())


def test_guided_backprop_needs_a_relu() -> None:
    with pytest.raises(ValueError, match="acts on ReLUs, and forward_func has none"):
        GuidedBackprop(nn.Linear(6, 3))


# DeepLift


def test_deeplift_is_complete_on_the_architectures(
    architecture: str, lively: Callable[..., nn.Module], photo: Tensor
) -> None:
    model, target = lively(architecture), 7
    maps = DeepLift(model, baselines=0.2).attribute(photo, target)
    change = (model(photo) - model(torch.full_like(photo, 0.2)))[:, target]
    gap = (maps.sum() - change).abs() / maps.abs().sum()
    assert gap < 1e-11
    gradient = autograd(model, photo, torch.tensor([target]))
    assert cosine(maps, (photo - 0.2) * gradient) < 0.95


def test_deeplift_is_complete_in_float32_on_real_weights() -> None:
    from xai_lib.zoo import models, photos

    model, x = models.load("efficientnet_lite0"), photos.load("chelsea").image
    maps = DeepLift(model).attribute(x)
    scores, target = model(x), int(model(x).argmax())
    change = float((scores - model(0 * x))[0, target])
    assert abs(float(maps.sum()) - change) < 1e-4 * float(maps.abs().sum())


def test_deeplift_of_one_hidden_layer_by_hand(mlp: nn.Module) -> None:
    x, start = numbers(4, 6), numbers(6, seed=5)
    maps = DeepLift(mlp, baselines=start).attribute(x, 2)
    first, _, last = mlp
    before, after = first(start), first(x)
    multipliers = (after.relu() - before.relu()) / (after - before)
    expected = (x - start) * ((multipliers * last.weight[2]) @ first.weight)
    torch.testing.assert_close(maps, expected)


def test_deeplift_of_a_max_pool_by_hand() -> None:
    x, start = numbers(2, 1, 5, 5), numbers(1, 5, 5, seed=7)
    model = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Flatten())
    for target in range(9):
        maps = DeepLift(model, baselines=start).attribute(x, target)
        row, column = divmod(target, 3)
        window = slice(max(0, 2 * row - 1), 2 * row + 2)
        window = (0, window, slice(max(0, 2 * column - 1), 2 * column + 2))
        for image, drawn in zip(x, maps, strict=True):
            expected = torch.zeros(1, 5, 5, dtype=torch.float64)
            now, then = image[window], start[window]
            top = max(now.max(), then.max())
            expected[window] += (now == now.max()) * (top - then.max())
            expected[window] += (then == then.max()) * (now.max() - top)
            torch.testing.assert_close(drawn, expected)


def test_deeplift_at_its_baseline_is_zero(cnn: nn.Module) -> None:
    x = torch.full((2, 2, 9, 9), 0.3, dtype=torch.float64)
    assert not DeepLift(cnn, baselines=0.3).attribute(x, 1).any()


@pytest.mark.parametrize(
    "model",
    [
        dense(nn.GELU()),
        dense(nn.SiLU()),
        squeeze_and_excite(),
        nn.Sequential(dense(nn.ReLU()), nn.Softmax(dim=1)),
    ],
)
def test_deeplift_refuses_a_map_that_is_not_complete(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"a map sums to .*\(a gap of"):
        DeepLift(model).attribute(4 * numbers(3, 6) - 2, 0)


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Tanh(), nn.ELU()])
def test_deeplift_knows_captums_other_activations(activation: nn.Module) -> None:
    model, x = dense(activation), 4 * numbers(3, 6) - 2
    maps = DeepLift(model).attribute(x, 0)
    torch.testing.assert_close(maps.sum(dim=1), (model(x) - model(0 * x))[:, 0])


# LRP


def test_lrp_by_hand() -> None:
    """Flat rule, z⁺-rule, winner takes all, ε-rule, each written out."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3)
    last = nn.Linear(3 * 9, 4)
    layers = first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), last
    model = nn.Sequential(*layers).double()
    x, target, epsilon = numbers(2, 2, 8, 8), torch.tensor([1, 3]), 0.1
    a1 = first(x).relu()
    a2 = second(a1).relu()
    pooled, winners = F.max_pool2d(a2, 2, return_indices=True)
    flat = pooled.flatten(1)

    score = last(flat)[range(2), target]
    relevance = (
        flat * last.weight[target] * (score / (score + epsilon * score.sign()))[:, None]
    )
    relevance = F.max_unpool2d(relevance.view_as(pooled), winners, 2)
    positive = second.weight.clamp(min=0)
    share = relevance / F.conv2d(a1, positive)
    relevance = a1 * F.conv_transpose2d(share, positive)
    ones = torch.ones_like(first.weight)
    share = relevance / F.conv2d(torch.ones_like(x), ones, padding=1)
    expected = F.conv_transpose2d(share, ones, padding=1)

    maps = LRP(model, epsilon=epsilon).attribute(x, target)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)


def test_lrp_of_dense_layers_is_input_times_gradient(mlp: nn.Module) -> None:
    x = numbers(4, 6)
    maps = LRP(mlp, epsilon=0).attribute(x, 1)
    product = x * Gradient(mlp).attribute(x, 1)
    torch.testing.assert_close(maps, product, rtol=1e-9, atol=1e-12)


def test_lrp_shares_a_sum_and_passes_a_normalisation() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1, affine=False)
            self.norm.running_mean += 0.5
            self.norm.running_var *= 0.04
            self.conv = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.constant_(self.conv.weight, 3.0)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x)
            return (self.conv(x) + x).flatten(1)

    x = numbers(2, 1, 3, 3) + 1
    model = Block().double().eval()
    maps = LRP(model).attribute(x, 4)
    expected = torch.zeros_like(x)
    expected[:, 0, 1, 1] = model(x)[:, 4]
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-5)


def test_lrp_on_the_architectures(
    architecture: str, lively: Callable[..., nn.Module], photo: Tensor
) -> None:
    target = torch.tensor([7])
    # Without biases nothing absorbs relevance: the score reaches the pixels whole.
    model = lively(architecture, biased=False)
    score = float(model(photo)[0, 7])
    maps = LRP(model).attribute(photo, target)
    assert abs(float(maps.sum()) - score) < 1e-2 * abs(score)
    product = photo * autograd(model, photo, target)
    assert abs(float(cosine(maps, product))) < 0.5


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (dense(nn.SiLU()), "SiLU"),
        (dense(nn.TransformerEncoderLayer(6, 1)), "TransformerEncoderLayer"),
        (squeeze_and_excite(), "Sigmoid"),
        (nn.Sequential(dense(nn.ReLU()), nn.Softmax(dim=1)), "Softmax"),
        (dense(nn.LayerNorm(6)), "LayerNorm"),
    ],
)
def test_lrp_refuses_what_it_has_no_rule_for(model: nn.Module, name: str) -> None:
    with pytest.raises(ValueError, match=f"LRP has no rule for {name}"):
        LRP(model.eval())
