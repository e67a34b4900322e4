"""Noise from a counter: the published integers, the law, and where it is the same."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from xai_lib.kernels import philox

# Random123's known answers for philox4x64 10 (its file kat_vectors): counter, key, out.
FULL = 2**64 - 1
KNOWN = (
    (
        (0, 0, 0, 0),
        (0, 0),
        (
            0x16554D9ECA36314C,
            0xDB20FE9D672D0FDC,
            0xD7E772CEE186176B,
            0x7E68B68AEC7BA23B,
        ),
    ),
    (
        (FULL, FULL, FULL, FULL),
        (FULL, FULL),
        (
            0x87B092C3013FE90B,
            0x438C3C67BE8D0224,
            0x9CC7D7C69CD777B6,
            0xA09CAEBF594F0BA0,
        ),
    ),
    (
        (
            0x243F6A8885A308D3,
            0x13198A2E03707344,
            0xA4093822299F31D0,
            0x082EFA98EC4E6C89,
        ),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (
            0xA528F45403E61D95,
            0x38C72DBD566E9788,
            0xA5A1610E72FD18B5,
            0x57BD43B5E52B7FE6,
        ),
    ),
)


def signed(words: tuple[int, ...]) -> list[int]:
    return [w - 2**64 if w >= 2**63 else w for w in words]


@pytest.mark.parametrize(("counter", "key", "out"), KNOWN)
def test_known_answers_in_torch(counter, key, out) -> None:
    found = philox.philox(torch.tensor(signed(counter))[:, None], key)
    assert found[:, 0].tolist() == signed(out)


@pytest.mark.parametrize(("counter", "key", "out"), KNOWN)
def test_known_answers_in_numpy(counter, key, out) -> None:
    before = sum(c << 64 * i for i, c in enumerate(counter)) - 1
    source = np.random.Philox(counter=before % 2**256, key=key[0] + (key[1] << 64))
    assert source.random_raw(4).tolist() == list(out)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63, FULL])
@pytest.mark.parametrize(("first", "stream"), [(0, 0), (3, 1), (2**40, FULL)])
def test_compiled_words_are_those_of_the_plain_form(seed, first, stream) -> None:
    blocks, count = 5, 3
    found = philox._words(seed, first, count, blocks, stream, "cpu")
    counters = first * blocks + torch.arange(count * blocks)
    zero = torch.zeros_like(counters)
    plain = philox.philox(torch.stack([counters, zero, zero, zero]), (seed, stream))
    assert torch.equal(found, plain.T.reshape(count, 4 * blocks))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 784, 1001])
def test_a_number_depends_on_seed_direction_and_pixel_alone(size) -> None:
    whole = philox.normals(7, 0, 300, size)
    for first, count in ((0, 1), (1, 7), (299, 1), (100, 200)):
        assert torch.equal(
            philox.normals(7, first, count, size), whole[first : first + count]
        )
    rows = [philox.uniforms(7, i, 1, size) for i in range(5)]
    assert torch.equal(philox.uniforms(7, 0, 5, size), torch.cat(rows))
    assert not torch.equal(philox.normals(8, 0, 300, size), whole)
    assert not torch.equal(philox.normals(7, 0, 300, size, stream=1), whole)


def test_chunks_of_work_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = philox.normals(3, 5, 40, 588)
    monkeypatch.setattr(philox, "AT_ONCE", 1000)
    assert torch.equal(philox.normals(3, 5, 40, 588), whole)


def test_pixels_take_the_bits_of_the_counter_in_their_order() -> None:
    word = KNOWN[0][2]
    pieces = [w >> 16 * i & 0xFFFF for w in word for i in range(4)]
    assert torch.equal(
        philox.normals(0, 0, 1, 16)[0], philox.quantiles()[torch.tensor(pieces)]
    )
    halves = [w >> 32 * i & 0xFFFFFFFF for w in word for i in range(2)]
    as_signed = torch.tensor([h - 2**32 if h >= 2**31 else h for h in halves])
    assert torch.equal(
        philox.uniforms(0, 0, 1, 8)[0], as_signed.int().float() * 2.0**-31
    )


def test_the_table_is_a_normal_law() -> None:
    table = philox.quantiles().double()
    assert len(table) == 2**16
    assert bool((table.diff() > 0).all())
    assert torch.equal(table, -table.flip(0))
    assert abs(float(table.square().mean()) - 1) < 1e-6
    assert abs(float(table.pow(4).mean()) - 3) < 2e-4
    assert abs(float(table.pow(6).mean()) - 15) < 1e-2
    # Φ steps by 2⁻¹⁶ at each number, and lies in the middle of a step.
    middles = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    assert float((torch.special.ndtr(table) - middles).abs().max()) < 2**-16 / 2


def test_normals_of_many_seeds_and_places() -> None:
    z = torch.cat([philox.normals(seed, 11, 20, 999).flatten() for seed in range(50)])
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    n = len(z)
    assert abs(float(z.mean())) < 5 / n**0.5
    assert abs(float(z.square().mean()) - 1) < 5 * (2 / n) ** 0.5
    pairs = z.view(-1, 999)
    beside = (pairs[:, 1:] * pairs[:, :-1]).mean()
    below = (pairs[1:] * pairs[:-1]).mean()
    assert max(abs(float(beside)), abs(float(below))) < 5 / n**0.5


def test_other_laws() -> None:
    u = philox.uniforms(1, 0, 200, 501)
    assert stats.kstest(u.flatten().numpy(), "uniform", (-1, 2)).pvalue > 1e-3
    shifts = philox.integers(1, 0, 5000, 2, 7)
    assert shifts.min() == 0
    assert shifts.max() == 6
    counts = shifts.flatten().bincount()
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_global_random_state_is_not_touched() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    philox.normals(0, 0, 3, 100)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_triton_is_not_imported_on_a_cpu() -> None:
    program = (
        "import sys, torch\n"
        "from xai_lib.kernels import masks, philox, search\n"
        "search.queries(torch.zeros(1, 3, 4, 4), 1.0, True, 0, 0, 2)\n"
        "search.weighted_noise(torch.ones(1, 2), 48, 0, 0)\n"
        "assert 'triton' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
