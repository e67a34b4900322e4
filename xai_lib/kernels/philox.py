"""Noise as a function of (seed, direction, pixel): the generator Philox 4x64-10.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
Philox is no sequence: it encrypts a counter of 256 bits with a key of 128, in ten
rounds of multiplications. Any part of the noise can be made anywhere and again.

**Integers.** The key is (seed, stream). A direction owns B successive counters,
direction i those from i B on, and a counter gives 256 bits: 16 pieces of 16 bits or 8
of 32, the low ones first. Number p of a direction takes piece p.

**Normal numbers** take 16 bits, k, and are the mean of a normal variable in the k-th
of 2¹⁶ slices of equal probability (`quantiles`; the inverse of the distribution
function, as a table). The mean is 0 and the variance 1, the fourth moment 2.9998 and
the sixth 14.991 where the normal law has 3 and 15, and the largest number is 4.39.

**What holds across devices**: all numbers here are equal to the bit, on every device,
however work is cut into batches. They depend on `size`, the numbers in a direction.

**Why like this.** `benchmarks/noise.py`, on one thread: the integers of Philox 4x32,
of which Triton's noise and CUDA's own are made, take several times as long in torch as
`torch.randn`. NumPy has 4x64 compiled, and Triton computes it too. Box and Muller's
functions cost more than these integers, and differ between devices in the last bits; a
look-up does neither.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from xai_lib.kernels import kernels_run_on

WORD = 2**64 - 1  # the largest one of 64 bits
AT_ONCE = 2**17  # normal numbers made at once on a CPU, whose cache holds the steps


def normals(
    seed: int,
    first: int,
    count: int,
    size: int,
    stream: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent numbers of mean 0 and variance 1, float32 `[count, size]`.

    Args:
        seed: below 2⁶⁴.
        first, count: directions first ... first + count − 1.
        size: numbers in a direction, on which the places of all of them depend.
        stream: below 2⁶⁴; streams of one seed are independent of each other.
        device: where they are made. A device without kernels gets them from the CPU.
    """
    if kernels_run_on(device):
        pieces = _words(seed, first, count, -(-size // 16), stream, device)
        return quantiles(device)[pieces.view(torch.int16)[:, :size].int() & 0xFFFF]
    made = torch.empty(count, size, dtype=torch.float32, device="cpu")
    rows = max(1, AT_ONCE // size)
    for start in range(0, count, rows):
        part = made[start : start + rows]
        words = _words_on_cpu(seed, first + start, len(part), -(-size // 16), stream)
        index = words.view(np.uint16)[:, :size].astype(np.int32)
        flat = torch.from_numpy(index.reshape(-1))
        torch.index_select(quantiles("cpu"), 0, flat, out=part.view(-1))
    return made.to(device)


def uniforms(
    seed: int,
    first: int,
    count: int,
    size: int,
    stream: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent, uniform on [−1, 1], float32 `[count, size]`, of 32 bits each.

    Below 2 p − 1 lies the share p of them, and the same ones on every device.
    """
    words = _words(seed, first, count, -(-size // 8), stream, device)
    return words.view(torch.int32)[:, :size].to(torch.float32).mul_(2.0**-31)


def integers(
    seed: int,
    first: int,
    count: int,
    size: int,
    below: int | Tensor,
    stream: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent, from 0 to below − 1 alike up to 2⁻³²: int64 `[count, size]`."""
    words = _words(seed, first, count, -(-size // 8), stream, device)
    unsigned = words.view(torch.int32)[:, :size].long() & 0xFFFFFFFF
    return unsigned * below >> 32


@cache
def quantiles(device: torch.device | str = "cpu") -> Tensor:
    """The mean of a normal variable in each of 2¹⁶ slices: float32 `[2¹⁶]`, rising.

    With the edges a_k = Φ⁻¹(k / 2¹⁶) and the normal density φ it is 2¹⁶ (φ(a_k) −
    φ(a_{k+1})), here divided by a hair less than 1, so that the variance is 1.
    """
    shares = torch.arange(2**15 + 1, dtype=torch.float64, device="cpu") / 2**16
    edges = torch.special.ndtri(shares)
    density = torch.exp(-edges.square() / 2) / math.sqrt(2 * math.pi)
    below = (density[:-1] - density[1:]) * 2**16
    below /= below.square().mean().sqrt()
    return torch.cat([below, -below.flip(0)]).float().to(device)


def philox(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox 4x64-10 in torch, on any device: int64 `[4, n]` to int64 `[4, n]`.

    The plain form, which the compiled ones are compared with. Words are unsigned, in
    signed integers: a product that overflows is one modulo 2⁶⁴.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _product(c0, 0xD2E7470EE14C6C93)
        high2, low2 = _product(c2, 0xCA5A826395121157)
        c0, c1 = high2 ^ c1 ^ _signed(k0), low2
        c2, c3 = high0 ^ c3 ^ _signed(k1), low0
        k0 = k0 + 0x9E3779B97F4A7C15 & WORD  # of the golden ratio
        k1 = k1 + 0xBB67AE8584CAA73B & WORD  # of √3
    return torch.stack([c0, c1, c2, c3])


def _product(a: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The two words of an unsigned product of 128 bits, by halves of 32."""
    half = 2**32 - 1
    a0, a1 = a & half, a >> 32 & half
    f0, f1 = factor & half, factor >> 32
    middle = a1 * f0 + (a0 * f0 >> 32 & half)
    other = a0 * f1 + (middle & half)
    high = a1 * f1 + (middle >> 32 & half) + (other >> 32 & half)
    return high, a * _signed(factor)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _words(
    seed: int,
    first: int,
    count: int,
    blocks: int,
    stream: int,
    device: torch.device | str,
) -> Tensor:
    """All bits of some directions, int64 `[count, 4 blocks]` on `device`."""
    if kernels_run_on(device):
        from xai_lib.kernels.triton import philox

        return philox.words(seed, first, count, blocks, stream, torch.device(device))
    made = _words_on_cpu(seed, first, count, blocks, stream)
    return torch.from_numpy(made.view(np.int64)).to(device)


def _words_on_cpu(
    seed: int, first: int, count: int, blocks: int, stream: int
) -> np.ndarray:
    # NumPy's generator steps before it encrypts.
    before = (first * blocks - 1) % 2**256
    source = np.random.Philox(
        counter=np.array([before >> 64 * i & WORD for i in range(4)], dtype=np.uint64),
        key=np.array([seed, stream], dtype=np.uint64),
    )
    return source.random_raw(4 * count * blocks).reshape(count, 4 * blocks)
