"""Every kernel against its plain form, in Triton's interpreter.

`test_kernels.py` runs this file with TRITON_INTERPRET=1, in a process of its own:
Triton reads that when it is first imported, and then no kernel of the process runs on
a GPU.
"""

from __future__ import annotations

import math
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from torch import Tensor
from triton.runtime import interpreter

from sync_notebooks import ROOT
from xai_lib import geex
from xai_lib.baselines import RISE, SmoothGrad
from xai_lib.core import blackbox
from xai_lib.geex import noise
from xai_lib.kernels import kernels_run_on, masks, philox, search
from xai_lib.kernels.triton import masks as masks_kernel
from xai_lib.kernels.triton import philox as philox_kernel
from xai_lib.kernels.triton import search as search_kernel
from xai_lib.pertmap import StochasticPertMap

SHAPES = [(1, 1, 1), (3, 7, 9), (1, 16, 16), (2, 13, 11), (17,)]


@pytest.fixture(autouse=True)
def small_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small images take several programs, and the interpreter seconds."""
    monkeypatch.setattr(philox_kernel, "BLOCK", 8)
    monkeypatch.setattr(search_kernel, "BLOCK", 8)
    monkeypatch.setattr(masks_kernel, "BLOCK", 64)


@pytest.fixture(autouse=True)
def within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel reads or writes lies in the tensors that it was given.

    Beyond them a CPU finds any number, or none at all, and a GPU stops.
    """
    given: list[tuple[int, int]] = []
    executor, memory = interpreter.GridExecutor, interpreter._interpreter
    arguments = executor._init_args_hst

    def noted(self, args, kwargs):
        args, kwargs = arguments(self, args, kwargs)
        tensors = [a for a in (*args, *kwargs.values()) if hasattr(a, "data_ptr")]
        given[:] = [(t.data_ptr(), t.data_ptr() + t.nbytes) for t in tensors]
        return args, kwargs

    def check(pointers, mask) -> None:
        asked = pointers[np.broadcast_to(mask, pointers.shape).astype(bool)].astype(
            np.uint64
        )
        held = [(start <= asked) & (asked < end) for start, end in given]
        assert np.logical_or.reduce(held).all(), "outside of all tensors"

    def load(pointers, mask, other, dtype):
        check(pointers, mask)
        return memory.load(pointers, mask, other, dtype)

    def store(pointers, values, mask):
        check(pointers, mask)
        return memory.store(pointers, values, mask)

    monkeypatch.setattr(executor, "_init_args_hst", noted)
    checked = SimpleNamespace(load=load, store=store)
    monkeypatch.setattr(interpreter, "_interpreter", checked)


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the kernels that a test launches by name run; all others are plain."""
    monkeypatch.setattr(philox, "kernels_run_on", lambda _: False)


def images(n: int, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


def test_the_kernels_run_here() -> None:
    assert os.environ["TRITON_INTERPRET"] == "1"
    assert kernels_run_on("cpu")


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**64 - 1])
@pytest.mark.parametrize(("first", "stream"), [(0, 0), (3, 1), (2**40, 2**64 - 1)])
@pytest.mark.parametrize(("count", "blocks"), [(1, 1), (3, 5), (1, 17)])
def test_words(seed, first, stream, count, blocks) -> None:
    found = philox._words(seed, first, count, blocks, stream, "cpu")
    expected = philox._words_on_cpu(seed, first, count, blocks, stream)
    assert torch.equal(found, torch.from_numpy(expected.view("int64")))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 300])
def test_numbers_are_equal_to_the_bit(size, monkeypatch) -> None:
    def all_laws() -> list[Tensor]:
        at = 5, 3, 4, size
        return [philox.normals(*at), philox.uniforms(*at), philox.integers(*at, 9)]

    found = all_laws()
    monkeypatch.setattr(philox, "kernels_run_on", lambda _: False)
    for kernel, plain in zip(found, all_laws(), strict=True):
        assert torch.equal(kernel, plain)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.usefixtures("plainly")
def test_queries(shape, mirrored) -> None:
    x = images(2, *shape)
    found = search.queries(x, 0.3, mirrored, 7, 5, 3)
    plain = search.plain_queries(x, 0.3, mirrored, 7, 5, 3)
    assert found.shape == plain.shape == (2, 3 * (1 + mirrored), *shape)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 7, 9), (17,)])
@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.usefixtures("plainly")
def test_queries_on_a_path(shape, mirrored) -> None:
    x, root = images(2, *shape), images(1, *shape)[0].flip(-1)
    path = torch.tensor([0.1, 0.5, 0.9]), root
    found = search.queries(x, 0.3, mirrored, 7, 5, 3, path)
    plain = search.plain_queries(x, 0.3, mirrored, 7, 5, 3, path)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.usefixtures("plainly")
def test_queries_in_half_precision(dtype) -> None:
    x = images(1, 3, 7, 9).to(dtype)
    found = search.queries(x, 0.3, True, 7, 5, 3)
    plain = search.plain_queries(x.float(), 0.3, True, 7, 5, 3)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), plain, rtol=0, atol=0.01)


@pytest.mark.usefixtures("plainly")
def test_queries_of_an_image_that_is_not_contiguous() -> None:
    x = images(2, 7, 9, 3).permute(0, 3, 1, 2)
    found = search.queries(x, 0.3, True, 7, 5, 3)
    plain = search.plain_queries(x, 0.3, True, 7, 5, 3)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "count", "size"),
    [(1, 1, 1), (1, 19, 33), (3, 16, 31), (8, 3, 32), (11, 17, 70)],
)
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.usefixtures("plainly")
def test_weighted_noise(rows, count, size, squared) -> None:
    source = torch.Generator().manual_seed(2)
    w = torch.randn(rows, count, generator=source)
    found = search.weighted_noise(w, size, 7, 5, squared)
    plain = search.plain_weighted_noise(w, size, 7, 5, squared)
    assert found.shape == plain.shape == (rows, size)
    torch.testing.assert_close(found, plain, rtol=0, atol=2e-5)


@pytest.mark.usefixtures("plainly")
def test_many_rows_take_the_product_of_matrices() -> None:
    w = images(search.FEW_ROWS + 1, 4)
    found = search.weighted_noise(w, 50, 7, 5)
    assert torch.equal(found, search.plain_weighted_noise(w, 50, 7, 5))


def test_geex_by_kernels_alone_finds_the_slopes_of_a_linear_model() -> None:
    """ε of the queries and ε of the sum are the same, or nothing would be found."""
    slopes, x = torch.linspace(-1, 1, 33), torch.zeros(1, 33)
    n, stdevs = 64, 0.5
    scores = search.queries(x, stdevs, True, 3, 0, n)[0] @ slopes
    weights = (scores[:n] - scores[n:])[None] / 2
    found = search.weighted_noise(weights, 33, 3, 0)[0] / (n * stdevs)
    assert float(torch.cosine_similarity(found, slopes, dim=0)) > 0.7


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (17, 20)])
@pytest.mark.parametrize("grid", [1, 7])
def test_masks(size, grid) -> None:
    height, width = size
    source = torch.Generator().manual_seed(3)
    x, m = images(2, 3, height, width), 6
    cells = (torch.rand(m, grid, grid, generator=source) < 0.5).float()
    most = [masks.most_shift(grid, side) for side in size]
    shifts = torch.stack(
        [torch.randint(k + 1, (m,), generator=source) for k in most], dim=1
    )
    shifts[0], shifts[1] = 0, torch.tensor(most)
    found = masks.shown(x, cells, shifts)
    plain = masks.plain_shown(x, cells, shifts)
    assert found.shape == plain.shape == (2, m, 3, height, width)
    torch.testing.assert_close(found, plain, rtol=0, atol=2e-6)
    covered = masks.shown(torch.ones(1, 1, height, width), cells, shifts)
    assert float(covered.min()) >= 0
    assert float(covered.max()) <= 1 + 1e-6


def test_the_masks_are_those_of_rise() -> None:
    """From RISE's own draws, which the kernel's arguments are made of here."""
    height, width, grid, m = 20, 31, 7, 5
    expected = next(
        iter(RISE(print, n_samples=m, mask_size=grid, seed=4).masks(height, width))
    )
    cells = (philox.uniforms(4, 0, m, grid**2) < 0).float().view(m, grid, grid)
    below = torch.tensor([masks.most_shift(grid, side) + 1 for side in (height, width)])
    shifts = philox.integers(4, 0, m, 2, below, stream=1)
    found = masks.shown(torch.ones(1, 1, height, width), cells, shifts)
    torch.testing.assert_close(found[0, :, 0], expected, rtol=0, atol=2e-6)


def test_blurred_images() -> None:
    x, k = images(2, 3, 7, 9), 4
    owner = torch.tensor([0, 1, 1, 0])
    rows, columns = images(k, 7), images(k, 9)
    found = masks.blurred(x, owner, rows, columns)
    for i in range(k):
        g = torch.outer(rows[i], columns[i])
        torch.testing.assert_close(found[i], x[owner[i]] * g)
        torch.testing.assert_close(found[k + i], x[owner[i]] * (1 - g))
    assert torch.equal(masks.blurred(x, owner, rows, columns, delete=False), found[:k])
    assert torch.equal(
        masks.blurred(x, owner, rows, columns, preserve=False), found[k:]
    )
    assert math.prod(found.shape) == 2 * k * x[0].numel()


def scores(x: Tensor) -> Tensor:
    z = x.flatten(1) @ torch.linspace(-1, 1, x[0].numel()).to(x)
    return torch.stack([z.sin(), z.cos()], dim=1)


EXPLAINERS = {
    "GEEX": lambda: geex.GEEX(scores, 6),
    "independent": lambda: geex.GEEX(scores, 5, noise="independent"),
    "orthogonal": lambda: geex.GEEX(scores, 6, noise="orthogonal"),
    "IGEEX": lambda: geex.IGEEX(scores, 6, baselines=0.3),
    "GERS": lambda: geex.GERS(scores, 6, mask_size=3),
    "RISE": lambda: RISE(scores, 5, mask_size=3),
    "SmoothGrad": lambda: SmoothGrad(scores, 3),
    "PertMap": lambda: StochasticPertMap(scores, n_iterations=2, n_perturbations=3),
}


@pytest.mark.parametrize("name", EXPLAINERS)
def test_explainers_with_kernels_and_without(name, monkeypatch) -> None:
    """Also where the chunks of a group are forgotten, and a pair is asked apart."""
    x = images(2, 1, 5, 4)

    def maps() -> list[Tensor]:
        explainer = EXPLAINERS[name]()
        found = [explainer.attribute(x, 1)]
        if hasattr(explainer, "estimate"):
            found += explainer.estimate(x, 1)
        return found

    for block in (3 * x[0].numel(), x[0].numel()):
        monkeypatch.setattr(blackbox, "BLOCK", block)
        by_kernels = maps()
        with monkeypatch.context() as plain:
            for module in (noise, philox, masks, search):
                plain.setattr(module, "kernels_run_on", lambda _: False)
            for kernel, expected in zip(by_kernels, maps(), strict=True):
                torch.testing.assert_close(kernel, expected, rtol=1e-4, atol=1e-4)


def test_the_kernels_of_chapter_12(tmp_path: Path) -> None:
    """They stay within bounds, too, and equal their plain forms: its cells check."""
    chapter = nbformat.read(ROOT / "notebooks" / "12_on_a_gpu.ipynb", as_version=4)
    code = [cell.source for cell in chapter.cells if cell.cell_type == "code"]
    parts = "import json", "cells, cell =", "triton", "masked[blocks]", "in_one_pass("
    used = [source for source in code[1:] if any(part in source for part in parts)]
    file = tmp_path / "kernels.py"  # Triton reads a kernel's text from its file
    file.write_text("\n\n".join(used))
    assert {"multiply", "masked"} <= runpy.run_path(str(file)).keys()
