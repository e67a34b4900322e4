"""RISE against masks, expectations and maps that are computed another way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xai_lib.baselines.rise import CHUNK, ESTIMATORS, RISE
from xai_lib.core import blackbox as blackbox_module
from xai_lib.core.blackbox import BlackBox, BudgetExceeded
from xai_lib.kernels import philox
from xai_lib.kernels.masks import upsampling

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def images(n: int, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(5))


def curved(x: Tensor) -> Tensor:
    """Three scores that are no linear functions of the image."""
    return torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3)), x.amax((1, 2, 3))], 1)


def constant(x: Tensor) -> Tensor:
    return torch.tensor([0.7, -250.0, 0.0]).to(x).expand(len(x), 3)


# Masks


@pytest.mark.parametrize(
    ("height", "width", "mask_size", "p"),
    [
        (30, 30, 7, 0.5),
        (17, 31, 4, 0.3),
        (5, 3, 7, 0.9),
        (1, 1, 7, 0.5),
        (9, 1, 1, 0.2),
    ],
)
def test_masks_equal_an_interpolated_and_cropped_grid(
    height: int, width: int, mask_size: int, p: float
) -> None:
    explainer = RISE(curved, n_samples=CHUNK + 9, mask_size=mask_size, p=p, seed=11)
    tall, wide = (
        (mask_size + 1) * math.ceil(side / mask_size) for side in (height, width)
    )
    chunks = list(explainer.masks(height, width))
    assert [len(chunk) for chunk in chunks] == [CHUNK, 9]
    for first, masks in zip((0, CHUNK), chunks, strict=True):
        m = len(masks)
        drawn = philox.uniforms(11, first, m, mask_size**2)
        cells = ((drawn + 1) / 2 < p).float().view(m, mask_size, mask_size)
        below = torch.tensor([tall - height + 1, wide - width + 1])
        y, x = philox.integers(11, first, m, 2, below, stream=1).T.tolist()
        large = F.interpolate(cells[:, None], (tall, wide), mode="bilinear")[:, 0]
        for i in range(m):
            crop = large[i, y[i] : y[i] + height, x[i] : x[i] + width]
            torch.testing.assert_close(masks[i], crop, rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_the_mean_mask_is_p_everywhere(p: float) -> None:
    masks = torch.cat(list(RISE(curved, n_samples=20_000, p=p).masks(14, 10)))
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6
    # The variance of a mask value is at most p (1 - p), that of a cell.
    error = (p * (1 - p) / 20_000) ** 0.5
    assert (masks.mean(0) - p).abs().max() < 5 * error


def test_all_shifts_occur_the_last_valid_one_included() -> None:
    """Which shift a mask has shows in where it lies in its large version."""
    height, width, mask_size = 6, 4, 2
    explainer = RISE(curved, n_samples=3000, mask_size=mask_size, p=0.5, seed=0)
    drawn = philox.uniforms(0, 0, 3000, mask_size**2)
    grids = (drawn < 0).float().view(-1, mask_size, mask_size)
    seen = set()
    pairs = zip(explainer.masks(height, width), grids.split(CHUNK), strict=True)
    for masks, cells in pairs:
        large = F.interpolate(cells[:, None], (9, 6), mode="bilinear")[:, 0]
        windows = large.unfold(1, height, 1).unfold(2, width, 1)
        fits = ((windows - masks[:, None, None]).abs() < 1e-6).all(-1).all(-1)
        for one in fits:
            if int(one.sum()) == 1:  # flat cells fit everywhere
                seen.add(tuple(one.nonzero()[0].tolist()))
    assert seen == {(y, x) for y in range(4) for x in range(3)}


def test_upsampling_is_linear_interpolation() -> None:
    matrix = upsampling(5, 23)
    assert matrix.shape == (30, 5)
    places = (np.arange(30) + 0.5) * 5 / 30 - 0.5
    for cell in range(5):
        expected = np.interp(places, np.arange(5), np.eye(5)[cell])
        np.testing.assert_allclose(matrix[:, cell], expected, atol=1e-6)


def test_masks_are_made_as_they_are_used() -> None:
    """A billion masks would not fit; the first ones come at once."""
    assert next(RISE(curved, n_samples=10**9).masks(8, 8)).shape == (CHUNK, 8, 8)


# Maps


def test_the_map_is_the_weighted_mean_of_the_scores() -> None:
    x = images(2, 3, 12, 9)
    explainer = RISE(curved, n_samples=100, mask_size=4)
    masks = torch.cat(list(explainer.masks(12, 9))).double()
    maps = explainer.attribute(x, torch.tensor([1, 2]))
    assert maps.shape == (2, 1, 12, 9)
    for i, target in enumerate([1, 2]):
        total = torch.zeros(12, 9, dtype=torch.float64)
        for mask in masks:
            total += float(curved((x[i] * mask.float())[None])[0, target]) * mask
        exact = total / masks.sum(0)
        torch.testing.assert_close(maps[i, 0].double(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("n_samples", [100, 4000])
def test_a_constant_model_has_a_flat_map(p: float, n_samples: int) -> None:
    maps = RISE(constant, n_samples=n_samples, p=p).attribute_all(images(1, 1, 20, 20))
    for target, value in enumerate([0.7, -250.0, 0.0]):
        gap = (maps[:, target] - value).abs().max()
        assert gap <= 1e-6 * max(1.0, abs(value))


def test_a_pixel_that_no_mask_shows_has_no_evidence() -> None:
    x = torch.ones(1, 1, 4, 4)
    explainer = RISE(constant, n_samples=1, mask_size=4, p=0.01)
    mask = next(explainer.masks(4, 4))
    assert not mask.any()
    assert torch.equal(explainer.attribute(x, 0), torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_a_linear_model_has_a_closed_form(p: float) -> None:
    """S = p Σ wx + (1 − p) R wx, with R the mean overlap of two pixels' cells.

    From E[m_q m_k] = p² + p (1 − p) R_qk: two mask values are sums over the same
    cells, and cells are independent of each other with variance p (1 − p).
    """
    height, width, mask_size, n = 8, 6, 3, 20_000

    def overlap(size: int) -> np.ndarray:
        length = (mask_size + 1) * math.ceil(size / mask_size)
        places = (np.arange(length) + 0.5) * mask_size / length - 0.5
        cells = np.arange(mask_size)
        rows = np.stack([np.interp(places, cells, row) for row in np.eye(mask_size)], 1)
        windows = [rows[s : s + size] for s in range(length - size + 1)]
        return np.mean([window @ window.T for window in windows], axis=0)

    x = images(1, 1, height, width)
    w = torch.randn(height * width, generator=torch.Generator().manual_seed(2))
    wx = (x.flatten() * w).double().numpy()
    exact = p * wx.sum() + (1 - p) * np.kron(overlap(height), overlap(width)) @ wx

    maps = RISE(lambda x: x.flatten(1) @ w[:, None], n, mask_size, p).attribute(x, 0)
    found = maps.flatten().double().numpy()
    # The score's spread over masks, times that of mean(m s) / p, bounds the error.
    spread = np.sqrt(p * (1 - p) * wx @ np.kron(overlap(height), overlap(width)) @ wx)
    assert np.abs(found - exact).max() < 5 * spread / np.sqrt(n * p)
    assert np.ptp(exact) > 20 * spread / np.sqrt(n * p)  # else that would say little
    assert np.corrcoef(found, exact)[0, 1] > 0.995


def test_a_planted_object_is_found() -> None:
    x = 0.2 * images(2, 3, 32, 24)
    boxes = [(slice(4, 12), slice(10, 18)), (slice(20, 28), slice(2, 10))]
    for i, (rows, columns) in enumerate(boxes):
        x[i, :, rows, columns] += 0.8

    def visible(batch: Tensor) -> Tensor:
        return (batch > 0.5).float().mean((1, 2, 3))

    maps = RISE(visible, n_samples=1000).attribute(x, 0)
    for i, (rows, columns) in enumerate(boxes):
        y, z = divmod(int(maps[i, 0].argmax()), 24)
        assert rows.start <= y < rows.stop
        assert columns.start <= z < columns.stop


def test_all_classes_from_one_set_of_queries() -> None:
    x = images(2, 3, 10, 11)
    blackbox = BlackBox(curved)
    explainer = RISE(blackbox, n_samples=90)
    maps = explainer.attribute_all(x)
    assert blackbox.queries == 180
    assert maps.shape == (2, 3, 10, 11)
    for target in range(3):
        one = explainer.attribute(x, target)
        torch.testing.assert_close(maps[:, [target]], one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_samples", [1, CHUNK, CHUNK + 1, 150])
def test_exact_number_of_queries(n_samples: int) -> None:
    x = images(3, 1, 8, 8)
    blackbox = BlackBox(curved)
    explainer = RISE(blackbox, n_samples=n_samples)
    explainer.attribute(x, 1)
    assert blackbox.queries == 3 * n_samples
    explainer.attribute(x)
    assert blackbox.queries == 3 * n_samples + 3 * (n_samples + 1)


def test_the_budget_holds() -> None:
    blackbox = BlackBox(curved, budget=100)
    with pytest.raises(BudgetExceeded):
        RISE(blackbox, n_samples=101).attribute(images(1, 1, 8, 8), 0)
    assert blackbox.queries <= 100


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_same_map_alone_in_a_batch_and_for_any_batch_size(
    estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explained(x: Tensor, model: Any = curved) -> Tensor:
        return RISE(model, n_samples=130, estimator=estimator).attribute(x, 2)

    x = images(4, 3, 11, 8)
    expected = explained(x)
    alone = [explained(one[None]) for one in x]
    torch.testing.assert_close(torch.cat(alone), expected, rtol=1e-6, atol=1e-6)
    for batch_size in (1, 7, 1000):
        maps = explained(x, BlackBox(curved, batch_size))
        torch.testing.assert_close(maps, expected, rtol=1e-6, atol=1e-6)
    for block in (1, 5 * 264, 100 * 264):
        monkeypatch.setattr(blackbox_module, "BLOCK", block)
        torch.testing.assert_close(explained(x), expected, rtol=1e-6, atol=1e-6)


def test_the_seed_decides() -> None:
    x = images(1, 1, 8, 8)
    maps = [RISE(curved, 100, seed=s).attribute(x, 0) for s in (0, 0, 1)]
    assert torch.equal(maps[0], maps[1])
    assert (maps[0] - maps[2]).abs().max() > 1e-3


def test_double_precision_is_kept() -> None:
    maps = RISE(curved, n_samples=70).attribute(images(1, 1, 8, 8).double(), 0)
    assert maps.dtype is torch.float64


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples must be at least 1, got 0"),
        ({"n_samples": 10.0}, TypeError, r"n_samples must be an integer, got 10\.0"),
        ({"mask_size": 0}, ValueError, "mask_size must be at least 1, got 0"),
        ({"p": 0}, ValueError, "p must be above 0 and below 1, got 0"),
        ({"p": 1}, ValueError, "p must be above 0 and below 1, got 1"),
        ({"p": 1.5}, ValueError, r"p must be .*in \[0, 1\], got 1\.5"),
        ({"p": "half"}, TypeError, "p must be a number, got 'half'"),
    ],
)
def test_wrong_settings(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RISE(curved, **settings)


def test_target_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"target 3 is out of range.*0 to 2"):
        RISE(curved, n_samples=10).attribute(images(2, 1, 8, 8), torch.tensor([0, 3]))


def test_attribute_all_checks_its_inputs() -> None:
    with pytest.raises(ValueError, match="inputs must be"):
        RISE(curved).attribute_all(images(1, 8, 8))


@gpu
def test_cuda_agrees_with_the_cpu() -> None:
    x = images(2, 3, 12, 12)
    expected = RISE(curved, n_samples=200).attribute(x, 1)
    maps = RISE(curved, n_samples=200).attribute(x.cuda(), 1)
    assert maps.is_cuda
    torch.testing.assert_close(maps.cpu(), expected, rtol=1e-4, atol=1e-5)
