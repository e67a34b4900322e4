"""Search noise against its definition, SciPy's distributions and SciPy's cosines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from xai_lib.geex import noise as module
from xai_lib.geex.noise import NOISES, SearchNoise, search_noise
from xai_lib.kernels import philox

KINDS = [
    ("independent", None),
    ("mirrored", None),
    ("orthogonal", None),
    ("independent", 4),
    ("mirrored", 4),
    ("orthogonal", 4),
    ("low-frequency", 4),
]


def directions(
    noise: str, shape: tuple[int, ...], n: int, seed: int = 0, size: int | None = None
) -> Tensor:
    """All ε, one per pair: `[n_directions, D]`."""
    search = SearchNoise(noise, shape, n, seed, size)
    share = 2 if search.mirrored else 1
    return torch.cat([chunk[: len(chunk) // share].flatten(1) for chunk in search])


# Chunks


@pytest.mark.parametrize(("noise", "size"), KINDS)
@pytest.mark.parametrize("n", [2, 4098, 4642])
def test_as_many_as_asked_for_in_mirrored_pairs(
    noise: str, size: int | None, n: int
) -> None:
    search = SearchNoise(noise, (2, 9, 7), n, seed=3, mask_size=size)
    chunks = list(search)
    assert sum(map(len, chunks)) == n
    assert len(chunks) == len(search)
    assert max(map(len, chunks)) <= module.MOST
    for chunk in chunks:
        assert chunk.shape[1:] == (2, 9, 7)
        assert chunk.dtype is torch.float32
        if noise != "independent":
            plus, minus = chunk.chunk(2)
            assert torch.equal(plus, -minus)
            assert len(plus) == len(minus)
    assert len(torch.cat(chunks).unique(dim=0)) == n


@pytest.mark.parametrize(("noise", "size"), KINDS)
def test_the_seed_decides_and_nothing_else(noise: str, size: int | None) -> None:
    state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first = directions(noise, (1, 6, 6), 2100, 5, size)
    assert torch.equal(first, directions(noise, (1, 6, 6), 2100, 5, size))
    assert not torch.equal(first, directions(noise, (1, 6, 6), 2100, 6, size))
    again = torch.cat(list(search_noise(noise, (1, 6, 6), 2100, 5, size)))
    assert torch.equal(again[: len(first[:10])].flatten(1), first[:10])
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002


@pytest.mark.parametrize(("noise", "size"), KINDS)
def test_noise_is_made_as_it_is_used(noise: str, size: int | None) -> None:
    """A billion would not fit; the first ones come at once."""
    assert len(next(search_noise(noise, (1, 6, 6), 10**9, 0, size))) <= module.MOST


@pytest.mark.parametrize("shape", [(5,), (1, 28, 28), (3, 224, 224)])
@pytest.mark.parametrize("noise", ["independent", "mirrored", "orthogonal"])
def test_chunks_are_small_but_enough_for_a_batch(
    noise: str, shape: tuple[int, ...]
) -> None:
    chunk = next(search_noise(noise, shape, 10_000, 0))
    assert chunk[0].numel() * len(chunk) <= max(module.CHUNK, 64 * chunk[0].numel())
    assert len(chunk) >= 60


# Directions


@pytest.mark.parametrize("noise", ["independent", "mirrored", "orthogonal"])
def test_every_single_direction_is_standard_normal(noise: str) -> None:
    """What makes the estimate unbiased: any row of any block, the last one too."""
    d, n = 5, 2 * (3 * 5 + 2)
    rows = torch.stack([directions(noise, (d,), n, seed) for seed in range(1500)])
    assert rows.shape[1] == (n if noise == "independent" else n // 2)
    for row in (0, 1, 4, 5, 15, 16):
        z = rows[:, row]
        assert scipy.stats.kstest(z.flatten(), "norm").pvalue > 1e-3
        chi2 = scipy.stats.kstest(z.square().sum(1), "chi2", args=(d,))
        assert chi2.pvalue > 1e-3
        # In all directions alike: any projection is normal too.
        slope = torch.arange(1.0, d + 1)
        along = z @ (slope / slope.norm())
        assert scipy.stats.kstest(along, "norm").pvalue > 1e-3


@pytest.mark.parametrize(
    ("noise", "shape", "size", "block"),
    [
        ("orthogonal", (5,), None, 5),
        ("orthogonal", (1, 28, 28), None, 784),
        ("orthogonal", (3, 224, 224), None, 6),
        ("orthogonal", (3, 224, 224), 14, 588),
        ("low-frequency", (3, 224, 224), 14, 588),
        ("low-frequency", (1, 28, 28), 14, 196),
        ("mirrored", (1, 28, 28), None, 1),
        ("independent", (1, 28, 28), None, 1),
    ],
)
def test_blocks_have_all_directions_where_these_are_few(
    noise: str, shape: tuple[int, ...], size: int | None, block: int
) -> None:
    assert SearchNoise(noise, shape, 100, mask_size=size).block == block


@pytest.mark.parametrize("d", [1, 2, 7, 300])
def test_blocks_are_orthogonal_also_the_last_one(d: int) -> None:
    e = directions("orthogonal", (d,), 2 * (2 * d + 1 + d // 2)).double()
    blocks = e.split(d)
    assert len(blocks) == 3
    for block in blocks:
        lengths = block.norm(dim=1)
        cosines = block @ block.T / (lengths[:, None] * lengths)
        torch.testing.assert_close(
            cosines, torch.eye(len(block)).double(), rtol=0, atol=1e-5
        )
    # Two blocks are not the same, nor orthogonal to each other.
    assert (blocks[0] @ blocks[1].T).abs().max() > 0.1


def test_a_block_may_be_longer_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = directions("orthogonal", (60,), 300)
    for name in ("FEWEST", "MOST"):
        monkeypatch.setattr(module, name, 14)
    assert max(map(len, search_noise("orthogonal", (60,), 300, 0))) == 14
    parts = directions("orthogonal", (60,), 300)
    for block in parts[:60], parts[60:120], parts[120:]:
        gram = block @ block.T
        assert (gram - gram.diag().diag()).abs().max() < 1e-3
    assert parts.shape == whole.shape


def test_a_smaller_block_is_orthogonal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 4 * 30)
    assert SearchNoise("orthogonal", (30,), 100).block == 4
    for block in directions("orthogonal", (30,), 100).split(4):
        gram = block @ block.T
        assert (gram - gram.diag().diag()).abs().max() < 1e-4


@pytest.mark.parametrize("noise", ["independent", "mirrored", "orthogonal"])
def test_channels_have_noise_of_their_own(noise: str) -> None:
    e = directions(noise, (3, 5, 4), 6000).view(-1, 3, 20)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        products = e[:, first] * e[:, second]
        assert products.mean().abs() < 5 / len(products.flatten()) ** 0.5


# Bases


@pytest.mark.parametrize(("height", "width", "s"), [(9, 7, 4), (28, 28, 14), (5, 6, 1)])
def test_resized_noise_is_bilinear_upsampling(height: int, width: int, s: int) -> None:
    drawn = philox.normals(8, 0, 50, 3 * s * s).view(50, 3, s, s)
    expected = F.interpolate(drawn, (height, width), mode="bilinear")
    found = directions("mirrored", (3, height, width), 100, 8, s)
    torch.testing.assert_close(
        found.view(50, 3, height, width), expected, rtol=1e-5, atol=1e-6
    )


def test_masks_as_large_as_the_image_are_noise_on_pixels() -> None:
    for noise in ("independent", "mirrored", "orthogonal"):
        pixels = directions(noise, (2, 6, 6), 90, 4)
        torch.testing.assert_close(directions(noise, (2, 6, 6), 90, 4, 6), pixels)


def test_what_upsampling_leaves_of_the_variance() -> None:
    """All of it where a cell has its centre, 4/9 in the mean, from ∫ w² + (1 − w)²."""
    a = module.interpolation(9, 9 * 31).double()
    variance = a.square().sum(dim=1)
    assert variance[31 // 2 :: 31] == pytest.approx(np.ones(9), abs=1e-6)
    inside = variance[31 // 2 : -31 // 2]  # beyond the outermost centres it stays 1
    assert inside.mean().item() ** 2 == pytest.approx(4 / 9, abs=0.01)
    assert variance.min() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("size", [5, 8])
def test_the_gain_is_the_sum_of_a_row(size: int) -> None:
    """U 1 = 1 and Uᵀ 1 = ρ but at the edges, so U Uᵀ 1 = ρ in the middle."""
    search = SearchNoise("mirrored", (1, 40, 80), 10, mask_size=size)
    u = torch.kron(module.interpolation(size, 40), module.interpolation(size, 80))
    torch.testing.assert_close(u.sum(dim=1), torch.ones(3200))
    rows = (u @ u.T).sum(dim=1).view(40, 80)
    assert search.gain == 40 * 80 / size**2
    assert rows.mean().item() == pytest.approx(search.gain, rel=1e-3)
    assert rows[20, 40].item() == pytest.approx(search.gain, rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 12, 9), (1, 28, 28)])
def test_low_frequencies_are_scipys_cosines(shape: tuple[int, ...]) -> None:
    s = 4
    e = directions("low-frequency", shape, 2 * 2048, 1, s).view(-1, *shape)
    coefficients = scipy.fft.dctn(e.double().numpy(), axes=(2, 3), norm="ortho")
    kept = coefficients[:, :, :s, :s]
    assert np.abs(kept).max() > 3
    high = coefficients.copy()
    high[:, :, :s, :s] = 0
    assert np.abs(high).max() < 1e-5
    # Along each cosine it is what noise on pixels is: standard normal.
    for channel in range(shape[0]):
        for i, j in ((0, 0), (0, 3), (3, 1)):
            one = kept[:, channel, i, j]
            assert scipy.stats.kstest(one, "norm").pvalue > 1e-3


def test_all_frequencies_are_noise_on_pixels() -> None:
    """U is then orthogonal: a rotation of standard normal noise."""
    u = module.cosines(6, 6).double()
    torch.testing.assert_close(u @ u.T, torch.eye(6).double(), rtol=0, atol=1e-6)
    e = directions("low-frequency", (1, 6, 6), 2000, 0, 6)
    assert scipy.stats.kstest(e.flatten(), "norm").pvalue > 1e-3


# Arguments


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"noise": "white"}, ValueError, "noise must be one of independent, .*'white'"),
        ({"n_samples": 0}, ValueError, "n_samples must be at least 2, got 0"),
        ({"n_samples": 1}, ValueError, "n_samples must be at least 2, got 1"),
        ({"n_samples": 10.0}, TypeError, r"n_samples must be an integer, got 10\.0"),
        ({"n_samples": 7}, ValueError, "n_samples must be even .*got 7, use 6 or 8"),
        (
            {"n_samples": 7, "noise": "orthogonal"},
            ValueError,
            "n_samples must be even for orthogonal noise",
        ),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": None}, TypeError, "seed must be an integer, got None"),
        ({"mask_size": 0}, ValueError, "mask_size must be at least 1, got 0"),
        ({"mask_size": 2.0}, TypeError, r"mask_size must be an integer, got 2\.0"),
        (
            {"mask_size": 8},
            ValueError,
            "mask_size must be at most the image's side, got 8 for images of 9 x 7",
        ),
        (
            {"mask_size": 2, "shape": (30,)},
            ValueError,
            r"mask_size must be None for inputs \[N, d\].* got 2 for d = 30",
        ),
        (
            {"noise": "low-frequency"},
            ValueError,
            "mask_size must be the number of frequencies per axis .*got None",
        ),
    ],
)
def test_wrong_settings(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    right: dict[str, Any] = {"noise": "mirrored", "shape": (2, 9, 7), "n_samples": 10}
    with pytest.raises(error, match=message):
        SearchNoise(**{**right, **settings})


def test_odd_numbers_are_fine_without_mirrors() -> None:
    assert sum(map(len, search_noise("independent", (3,), 7, 0))) == 7
    assert NOISES == ("independent", "mirrored", "orthogonal", "low-frequency")
