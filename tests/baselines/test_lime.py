"""LIME against scikit-learn's ridge regression on the samples that the model saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from xai_lib.baselines import LIME, KernelSHAP
from xai_lib.baselines.segments import superpixels
from xai_lib.core.blackbox import BlackBox, BudgetExceeded
from xai_lib.zoo import digits, photos


def images(n: int, channels: int, height: int, width: int) -> Tensor:
    """Smooth enough for superpixels, and each image another one."""
    rows = torch.linspace(0, 0.4, height)[:, None]
    columns = torch.linspace(0, 0.4, width)
    source = torch.Generator().manual_seed(4)
    noise = 0.2 * torch.rand(n, channels, height, width, generator=source)
    return rows + columns + noise


def curved(x: Tensor) -> Tensor:
    return torch.stack([x.mean((1, 2, 3)) ** 2, x.std((1, 2, 3)), x.amax((1, 2, 3))], 1)


@pytest.mark.parametrize("shape", [(1, 16, 14), (3, 16, 14)])
@pytest.mark.parametrize("baselines", [0.0, -0.5])
def test_is_a_weighted_ridge_regression(
    shape: tuple[int, ...], baselines: float
) -> None:
    """Which superpixels a sample shows is read off the images that the model got."""
    x = images(2, *shape) + 0.1
    asked: list[Tensor] = []

    def record(batch: Tensor) -> Tensor:
        asked.append(batch.clone())
        return curved(batch)

    target = torch.tensor([0, 1])
    explainer = LIME(record, 300, n_segments=12, baselines=baselines)
    maps = explainer.attribute(x, target)
    assert maps.shape == (2, 1, 16, 14)
    for i, samples in enumerate(torch.cat(asked).split(300)):
        regions = superpixels(x[i], 12)[0, 0]
        count = int(regions.max()) + 1
        assert count >= 5
        shown = (samples == x[i]).all(1)
        hidden = (samples == baselines).all(1)
        assert (shown ^ hidden).all()
        seen = np.stack(
            [shown[:, regions == r].float().mean(1).numpy() for r in range(count)], 1
        )
        assert set(np.unique(seen)) == {0, 1}  # whole superpixels
        assert seen[0].all()
        assert seen[1:].mean() == pytest.approx(0.5, abs=0.05)
        answers = curved(samples)[:, target[i]].numpy()
        whole = np.ones(count)
        cosine = seen @ whole / (np.linalg.norm(seen, axis=1) * count**0.5 + 1e-30)
        weights = np.sqrt(np.exp(-((1 - cosine) ** 2) / 0.25**2))
        ridge = Ridge(alpha=1.0).fit(seen, answers, sample_weight=weights)
        expected = torch.from_numpy(ridge.coef_).float()[regions]
        torch.testing.assert_close(maps[i, 0], expected, rtol=1e-3, atol=1e-5)


def test_on_a_sum_of_regions_the_weights_are_the_regions_sums() -> None:
    """A linear function of the superpixels: up to the ridge penalty, its own values."""
    x = images(1, 1, 20, 20)
    regions = superpixels(x[0], 9)[0, 0]
    assert regions.max() >= 6
    maps = LIME(lambda x: x.flatten(1).sum(1), 4000, 9).attribute(x, 0)[0, 0]
    for r in range(int(regions.max()) + 1):
        inside = maps[regions == r]
        assert (inside == inside[0]).all()
        total = x[0, 0][regions == r].sum().item()
        assert inside[0].item() == pytest.approx(total, rel=0.02)


def test_sign_and_class() -> None:
    """A superpixel that speaks against a class has a negative weight."""
    x = torch.zeros(1, 3, 12, 12)
    x[:, :, :, :6], x[:, :, :, 6:] = 0.9, 0.3

    def sides(x: Tensor) -> Tensor:
        left, right = x[..., :6].mean((1, 2, 3)), x[..., 6:].mean((1, 2, 3))
        return torch.stack([left - right, right - left], 1)

    first, second = LIME(sides, 500, 4).attribute(x.repeat(2, 1, 1, 1), torch.arange(2))
    assert (first[..., :6] > 0).all()
    assert (first[..., 6:] < 0).all()
    torch.testing.assert_close(first, -second)


@pytest.mark.parametrize("n", [2, 63, 64, 65, 130])
def test_exact_number_of_queries(n: int) -> None:
    blackbox = BlackBox(curved)
    LIME(blackbox, n, 6).attribute(images(3, 1, 9, 9), 1)
    assert blackbox.queries == 3 * n
    LIME(blackbox, n, 6).attribute(images(3, 1, 9, 9))
    assert blackbox.queries == 6 * n + 3
    with pytest.raises(BudgetExceeded):
        LIME(BlackBox(curved, budget=n - 1), n, 6).attribute(images(1, 1, 9, 9), 1)


def test_no_difference_between_batches_or_company() -> None:
    x = images(3, 3, 12, 10)
    target = torch.tensor([2, 0, 1])
    together = LIME(curved, 100, 8).attribute(x, target)
    for i in range(3):
        alone = LIME(curved, 100, 8).attribute(x[i : i + 1], int(target[i]))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-3, atol=1e-6)
    for size in (1, 7, 100):
        maps = LIME(BlackBox(curved, size), 100, 8).attribute(x, target)
        torch.testing.assert_close(maps, together, rtol=1e-3, atol=1e-6)


def test_seed_and_clean_hands() -> None:
    x = images(1, 1, 12, 12)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    blackbox = BlackBox(curved, batch_size=16)
    first = LIME(blackbox, 60, 8).attribute(x, 1)
    assert torch.equal(LIME(blackbox, 60, 8).attribute(x, 1), first)
    assert not torch.equal(LIME(blackbox, 60, 8, seed=1).attribute(x, 1), first)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002


def test_double_precision_is_returned() -> None:
    maps = LIME(curved, 60, 8).attribute(images(1, 1, 12, 12).double(), 1)
    assert maps.dtype is torch.float64


@pytest.mark.parametrize("method", [LIME, KernelSHAP])
def test_segments_of_ones_own(method: type) -> None:
    """The superpixels given as `feature_mask` give the same map; numbers may have gaps,
    and other segments have values of their own."""
    x = images(1, 3, 12, 12)
    own = superpixels(x[0], 9)
    expected = method(curved, 100, 9).attribute(x, 0)
    for mask in (own, own[0, 0], 7 * own - 3):
        assert torch.equal(
            method(curved, 100, feature_mask=mask).attribute(x, 0), expected
        )
    halves = torch.zeros(x.shape[2:], dtype=torch.int64)
    halves[:, 6:] = 1
    maps = method(curved, 100, feature_mask=halves).attribute(x, 0)
    assert len(maps.unique()) == 2
    assert len(maps[..., 6:].unique()) == len(maps[..., :6].unique()) == 1


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.rand(12, 12), TypeError, "a tensor of integers.*float32"),
        ([[0, 1]], TypeError, "a tensor of integers.*list"),
        (torch.arange(24).view(2, 1, 3, 4), ValueError, "same for all images"),
        (torch.zeros(12, 12).long(), ValueError, "at least two segments"),
    ],
)
def test_wrong_segments(mask: Any, error: type[Exception], message: str) -> None:
    for method in (LIME, KernelSHAP):
        with pytest.raises(error, match=message):
            method(curved, feature_mask=mask)
    other = torch.arange(16).view(4, 4)
    with pytest.raises(ValueError, match=r"\[12, 12\] pixels, got \[4, 4\]"):
        LIME(curved, feature_mask=other).attribute(images(1, 3, 12, 12), 0)


@pytest.mark.parametrize("n_segments", [10, 50])
def test_superpixels_follow_the_picture(n_segments: int) -> None:
    """About as many as asked for, numbered without gaps, and flatter than a grid."""
    for image in (photos.load("chelsea").image[0], digits.mnist(1).images[0]):
        regions = superpixels(image, n_segments)
        assert regions.shape == (1, 1, *image.shape[1:])
        assert regions.dtype is torch.int64
        count = int(regions.max()) + 1
        assert torch.equal(regions.unique(), torch.arange(count))
        assert n_segments / 2 < count <= 1.5 * n_segments

    def spread(regions: Tensor, image: Tensor) -> float:
        """The variance within regions."""
        grey = image.mean(0).flatten()
        flat = regions.flatten()
        sizes = torch.bincount(flat)
        means = torch.bincount(flat, grey) / sizes
        return float((grey - means[flat]).square().mean())

    image = photos.load("chelsea").image[0]
    side = round(n_segments**0.5)
    rows = torch.arange(image.shape[1]) * side // image.shape[1]
    grid = rows[:, None] * side + rows
    assert spread(superpixels(image, n_segments), image) < 0.9 * spread(grid, image)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels(channels: int) -> None:
    maps = LIME(curved, 20, 6).attribute(images(1, channels, 10, 10), 0)
    assert maps.shape == (1, 1, 10, 10)


def test_a_blank_image_has_a_map() -> None:
    maps = LIME(curved, 20, 6).attribute(torch.zeros(1, 1, 10, 10), 0)
    assert maps.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_samples": 1}, ValueError, "n_samples must be at least 2, got 1"),
        ({"n_samples": 2.5}, TypeError, r"n_samples must be an integer, got 2\.5"),
        ({"n_segments": 1}, ValueError, "n_segments must be at least 2, got 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_wrong_settings(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        LIME(curved, **settings)


def test_wrong_baselines_and_targets() -> None:
    with pytest.raises(ValueError, match="baselines must be a number or shaped like"):
        LIME(curved, 20, baselines=torch.zeros(3)).attribute(images(1, 1, 9, 9), 0)
    with pytest.raises(ValueError, match="target 3 is out of range"):
        LIME(curved, 20).attribute(images(1, 1, 9, 9), 3)
