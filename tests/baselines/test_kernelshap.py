"""KernelSHAP against Shapley values by enumeration, and against Captum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import captum.attr
import pytest
import torch
from captum._utils.models.linear_model import SkLearnLinearRegression
from torch import Tensor

from xai_lib.baselines import KernelSHAP
from xai_lib.baselines.kernelshap import CHUNK, coalitions
from xai_lib.baselines.segments import superpixels
from xai_lib.core import blackbox as blackbox_module
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox, BudgetExceeded

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

SEGMENTS = 9  # of the smooth images below, to which SLIC lays a grid


def images(n: int, channels: int = 1, side: int = 12) -> Tensor:
    """Smooth images with values from 0.4 to 0.6, so that 0 means hidden."""
    source = generator(5)
    ramps = torch.linspace(-1, 1, side, dtype=torch.float64)
    slopes = 0.05 * torch.rand(n, channels, 2, 1, 1, generator=source)
    return 0.5 + slopes[:, :, 0] * ramps + slopes[:, :, 1] * ramps[:, None]


def parts(x: Tensor) -> Tensor:
    return superpixels(x[0], SEGMENTS)[0, 0]


def game(x: Tensor, how: str) -> Callable[[Tensor], Tensor]:
    """A model whose three scores see only which parts of the image `[1, C, H, W]` are
    shown. "single": each part for itself; "pairs"; "triples" of parts act together."""
    segments = parts(x)
    m = int(segments.max()) + 1
    source = generator(7)
    w = torch.randn(3, *(m,) * 3, generator=source, dtype=torch.float64)

    def model(images: Tensor) -> Tensor:
        shown = [(images[:, 0] != 0)[:, segments == k].all(1) for k in range(m)]
        z = torch.stack(shown, 1).double()
        if how == "single":
            return 1 + z @ w[:, 0, 0].T
        if how == "pairs":
            return 2 + torch.einsum("ni,nj,kij->nk", z, z, w[:, 0])
        return torch.einsum("ni,nj,nl,kijl->nk", z, z, z, w)

    return model


def enumerated(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Shapley values `[M, K]` of the parts of `[1, C, H, W]`, by definition."""
    segments = parts(x)
    m = int(segments.max()) + 1

    def v(z: tuple[int, ...]) -> Tensor:
        return model(x * torch.tensor(z)[segments])[0]

    values = []
    for i in range(m):
        value = torch.zeros(3, dtype=torch.float64)
        for others in itertools.product((0, 1), repeat=m - 1):
            s = sum(others)
            share = math.factorial(s) * math.factorial(m - s - 1) / math.factorial(m)
            with_i, without_i = ((*others[:i], z_i, *others[i:]) for z_i in (1, 0))
            value += share * (v(with_i) - v(without_i))
        values.append(value)
    return torch.stack(values)


def of_parts(maps: Tensor, x: Tensor) -> Tensor:
    """One value per part from maps `[1, K, H, W]`: `[M, K]`."""
    segments = parts(x)
    values = []
    for k in range(int(segments.max()) + 1):
        inside = maps[0][:, segments == k]
        assert bool((inside == inside[:, :1]).all())
        values.append(inside[:, 0])
    return torch.stack(values)


# Shapley values


@pytest.mark.parametrize("how", ["single", "pairs"])
@pytest.mark.parametrize("n_samples", [100, 301])
def test_exact_where_parts_act_alone_or_in_twos(how: str, n_samples: int) -> None:
    x = images(1, 3)
    model = game(x, how)
    maps = KernelSHAP(model, n_samples, SEGMENTS).attribute_all(x)
    assert maps.shape == (1, 3, 12, 12)
    # Of an odd number of samples the last one has no complement.
    error = 0.1 if how == "pairs" and n_samples % 2 else 1e-9
    gap = (of_parts(maps, x) - enumerated(model, x)).abs().max()
    assert gap < error * float(maps.abs().max())


def test_converges_where_more_act_together() -> None:
    x = images(1)
    model = game(x, "triples")
    expected = enumerated(model, x)
    errors = []
    for n_samples in (200, 20_000):
        gaps = [
            of_parts(KernelSHAP(model, n_samples, SEGMENTS, seed=s).attribute_all(x), x)
            - expected
            for s in range(5)
        ]
        errors.append(float(torch.stack(gaps).square().mean().sqrt()))
    # A hundred times the samples: a tenth of the error, within a factor of two.
    assert 0.05 < errors[1] / errors[0] < 0.2
    assert errors[1] < 0.03 * float(expected.abs().max())


def test_the_axioms() -> None:
    """Values sum to the change of the score; a part without effect gets nothing; parts
    that do the same get the same, although they act together."""
    x = images(1)
    segments = parts(x)

    def model(images: Tensor) -> Tensor:
        a, b, c = (
            (images[:, 0] != 0)[:, segments == k].all(1).double() for k in (0, 4, 7)
        )
        return (3 * a * b + c - 5)[:, None]

    maps = KernelSHAP(model, 400, SEGMENTS).attribute(x, 0)
    values = of_parts(maps, x)[:, 0]
    torch.testing.assert_close(values.sum(), (model(x) - model(0 * x))[0, 0])
    assert values[[0, 4, 7]].tolist() == pytest.approx([1.5, 1.5, 1])
    others = [k for k in range(len(values)) if k not in (0, 4, 7)]
    assert values[others].abs().max() < 1e-9


# Captum


def test_captum_solves_the_same_samples_alike() -> None:
    """Captum's LIME with our samples, each of weight 1, and 10⁶ on all and none."""
    x = images(1)
    model, n_samples = game(x, "triples"), 300
    m = int(parts(x).max()) + 1
    samples = [torch.ones(1, m), torch.zeros(1, m)]
    for z in coalitions(m, n_samples - 2, seed=4):
        samples += z.float().split(1)

    def draw(*_: Any, **__: Any) -> Any:
        yield from samples

    def weight(*args: Any, **_: Any) -> Tensor:
        return torch.tensor([1e6 if args[2].sum() in (0, m) else 1.0])

    lime = captum.attr.Lime(model, SkLearnLinearRegression(), weight, draw)
    for target in range(3):
        expected = lime.attribute(
            x, target=target, feature_mask=parts(x), n_samples=n_samples
        )
        maps = KernelSHAP(model, n_samples, SEGMENTS, seed=4).attribute(x, target)
        # Captum's weights of 10⁶ are no constraint, and it works in float32.
        scale = float(expected.abs().max())
        torch.testing.assert_close(maps, expected.double(), rtol=0, atol=2e-3 * scale)


def test_captums_kernelshap_agrees_within_its_noise() -> None:
    x = images(1)
    model = game(x, "triples")
    ours = KernelSHAP(model, 4000, SEGMENTS).attribute(x, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [
            captum.attr.KernelShap(model).attribute(
                x, 0, 1, None, parts(x), n_samples=1000, perturbations_per_eval=100
            )
            for _ in range(8)
        ]
    runs = torch.cat([of_parts(t, x).T for t in theirs])
    error = runs.std(0) / 8**0.5
    gap = (of_parts(ours, x)[:, 0] - runs.mean(0)).abs()
    own = 0.01 * float(runs.abs().max())
    assert (gap < 5 * error + own).all()


# Samples


def test_samples_have_the_probabilities_of_the_shapley_kernel() -> None:
    m, n = 5, 40_000
    drawn = torch.cat(list(coalitions(m, n, seed=0)))
    assert drawn.shape == (n, m)
    codes = (drawn.long() * 2 ** torch.arange(m)).sum(1)
    found = torch.bincount(codes, minlength=2**m) / n
    kernel = torch.zeros(2**m, dtype=torch.float64)
    for code in range(1, 2**m - 1):
        s = code.bit_count()
        kernel[code] = (m - 1) / (math.comb(m, s) * s * (m - s))
    expected = kernel / kernel.sum()
    # Samples come in pairs, so that half as many are independent.
    error = (expected * (1 - expected) / (n / 2)) ** 0.5
    assert ((found - expected).abs() <= 5 * error).all()
    assert found[0] == found[-1] == 0


@pytest.mark.parametrize("n", [1, 2, 7, CHUNK, CHUNK + 1, 3 * CHUNK + 6])
def test_samples_come_with_their_complements(n: int) -> None:
    found = list(coalitions(6, n, seed=1))
    assert sum(len(z) for z in found) == n
    for z in found:
        half = len(z) // 2
        assert torch.equal(z[:half], ~z[-(-len(z) // 2) :][:half])
    assert len(found) == -(-n // CHUNK)


def test_two_parts_have_one_kind_of_sample() -> None:
    (z,) = coalitions(2, 10, seed=0)
    assert (z.sum(1) == 1).all()


# What all methods keep


def curved(x: Tensor) -> Tensor:
    return torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3)), x.amax((1, 2, 3))], 1)


def test_all_classes_from_one_set_of_queries() -> None:
    x = images(3, 3)
    blackbox = BlackBox(curved)
    explainer = KernelSHAP(blackbox, 333, SEGMENTS)
    maps = explainer.attribute_all(x)
    assert blackbox.queries == 3 * 333
    target = torch.tensor([2, 0, 1])
    chosen = explainer.attribute(x, target)
    assert blackbox.queries == 6 * 333
    assert chosen.shape == (3, 1, 12, 12)
    for i in range(3):
        torch.testing.assert_close(maps[i, target[i]], chosen[i, 0])
    explainer.attribute(x)
    assert blackbox.queries == 9 * 333 + 3


def test_the_budget_holds() -> None:
    blackbox = BlackBox(curved, budget=300)
    with pytest.raises(BudgetExceeded):
        KernelSHAP(blackbox, 301, SEGMENTS).attribute(images(1), 0)
    assert blackbox.queries <= 300


def test_same_map_alone_in_a_batch_and_for_any_batch_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, target = images(3, 2), torch.tensor([1, 2, 0])
    expected = KernelSHAP(curved, 300, SEGMENTS).attribute(x, target)
    for i in range(3):
        one = slice(i, i + 1)
        alone = KernelSHAP(curved, 300, SEGMENTS).attribute(x[one], target[one])
        torch.testing.assert_close(alone, expected[one])
    for batch_size in (1, 7, 1000):
        blackbox = BlackBox(curved, batch_size)
        maps = KernelSHAP(blackbox, 300, SEGMENTS).attribute(x, target)
        torch.testing.assert_close(maps, expected)
    monkeypatch.setattr(blackbox_module, "BLOCK", 3 * 288)
    maps = KernelSHAP(curved, 300, SEGMENTS).attribute(x, target)
    torch.testing.assert_close(maps, expected)


def test_the_seed_decides_and_the_global_state_stays() -> None:
    x = images(1)
    before, state = x.clone(), torch.get_rng_state()
    maps = [
        KernelSHAP(game(x, "triples"), 100, SEGMENTS, seed=s).attribute(x, 0)
        for s in (0, 0, 1)
    ]
    assert torch.equal(maps[0], maps[1])
    assert not torch.allclose(maps[0], maps[2])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, before)


@pytest.mark.parametrize("baselines", [0.3, 0.1 * torch.ones(2, 12, 12).double()])
def test_hidden_parts_show_the_baseline(baselines: float | Tensor) -> None:
    x = images(1, 2)
    weights = torch.rand(2, 12, 12, generator=generator(2), dtype=torch.float64)

    def linear(images: Tensor) -> Tensor:
        return (images * weights).sum((1, 2, 3))[:, None]

    maps = KernelSHAP(linear, 100, SEGMENTS, baselines).attribute(x, 0)
    segments = parts(x)
    for k, value in enumerate(of_parts(maps, x)[:, 0].tolist()):
        change = ((x[0] - baselines) * weights * (segments == k)).sum()
        assert value == pytest.approx(float(change))


def test_a_constant_model_has_a_map_of_zeros() -> None:
    def constant(x: Tensor) -> Tensor:
        return torch.full((len(x), 2), 0.7)

    maps = KernelSHAP(constant, 100, SEGMENTS).attribute_all(images(2).float())
    assert maps.dtype is torch.float32
    assert maps.abs().max() == 0


def test_a_planted_object_is_found() -> None:
    from xai_lib.zoo import scenes

    made = scenes.make(3, seed=1, n_objects=(1, 1))
    for image, masks in zip(made.images, made.masks, strict=True):
        mask = masks[0].float()

        def visible(batch: Tensor, seen: Tensor = mask * image) -> Tensor:
            return (batch * seen).sum((1, 2, 3))

        drawn = KernelSHAP(visible, 500).attribute(image[None], 0)[0, 0]
        assert bool(masks[0][drawn == drawn.max()].any())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_samples": 3}, ValueError, "n_samples must be at least 4, got 3"),
        ({"n_samples": 1e3}, TypeError, "n_samples must be an integer"),
        ({"n_segments": 1}, ValueError, "n_segments must be at least 2, got 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_wrong_settings(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        KernelSHAP(curved, **settings)


def test_wrong_inputs() -> None:
    x = images(1)
    with pytest.raises(ValueError, match=r"twice the superpixels.* 18 here, got 17"):
        KernelSHAP(curved, 17, SEGMENTS).attribute(x, 0)
    with pytest.raises(ValueError, match="target 3 is out of range"):
        KernelSHAP(curved, 100, SEGMENTS).attribute(x, 3)
    noise = torch.rand(1, 1, 12, 12, generator=generator(0))
    with pytest.raises(ValueError, match=r"at least two superpixels.*SLIC finds one"):
        KernelSHAP(curved, 100, SEGMENTS).attribute(noise, 0)
    with pytest.raises(ValueError, match="inputs must be"):
        KernelSHAP(curved).attribute_all(x[0])


@gpu
def test_cuda_agrees_with_the_cpu() -> None:
    x = images(2, 3).float()
    expected = KernelSHAP(curved, 200, SEGMENTS).attribute(x, 1)
    maps = KernelSHAP(curved, 200, SEGMENTS).attribute(x.cuda(), 1)
    assert maps.is_cuda
    torch.testing.assert_close(maps.cpu(), expected, rtol=1e-4, atol=1e-6)
