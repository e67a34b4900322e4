"""The score-function mean against loops, and its moments against closed forms.

On f(x + v) = c₀ + g·v + ½ vᵀHv bias and variance of every sampler are known exactly;
where blocks of orthogonal directions differ from independent ones, a cubic shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from scipy.special import j1
from torch import Tensor

from xai_lib.geex import noise as noise_module
from xai_lib.geex.estimator import ScoreFunctionMean
from xai_lib.geex.noise import Chunk, SearchNoise

D, SIGMA = 6, 0.5
_RNG = torch.Generator().manual_seed(0)
SLOPE = torch.randn(D, generator=_RNG, dtype=torch.float64)
_SQUARE = torch.randn(D, D, generator=_RNG, dtype=torch.float64)
HESSIAN = (_SQUARE + _SQUARE.T) / 2
LEVEL = 3.0

NOISES = ["independent", "mirrored", "orthogonal"]


def linear(v: Tensor) -> Tensor:
    return LEVEL + v @ SLOPE


def quadratic(v: Tensor) -> Tensor:
    return linear(v) + ((v @ HESSIAN) * v).sum(-1) / 2


def chunks_of(search: SearchNoise) -> Iterator[tuple[Chunk, Tensor]]:
    """Each with the directions of all its queries, `[m, d]`."""
    for chunk in (c for group in search.groups(torch.empty(0).double()) for c in group):
        yield chunk, torch.cat([chunk.e, -chunk.e]) if search.mirrored else chunk.e


def estimates(
    f: Callable[[Tensor], Tensor],
    noise: str,
    n: int,
    seeds: int,
    sigma: float = SIGMA,
    d: int = D,
) -> tuple[Tensor, Tensor]:
    """Gradients at 0 and their standard errors for many seeds, `[seeds, d]` each."""
    gradients, errors = [], []
    for seed in range(seeds):
        search = SearchNoise(noise, (d,), n, seed)
        mean = ScoreFunctionMean(search, with_error=True)
        for chunk, e in chunks_of(search):
            scores = f(sigma * e)[None, :, None]
            mean.see(scores)
            mean.accumulate(scores, chunk)
        gradients.append(mean.gradient(sigma)[0, 0])
        errors.append(mean.standard_error(sigma)[0, 0])
    return torch.stack(gradients), torch.stack(errors)


def check_mean(gradients: Tensor, exact: Tensor) -> None:
    """Within 4 standard errors of the mean over seeds, feature by feature."""
    error = gradients.std(0) / len(gradients) ** 0.5
    assert ((gradients.mean(0) - exact).abs() < 4 * error + 1e-6).all()


def check_variance(gradients: Tensor, exact: Tensor) -> None:
    """Within 4 standard errors of a variance, for normal numbers; the mean closer."""
    ratio = gradients.var(0) / exact
    # A kurtosis of 6 instead of the normal 3 would make the error 1.6 times as large.
    error = (2 / len(gradients)) ** 0.5
    assert ((ratio - 1).abs() < 1.6 * 4 * error).all()
    assert abs(ratio.mean() - 1) < 4 * error


# Bias


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("f", [linear, quadratic])
@pytest.mark.parametrize("n", [2, 10, 26])
def test_unbiased_on_quadratics(
    noise: str, f: Callable[[Tensor], Tensor], n: int
) -> None:
    """The gradient of the smoothed quadratic is that of the quadratic itself."""
    check_mean(estimates(f, noise, n, 1500)[0], SLOPE)


@pytest.mark.parametrize("noise", NOISES)
def test_converges_to_the_gradient_of_the_smoothed_function(noise: str) -> None:
    """E sin(w·(x + σε) + 1) = exp(−σ²‖w‖²/2) sin(w·x + 1).

    In two dimensions directions of the fixed length √2 would give a Bessel function
    instead of the exponential: the lengths have to be random.
    """
    w, sigma = torch.tensor([1.6, -1.2]).double(), 0.9
    exact = math.exp(-(sigma**2) * 4 / 2) * math.cos(1.0) * w
    gradients, _ = estimates(
        lambda v: (v @ w + 1).sin(), noise, 4000, 60, sigma=sigma, d=2
    )
    check_mean(gradients, exact)
    on_a_sphere = 2**0.5 / sigma * j1(2**0.5 * sigma * 2) * math.cos(1.0) * w / 2
    error = gradients.std(0) / 60**0.5
    assert ((on_a_sphere - exact).abs() > 20 * error).all()


# Variance


def mirrored_variance(n: int) -> Tensor:
    return 2 / n * (SLOPE.square().sum() + SLOPE.square())


@pytest.mark.parametrize("f", [linear, quadratic])
@pytest.mark.parametrize("n", [2, 24])
def test_variance_of_mirrored_noise(f: Callable[[Tensor], Tensor], n: int) -> None:
    check_variance(estimates(f, "mirrored", n, 3000)[0], mirrored_variance(n))


@pytest.mark.parametrize("f", [linear, quadratic])
@pytest.mark.parametrize("n", [4, 24])
def test_variance_of_independent_noise(f: Callable[[Tensor], Tensor], n: int) -> None:
    """The table's row for large n, and for small n the exact variance of a covariance.

    Var s_xy = μ₂₂/n − (n−2)/(n(n−1)) σ_xy² + σ_x² σ_y² / (n(n−1)), for x = f, y = ε_k.
    """
    h = HESSIAN if f is quadratic else 0 * HESSIAN
    size, squares = h.square().sum(), (h @ h).diagonal()
    fourth = (
        SLOPE.square().sum() + 2 * SLOPE.square() + SIGMA**2 * (size / 2 + 2 * squares)
    )
    spread = SLOPE.square().sum() + SIGMA**2 * size / 2
    exact = (fourth - (n - 2) / (n - 1) * SLOPE.square() + spread / (n - 1)) / n
    check_variance(estimates(f, "independent", n, 3000)[0], exact)
    in_the_table = fourth - SLOPE.square()
    assert (n * exact / in_the_table).mean() == pytest.approx(1, abs=2.5 / n)


def test_variance_without_a_baseline() -> None:
    """The paper's plain mean: c²/σ² + 2c H_kk on top, however many dimensions."""
    c = LEVEL + SIGMA**2 / 2 * HESSIAN.trace()
    exact = (
        (c / SIGMA) ** 2
        + 2 * c * HESSIAN.diagonal()
        + SLOPE.square().sum()
        + SLOPE.square()
        + SIGMA**2 * (HESSIAN.square().sum() / 2 + 2 * (HESSIAN @ HESSIAN).diagonal())
    )
    e = torch.randn(
        200_000, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    check_variance(quadratic(SIGMA * e)[:, None] * e / SIGMA, exact)


@pytest.mark.parametrize("f", [linear, quadratic])
@pytest.mark.parametrize("block", [2, 3, 6])
def test_variance_of_orthogonal_noise(
    f: Callable[[Tensor], Tensor], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_module, "BLOCK", block * D)
    n = 24
    size, own = SLOPE.square().sum(), SLOPE.square()
    share = (block - 1) / (D - 1) * (D * size + (D - 2) * own) / (D + 2)
    exact = 2 / n * (size + own - share)
    check_variance(estimates(f, "orthogonal", n, 3000)[0], exact)
    if block == D:
        torch.testing.assert_close(exact, 4 / n * (size + 2 * own) / (D + 2))


def test_orthogonality_can_add_variance_but_little() -> None:
    """x₂x₃x₄ in 4 dimensions: the worst case, a spherical harmonic of degree 4.

    Its P₄(0) is 3/((d−1)(d+1)), so a full block has 1 + 3/(d+1) · d(d+2)/((d+4)(d+6))
    times the variance of mirrored noise, here 1.18 times.
    """
    d = 4

    def product(v: Tensor) -> Tensor:
        return v[..., 1] * v[..., 2] * v[..., 3]

    variance = {
        noise: estimates(product, noise, 2 * d, 6000, 1.0, d)[0][:, 0].var()
        for noise in ("mirrored", "orthogonal")
    }
    ratio = (variance["orthogonal"] / variance["mirrored"]).item()
    assert ratio == pytest.approx(1 + 3 / 5 * 24 / 80, rel=0.12)
    assert ratio > 1


# Standard error


@pytest.mark.parametrize("noise", NOISES)
def test_standard_error_is_the_spread_over_seeds(noise: str) -> None:
    gradients, errors = estimates(quadratic, noise, 10 * 2 * D, 1500)
    ratio = errors.square().mean(0) / gradients.var(0)
    assert ratio.mean().item() == pytest.approx(1, abs=0.1)
    assert ((ratio - 1).abs() < 0.25).all()


@pytest.mark.parametrize("pairs", [D, D - 2])
def test_a_single_block_overstates_its_error(pairs: int) -> None:
    """Its pairs are the units, though orthogonal ones cancel each other's noise."""
    gradients, errors = estimates(quadratic, "orthogonal", 2 * pairs, 1500)
    ratio = errors.square().mean(0) / gradients.var(0)
    assert (ratio > 1.2).all()


@pytest.mark.parametrize("pairs", [2 * D + 1, 2 * D + 3, 5 * D - 1])
def test_a_smaller_last_block_overstates_the_error_at_most(pairs: int) -> None:
    gradients, errors = estimates(linear, "orthogonal", 2 * pairs, 2000)
    ratio = errors.square().mean(0) / gradients.var(0)
    assert ratio.mean() > 0.95
    assert ratio.mean() < 4


def test_one_pair_has_no_error() -> None:
    _, errors = estimates(linear, "mirrored", 2, 1)
    assert errors.isnan().all()
    assert estimates(linear, "mirrored", 4, 1)[1].isfinite().all()


# Sums over chunks


def scores_of(v: Tensor) -> Tensor:
    """Three scores `[..., 3]` that no sampler is exact for."""
    return torch.stack([quadratic(v), v.pow(3).sum(-1) - 40, (2 * v).sin().sum(-1)], -1)


def by_loop(search: SearchNoise, centre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Equation 1 for score k around one centre, with all numbers in lists."""
    terms: list[Tensor] = []  # (f − b) ε / σ, one per direction
    seen: list[Tensor] = []
    for chunk in search:
        e = chunk.double()
        f = scores_of(centre + SIGMA * e)[:, k]
        if search.mirrored:
            h = len(e) // 2
            for plus, minus, z in zip(f[:h], f[h:], e[:h], strict=True):
                terms.append((plus - minus) / (2 * SIGMA) * z)
        else:
            seen.extend(f)
            for own, z in zip(f, e, strict=True):
                others = (sum(seen) - own) / (len(seen) - 1)
                terms.append((own - others) / SIGMA * z)
    t = torch.stack(terms)
    units = t.split(search.block) if len(t) > search.block else t.split(1)
    sizes = torch.tensor([len(unit) for unit in units], dtype=t.dtype)[:, None]
    sums = torch.stack([unit.sum(0) for unit in units])
    spread = (sums - sizes * t.mean(0)).square().sum(0)
    error = (len(units) / (len(units) - 1) * spread).sqrt() / len(t)
    return t.mean(0), error


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n", [8, 20, 62, 144])
@pytest.mark.parametrize("most", [14, 16, 10_000])
def test_chunks_add_up_to_the_definition(
    noise: str, n: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a smaller last chunk, and blocks that begin and end within chunks."""
    monkeypatch.setattr(noise_module, "FEWEST", 2)
    monkeypatch.setattr(noise_module, "MOST", most)
    centres = torch.stack([torch.zeros(D), torch.linspace(-1, 1, D)]).double()
    search = SearchNoise(noise, (D,), n, seed=9)
    full, only = (ScoreFunctionMean(search, with_error=w) for w in (True, False))
    for chunk, e in chunks_of(search):
        scores = scores_of(centres[:, None] + SIGMA * e)
        for mean in (full, only):
            mean.see(scores)
            mean.accumulate(scores, chunk)
    gradient, error = full.gradient(SIGMA), full.standard_error(SIGMA)
    assert gradient.shape == error.shape == (2, 3, D)
    torch.testing.assert_close(only.gradient(SIGMA), gradient)
    for i in range(2):
        for k in range(3):
            expected = by_loop(search, centres[i], k)
            torch.testing.assert_close(gradient[i, k], expected[0])
            torch.testing.assert_close(error[i, k], expected[1])


@pytest.mark.parametrize("noise", ["mirrored", "orthogonal"])
def test_mirrored_noise_sees_no_even_part(noise: str) -> None:
    """A constant, however large, and any even function leave not even noise."""
    gradients, errors = estimates(
        lambda v: 1e4 + v.square().sum(-1) + v[..., 0] ** 4, noise, 30, 3
    )
    assert gradients.abs().max() < 1e-9
    assert errors.abs().max() < 1e-9


def test_independent_noise_sees_no_constant() -> None:
    def constant(v: Tensor) -> Tensor:
        return torch.full_like(v[..., 0], 1e4)

    gradients, errors = estimates(constant, "independent", 30, 3)
    assert gradients.abs().max() < 1e-9
    assert errors.abs().max() < 1e-9
