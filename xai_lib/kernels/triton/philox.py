"""Philox 4x64-10 and its normal numbers, as parts of kernels; see `kernels.philox`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.random import philox_impl

BLOCK = 64  # counters of a program, each with 16 normal numbers


def words(
    seed: int, first: int, count: int, blocks: int, stream: int, device: torch.device
) -> Tensor:
    """All bits of `count` directions: int64 `[count, 4 blocks]`."""
    out = torch.empty(count, 4 * blocks, dtype=torch.int64, device=device)
    total = count * blocks
    grid = (triton.cdiv(total, BLOCK),)
    _words[grid](out, seed, stream, first * blocks, total, BLOCK=BLOCK)
    return out


@triton.jit(do_not_specialize=["seed", "stream", "start", "total"])
def _words(
    out: tl.tensor,
    seed: tl.tensor,
    stream: tl.tensor,
    start: tl.tensor,
    total: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    block = tl.program_id(0).to(tl.int64) * BLOCK
    counter = start + block + tl.arange(0, BLOCK)
    place = 4 * block + tl.arange(0, 4 * BLOCK)
    found = encrypted(seed, stream, counter).to(tl.int64, bitcast=True)
    tl.store(out + place, found, mask=place < 4 * total)


@triton.jit
def encrypted(seed: tl.tensor, stream: tl.tensor, counter: tl.tensor) -> tl.tensor:
    """The words of some counters, one after the other: uint64 `[4 n]`."""
    zero = counter.to(tl.uint64) * 0
    w0, w1, w2, w3 = philox_impl(
        counter.to(tl.uint64),
        zero,
        zero,
        zero,
        zero + seed.to(tl.uint64),
        zero + stream.to(tl.uint64),
    )
    return tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))


@triton.jit
def normal_numbers(
    quantiles: tl.tensor, seed: tl.tensor, counter: tl.tensor
) -> tl.tensor:
    """The normal numbers of some counters, of stream 0: float32 `[16 n]`."""
    w = encrypted(seed, seed * 0, counter)
    even = tl.interleave(w & 0xFFFF, (w >> 32) & 0xFFFF)
    odd = tl.interleave((w >> 16) & 0xFFFF, w >> 48)
    return tl.load(quantiles + tl.interleave(even, odd).to(tl.int32))
