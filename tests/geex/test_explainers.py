"""GEEX, GERS and iGEEX against closed forms, autograd, Captum and what they ask."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from captum.metrics import infidelity, sensitivity_max
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from xai_lib.baselines import SmoothGrad
from xai_lib.core import blackbox as blackbox_module
from xai_lib.core.blackbox import BlackBox, BudgetExceeded, NonFiniteOutput
from xai_lib.geex import GEEX, GERS, IGEEX, NOISES, Estimate, SearchNoise
from xai_lib.geex import noise as noise_module
from xai_lib.geex.explainers import divergence_from_uniform
from xai_lib.geex.noise import cosines, interpolation

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

C, H, W = 3, 8, 6
PIXELS = C * H * W
WEIGHTS = torch.randn(4, PIXELS, generator=torch.Generator().manual_seed(0)) / 12

EXPLAINERS = [
    pytest.param(lambda f, n=600, **s: GEEX(f, n, **s), id="GEEX"),
    pytest.param(lambda f, n=600, **s: GEEX(f, n, noise="orthogonal", **s), id="orth"),
    pytest.param(lambda f, n=600, **s: GEEX(f, n, noise="independent", **s), id="ind"),
    pytest.param(lambda f, n=600, **s: GERS(f, n, mask_size=3, **s), id="GERS"),
    pytest.param(
        lambda f, n=600, **s: GERS(f, n, mask_size=3, noise="low-frequency", **s),
        id="cosines",
    ),
    pytest.param(lambda f, n=600, **s: IGEEX(f, n, **s), id="iGEEX"),
    pytest.param(
        lambda f, n=600, **s: IGEEX(f, n, mask_size=3, n_steps=n // 4, **s),
        id="iGEEX with masks and steps",
    ),
]
each = pytest.mark.parametrize("method", EXPLAINERS)


def images(n: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, C, H, W, generator=torch.Generator().manual_seed(5)).to(dtype)


def linear(x: Tensor) -> Tensor:
    return x.flatten(1) @ WEIGHTS.to(x).T + 2


def curved(x: Tensor) -> Tensor:
    """Four scores with a gradient that changes everywhere."""
    z = x.flatten(1) @ WEIGHTS.to(x).T
    return torch.stack([z[:, 0].sin(), z[:, 1] ** 2, z.prod(1), z[:, 3].tanh()], 1)


class Recorded(BlackBox):
    """Remembers all that it is asked."""

    def __init__(self, forward_func: Callable, **settings: Any) -> None:
        super().__init__(forward_func, backend="torch", **settings)
        self.asked: list[Tensor] = []

    def _ask(self, batch: Tensor) -> Tensor:
        self.asked.append(batch.clone())
        return super()._ask(batch)


def z_scores(found: Estimate, exact: Tensor) -> Tensor:
    return (found.gradient - exact) / found.standard_error


def check(found: Estimate, exact: Tensor, numbers: int = PIXELS) -> None:
    """Deviations in standard errors are standard normal, `numbers` independent ones."""
    z = z_scores(found, exact)
    assert z.abs().max() < 5
    assert abs(z.square().mean() - 1) < 4 * (2 / numbers) ** 0.5
    assert exact.abs().max() > 8 * found.standard_error.mean()


# What the maps converge to


@pytest.mark.parametrize("noise", ["independent", "mirrored", "orthogonal"])
def test_geex_gives_the_gradient_of_a_linear_function(noise: str) -> None:
    found = GEEX(linear, 40_000, noise=noise).estimate(images(), torch.tensor([2, 1]))
    check(found, WEIGHTS[[2, 1]].view(2, C, H, W))


def test_geex_gives_the_gradient_of_the_smoothed_function() -> None:
    """E sin(w·(x + σε)) = exp(−σ²‖w‖²/2) sin(w·x); no pixel is clipped to [0, 1]."""
    x, sigma = images(1), 0.8
    w = WEIGHTS[0]
    damping = math.exp(-(sigma**2) * w.square().sum().item() / 2)
    exact = damping * (w @ x.flatten()).cos() * w.view(1, C, H, W)
    assert damping < 0.8
    check(GEEX(curved, 40_000, sigma).estimate(x, 0), exact)


def test_geex_is_the_expectation_of_smoothgrad() -> None:
    x = images(2)
    target = torch.tensor([0, 2])
    smooth = SmoothGrad(curved, 20_000, 0.5, seed=1).attribute(x, target)
    found = GEEX(curved, 40_000, 0.5).estimate(x, target)
    z = z_scores(found, smooth)
    assert z.abs().max() < 5
    assert z.square().mean() < 1.6


def basis(kind: Callable[[int, int], Tensor], s: int) -> Tensor:
    """U of one channel, `[HW, s²]`."""
    return torch.kron(kind(s, H), kind(s, W))


@pytest.mark.parametrize("noise", ["independent", "mirrored", "orthogonal"])
def test_gers_gives_a_local_mean_of_the_gradient(noise: str) -> None:
    """U Uᵀ ∇f / ρ, ρ being the pixels per cell."""
    u = basis(interpolation, 3)
    slopes = WEIGHTS[1].view(C, H * W)
    exact = (slopes @ u @ u.T * 9 / (H * W)).view(1, C, H, W)
    explainer = GERS(linear, 40_000, mask_size=3, noise=noise)
    check(explainer.estimate(images(1), 1), exact, numbers=27)


def test_low_frequencies_give_a_projection_of_the_gradient() -> None:
    u = basis(cosines, 3)
    slopes = WEIGHTS[1].view(C, H * W)
    exact = (slopes @ u @ u.T).view(1, C, H, W)
    explainer = GERS(linear, 40_000, mask_size=3, noise="low-frequency")
    check(explainer.estimate(images(1), 1), exact, numbers=27)


def test_a_gradient_that_is_the_same_everywhere_stays_what_it_is() -> None:
    def total(x: Tensor) -> Tensor:
        return x.flatten(1).sum(1)

    for noise in ("mirrored", "low-frequency"):
        found = GERS(total, 20_000, mask_size=4, noise=noise).attribute(images(1), 0)
        assert found[:, :, 2:-2, 2:-2].mean().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("kind", "noise"), [(interpolation, "mirrored"), (cosines, "low-frequency")]
)
def test_masks_smooth_the_function_along_themselves_only(
    kind: Callable[[int, int], Tensor], noise: str
) -> None:
    x, sigma = images(1), 0.8
    u = torch.block_diag(*C * [basis(kind, 3)])
    w = WEIGHTS[0]
    damping = math.exp(-(sigma**2) * (w @ u).square().sum().item() / 2)
    exact = damping * (w @ x.flatten()).cos() * (u @ (u.T @ w)).view(1, C, H, W)
    gain = SearchNoise(noise, (C, H, W), 2, mask_size=3).gain
    explainer = GERS(curved, 40_000, sigma, 3, noise)
    check(explainer.estimate(x, 0), exact / gain, numbers=27)


def test_masks_of_the_images_size_are_no_masks() -> None:
    x = images(2)[..., :W, :]

    def square(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4] ** 2

    without, with_masks = GEEX(square, 500), GERS(square, 500, mask_size=W)
    torch.testing.assert_close(with_masks.attribute(x, 1), without.attribute(x, 1))


# The path


@pytest.mark.parametrize("noise", ["independent", "mirrored", "orthogonal"])
@pytest.mark.parametrize("n_steps", [None, 1, 25])
@pytest.mark.parametrize("baselines", [0.0, 0.4])
def test_on_a_sum_of_squares_the_integral_is_ig(
    noise: str, n_steps: int | None, baselines: float
) -> None:
    """(x − x')(x + x'): smoothing and the midpoint rule change nothing on a square."""

    def squares(x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(1, keepdim=True)

    x = images(2).double()
    exact = captum.attr.IntegratedGradients(squares).attribute(x, baselines, target=0)
    torch.testing.assert_close(exact, x**2 - baselines**2)
    explainer = IGEEX(squares, 40_000, 0.2, noise, None, baselines, n_steps)
    found = explainer.estimate(x, 0)
    z = z_scores(found, exact)
    assert z.abs().max() < 5
    # Independent noise pays for squares: its error is several times as large.
    rows = found.gradient.flatten(1).sum(1) / exact.flatten(1).sum(1)
    assert (rows - 1).abs().max() < (0.15 if noise == "independent" else 0.04)


@pytest.mark.parametrize("size", [3, W])
@pytest.mark.parametrize("noise", NOISES)
def test_sums_over_masks_and_over_pixels_are_the_same(noise: str, size: int) -> None:
    """A map is summed in the numbers of a mask, a map with its error on pixels."""
    x = images(2)[:, :, :W]  # as many frequencies as pixels, for one of the sizes
    slopes = WEIGHTS[:, : x[0].numel()].T
    for n in (8, 60):
        explainer = GERS(lambda x: (x.flatten(1) @ slopes).sin(), n, 0.5, size, noise)
        found = explainer.estimate(x, 0).gradient
        torch.testing.assert_close(
            found, explainer.attribute(x, 0), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("noise", ["independent", "mirrored", "orthogonal"])
@pytest.mark.parametrize("n_steps", [None, 1, 3, 20])
def test_the_points_asked_cover_the_whole_path_evenly(
    noise: str, n_steps: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_module, "FEWEST", 10)
    monkeypatch.setattr(noise_module, "MOST", 14)
    x, root = images(2).double(), torch.full((C, H, W), -0.7).double()
    blackbox = Recorded(linear)
    n = 120
    IGEEX(blackbox, n, 0.3, noise, None, root, n_steps).attribute(x, 0)
    search = SearchNoise(noise, (C, H, W), n)
    chunks = list(search)
    asked, start = torch.cat(blackbox.asked), 0
    found = []
    for chunk in chunks:
        for i, image in enumerate(x):
            part = asked[start : start + len(chunk)]
            start += len(chunk)
            # What is left without the noise is a point on the path.
            points = part - 0.3 * chunk
            alpha = (points - root) / (image - root)
            flat = alpha.flatten(1)
            assert (flat - flat[:, :1]).abs().max() < 1e-6
            if i == 0:
                share = flat[:, 0]
                if search.mirrored:
                    first, second = share.chunk(2)
                    torch.testing.assert_close(first, second)
                    share = first
                found.append(share)
    assert start == len(asked) == 2 * n
    alpha = torch.cat(found)
    k = search.n_directions if n_steps is None else n_steps
    expected = (torch.arange(k).double() + 0.5) / k
    torch.testing.assert_close(
        alpha.sort().values,
        expected.repeat_interleave(len(alpha) // k),
        rtol=0,
        atol=1e-6,
    )


def test_steps_give_the_mean_of_estimates_on_the_path() -> None:
    """With one noise for each point it is a mean of GEEX maps, times x − x'."""
    x = images(1).double()
    n, k, sigma = 400, 5, 0.6
    found = IGEEX(curved, n, sigma, n_steps=k).attribute(x, 1)
    e = torch.cat([c[: len(c) // 2] for c in SearchNoise("mirrored", (C, H, W), n)])
    maps = []
    for j, part in enumerate(e.double().chunk(k)):
        point = (j + 0.5) / k * x
        f = curved(torch.cat([point + sigma * part, point - sigma * part]))[:, 1]
        plus, minus = f.chunk(2)
        slopes = (plus - minus) / (2 * sigma)
        maps.append((slopes[:, None, None, None] * part).mean(0))
    torch.testing.assert_close(found, x * torch.stack(maps).mean(0))


def smoothed(x: Tensor, sigma: float) -> Tensor:
    """Of score 0 of `curved`."""
    w = WEIGHTS[0].to(x)
    return math.exp(-(sigma**2) * float(w @ w) / 2) * (x.flatten(1) @ w).sin()


@pytest.mark.parametrize("noise", ["independent", "mirrored", "orthogonal"])
@pytest.mark.parametrize("n_steps", [None, 20])
def test_complete_for_the_smoothed_function(noise: str, n_steps: int | None) -> None:
    """The mean sum over seeds is f_σ(x) − f_σ(x'), and clearly not f(x) − f(x')."""
    x, sigma = 2 * images(1), 1.5
    sums = torch.stack(
        [
            IGEEX(curved, 2000, sigma, noise, n_steps=n_steps, seed=seed)
            .attribute(x, 0)
            .sum()
            for seed in range(60)
        ]
    )
    error = sums.std() / 60**0.5
    assert (sums.mean() - smoothed(x, sigma)).abs() < 4 * error
    assert (sums.mean() - curved(x)[0, 0]).abs() > 8 * error


# Many images, classes, types and models


@each
def test_each_channel_gets_its_own_gradient(method: Callable) -> None:
    """The red channel alone counts: the others get noise, or nothing, but not red's."""

    def red(x: Tensor) -> Tensor:
        return x[:, 0].mean((1, 2)) * 10

    maps = method(red, n=4000).attribute(images(1) + 0.5, 0)[0]
    size = maps.abs().mean((1, 2))
    assert maps[0].mean() > 0.1
    assert (size[1:] < size[0] / 2).all()
    assert (maps[1:].mean((1, 2)).abs() < maps[0].mean() / 4).all()


@each
def test_no_difference_between_batches_or_company(
    method: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, target = images(5), torch.tensor([0, 1, 2, 3, 1])
    together = method(curved).attribute(x, target)
    assert together.shape == x.shape
    alone = [
        method(curved).attribute(x[i : i + 1], target[i : i + 1]) for i in range(5)
    ]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-6)
    for size in (1, 7, 64):
        maps = method(BlackBox(curved, batch_size=size)).attribute(x, target)
        torch.testing.assert_close(maps, together, rtol=1e-4, atol=1e-6)
    # How many queries are in memory at once: less than an image's, or two images'.
    for block in (1, 100 * PIXELS, 1300 * PIXELS):
        monkeypatch.setattr(blackbox_module, "BLOCK", block)
        maps = method(curved).attribute(x, target)
        torch.testing.assert_close(maps, together, rtol=1e-4, atol=1e-6)


@each
def test_all_images_share_one_noise(method: Callable) -> None:
    x = images(2)
    blackbox = Recorded(linear)
    method(blackbox, n=40).attribute(x, 0)
    first, second = torch.cat(blackbox.asked).chunk(2)
    if not isinstance(method(linear), IGEEX):
        torch.testing.assert_close(first - x[0], second - x[1], rtol=0, atol=1e-6)
        noise = first - x[0]
        # Queries leave the range of images, and are asked as they are.
        assert first.min() < 0
        assert first.max() > 1
        assert len(noise.flatten(1).unique(dim=0)) == 40


@each
@pytest.mark.parametrize("n", [4, 60, 2048 + 60])
def test_exact_number_of_queries(method: Callable, n: int) -> None:
    blackbox = BlackBox(curved)
    x = images(3)
    method(blackbox, n).attribute(x, 1)
    assert blackbox.queries == 3 * n
    method(blackbox, n).estimate(x, 1)
    assert blackbox.queries == 6 * n
    method(blackbox, n).attribute_all(x)
    assert blackbox.queries == 9 * n
    method(blackbox, n).attribute(x)  # asks for the predicted class too
    assert blackbox.queries == 12 * n + 3
    with pytest.raises(BudgetExceeded):
        method(BlackBox(curved, budget=3 * n - 1), n).attribute(x, 1)


@each
def test_all_classes_from_one_set_of_queries(method: Callable) -> None:
    x = images(2)
    maps = method(curved).attribute_all(x)
    assert maps.shape == (2, 4, C, H, W)
    for target in range(4):
        one = method(curved).attribute(x, target)
        torch.testing.assert_close(maps[:, target], one, rtol=1e-5, atol=1e-6)


@each
def test_estimate_is_the_map_with_its_error(method: Callable) -> None:
    x = images(2)
    found = method(curved).estimate(x)
    maps = method(curved).attribute(x)
    torch.testing.assert_close(found.gradient, maps, rtol=1e-5, atol=1e-6)
    assert found.standard_error.shape == x.shape
    assert (found.standard_error > 0).all()


@pytest.mark.parametrize("n_features", [1, 5])
def test_vectors(n_features: int) -> None:
    w = torch.linspace(-1, 2, n_features)
    x = torch.rand(3, n_features, generator=torch.Generator().manual_seed(2))

    def score(x: Tensor) -> Tensor:
        return (x @ w)[:, None] + 7

    for explainer in (
        GEEX(score, 9000),
        GEEX(score, 9000, noise="independent"),
        GEEX(score, 9000, noise="orthogonal"),
    ):
        found = explainer.estimate(x, 0)
        assert found.gradient.shape == x.shape
        assert z_scores(found, w.expand_as(x)).abs().max() < 4.5
    found = IGEEX(score, 9000, n_steps=10).estimate(x, 0)
    assert z_scores(found, w * x).abs().max() < 4.5


@each
def test_double_precision_is_kept(method: Callable) -> None:
    """Where single precision would lose the difference between two queries."""

    def offset(x: Tensor) -> Tensor:
        return curved(x) + (1e7 if x.dtype is torch.float64 else 0)

    x = images(2)
    maps = method(offset).attribute(x.double(), 1)
    assert maps.dtype is torch.float64
    single = method(curved).attribute(x, 1)
    assert single.dtype is torch.float32
    torch.testing.assert_close(maps.float(), single, rtol=1e-3, atol=1e-4)


def test_a_model_without_gradients() -> None:
    """A forest that answers in NumPy: the two features it uses stand out."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype("float32")
    y = x[:, 1] - x[:, 4] > 0
    forest = RandomForestClassifier(30, random_state=0).fit(x, y)
    blackbox = BlackBox(forest.predict_proba)
    rows = torch.from_numpy(x[:4])
    for noise in ("independent", "mirrored", "orthogonal"):
        maps = GEEX(blackbox, 3000, 0.5, noise).attribute(rows, 1)
        assert maps.dtype is torch.float32
        assert (maps.mean(0)[1] > 0.1) & (maps.mean(0)[4] < -0.1)
        others = maps.mean(0)[[0, 2, 3, 5]]
        assert others.abs().max() < 0.05
    assert blackbox.queries == 3 * 4 * 3000


# The loss


@pytest.mark.parametrize("kind", [GEEX, IGEEX])
def test_the_non_informative_loss_is_cross_entropy(kind: type) -> None:
    """Against autograd on PyTorch's own cross-entropy, at a small σ."""

    def logits(x: Tensor) -> Tensor:
        return 3 * linear(x)

    x = images(2).double()

    def loss(x: Tensor) -> Tensor:
        uniform = torch.full((len(x), 4), 0.25, dtype=x.dtype)
        return torch.nn.functional.cross_entropy(logits(x), uniform, reduction="none")

    if kind is GEEX:
        y = x.clone().requires_grad_()
        (exact,) = torch.autograd.grad(loss(y).sum(), y)
    else:
        exact = captum.attr.IntegratedGradients(loss).attribute(x)
    found = kind(logits, 20_000, 0.02, loss="non-informative").estimate(x, 0)
    assert z_scores(found, exact).abs().max() < 5
    assert z_scores(found, -exact).abs().max() > 8


def test_the_loss_rises_as_the_model_decides() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    values = divergence_from_uniform(logits)[:, 0]
    assert values[0].item() == pytest.approx(math.log(3))
    assert values[0] < values[1] < values[2]


def test_the_non_informative_loss_knows_no_target() -> None:
    explainer = GEEX(BlackBox(linear, batch_size=64), 200, loss="non-informative")
    maps = explainer.attribute(images(), 0)
    assert torch.equal(maps, explainer.attribute(images(), torch.tensor([3, 1])))
    with pytest.raises(ValueError, match="loss must be 'score' for attribute_all"):
        explainer.attribute_all(images())


def test_the_non_informative_loss_wants_logits() -> None:
    with pytest.raises(ValueError, match="needs logits, but forward_func returns"):
        GEEX(lambda x: linear(x).softmax(1), 20, loss="non-informative").attribute(
            images(), 0
        )
    with pytest.raises(ValueError, match="needs at least 2 scores, got 1"):
        GEEX(lambda x: x.flatten(1).sum(1), 20, loss="non-informative").attribute(
            images(), 0
        )
    # The logarithm of probabilities is as good as logits.
    logits = GEEX(linear, 200, loss="non-informative").attribute(images(), 0)
    logarithms = GEEX(
        lambda x: linear(x).log_softmax(1), 200, loss="non-informative"
    ).attribute(images(), 0)
    torch.testing.assert_close(logarithms, logits, rtol=1e-3, atol=1e-5)


# Captum's tools, and clean hands


@each
def test_noise_tunnel_takes_the_explainer(method: Callable) -> None:
    torch.manual_seed(0)
    maps = captum.attr.NoiseTunnel(method(linear)).attribute(
        images(), nt_samples=4, stdevs=0.0, target=1
    )
    plain = method(linear).attribute(images(), 1)
    torch.testing.assert_close(maps, plain, rtol=1e-4, atol=1e-5)


@each
def test_sensitivity_max_sees_no_sampling_noise(method: Callable) -> None:
    """On a linear function noise alone could move a map of the same image."""
    worst = sensitivity_max(
        method(linear).attribute, images(), lambda x: x, n_perturb_samples=2, target=1
    )
    assert (worst < 1e-4).all()


def test_infidelity_is_small_for_a_linear_function() -> None:
    shift = 0.1 * torch.randn(
        images().shape, generator=torch.Generator().manual_seed(3)
    )

    def perturb(x: Tensor) -> tuple[Tensor, Tensor]:
        return shift, x - shift

    drop = (linear(images()) - linear(images() - shift))[:, 1]
    maps = GEEX(linear, 40_000, noise="orthogonal").attribute(images(), 1)
    value = infidelity(linear, perturb, images(), maps, target=1, n_perturb_samples=1)
    assert (value < 0.05 * drop.square()).all()


@each
def test_clean_hands(method: Callable, capfd: pytest.CaptureFixture[str]) -> None:
    x = images().requires_grad_()
    before = x.detach().clone()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    # The batch size is fixed, as rounding depends on it.
    blackbox = BlackBox(curved, batch_size=64)
    first = method(blackbox).attribute(x)
    assert torch.equal(first, method(blackbox).attribute(x))  # same seed, same map
    assert (first - method(blackbox, seed=1).attribute(x)).abs().max() > 1e-3
    assert torch.equal(x, before)
    assert x.requires_grad
    assert not first.requires_grad
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002
    assert capfd.readouterr() == ("", "")
    method(curved).attribute(x, show_progress=True)
    assert type(method(curved)).__name__ in capfd.readouterr().err


@each
def test_a_model_may_write_into_its_input(method: Callable) -> None:
    """Queries share memory from block to block; a model cannot spoil it."""

    def rude(x: Tensor) -> Tensor:
        scores = curved(x)
        x.zero_()
        return scores

    expected = method(curved).attribute(images(), 1)
    maps = method(rude).attribute(images(), 1)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)


def test_a_model_may_answer_with_its_input() -> None:
    def mirror(x: Tensor) -> Tensor:
        return x[:, :3]

    x = torch.rand(2, 5, generator=torch.Generator().manual_seed(1))
    maps = GEEX(mirror, 4000, noise="orthogonal").attribute_all(x)
    exact = torch.eye(5)[:3].expand(2, 3, 5)
    assert (maps - exact).abs().max() < 0.2


def test_what_is_not_finite_is_refused() -> None:
    def log(x: Tensor) -> Tensor:
        return x.flatten(1).sum(1).log()

    with pytest.raises(NonFiniteOutput):
        GEEX(log, 200, 10.0).attribute(images(), 0)


# Arguments


@pytest.mark.parametrize("kind", [GEEX, GERS, IGEEX])
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples must be at least 2, got 0"),
        ({"n_samples": 5}, ValueError, "n_samples must be even .* got 5, use 4 or 6"),
        ({"n_samples": "5"}, TypeError, "n_samples must be an integer, got '5'"),
        ({"stdevs": 0}, ValueError, "stdevs must be above 0, got 0"),
        ({"stdevs": -1}, ValueError, "stdevs must be finite and at least 0, got -1"),
        ({"stdevs": "1"}, TypeError, "stdevs must be a number, got '1'"),
        ({"noise": "gaussian"}, ValueError, "noise must be one of .* got 'gaussian'"),
        ({"loss": "logit"}, ValueError, "loss must be one of score, non-informative"),
        ({"seed": 0.5}, TypeError, r"seed must be an integer, got 0\.5"),
        ({"forward_func": None}, TypeError, "forward_func must be callable"),
    ],
)
def test_wrong_settings(
    kind: Callable, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind(**{"forward_func": linear, **settings})


@pytest.mark.parametrize(
    ("explain", "error", "message"),
    [
        (lambda: GEEX(linear, noise="low-frequency"), ValueError, "use GERS"),
        (
            lambda: GERS(linear, mask_size=None),  # type: ignore[arg-type]
            TypeError,
            "mask_size must be an integer, got None",
        ),
        (lambda: GERS(linear, mask_size=0), ValueError, "mask_size must be at least 1"),
        (
            lambda: GERS(linear, mask_size=7).attribute(images(), 0),
            ValueError,
            "mask_size must be at most the image's side, got 7 for images of 8 x 6",
        ),
        (
            lambda: GERS(linear).attribute(torch.rand(2, 5), 0),
            ValueError,
            r"inputs must be \[N, C, H, W\], got \[2, 5\]",
        ),
        (
            lambda: IGEEX(linear, mask_size=2).attribute(torch.rand(2, 5), 0),
            ValueError,
            r"mask_size must be None for inputs \[N, d\]",
        ),
        (
            lambda: IGEEX(linear, 100, n_steps=3),
            ValueError,
            "n_samples must be a multiple of 6, so that each of 3 steps .* got 100",
        ),
        (lambda: IGEEX(linear, n_steps=0), ValueError, "n_steps must be at least 1"),
        (
            lambda: IGEEX(linear, baselines=torch.zeros(2)).attribute(images(), 0),
            ValueError,
            r"baselines must be a number or shaped like one input, \[3, 8, 6\]",
        ),
        (
            lambda: GEEX(linear, 20).attribute(images(), 4),
            ValueError,
            "target 4 is out of range",
        ),
        (
            lambda: GEEX(linear).attribute_all(images()[0]),
            ValueError,
            "inputs must be",
        ),
        (
            lambda: GEEX(linear).estimate(images().long(), 0),
            TypeError,
            "inputs must be floating point",
        ),
    ],
)
def test_wrong_arguments(
    explain: Callable, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        explain()


def test_independent_noise_takes_any_number_per_step() -> None:
    maps = IGEEX(linear, 9, noise="independent", n_steps=3).attribute(images(), 0)
    assert maps.isfinite().all()


@gpu
@each
def test_cuda_agrees_with_the_cpu(method: Callable) -> None:
    expected = method(curved).attribute(images(), 1)
    maps = method(curved).attribute(images().cuda(), 1)
    assert maps.is_cuda
    torch.testing.assert_close(maps.cpu(), expected, rtol=1e-3, atol=1e-5)
