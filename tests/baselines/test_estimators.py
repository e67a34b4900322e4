"""RISE's estimators against all masks of a tiny grid, and ridge against refitting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge
from torch import Tensor

from xai_lib.baselines import RISE, estimators
from xai_lib.baselines.rise import CHUNK
from xai_lib.core import blackbox as blackbox_module
from xai_lib.kernels.masks import most_shift, upsampling

SIDE, GRID = 4, 2
PARTS = SIDE  # 2 · GRID + 2 are more than the pixels: an average is a pixel


def curved(x: Tensor) -> Tensor:
    """Two scores in which cells act together."""
    part = x[:, 0, :2, 1:].flatten(1)
    return torch.stack([part.prod(dim=1) + x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)


def image(side: int = SIDE) -> Tensor:
    drawn = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(4))
    return drawn + 0.3


def all_masks(p: float) -> tuple[Tensor, Tensor]:
    """Every mask, float64 `[16 · 9, SIDE, SIDE]`, pairs m, 1 − m side by side, and its
    probability."""
    up = upsampling(GRID, SIDE).double().numpy()
    shifts = range(most_shift(GRID, SIDE) + 1)
    masks, weights = [], []
    for flat in itertools.product((0.0, 1.0), repeat=GRID**2 - 1):
        for y, x in itertools.product(shifts, repeat=2):
            for cells in (np.array([0, *flat]), 1 - np.array([0, *flat])):
                large = up @ cells.reshape(GRID, GRID) @ up.T
                masks.append(large[y : y + SIDE, x : x + SIDE])
                shown = cells.sum()
                weights.append(p**shown * (1 - p) ** (GRID**2 - shown) / 9)
    return torch.from_numpy(np.stack(masks)), torch.tensor(weights).double()


def expectation(x: Tensor, p: float, target: int = 0) -> Tensor:
    """RISE's own map, E[f m] / p, over all masks: `[SIDE, SIDE]`."""
    masks, weights = all_masks(p)
    scores = curved(x * masks.float()[:, None])[:, target].double()
    return torch.tensordot(weights * scores, masks, 1) / p


def test_the_masks_here_are_those_of_rise() -> None:
    masks, weights = all_masks(0.3)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    drawn = torch.cat(list(RISE(curved, 300, GRID, 0.3).masks(SIDE, SIDE))).double()
    nearest = torch.cdist(drawn.flatten(1), masks.flatten(1)).min(dim=1).values
    assert float(nearest.max()) < 1e-6


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_the_covariance_of_averages_and_pixels_is_that_of_all_masks(p: float) -> None:
    side, parts = 5, 2
    up = upsampling(GRID, side).double()
    shifts = range(most_shift(GRID, side) + 1)
    windows = [up[s : s + side].numpy() for s in shifts]
    covariance = np.zeros((parts, parts, side, side))
    count = len(windows) ** 2
    means = np.stack([np.r_[np.ones(3), 0, 0] / 3, np.r_[0, 0, np.ones(3)] / 3])
    for flat in itertools.product((0.0, 1.0), repeat=GRID**2):
        cells = np.array(flat).reshape(GRID, GRID)
        weight = p ** cells.sum() * (1 - p) ** (GRID**2 - cells.sum()) / count
        for rows, columns in itertools.product(windows, repeat=2):
            mask = rows @ cells @ columns.T - p
            average = means @ mask @ means.T
            covariance += weight * np.multiply.outer(average, mask)
    axis = estimators.overlap(GRID, side, parts).numpy()
    closed = p * (1 - p) * np.einsum("cq,dr->cdqr", axis, axis)
    np.testing.assert_allclose(closed, covariance, atol=1e-7)


@pytest.mark.parametrize("target", [0, 1])
def test_with_all_masks_asked_each_estimator_is_exact(
    target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ridge too, but for its penalty: a linear fit to f has f's covariance with
    masks."""
    monkeypatch.setattr(estimators, "PENALTIES", torch.tensor([1e-13]).double())
    x, p = image().double(), 0.5
    exact = expectation(x, p, target)
    masks, _ = all_masks(p)
    scores = curved(x * masks[:, None])[None, :, [target]]
    for name in ("plain", "self-normalised", "ridge"):
        estimate = kind(name, x, p)
        for part, of_part in zip(masks.split(50), scores.split(50, dim=1), strict=True):
            estimate.add(part, of_part)
        found = estimate.maps()
        assert found is not None
        assert float((found[0, 0] - exact).abs().max()) < 1e-6, name
    assert float(exact.max() - exact.min()) > 0.03


def kind(name: str, x: Tensor, p: float) -> estimators.Estimate:
    if name == "ridge":
        return estimators.Ridge(x, p, GRID)
    return estimators.Mean(x, p if name == "plain" else None)


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_only_the_plain_estimator_is_unbiased(p: float) -> None:
    x, n = image(), 8
    exact = expectation(x, p)

    def deviation(name: str) -> float:
        """Of the mean of 500 maps, in standard errors, the largest of 16 pixels."""
        explainer = RISE(curved, 500 * n, GRID, p, estimator=name)
        masks = torch.cat(list(explainer.masks(SIDE, SIDE)))
        scores = curved(x * masks[:, None])[None, :, [0]]
        maps = []
        for part, answers in zip(masks.split(n), scores.split(n, dim=1), strict=True):
            estimate = kind(name, x, p)
            estimate.add(part, answers)
            found = estimate.maps()
            assert found is not None
            maps.append(found[0, 0].double())
        drawn = torch.stack(maps)
        error = drawn.std(dim=0) / len(maps) ** 0.5
        return float(((drawn.mean(dim=0) - exact) / error).abs().max())

    assert deviation("plain") < 4
    assert deviation("ridge") > 4
    if p < 0.5:  # where masks cover less, and differ more in what they cover
        assert deviation("self-normalised") > 4


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_ridge_finds_the_expectation_with_many_masks(p: float) -> None:
    x, exact = image(), expectation(image(), p)
    found = RISE(curved, 6000, GRID, p, estimator="ridge").attribute(x, 0)[0, 0]
    plain = RISE(curved, 6000, GRID, p, estimator="plain").attribute(x, 0)[0, 0]
    error = float((found - exact).abs().max())
    assert error < 0.05 * float(exact.max() - exact.min())
    assert error < float((plain - exact).abs().max())


# The regression


def data(count: int, features: int = 5, targets: int = 3) -> tuple[Tensor, Tensor]:
    draw = np.random.default_rng(7)
    x = draw.normal(size=(count, features)) * [3, 1, 1, 0.3, 0.1] + 2
    noise = draw.normal(size=(count, targets)) * [0.1, 3, 30]
    y = x @ draw.normal(size=(features, targets)) + noise + 5
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("count", [4, 5, 11, 40])
def test_the_penalty_predicts_left_out_pairs_best(count: int) -> None:
    x, y = data(count)
    largest = np.linalg.svd(x - x.mean(0))[1][0] ** 2
    errors = np.zeros((len(estimators.PENALTIES), y.shape[1]))
    for i, penalty in enumerate(estimators.PENALTIES.numpy() * largest):
        for first in range(0, count, 2):
            left = np.arange(count) // 2 == first // 2
            fit = SklearnRidge(penalty, solver="svd").fit(x[~left], y[~left])
            errors[i] += ((fit.predict(x[left]) - y[left].numpy()) ** 2).sum(axis=0)
    slopes, penalties = estimators.ridge(x, y)
    best = estimators.PENALTIES.numpy()[errors.argmin(axis=0)] * largest
    np.testing.assert_allclose(penalties, best, rtol=1e-9)
    for target, penalty in enumerate(best):
        fit = SklearnRidge(penalty, solver="svd").fit(x, y[:, target])
        np.testing.assert_allclose(slopes[:, target], fit.coef_, rtol=1e-7, atol=1e-9)


def test_each_target_has_its_own_penalty() -> None:
    together, penalties = estimators.ridge(*data(40))
    assert len(penalties.unique()) > 1
    x, y = data(40)
    for target in range(3):
        alone, penalty = estimators.ridge(x, y[:, [target]])
        torch.testing.assert_close(alone, together[:, [target]])
        torch.testing.assert_close(penalty, penalties[[target]])


def test_masks_that_are_all_alike_leave_a_flat_map() -> None:
    x = torch.ones(1, 1, 3, 3)
    maps = RISE(curved, 8, 1, p=1e-9, estimator="ridge").attribute(x, 0)
    assert bool((maps == maps[0, 0, 0, 0]).all())


# Pairs


def masks_of(n: int, p: float, height: int = 9, width: int = 7) -> Tensor:
    explainer = RISE(curved, n, 3, p, seed=2, estimator="ridge")
    return torch.cat(list(explainer.masks(height, width)))


@pytest.mark.parametrize("n", [4, 7, CHUNK + 5])
def test_masks_of_ridge_are_pairs(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = masks_of(n, 0.5)
    assert len(masks) == n
    even, odd = masks[::2], masks[1::2]
    torch.testing.assert_close(even[: len(odd)] + odd, torch.ones_like(odd))
    independent = torch.cat(list(RISE(curved, n, 3, seed=2).masks(9, 7)))
    assert torch.equal(even, independent[: len(even)])
    assert torch.equal(masks, masks_of(3 * CHUNK, 0.5)[:n])
    for block in (1, 5 * 63):  # masks are made one or five at a time
        monkeypatch.setattr(blackbox_module, "BLOCK", block)
        torch.testing.assert_close(masks, masks_of(n, 0.5))


def test_both_masks_of_a_pair_have_the_mean_p() -> None:
    masks = masks_of(8000, 0.3)
    for half in (masks[::2], masks[1::2]):
        error = (0.3 * 0.7 / len(half)) ** 0.5
        assert float((half.mean(dim=0) - 0.3).abs().max()) < 5 * error


def test_ridge_needs_two_pairs() -> None:
    with pytest.raises(ValueError, match="n_samples must be at least 4, got 3"):
        RISE(curved, 3, estimator="ridge")
    with pytest.raises(ValueError, match="estimator must be one of plain, self-norm"):
        RISE(curved, estimator="lasso")
