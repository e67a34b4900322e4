"""The metrics against loops that follow their definitions word by word."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from xai_lib.metrics import (
    bootstrap_mean,
    box_masks,
    deletion,
    energy_inside,
    flipping,
    grid_pointing_game,
    insertion,
    map_distance,
    photo_grids,
    pointing_hits,
)

seeds = st.integers(0, 10**6)
sides = st.integers(1, 6)
# Few levels mean many ties, which is where an order of pixels shows.
levels = st.integers(1, 12)
IMAGES_WITH_MAPS = {
    "seed": seeds,
    "n": st.integers(1, 3),
    "channels": st.integers(1, 3),
    "height": sides,
    "width": sides,
    "per_channel": st.booleans(),
    "levels": levels,
}


def images(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def maps(seed: int, levels: int, *shape: int) -> Tensor:
    """Whole numbers around zero."""
    values = np.random.default_rng([seed, 1]).integers(levels, size=shape)
    return torch.from_numpy(values - levels // 2).double()


class Probabilities:
    """A softmax of random weights, which sees every pixel."""

    def __init__(self, seed: int, d: int) -> None:
        rng = np.random.default_rng([seed, 2])
        self.weights = torch.from_numpy(rng.normal(size=(d, 3)) * 3 / d**0.5)

    def __call__(self, x: Tensor) -> Tensor:
        return (x.flatten(1)[:, :, None] * self.weights).sum(dim=1).softmax(dim=1)


def in_order(values: Tensor, sign: int) -> list[int]:
    """Features by value; ties keep their order, as Python sorts stably."""
    numbers = (sign * values.flatten()).tolist()
    return sorted(range(len(numbers)), key=numbers.__getitem__)


@given(
    **IMAGES_WITH_MAPS,
    baseline=st.sampled_from([0.0, 0.5, -1.0]),
    data=st.data(),
)
def test_deletion_and_insertion(
    seed: int,
    n: int,
    channels: int,
    height: int,
    width: int,
    per_channel: bool,
    levels: int,
    baseline: float,
    data: st.DataObject,
) -> None:
    pixels = height * width
    steps = data.draw(st.one_of(st.none(), st.integers(1, pixels)))
    target = data.draw(st.one_of(st.none(), st.integers(0, 2)))
    x = images(seed, n, channels, height, width)
    a = maps(seed, levels, n, channels if per_channel else 1, height, width)
    f = Probabilities(seed, x[0].numel())
    deleted = deletion(f, x, a, target, steps, baseline)
    inserted = insertion(f, x, a, target, steps, baseline)
    total = pixels if steps is None else steps
    for i in range(n):
        c = int(f(x[i : i + 1])[0].argmax()) if target is None else target
        order = in_order(a[i].sum(dim=0), -1)
        for k in range(total + 1):
            gone = x[i].clone()
            came = torch.full_like(gone, baseline)
            for p in order[: k * pixels // total]:
                row, column = divmod(p, width)
                gone[:, row, column] = baseline
                came[:, row, column] = x[i, :, row, column]
            assert math.isclose(deleted.fractions[k], (k * pixels // total) / pixels)
            for curve, image in ((deleted, gone), (inserted, came)):
                expected = float(f(image[None])[0, c])
                assert math.isclose(curve.scores[i, k], expected, rel_tol=1e-9)
        s, t = deleted.scores[i].tolist(), deleted.fractions.tolist()
        area = sum((t[k + 1] - t[k]) * (s[k] + s[k + 1]) / 2 for k in range(total))
        assert math.isclose(deleted.auc[i], area, rel_tol=1e-9)
        drop = sum((s[0] - s[k]) / s[0] for k in range(1, total + 1)) / total
        assert math.isclose(deleted.aopc[i], drop, rel_tol=1e-9, abs_tol=1e-9)


@given(
    **IMAGES_WITH_MAPS,
    quantiles=st.lists(st.integers(0, 100), min_size=1, max_size=6),
    value=st.sampled_from([0.0, 0.5, 1.0]),
    ties=st.sampled_from(["below", "position", "at most"]),
)
def test_flipping(
    seed: int,
    n: int,
    channels: int,
    height: int,
    width: int,
    per_channel: bool,
    levels: int,
    quantiles: list[int],
    value: float,
    ties: str,
) -> None:
    x = images(seed, n, channels, height, width)
    a = maps(seed, levels, n, channels if per_channel else 1, height, width)
    f = Probabilities(seed, x[0].numel())
    curve = flipping(f, x, a, quantiles, value, ties)
    changed = []
    for i in range(n):
        order, scores = in_order(a[i], 1), a[i].flatten().double().numpy()
        for tau in quantiles:
            flipped = x[i].clone()
            limit = np.quantile(scores, tau / 100)
            lowest = {
                "below": np.flatnonzero(scores < limit),
                "position": order[: tau * len(order) // 100],
                "at most": np.flatnonzero(scores <= limit),
            }
            for p in lowest[ties]:
                channel, rest = divmod(p, height * width)
                row, column = divmod(rest, width)
                flipped[channel if per_channel else slice(None), row, column] = value
            now, before = f(flipped[None])[0].argmax(), f(x[i : i + 1])[0].argmax()
            changed.append(bool(now != before))
    assert curve.changed.flatten().tolist() == changed


@given(
    seed=seeds,
    m=st.integers(1, 4),
    height=sides,
    width=sides,
    levels=levels,
    tolerance=st.sampled_from([0, 1, 1.5, 2, 15]),
)
def test_pointing(
    seed: int, m: int, height: int, width: int, levels: int, tolerance: float
) -> None:
    a = maps(seed, levels, m, 1, height, width)
    masks = images(seed + 1, m, height, width) < 0.3
    masks[:, seed % height, seed % width] = True
    hits, energy = pointing_hits(a, masks, tolerance), energy_inside(a, masks)
    for i in range(m):
        cells = [(r, c) for r in range(height) for c in range(width)]
        on = [p for p in cells if masks[(i, *p)]]
        top = max(float(a[(i, 0, *p)]) for p in cells)
        best = [p for p in cells if float(a[(i, 0, *p)]) == top]
        nearest = [min(math.dist(p, q) for q in on) for p in best]
        share = sum(d == 0 or d < tolerance for d in nearest) / len(best)
        assert math.isclose(hits[i], share)
        mass = {p: max(0.0, float(a[(i, 0, *p)])) for p in cells}
        if not sum(mass.values()):
            mass = dict.fromkeys(cells, 1.0)
        inside = sum(mass[p] for p in on) / sum(mass.values())
        assert math.isclose(energy[i], inside, abs_tol=1e-12)


def mostly_ordered(box: tuple[float, ...]) -> tuple[float, ...]:
    x0, y0, x1, y1 = box
    return box if x0 == 1 else (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


edges = st.integers(-6, 30).map(lambda quarters: quarters / 4)


@given(
    boxes=st.lists(st.tuples(*[edges] * 4).map(mostly_ordered), min_size=1, max_size=3),
    height=sides,
    width=sides,
)
def test_boxes(boxes: list[Any], height: int, width: int) -> None:
    def held(low: float, high: float, n: int) -> list[int]:
        centres = [i for i in range(n) if low <= i + 0.5 < high]
        return centres or [min(max(math.floor((low + high) / 2), 0), n - 1)]

    def apart(low: float, high: float, n: int) -> bool:
        if low == high:  # a line is in the image, on its edge too
            return not 0 <= low <= n
        return high <= 0 or low >= n

    edges = [edge for box in boxes for edge in box]
    relative = all(0 <= e <= 1 for e in edges) and any(e % 1 for e in edges)
    wrong = relative or any(
        x1 < x0 or y1 < y0 or apart(x0, x1, width) or apart(y0, y1, height)
        for x0, y0, x1, y1 in boxes
    )
    if wrong:
        with pytest.raises(ValueError, match="boxes must"):
            box_masks(torch.tensor(boxes), height, width)
        return
    masks = box_masks(torch.tensor(boxes), height, width)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        rows, columns = held(y0, y1, height), held(x0, x1, width)
        assert mask.nonzero().tolist() == [[r, c] for r in rows for c in columns]


@given(
    seed=seeds,
    m=st.integers(1, 4),
    side=st.integers(1, 3),
    cell_height=st.integers(1, 3),
    cell_width=st.integers(1, 3),
    levels=levels,
)
def test_grids(
    seed: int, m: int, side: int, cell_height: int, cell_width: int, levels: int
) -> None:
    # One photograph of each of side² classes, in one colour of its own.
    k = side**2
    colours = torch.arange(1.0, k + 1)[:, None, None, None]
    photos = colours.expand(k, 2, cell_height, cell_width).contiguous()
    grids = photo_grids(photos, torch.arange(k) + 7, m, side, seed=seed)
    a = maps(seed, levels, m, 1, side * cell_height, side * cell_width)
    cell = torch.from_numpy(np.random.default_rng(seed).integers(k, size=m))
    game = grid_pointing_game(a, cell, side)
    for g in range(m):
        assert sorted(grids.target[g].tolist()) == list(range(7, k + 7))
        right = torch.zeros(side * cell_height, side * cell_width, dtype=torch.bool)
        for r in range(side * cell_height):
            for c in range(side * cell_width):
                number = r // cell_height * side + c // cell_width
                right[r, c] = number == int(cell[g])
                shown = grids.images[g, :, r, c].tolist()
                assert shown == [int(grids.target[g, number]) - 6] * 2
        best = a[g, 0] == a[g, 0].max()
        share = float((best & right).sum()) / float(best.sum())
        assert math.isclose(game.hits[g], share)
        positive = a[g, 0].clamp_min(0)
        positive = positive if float(positive.sum()) else torch.ones_like(positive)
        inside = float(positive[right].sum()) / float(positive.sum())
        assert math.isclose(game.shares[g], inside, abs_tol=1e-12)


@given(
    seed=seeds,
    n=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    height=sides,
    width=sides,
    levels=levels,
    scale=st.sampled_from([1.0, 1e-6, 1e6]),
)
def test_distance(
    seed: int,
    n: int,
    channels: tuple[int, int],
    height: int,
    width: int,
    levels: int,
    scale: float,
) -> None:
    first = maps(seed, levels, n, channels[0], height, width)
    second = maps(seed + 1, levels, n, channels[1], height, width)
    distance = map_distance(first, scale * second)
    for i in range(n):
        pair = []
        for values in (first[i].numpy().sum(axis=0), second[i].numpy().sum(axis=0)):
            largest = max(abs(v) for v in values.flatten())
            pair.append(values / largest if largest else values)
        gap = pair[0] - pair[1]
        lengths = [
            math.sqrt(sum(gap[r, c] ** 2 for r in range(height))) for c in range(width)
        ]
        expected = sum(lengths) / (height * width)
        assert math.isclose(distance[i], expected, rel_tol=1e-9, abs_tol=1e-12)


@given(
    seed=seeds,
    n=st.integers(1, 12),
    points=st.integers(1, 3),
    level=st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]),
    resamples=st.integers(1, 60),
)
def test_intervals(
    seed: int, n: int, points: int, level: float, resamples: int
) -> None:
    values = images(seed, n, points)
    low, high = bootstrap_mean(values, level, resamples, seed)
    # The same draws, as lists of the images drawn.
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    for p in range(points):
        column = values[:, p].tolist()
        means = sorted(
            sum(v * int(k) for v, k in zip(column, row, strict=True)) / n
            for row in counts
        )
        for end, share in ((low, (1 - level) / 2), (high, (1 + level) / 2)):
            place = share * (resamples - 1)
            below = min(int(place + 1e-9), resamples - 1)
            above = min(below + 1, resamples - 1)
            between = means[below] + (place - below) * (means[above] - means[below])
            assert math.isclose(end[p], between, rel_tol=1e-9, abs_tol=1e-9)
