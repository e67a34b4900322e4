"""For each error of the authors' released code a test that would have shown it.

The errors are listed in chapter 11. What is right is known in closed form.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xai_lib.baselines import IntegratedGradients, SmoothGrad
from xai_lib.geex import GEEX, GERS, IGEEX, SearchNoise
from xai_lib.geex.noise import MOST

NOISES = ["independent", "mirrored", "orthogonal"]
SLOPE = torch.tensor([1.0, -2.0, 3.0, 0.5]).double()


def linear(x: Tensor) -> Tensor:
    return (x @ SLOPE.to(x))[:, None] + 1


def squares(x: Tensor) -> Tensor:
    return x.square().flatten(1).sum(1, keepdim=True)


def along(found: Tensor, exact: Tensor) -> float:
    """How many times as large as the exact map: 1 if the scale is right."""
    return float((found * exact).sum() / exact.square().sum())


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n_steps", [None, 50])
def test_the_whole_path_is_integrated_with_mirrored_noise_too(
    noise: str, n_steps: int | None
) -> None:
    """Places of pairs divided by the number of queries end half-way: 0.50 on Σx²."""
    x = torch.full((1, 4), 0.5).double()
    exact = IntegratedGradients(squares).attribute(x, 0)
    assert exact.sum().item() == pytest.approx(1)
    found = IGEEX(squares, 40_000, 0.1, noise, n_steps=n_steps).attribute(x, 0)
    assert found.sum().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("sigma", [0.05, 0.25, 2.0])
def test_the_noise_of_the_query_is_the_noise_of_the_estimate(
    noise: str, sigma: float
) -> None:
    """Theirs halves it in the query only, which scales the map by 1/(4σ)."""
    x = torch.zeros(1, 4).double()
    found = GEEX(linear, 20_000, sigma, noise).attribute(x, 0)
    assert along(found[0], SLOPE) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("sigma", [0.05, 0.5])
def test_sigma_is_the_standard_deviation_of_the_query(sigma: float) -> None:
    asked = []

    def record(x: Tensor) -> Tensor:
        asked.append(x.clone())
        return linear(x)

    for noise in NOISES:
        asked.clear()
        GEEX(record, 20_000, sigma, noise).attribute(torch.ones(1, 4).double(), 0)
        spread = (torch.cat(asked) - 1).square().mean(0).sqrt()
        assert spread.tolist() == pytest.approx([sigma] * 4, rel=0.05)


@pytest.mark.parametrize("n", [MOST + 2, MOST + 500])
def test_a_smaller_last_batch_does_not_scale_the_map(n: int) -> None:
    """On a linear function a mirrored map is exactly mean(z zᵀ) g, all z alike."""
    found = GEEX(linear, n, seed=3).attribute(torch.zeros(1, 4).double(), 0)[0]
    chunks = list(SearchNoise("mirrored", (4,), n, 3))
    assert len(chunks) == 2
    assert len(chunks[1]) < len(chunks[0])
    z = torch.cat([chunk[: len(chunk) // 2] for chunk in chunks]).double()
    torch.testing.assert_close(found, z.T @ (z @ SLOPE) / len(z))


@pytest.mark.parametrize("noise", NOISES)
def test_channels_are_not_added_up(noise: str) -> None:
    """Theirs has one mask for R, G and B, so each channel gets the sum of all three."""
    slopes = torch.tensor([1.0, -2.0, 4.0]).view(3, 1, 1)

    def colours(x: Tensor) -> Tensor:
        return (x * slopes.to(x)).flatten(1).sum(1, keepdim=True)

    x = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    for explainer in (
        GEEX(colours, 20_000, noise=noise),
        GERS(colours, 20_000, mask_size=2, noise=noise),
        IGEEX(colours, 20_000, noise=noise, baselines=x[0] - 1),
    ):
        means = explainer.attribute(x, 0).mean((0, 2, 3))
        assert means.tolist() == pytest.approx([1, -2, 4], abs=0.4)


def test_no_device_is_taken_for_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs moves everything to CUDA."""

    def no_cuda() -> None:
        raise AssertionError("CUDA was asked for, though inputs lie on the CPU")

    monkeypatch.setattr(torch.cuda, "_lazy_init", no_cuda)
    x = torch.rand(2, 1, 6, 6)
    for explainer in (
        GEEX(squares, 20),
        GERS(squares, 20, mask_size=3, noise="low-frequency"),
        IGEEX(squares, 20),
    ):
        assert explainer.attribute(x, 0).device == x.device
    with pytest.raises(AssertionError, match="CUDA was asked for"):
        torch.zeros(1).cuda()


@pytest.mark.parametrize("at", [-2.0, 3.0])
def test_nothing_is_clamped_to_the_range_of_images(at: float) -> None:
    """Theirs clamps SmoothGrad's copies to [0, 1], in normalised space at that."""
    x = torch.full((1, 4), at).double()
    exact = 2 * x  # of the squares, smoothed or not
    smooth = SmoothGrad(squares, 2000, 0.5).attribute(x, 0)
    assert along(smooth, exact) == pytest.approx(1, abs=0.05)
    found = GEEX(squares, 40_000, 0.5).attribute(x, 0)
    assert along(found, exact) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("n_steps", [1, 2, 4])
def test_the_weights_of_the_steps_sum_to_one(n_steps: int) -> None:
    """Theirs divides steps + 1 points by steps: 2, 1.5 or 1.25 instead of 1."""
    x = torch.tensor([[1.0, 2.0, -1.0, 0.5]]).double()
    exact = x * SLOPE
    white = IntegratedGradients(linear, n_steps=n_steps).attribute(x, 0)
    torch.testing.assert_close(white, exact)
    found = IGEEX(linear, 40_000, n_steps=n_steps).attribute(x, 0)
    assert along(found, exact) == pytest.approx(1, abs=0.05)
