"""4,000 RISE masks at 224²: ours, and scikit-image's `resize` one at a time."""

from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np
from skimage.transform import resize
from timing import compare, ratio, report

from xai_lib.baselines.rise import RISE

MASKS, SIZE, GRID = 4000, 224, 7
SAMPLE = 200  # scikit-image makes these, and its time is multiplied


def ours(n: int = MASKS) -> None:
    for masks in RISE(print, n_samples=n, mask_size=GRID).masks(SIZE, SIZE):
        assert masks.shape[1:] == (SIZE, SIZE)


def one_at_a_time() -> None:
    rng = np.random.default_rng(0)
    cell = SIZE // GRID
    for _ in range(SAMPLE):
        cells = (rng.random((GRID, GRID)) < 0.5).astype("float32")
        large = resize(cells, (SIZE + cell,) * 2, order=1, anti_aliasing=False)
        y, x = rng.integers(0, cell + 1, 2)
        assert large[y : y + SIZE, x : x + SIZE].shape == (SIZE, SIZE)


def peak(n: int) -> int:
    """The most memory, in MiB, that a process of its own holds for n masks."""
    command = [sys.executable, __file__, str(n)]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    if len(sys.argv) > 1:
        ours(int(sys.argv[1]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    times = compare({"ours": ours, "scikit-image": one_at_a_time})
    times["scikit-image"] = [t * MASKS / SAMPLE for t in times["scikit-image"]]
    print(f"{MASKS} masks; scikit-image made {SAMPLE}, times {MASKS // SAMPLE}")
    report(times)
    ratio("scikit-image / ours", times["scikit-image"], times["ours"], ">= 8")
    few, many = peak(1000), peak(8000)
    print(f"peak memory: {few} MiB for 1,000 masks, {many} MiB for 8,000")


if __name__ == "__main__":
    main()
