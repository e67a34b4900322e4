"""GEEX's queries, and the sum of its answers, without noise in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from xai_lib.kernels.philox import quantiles
from xai_lib.kernels.triton.philox import BLOCK, normal_numbers

ROWS = 8  # rows of weights that share the noise of a program
SPLIT = 16  # directions of a program; the parts are added up in their order


def queries(
    inputs: Tensor,
    stdevs: float,
    mirrored: bool,
    seed: int,
    first: int,
    count: int,
    path: tuple[Tensor, Tensor] | None,
) -> Tensor:
    n, size = len(inputs), inputs[0].numel()
    out = inputs.new_empty(n, (1 + mirrored) * count, *inputs.shape[1:])
    blocks = -(-size // 16)
    inputs = inputs.contiguous()
    alpha, root = path or (inputs, inputs)  # which are not read
    _queries[(count, triton.cdiv(blocks, BLOCK))](
        out,
        inputs,
        alpha.contiguous(),
        root.contiguous(),
        quantiles(inputs.device),
        seed,
        first * blocks,
        blocks,
        size,
        n,
        count,
        stdevs,
        MIRRORED=mirrored,
        ON_PATH=path is not None,
        BLOCK=BLOCK,
    )
    return out


@triton.jit(do_not_specialize=["seed", "start", "n", "count"])
def _queries(
    out: tl.tensor,
    inputs: tl.tensor,
    alpha: tl.tensor,
    root: tl.tensor,
    quantiles: tl.tensor,
    seed: tl.tensor,
    start: tl.tensor,
    blocks: tl.tensor,
    size: tl.tensor,
    n: tl.tensor,
    count: tl.tensor,
    stdevs: tl.tensor,
    MIRRORED: tl.constexpr,
    ON_PATH: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    direction = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1).to(tl.int64) * BLOCK
    counter = start + direction * blocks + block + tl.arange(0, BLOCK)
    noise = stdevs * normal_numbers(quantiles, seed, counter)
    pixel = 16 * block + tl.arange(0, 16 * BLOCK)
    inside = pixel < size
    if ON_PATH:
        a = tl.load(alpha + direction).to(tl.float32)
        origin = (1 - a) * tl.load(root + pixel, mask=inside).to(tl.float32)
    for image in range(n):
        x = tl.load(inputs + image * size + pixel, mask=inside).to(tl.float32)
        if ON_PATH:
            x = a * x + origin
        row = image * count * (1 + MIRRORED) + direction
        tl.store(out + row * size + pixel, x + noise, mask=inside)
        if MIRRORED:
            tl.store(out + (row + count) * size + pixel, x - noise, mask=inside)


def weighted_noise(
    weights: Tensor, size: int, seed: int, first: int, squared: bool
) -> Tensor:
    rows, count = weights.shape
    blocks, parts = -(-size // 16), triton.cdiv(count, SPLIT)
    tile = min(ROWS, triton.next_power_of_2(rows))
    out = torch.empty(parts, rows, size, dtype=torch.float32, device=weights.device)
    padded = F.pad(weights.float(), (0, parts * SPLIT - count)).contiguous()
    grid = (triton.cdiv(blocks, BLOCK // 4), parts, triton.cdiv(rows, tile))
    _weighted_noise[grid](
        out,
        padded,
        quantiles(weights.device),
        seed,
        first * blocks,
        blocks,
        size,
        rows,
        padded.shape[1],
        SQUARED=squared,
        ROWS=tile,
        SPLIT=SPLIT,
        BLOCK=BLOCK // 4,
    )
    return out.sum(dim=0)


@triton.jit(do_not_specialize=["seed", "start", "rows", "count"])
def _weighted_noise(
    out: tl.tensor,
    weights: tl.tensor,
    quantiles: tl.tensor,
    seed: tl.tensor,
    start: tl.tensor,
    blocks: tl.tensor,
    size: tl.tensor,
    rows: tl.tensor,
    count: tl.tensor,
    SQUARED: tl.constexpr,
    ROWS: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    block = tl.program_id(0).to(tl.int64) * BLOCK
    part = tl.program_id(1).to(tl.int64)
    row = tl.program_id(2).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros((ROWS, 16 * BLOCK), tl.float32)
    for i in range(SPLIT):
        direction = part * SPLIT + i
        w = tl.load(weights + row * count + direction, mask=row < rows, other=0.0)
        counter = start + direction * blocks + block + tl.arange(0, BLOCK)
        noise = normal_numbers(quantiles, seed, counter)
        if SQUARED:
            noise = noise * noise
        total += w[:, None] * noise[None, :]
    pixel = 16 * block + tl.arange(0, 16 * BLOCK)
    to = out + (part * rows + row[:, None]) * size + pixel[None, :]
    tl.store(to, total, mask=(row[:, None] < rows) & (pixel[None, :] < size))
