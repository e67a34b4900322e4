"""Noise from a counter: Philox 4x64 and 4x32 in several forms, against `torch.randn`.

On one thread, in the time of the thread. The goal is that of `normals`: not slower than
`torch.randn`. The others are why it is made as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import ratio
from torch import Tensor

from xai_lib.kernels import philox

SHAPES = {"photograph": (12, 150528), "digit": (2048, 784), "cosines": (3000, 588)}
"""Directions and numbers in each."""
REPEATS = 9


def philox32(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox 4x32-10 in torch: int64 `[4, n]` below 2³² to the same."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    half = 2**32 - 1
    for _ in range(10):
        p0, p2 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1 = p2 >> 32 & half ^ c1 ^ k0, p2 & half
        c2, c3 = p0 >> 32 & half ^ c3 ^ k1, p0 & half
        k0, k1 = k0 + 0x9E3779B9 & half, k1 + 0xBB67AE85 & half
    return torch.stack([c0, c1, c2, c3])


def words32(count: int, size: int) -> Tensor:
    counters = torch.arange(count * size // 4)
    zero = torch.zeros_like(counters)
    return philox32(torch.stack([counters, zero, zero, zero]), (0, 0))


def words64(count: int, size: int) -> np.ndarray:
    """16 bits a number, which a table takes; Box and Muller need 32."""
    return philox._words_on_cpu(0, 0, count, -(-size // 16), 0)


def box_muller(count: int, size: int, library: Any) -> Any:
    """Of NumPy's Philox, 32 bits a number, with the functions of torch or NumPy."""
    made = []
    for first in range(0, count, max(1, 2**17 // size)):
        rows = min(count - first, max(1, 2**17 // size))
        w = philox._words_on_cpu(0, first, rows, -(-size // 8), 0).view(np.int32)
        half = w.shape[1] // 2
        r, angle = w[:, :half].astype(np.float32), w[:, half:].astype(np.float32)
        if library is torch:
            r, angle = torch.from_numpy(r), torch.from_numpy(angle)
        r = library.abs(r) * 2.0**-31 + 2.0**-32
        r = library.sqrt(library.log(r) * -2)
        angle = angle * (math.pi * 2.0**-31)
        made.append((r * library.cos(angle), r * library.sin(angle)))
    return made


def seconds(run: Callable[[], Any]) -> float:
    began = time.thread_time()
    run()
    return time.thread_time() - began


def forms(count: int, size: int) -> dict[str, Callable[[], Any]]:
    """What is compared, each for `count` directions of `size` numbers."""
    stream = torch.Generator().manual_seed(0)
    own = np.random.Generator(np.random.Philox(key=0))
    return {
        "torch.randn": lambda: torch.randn(count, size, generator=stream),
        "normals": lambda: philox.normals(0, 0, count, size),
        "its words alone": lambda: words64(count, size),
        "4x64, Box-Muller in NumPy": lambda: box_muller(count, size, np),
        "4x64, Box-Muller in torch": lambda: box_muller(count, size, torch),
        "NumPy's, no counter": lambda: own.standard_normal((count, size), np.float32),
        "4x32, words alone in torch": lambda: words32(count, size),
    }


def main() -> None:
    torch.set_num_threads(1)
    # Random123's known answer tells that this is 4x32.
    first = philox32(torch.zeros(4, 1, dtype=torch.int64), (0, 0))[:, 0].tolist()
    assert first == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    for name, shape in SHAPES.items():
        runs = forms(*shape)
        times: dict[str, list[float]] = {run: [] for run in runs}
        for _ in range(REPEATS):
            for run, function in runs.items():
                times[run].append(seconds(function))
        print(f"{name}: {shape[0]} x {shape[1]}, over torch.randn")
        below = times.pop("torch.randn")
        for run, above in times.items():
            goal = "<= 1" if run == "normals" else ""
            ratio(f"{name}: {run}", above, below, goal)


if __name__ == "__main__":
    main()
