"""The four axioms of Theorem 1 as properties, with the cases where they fail.

Each property is checked for several random functions, inputs and seeds.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from xai_lib.geex import GEEX, GERS, IGEEX, Estimate

D = 6


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def network(seed: int, x: Tensor, used: int = D) -> Tensor:
    """Two scores of a random smooth network on the first `used` features."""
    first, second = numbers(seed, used, 8), numbers(seed + 100, 8, 2)
    return (x[:, :used] @ first).tanh() @ second


def z(found: Estimate, exact: Tensor | float = 0.0) -> Tensor:
    return (found.gradient - exact) / found.standard_error


METHODS = [
    pytest.param(lambda f, seed=0: GEEX(f, 400, seed=seed), id="GEEX"),
    pytest.param(lambda f, seed=0: IGEEX(f, 400, seed=seed), id="iGEEX"),
    pytest.param(
        lambda f, seed=0: IGEEX(f, 400, noise="orthogonal", n_steps=20, seed=seed),
        id="iGEEX with steps",
    ),
]
each = pytest.mark.parametrize("method", METHODS)
functions = pytest.mark.parametrize("seed", range(5))

# Implementation invariance: nothing but answers is used, so it cannot fail.


@each
@functions
def test_implementation_invariance(method, seed: int) -> None:
    """tanh by its definition, with the matrices multiplied in another order."""
    first, second = numbers(seed, D, 8), numbers(seed + 100, 8, 2)

    def other(x: Tensor) -> Tensor:
        e = torch.exp(-2 * (first.T @ x.T))
        return (second.T @ ((1 - e) / (1 + e))).T

    x = numbers(seed + 200, 3, D)
    maps = method(lambda x: network(seed, x)).attribute(x, 1)
    torch.testing.assert_close(method(other).attribute(x, 1), maps)


# Linearity: holds for scores, fails for the cross-entropy.


@each
@functions
def test_linearity(method, seed: int) -> None:
    def f(x: Tensor) -> Tensor:
        return network(seed, x)

    def g(x: Tensor) -> Tensor:
        return network(seed + 50, x)

    x = numbers(seed + 200, 3, D)
    both = method(lambda x: 2 * f(x) - 3 * g(x)).attribute(x, 0)
    apart = 2 * method(f).attribute(x, 0) - 3 * method(g).attribute(x, 0)
    torch.testing.assert_close(both, apart)


def test_linearity_fails_for_the_cross_entropy() -> None:
    """The supplement says so: "deployment of cross-entropy loss violates this"."""

    def maps(f) -> Tensor:
        return IGEEX(f, 400, loss="non-informative").attribute(x, 0)

    def f(x: Tensor) -> Tensor:
        return network(1, x)

    def g(x: Tensor) -> Tensor:
        return network(2, x)

    x = numbers(3, 2, D)
    both, apart = maps(lambda x: f(x) + g(x)), maps(f) + maps(g)
    assert (both - apart).abs().max() > 0.1 * both.abs().max()


# Insensitivity: holds in expectation; a finite sample leaves noise, and masks break it.


@each
@functions
def test_insensitivity_in_expectation(method, seed: int) -> None:
    """The features a function ignores get zero in the mean over seeds."""
    x = numbers(seed + 200, 1, D)
    maps = torch.cat(
        [
            method(lambda x: network(seed, x, used=4), s).attribute(x, 0)
            for s in range(120)
        ]
    )
    error = maps.std(0) / 120**0.5
    assert (maps.mean(0)[4:].abs() < 4 * error[4:]).all()
    assert (maps.mean(0)[:4].abs() > 8 * error[:4]).any()


@pytest.mark.parametrize("kind", [GEEX, IGEEX])
def test_insensitivity_fails_for_a_finite_sample(kind) -> None:
    """The axiom asks for zero; there is noise, which falls with the root of n."""
    x = numbers(7, 1, D)
    noise = []
    for n in (400, 40_000):
        found = kind(lambda x: network(0, x, used=4), n).estimate(x, 0)
        ignored = found.gradient[0, 4:]
        assert (ignored != 0).all()
        assert (z(found)[0, 4:].abs() < 4).all()
        noise.append(found.standard_error[0, 4:].mean())
    assert noise[0] / noise[1] == pytest.approx(10, rel=0.2)


def test_a_feature_that_equals_its_baseline_gets_exactly_zero() -> None:
    x = numbers(7, 1, D)
    x[0, 2] = 0.3
    maps = IGEEX(lambda x: network(0, x), 400, baselines=0.3).attribute(x, 0)
    assert maps[0, 2] == 0
    assert (maps[0, :2] != 0).all()


@pytest.mark.parametrize("noise", ["mirrored", "low-frequency"])
def test_masks_break_insensitivity_near_relevant_pixels(noise: str) -> None:
    """Only one pixel counts, but its neighbours get a value far beyond any noise."""

    def one_pixel(x: Tensor) -> Tensor:
        return x[:, 0, 5, 5, None]

    x = torch.ones(1, 1, 12, 12)
    found = GERS(one_pixel, 20_000, mask_size=4, noise=noise).estimate(x, 0)
    assert z(found)[0, 0, 5, 6].abs() > 20
    assert z(found)[0, 0, 4, 4].abs() > 10
    pixelwise = GEEX(one_pixel, 20_000).estimate(x, 0)
    assert z(pixelwise)[0, 0, 5, 6].abs() < 4
    # A path does not mend that: it multiplies by x − x', which is 1 here.
    path = IGEEX(one_pixel, 20_000, mask_size=4, noise=noise).estimate(x, 0)
    assert z(path)[0, 0, 5, 6].abs() > 20


def test_resized_masks_reach_no_further_than_their_cells() -> None:
    """Bilinear cells are two wide, so what is three cells away gets nothing but noise;
    cosines reach across the image."""

    def one_pixel(x: Tensor) -> Tensor:
        return x[:, 0, 3, 3, None]

    x = torch.ones(1, 1, 24, 24)
    found = GERS(one_pixel, 20_000, mask_size=8).estimate(x, 0)
    assert z(found)[0, 0, 15:, 15:].abs().max() < 5
    waves = GERS(one_pixel, 20_000, mask_size=8, noise="low-frequency").estimate(x, 0)
    assert z(waves)[0, 0, 15:, 15:].abs().max() > 10


# Sensitivity: GEEX breaks it; iGEEX has it for the smoothed function only.


def saturated(x: Tensor) -> Tensor:
    """1 − max(0, 1 − x₀): flat from x₀ = 1 on (the example of the paper on IG)."""
    return 1 - (1 - x[:, :1]).relu()


@pytest.mark.parametrize("noise", ["independent", "mirrored", "orthogonal"])
def test_sensitivity_fails_for_a_gradient_and_is_mended_by_the_path(noise: str) -> None:
    x = torch.tensor([[2.0, 0.0]]).double()
    assert saturated(x) != saturated(0 * x)
    flat = GEEX(saturated, 4000, 0.1, noise).estimate(x, 0)
    assert flat.gradient[0, 0].abs() < 1e-6
    path = IGEEX(saturated, 4000, 0.1, noise).estimate(x, 0)
    assert path.gradient[0, 0] > 8 * path.standard_error[0, 0]
    assert z(path, 1.0)[0, 0].abs() < 4  # f_σ(x) − f_σ(0) = 1 up to 1e-20


@functions
def test_sensitivity_holds_for_the_smoothed_function(seed: int) -> None:
    """One feature differs: it gets f_σ(x) − f_σ(x'), whatever the function."""
    sigma, a = 0.4, numbers(seed, 3)

    def waves(x: Tensor) -> Tensor:
        angles = x[:, :1] * torch.tensor([1.0, 2.0, 3.0]).double()
        return (angles.sin() @ a)[:, None]

    def smoothed(x: Tensor) -> Tensor:
        damping = torch.exp(-(sigma**2) * torch.tensor([1.0, 4.0, 9.0]).double() / 2)
        return ((x[:, :1] * torch.tensor([1.0, 2.0, 3.0])).sin() @ (a * damping))[0]

    root = numbers(seed + 10, 3)
    x = root.clone()
    x[0] += 1.5
    found = IGEEX(waves, 20_000, sigma, baselines=root).estimate(x[None], 0)
    difference = smoothed(x[None]) - smoothed(root[None])
    assert z(found, difference)[0, 0].abs() < 4
    assert (found.gradient[0, 1:] == 0).all()


@pytest.mark.parametrize("sigma", [0.05, 0.5])
def test_sensitivity_fails_for_the_function_itself(sigma: float) -> None:
    """A fast wave: f(x) − f(x') = 2, but smoothing leaves exp(−σ²ω²/2) of it.

    With σ = 0.5 that is 1e-22, so a feature that alone turns the answer over gets
    nothing; with σ = 0.05 it is 0.6, and the feature is seen.
    """
    omega = 20.0

    def wave(x: Tensor) -> Tensor:
        return (omega * x[:, :1]).sin()

    root, x = (torch.tensor([t * math.pi / omega]).double() for t in (-0.5, 2.5 - 2))
    assert (wave(x[None]) - wave(root[None])).item() == pytest.approx(2)
    found = IGEEX(wave, 20_000, sigma, baselines=root).estimate(x[None], 0)
    left = 2 * math.exp(-((sigma * omega) ** 2) / 2)
    assert z(found, left)[0, 0].abs() < 4
    seen = bool(z(found)[0, 0].abs() > 10)
    assert seen == (sigma == 0.05)
