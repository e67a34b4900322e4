"""Extremal perturbations: its parts against loops, its masks on planted models."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
import torchvision.transforms.functional
from torch import Tensor, nn

from xai_lib.baselines import ExtremalPerturbation
from xai_lib.baselines.extremal import (
    AREA_GROWTH,
    AREA_WEIGHT,
    nearest_allowed,
    perturbed,
    pyramid,
    smooth_masks,
    upsampled,
)
from xai_lib.core import blackbox, gradients
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox, NonFiniteOutput

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def numbers(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


# Smooth masks


@pytest.mark.parametrize("shape", [(1, 1, 9, 7), (2, 3, 5, 12), (1, 2, 1, 1)])
def test_smooth_masks_equal_a_loop(shape: tuple[int, ...]) -> None:
    p = numbers(*shape)
    m = smooth_masks(p)
    for i, a, row, column in itertools.product(*(range(s) for s in shape)):
        values = []
        for dy, dx in itertools.product(range(-4, 5), repeat=2):
            y = min(max(row + dy, 0), shape[2] - 1)
            x = min(max(column + dx, 0), shape[3] - 1)
            distance = math.sqrt(dy * dy + dx * dx) / 3
            k = math.exp(-2 * max(0, distance - 0.5) ** 2)
            values.append(k * float(p[i, a, y, x]))
        weights = [math.exp(20 * v) for v in values]
        soft = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        assert float(m[i, a, row, column]) == pytest.approx(soft)


def test_a_lone_parameter_makes_a_bell() -> None:
    p = torch.zeros(1, 1, 21, 21)
    p[0, 0, 10, 10] = 1
    m = smooth_masks(p)[0, 0]
    assert float(m[10, 10]) == pytest.approx(1, abs=1e-3)
    assert float(m[10, 11]) == float(m[10, 10])  # flat up to half of sigma
    falling = m[10, 11:15]
    assert bool((falling[1:] < falling[:-1]).all())
    assert float(m[10, 15:].max()) == 0
    torch.testing.assert_close(m, m.T)


def test_equal_parameters_make_an_even_mask() -> None:
    """Corners and edges must not stand out: the largest values get the area."""
    for value in (0.0, 0.5, 1.0):
        m = smooth_masks(torch.full((1, 1, 9, 12), value, dtype=torch.float64))
        assert float(m.max() - m.min()) < 1e-12
        assert 0.9 * value <= float(m.mean()) <= value


def test_upsampling() -> None:
    masks = numbers(1, 2, 32, 41)
    pixels = upsampled(masks, 220, 285)  # cells of 7 × 7 pixels, cut at the edge
    assert pixels.shape == (1, 2, 220, 285)
    # A pixel's centre, in cells: (pixel + 1/2) / 7 − 1/2.
    rows, columns = ((np.arange(n) + 0.5) / 7 - 0.5 for n in (220, 285))
    grid = np.meshgrid(rows, columns, indexing="ij")
    expected = scipy.ndimage.map_coordinates(
        masks[0, 1], np.stack(grid), order=1, mode="nearest"
    )
    np.testing.assert_allclose(pixels[0, 1], expected, atol=1e-12)
    assert torch.equal(upsampled(masks, 32, 41), masks)


# Area


@pytest.mark.parametrize("count", [1, 4, 9])
def test_the_nearest_allowed_mask_is_the_nearest_of_all(count: int) -> None:
    m = numbers(1, 1, 3, 3, seed=count)
    near = nearest_allowed(m, torch.tensor([count]))
    distances = []
    for ones in itertools.combinations(range(9), count):
        allowed = torch.zeros(9, dtype=torch.float64)
        allowed[list(ones)] = 1
        distances.append(float((m.flatten() - allowed).square().sum()))
    assert float((m - near).square().sum()) == pytest.approx(min(distances))
    assert float(near.sum()) == count


def test_the_distance_is_that_of_the_sorted_mask_from_the_template() -> None:
    """The paper's formula, and its gradient, for several masks and areas at once."""
    m = numbers(3, 2, 4, 5).requires_grad_()
    counts = torch.tensor([3, 11])
    ours = (m - nearest_allowed(m.detach(), counts)).square().mean((2, 3))
    template = (torch.arange(20) >= 20 - counts[:, None]).double()
    theirs = (m.flatten(2).sort().values - template).square().mean(2)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(d.sum(), m)[0] for d in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_ties_share() -> None:
    m = torch.tensor([[[[0.2, 0.7, 0.7, 0.7, 0.9]]]])
    near = nearest_allowed(m, torch.tensor([3]))
    torch.testing.assert_close(
        near.flatten(), torch.tensor([0, 2 / 3, 2 / 3, 2 / 3, 1])
    )
    even = nearest_allowed(torch.ones(1, 2, 2, 5), torch.tensor([1, 4]))
    torch.testing.assert_close(even[0, 0], torch.full((2, 5), 0.1))
    torch.testing.assert_close(even[0, 1], torch.full((2, 5), 0.4))


# Perturbation


def test_the_pyramid_goes_from_blurred_to_sharp() -> None:
    x = numbers(2, 3, 56, 70)
    hidden = pyramid(x, "blur")
    assert hidden.shape == (2, 7, 3, 56, 70)
    spread = torch.cat([hidden, x[:, None]], 1).flatten(3).std(dim=3)
    assert bool((spread[:, 1:] > spread[:, :-1]).all())
    # 20 pixels at 224, so 5 here; in the middle the edges have no say.
    other = torchvision.transforms.functional.gaussian_blur(x, [41, 41], [5.0, 5.0])
    middle = (..., slice(25, 31), slice(25, 45))
    torch.testing.assert_close(hidden[:, 0][middle], other[middle], rtol=0, atol=1e-3)
    assert torch.equal(pyramid(x, "fade"), 0 * x[:, None])


def test_masks_choose_levels_by_linear_interpolation() -> None:
    levels, masks = numbers(2, 5, 3, 4, 6), numbers(2, 2, 4, 6, seed=4)
    masks[0, 0, 0, :3] = torch.tensor([0.0, 1.0, 0.5])
    shown = perturbed(levels[:, 4], levels[:, :4], masks)
    assert shown.shape == (2, 2, 3, 4, 6)
    for n, a, c, y, x in itertools.product(*(range(s) for s in shown.shape)):
        expected = np.interp(
            4 * float(masks[n, a, y, x]), np.arange(5), levels[n, :, c, y, x]
        )
        assert float(shown[n, a, c, y, x]) == pytest.approx(expected)
    image = numbers(2, 3, 4, 6)
    faded = perturbed(image, pyramid(image, "fade"), masks)
    torch.testing.assert_close(faded, masks[:, :, None] * image[:, None])


# The whole


def disc(side: int, row: int, column: int, radius: float) -> Tensor:
    places = torch.arange(side)
    return (places[:, None] - row) ** 2 + (places - column) ** 2 <= radius**2


def brightness(discs: Tensor) -> Any:
    """Ten times the mean brightness in each disc: `[N, 1, S, S]` -> `[N, K]`."""

    def model(images: Tensor) -> Tensor:
        d = discs.to(images)
        return 10 * torch.einsum("nhw,khw->nk", images[:, 0], d) / d.sum((1, 2))

    return model


def test_the_best_mask_of_the_right_area_is_the_disc() -> None:
    """Brightness in a disc off the centre, in an image of ones: what is best to keep
    is in the disc for a smaller area, the disc itself, or more."""
    target = disc(20, 7, 12, 5)  # a fifth of the image
    share = float(target.double().mean())
    areas = (0.5 * share, share, 1.8 * share)
    explainer = ExtremalPerturbation(brightness(target[None]), areas, "fade")
    small, equal, large = explainer.masks(torch.ones(1, 1, 20, 20), 0)[0]
    for mask, area in zip((small, equal, large), areas, strict=True):
        assert float(mask.mean()) == pytest.approx(area, abs=0.03)
    inside, outside = target, ~disc(20, 7, 12, 7)
    assert float(small[~target].max()) < 0.6
    assert float(small[disc(20, 7, 12, 1.5)].min()) > 0.9
    # The last digits depend on the number of threads: .88 and .91 were seen.
    assert float(equal[disc(20, 7, 12, 3.5)].min()) > 0.8
    assert float(equal[outside].max()) < 0.1
    assert float((equal * inside).sum() / equal.sum()) > 0.75
    assert float(large[inside].min()) > 0.8


def test_each_image_and_class_gets_its_own_masks() -> None:
    discs = torch.stack([disc(16, 4, 4, 3), disc(16, 10, 11, 3)])
    around = torch.stack([disc(16, 4, 4, 5), disc(16, 10, 11, 5)])
    explainer = ExtremalPerturbation(brightness(discs), (0.1,), "fade", smooth=0)
    x = 0.5 + 0.5 * numbers(3, 1, 16, 16)
    maps = explainer.attribute(x, torch.tensor([1, 0, 1]))
    assert maps.shape == (3, 1, 16, 16)
    for drawn, which in zip(maps, (1, 0, 1), strict=True):
        assert float((drawn[0] * discs[which]).sum() / drawn.sum()) > 0.6
        assert float((drawn[0] * around[which]).sum() / drawn.sum()) > 0.85


def test_a_blurred_object_is_brought_back_where_it_is() -> None:
    """Blur keeps the brightness: the score is the contrast in a textured disc."""
    target = disc(24, 15, 8, 4)
    texture = (torch.arange(24)[:, None] + torch.arange(24)) % 2
    x = (0.5 + (texture - 0.5) * 0.8).double()[None, None]

    def contrast(images: Tensor) -> Tensor:
        detail = (images[:, 0] - 0.5).square() * target
        return 60 * detail.sum((1, 2))[:, None] / target.sum()

    mask = ExtremalPerturbation(contrast, (0.1,)).masks(x, 0)[0, 0]
    assert float((mask * target).sum() / mask.sum()) > 0.6
    assert float((mask * disc(24, 15, 8, 6)).sum() / mask.sum()) > 0.85
    assert float(mask.mean()) == pytest.approx(0.1, abs=0.02)


def test_three_steps_by_hand() -> None:
    """Gradient ascent with momentum, λ growing, clipped; by plain formulas."""
    x = numbers(2, 1, 40, 33)
    weights = numbers(40, 33, 2, seed=6)

    def model(images: Tensor) -> Tensor:
        return (images[:, 0].square().flatten(1) @ weights.flatten(0, 1)) / 10

    areas = (0.05, 0.3)
    explainer = ExtremalPerturbation(model, areas, n_iterations=3, lr=0.5)
    masks = explainer.masks(x, torch.tensor([1, 0]))
    assert masks.shape == (2, 2, 40, 33)
    for i, target in enumerate([1, 0]):
        for a, area in enumerate(areas):
            p = torch.ones(1, 1, 40, 33, dtype=torch.float64)
            speed = None
            for t in range(3):
                p.requires_grad_()
                m = smooth_masks(p)
                one = x[i : i + 1]
                shown = perturbed(one, pyramid(one, "blur"), m)
                score = model(shown[0])[0, target]
                count = torch.tensor([round(area * 40 * 33)])
                gap = (m - nearest_allowed(m.detach(), count)).square().mean()
                energy = score - AREA_WEIGHT * AREA_GROWTH**t * gap
                (up,) = torch.autograd.grad(energy, p)
                speed = up if speed is None else 0.9 * speed + 0.1 * up
                p = (p.detach() + 0.5 * speed).clip(0, 1)
            torch.testing.assert_close(masks[i, a], smooth_masks(p)[0, 0])
    assert float(masks.std()) > 0.05


def test_the_map_is_the_smoothed_sum_of_the_masks() -> None:
    model, x = brightness(disc(16, 4, 4, 3)[None]), numbers(2, 1, 16, 16)
    settings: dict[str, Any] = {"areas": (0.1, 0.2), "n_iterations": 5}
    total = ExtremalPerturbation(model, **settings).masks(x, 0).sum(1, keepdim=True)
    plain = ExtremalPerturbation(model, smooth=0, **settings).attribute(x, 0)
    torch.testing.assert_close(plain, total)
    smooth = ExtremalPerturbation(model, smooth=0.125, **settings).attribute(x, 0)
    for drawn, one in zip(smooth, total, strict=True):
        expected = scipy.ndimage.gaussian_filter(one[0].numpy(), 2, mode="constant")
        np.testing.assert_allclose(drawn[0], expected)


# What all methods keep


@pytest.fixture
def cnn() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv, dense = nn.Conv2d(2, 4, 3), nn.Linear(4 * 49, 3)
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), dense).double().eval()


def test_an_image_is_explained_alike_in_any_batch(
    cnn: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, target = numbers(5, 2, 9, 9), torch.tensor([0, 2, 1, 1, 0])
    explainer = ExtremalPerturbation(cnn, (0.1, 0.3), n_iterations=40)
    maps = explainer.attribute(x, target)
    for i in range(5):
        one = slice(i, i + 1)
        alone = explainer.attribute(x[one], target[one])
        torch.testing.assert_close(alone, maps[one], rtol=1e-6, atol=1e-9)
    monkeypatch.setattr(gradients, "BATCH_NUMBERS", {"cpu": 4 * x[0].numel()})
    in_pairs = explainer.attribute(x, target)
    torch.testing.assert_close(in_pairs, maps, rtol=1e-6, atol=1e-9)
    predicted = cnn(x).argmax(dim=1)
    assert torch.equal(explainer.attribute(x), explainer.attribute(x, predicted))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("block", [2**24, 200])
def test_nothing_is_touched_and_gradients_may_be_off(
    cnn: nn.Module, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(blackbox, "BLOCK", block)  # of an image, or strips of it
    x = numbers(2, 2, 9, 9)
    before, chance = x.clone(), torch.get_rng_state()
    explainer = ExtremalPerturbation(cnn, (0.2,), n_iterations=4)
    maps = explainer.attribute(x, 1)
    with torch.no_grad():
        assert torch.equal(explainer.attribute(x, 1), maps)
    with torch.inference_mode():
        assert torch.equal(explainer.attribute(x.clone(), 1), maps)
    assert not maps.requires_grad
    assert maps.dtype is torch.float64
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.equal(x, before)
    assert all(w.grad is None and w.requires_grad for w in cnn.parameters())


@pytest.mark.parametrize("n", [1, 3])
def test_number_of_passes(cnn: nn.Module, n: int) -> None:
    asked: list[int] = []

    def counted(images: Tensor) -> Tensor:
        asked.append(len(images))
        return cnn(images)

    explainer = ExtremalPerturbation(counted, (0.1, 0.2), n_iterations=7)
    explainer.attribute(numbers(n, 2, 9, 9), 0)
    # Two are asked once more, to see whether they meet: an image and its half, or two.
    assert sum(asked) == n * (2 * 7 + 1) + 2


def test_scores_without_an_axis_of_classes(cnn: nn.Module) -> None:
    x = numbers(2, 2, 9, 9)
    expected = ExtremalPerturbation(cnn, (0.2,), n_iterations=5).attribute(x, 1)
    alone = ExtremalPerturbation(lambda x: cnn(x)[:, 1], (0.2,), n_iterations=5)
    torch.testing.assert_close(alone.attribute(x, 0), expected)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"areas": ()}, ValueError, "areas must hold at least one number"),
        ({"areas": (0.1, 1.0)}, ValueError, r"above 0 and below 1, got \(0\.1, 1\.0\)"),
        ({"areas": (0.0,)}, ValueError, "above 0 and below 1"),
        ({"areas": (5,)}, ValueError, r"areas must be .* in \[0, 1\], got 5"),
        ({"perturbation": "noise"}, ValueError, "one of blur, fade; got 'noise'"),
        ({"n_iterations": 0}, ValueError, "n_iterations must be at least 1, got 0"),
        ({"lr": -1}, ValueError, "lr must be"),
        ({"smooth": -1}, ValueError, "smooth must be"),
    ],
)
def test_wrong_settings(
    cnn: nn.Module, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ExtremalPerturbation(cnn, **settings)


def test_wrong_models_and_inputs(cnn: nn.Module) -> None:
    x = numbers(2, 2, 9, 9)
    with pytest.raises(TypeError, match="is a BlackBox, which gives no gradients"):
        ExtremalPerturbation(BlackBox(cnn))
    with pytest.raises(ValueError, match=r"one of the 81 cells .* got 0\.001"):
        ExtremalPerturbation(cnn, (0.5, 0.001)).attribute(x, 0)
    with pytest.raises(ValueError, match="target 3 is out of range"):
        ExtremalPerturbation(cnn).attribute(x, 3)
    with pytest.raises(ValueError, match="gives no gradients"):
        ExtremalPerturbation(lambda x: cnn(x).detach()).attribute(x, 0)
    with pytest.raises(ValueError, match=r"inputs must be \[N, C, H, W\]"):
        ExtremalPerturbation(cnn).masks(x.flatten(1), 0)

    def nan_when_masked(images: Tensor) -> Tensor:
        scores = cnn(images)
        return scores if len(images) == 2 else scores * float("nan")

    with pytest.raises(NonFiniteOutput, match="NaN or infinity for a mask"):
        ExtremalPerturbation(nan_when_masked, n_iterations=3).attribute(x, 0)


@gpu
def test_cuda_agrees_with_the_cpu(cnn: nn.Module) -> None:
    x = numbers(2, 2, 9, 9)
    expected = ExtremalPerturbation(cnn, (0.2,), n_iterations=20).attribute(x, 1)
    maps = ExtremalPerturbation(cnn.cuda(), (0.2,), n_iterations=20).attribute(x, 1)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
