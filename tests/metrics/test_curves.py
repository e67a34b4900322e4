"""Flipping, deletion and insertion against loops that anyone can read."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xai_lib.core import blackbox as blackbox_module
from xai_lib.core.blackbox import BlackBox
from xai_lib.metrics import deletion, flipping, insertion
from xai_lib.metrics.flipping import TIES

SHAPES = [(1, 1, 4, 5), (3, 1, 3, 4), (2, 3, 4, 3), (4, 3, 1, 7), (2, 2, 1, 1)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def classifier(d: int, k: int = 3) -> Callable[[Tensor], Tensor]:
    """Probabilities that any pixel can change."""
    weights = 4 * torch.randn(d, k, generator=torch.Generator().manual_seed(9))

    def probabilities(images: Tensor) -> Tensor:
        return (images.flatten(1) @ weights.to(images)).softmax(1)

    return probabilities


def maps_for(shape: tuple[int, ...], whole_pixels: bool, ties: bool) -> Tensor:
    n, c, h, w = shape
    maps = random(n, 1 if whole_pixels else c, h, w, seed=7) - 0.5
    # Whole numbers add up exactly, so that ties stay ties when channels are summed.
    return (maps * 4).round() if ties else maps


def one(model: Callable, image: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(image)[None])[0].numpy()


def slow_curve(
    model: Callable,
    image: np.ndarray,
    scores: np.ndarray,
    target: int,
    steps: int,
    baseline: float,
    delete: bool,
) -> list[float]:
    height, width = image.shape[1:]
    pixels = height * width
    totals = [float(scores[:, k // width, k % width].sum()) for k in range(pixels)]
    order = sorted(range(pixels), key=lambda k: (-totals[k], k))
    curve = []
    for step in range(steps + 1):
        changed = image.copy() if delete else np.full_like(image, baseline)
        for k in order[: step * pixels // steps]:
            y, x = divmod(k, width)
            changed[:, y, x] = baseline if delete else image[:, y, x]
        curve.append(float(one(model, changed)[target]))
    return curve


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("whole_pixels", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("metric", [deletion, insertion])
def test_curves_equal_a_loop(
    metric: Callable, shape: tuple[int, ...], whole_pixels: bool, ties: bool
) -> None:
    x = random(*shape)
    maps = maps_for(shape, whole_pixels, ties)
    pixels = shape[2] * shape[3]
    model = classifier(x[0].numel())
    target = torch.arange(shape[0]) % 3
    for steps, baseline in [(None, 0.0), (1, 0.5), (min(5, pixels), -1.0)]:
        curve = metric(model, x, maps, target, steps, baseline)
        assert curve.scores.shape == (shape[0], (steps or pixels) + 1)
        for i in range(shape[0]):
            expected = slow_curve(
                model,
                x[i].numpy(),
                maps[i].numpy(),
                int(target[i]),
                steps or pixels,
                baseline,
                metric is deletion,
            )
            np.testing.assert_allclose(curve.scores[i], expected, rtol=1e-4, atol=1e-6)
            areas = [
                (a + b) / 2 * (right - left)
                for a, b, left, right in zip(
                    expected,
                    expected[1:],
                    curve.fractions.tolist(),
                    curve.fractions[1:].tolist(),
                    strict=False,
                )
            ]
            assert float(curve.auc[i]) == pytest.approx(sum(areas), rel=1e-4)


def test_fractions_count_whole_pixels() -> None:
    x = random(1, 3, 2, 5)
    curve = deletion(classifier(30), x, x, 0, n_steps=4)
    assert curve.fractions.tolist() == pytest.approx([0, 0.2, 0.5, 0.7, 1.0])


def test_aopc_equals_the_formula() -> None:
    """Cai and Wunder: (1 / d) Σ_k (f(x) − f(x_k)) / f(x), for k = 1 … d pixels."""
    x = random(2, 1, 4, 3)
    maps = random(2, 1, 4, 3, seed=3)
    model = classifier(12)
    found = deletion(model, x, maps, 1).aopc
    for i in range(2):
        order = np.argsort(-maps[i].flatten().numpy(), kind="stable")
        image = x[i].flatten().numpy().copy()
        here = one(model, image.reshape(1, 4, 3))[1]
        drops = []
        for k in order:
            image[k] = 0
            drops.append((here - one(model, image.reshape(1, 4, 3))[1]) / here)
        # Ratios to a small probability are large: rounding is relative to them.
        assert float(found[i]) == pytest.approx(np.mean(drops), rel=1e-5, abs=1e-5)


def test_aopc_needs_a_probability_that_can_drop() -> None:
    def never(images: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0]).expand(len(images), 2)

    curve = deletion(never, random(1, 1, 2, 2), random(1, 1, 2, 2), target=0)
    with pytest.raises(ValueError, match="aopc needs target probabilities above 0"):
        _ = curve.aopc


def test_the_best_of_all_orders_is_the_models_own() -> None:
    """All 720 orders of six pixels under p = Σ wx: by falling wx no area is smaller."""
    w = random(6, seed=1) / 6
    x = random(1, 1, 2, 3, seed=2)

    def model(images: Tensor) -> Tensor:
        p = images.flatten(1) @ w
        return torch.stack([p, 1 - p], dim=1)

    orders = torch.tensor(list(permutations(range(6))))
    maps = -orders.argsort(1).view(720, 1, 2, 3).float()
    everywhere = x.expand(720, -1, -1, -1)
    removed = deletion(model, everywhere, maps, 0)
    added = insertion(model, everywhere, maps, 0)
    own = (x.flatten() * w).view(1, 1, 2, 3)
    best = deletion(model, x, own, 0)
    assert float(best.auc) == pytest.approx(float(removed.auc.min()), abs=1e-6)
    assert float(best.aopc) == pytest.approx(float(removed.aopc.max()), abs=1e-6)
    worst = deletion(model, x, -own, 0)
    assert float(worst.auc) == pytest.approx(float(removed.auc.max()), abs=1e-6)
    own_added = insertion(model, x, own, 0)
    assert float(own_added.auc) == pytest.approx(float(added.auc.max()), abs=1e-6)
    assert float(removed.auc.max() - removed.auc.min()) > 0.01


def test_constant_maps_go_in_the_order_of_the_pixels() -> None:
    x = random(1, 3, 40, 40)  # large: an unstable sort would show
    model = classifier(4800)
    flat = deletion(model, x, torch.zeros(1, 1, 40, 40), 0, n_steps=40)
    falling = deletion(model, x, -torch.arange(1600.0).view(1, 1, 40, 40), 0, 40)
    assert torch.equal(flat.scores, falling.scores)


def test_none_is_the_class_predicted_at_the_input() -> None:
    x = random(4, 1, 3, 3)
    model = classifier(9)
    predicted = model(x).argmax(1)
    for metric in (deletion, insertion):
        curve = metric(model, x, x)
        assert torch.equal(curve.scores, metric(model, x, x, predicted).scores)


# Flipping


def lowest(scores: np.ndarray, tau: str, ties: str) -> np.ndarray:
    """The features that are flipped, by the quantile of NumPy or by their places."""
    features = [(k, float(s)) for k, s in enumerate(scores.flatten())]
    if ties == "position":
        order = [k for k, _ in sorted(features, key=lambda pair: (pair[1], pair[0]))]
        return np.array(order[: int(Fraction(tau) * len(order) / 100)], dtype=int)
    values = scores.flatten().astype(np.float64)
    quantile = np.quantile(values, float(tau) / 100)
    return np.flatnonzero(values < quantile if ties == "below" else values <= quantile)


def slow_flipping(
    model: Callable,
    image: np.ndarray,
    scores: np.ndarray,
    tau: str,
    value: float,
    rule: str,
) -> bool:
    channels, height, width = image.shape
    whole = len(scores) < channels
    flipped = image.copy()
    for k in lowest(scores, tau, rule):
        c, rest = divmod(k, height * width)
        y, x = divmod(rest, width)
        if whole:
            flipped[:, y, x] = value
        else:
            flipped[c, y, x] = value
    return bool(one(model, flipped).argmax() != one(model, image).argmax())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("whole_pixels", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", TIES)
def test_flipping_equals_a_loop(
    rule: str, shape: tuple[int, ...], whole_pixels: bool, ties: bool
) -> None:
    x = random(*shape)
    maps = maps_for(shape, whole_pixels, ties)
    model = classifier(x[0].numel(), k=5)
    taus = ["0", "10", "29", "33.3", "50", "55", "80", "99.9", "100"]
    for value in (0.5, 0.0, 1.0):
        curve = flipping(model, x, maps, [float(t) for t in taus], value, rule)
        expected = [
            [
                slow_flipping(model, x[i].numpy(), maps[i].numpy(), t, value, rule)
                for t in taus
            ]
            for i in range(shape[0])
        ]
        assert curve.changed.tolist() == expected
        np.testing.assert_allclose(curve.ratio, np.mean(expected, axis=0))
        assert rule == "at most" or not curve.changed[:, 0].any()
        assert curve.quantiles.tolist() == [float(t) for t in taus]


@pytest.mark.parametrize("side", [10, 100])
def test_flipping_counts_exactly(side: int) -> None:
    """Every whole and tenth percent; in floats floor(0.29 · 100) is 28."""
    x = torch.zeros(1, 1, side, side)
    seen: list[Tensor] = []

    def model(images: Tensor) -> Tensor:
        seen.append(images.sum((1, 2, 3)))
        return torch.zeros(len(images), 2)

    tenths = list(range(0, 1001))
    maps = random(1, 1, side, side)
    flipping(model, x, maps, [t / 10 for t in tenths], 1.0, "position")
    flipped = torch.cat(seen)[1:].long().tolist()  # the first is the image itself
    assert flipped == [t * side * side // 1000 for t in tenths]


def test_the_rule_for_ties_decides_where_scores_are_equal() -> None:
    """Eight of ten pixels share the lowest score, as in a map that is clipped."""
    x = torch.ones(2, 1, 1, 10)
    maps = torch.tensor([0.0] * 8 + [1.0, 2.0]).expand(2, 1, 1, 10)
    counts = {}
    for rule in TIES:
        seen: list[float] = []

        def model(images: Tensor, seen: list[float] = seen) -> Tensor:
            seen.extend((1 - images).sum((1, 2, 3)).tolist())
            return torch.zeros(len(images), 2)

        # The default is the paper's text.
        chosen = {} if rule == "below" else {"ties": rule}
        flipping(model, x, maps, [0, 50, 95, 100], value=0.0, **chosen)
        counts[rule] = seen[2:6], seen[6:]  # the first two are the images themselves
    # The quantiles are 0, 0, 1.55 and 2.
    assert counts["below"] == ([0, 0, 9, 9],) * 2
    assert counts["position"] == ([0, 5, 9, 10],) * 2
    assert counts["at most"] == ([8, 8, 9, 10],) * 2
    with pytest.raises(ValueError, match="ties must be one of below, position"):
        flipping(model, x, maps, ties="first")


def test_the_lowest_scores_flip_first() -> None:
    x = torch.ones(1, 1, 1, 4)
    maps = torch.tensor([[[[0.3, -2.0, 0.1, 5.0]]]])
    seen = []

    def model(images: Tensor) -> Tensor:
        seen.extend(images.flatten(1).tolist())
        return torch.zeros(len(images), 2)

    flipping(model, x, maps, [25, 50, 75], value=0.0)
    assert seen[1:] == [[1, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 1]]


def test_one_channel_can_flip_alone() -> None:
    x = torch.ones(1, 3, 1, 1)
    seen = []

    def model(images: Tensor) -> Tensor:
        seen.extend(images.flatten(1).tolist())
        return torch.zeros(len(images), 2)

    flipping(model, x, torch.tensor([0.2, 0.1, 0.3]).view(1, 3, 1, 1), [34], value=0.0)
    assert seen[1:] == [[1, 0, 1]]


# Queries, memory, clean hands


@pytest.mark.parametrize(("target", "more"), [(0, 0), (None, 3)])
@pytest.mark.parametrize("metric", [deletion, insertion])
def test_exact_queries(metric: Callable, target: int | None, more: int) -> None:
    x = random(3, 1, 4, 4)
    blackbox = BlackBox(classifier(16))
    metric(blackbox, x, x, target)
    assert blackbox.queries == 3 * 17 + more
    metric(blackbox, x, x, target, n_steps=5)
    assert blackbox.queries == 3 * 17 + 3 * 6 + 2 * more


def test_exact_queries_of_flipping() -> None:
    x = random(3, 1, 4, 4)
    blackbox = BlackBox(classifier(16))
    flipping(blackbox, x, x, [10, 20, 30, 40])
    assert blackbox.queries == 3 * (1 + 4)


@pytest.mark.parametrize("block", [1, 48 * 3, 48 * 20])
def test_memory_is_split(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    x, maps = random(3, 3, 4, 4), random(3, 1, 4, 4, seed=4)
    model = classifier(48)
    whole = deletion(model, x, maps, 1), flipping(model, x, maps)
    largest = []

    def watched(images: Tensor) -> Tensor:
        largest.append(images.numel())
        return model(images)

    monkeypatch.setattr(blackbox_module, "BLOCK", block)
    split = deletion(watched, x, maps, 1), flipping(watched, x, maps)
    torch.testing.assert_close(split[0].scores, whole[0].scores, rtol=1e-5, atol=1e-6)
    assert torch.equal(split[1].changed, whole[1].changed)
    assert max(largest) <= max(block, 3 * 48)  # the images themselves come at once


@pytest.mark.parametrize("metric", [deletion, insertion, flipping])
def test_clean_hands(metric: Callable) -> None:
    x = random(2, 3, 4, 4).requires_grad_()
    maps = random(2, 1, 4, 4).requires_grad_()
    state = torch.get_rng_state()
    curve = metric(classifier(48), x, maps)
    assert torch.equal(x, random(2, 3, 4, 4))
    assert torch.equal(maps, random(2, 1, 4, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part.requires_grad for part in curve)


# Bad input


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_score_has_no_class_to_change(shape: tuple[int, ...]) -> None:
    def probability(x: Tensor) -> Tensor:
        return torch.sigmoid(20 * (x.mean((1, 2, 3)) - 0.75)).view(shape)

    def both(x: Tensor) -> Tensor:
        p = probability(x).view(-1, 1)
        return torch.cat([1 - p, p], dim=1)

    x, maps = torch.ones(1, 1, 8, 8), random(1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"at least 2 scores.*return \[1 - p, p\]"):
        flipping(probability, x, maps, [0, 100])
    assert flipping(both, x, maps, [0, 100]).ratio.tolist() == [0, 1]
    fallen = deletion(probability, x, maps, n_steps=1).scores[0]
    torch.testing.assert_close(fallen, torch.tensor([5.0, -15.0]).sigmoid())


X = random(2, 3, 4, 5)
MAPS = random(2, 1, 4, 5)


@pytest.mark.parametrize("metric", [deletion, insertion, flipping])
@pytest.mark.parametrize(
    ("x", "maps", "error", "message"),
    [
        (X.byte(), MAPS, TypeError, r"inputs .*uint8.*float\(\) / 255"),
        (X[0], MAPS[0], ValueError, r"inputs .*unsqueeze"),
        (X / 0, MAPS, ValueError, "inputs must be finite"),
        (X, MAPS.numpy(), TypeError, r"attributions must be a torch\.Tensor"),
        (X, MAPS[0], ValueError, r"attributions must be \[N, C, H, W\].*unsqueeze"),
        (
            X,
            MAPS[:1],
            ValueError,
            r"attributions .*\[2, 3, 4, 5\] or \[2, 1, 4, 5\], got",
        ),
        (X, MAPS.transpose(2, 3), ValueError, r"got \[2, 1, 5, 4\]"),
        (X, X[:, :2], ValueError, r"got \[2, 2, 4, 5\]"),
        (X, MAPS / 0, ValueError, "attributions must be finite, got inf at index"),
        (X, MAPS * float("nan"), ValueError, "attributions must be finite, got nan"),
        (X, MAPS.long(), TypeError, "attributions must be floating point"),
    ],
)
def test_wrong_images_and_maps(
    metric: Callable, x: Any, maps: Any, error: type[Exception], message: str
) -> None:
    blackbox = BlackBox(classifier(60))
    with pytest.raises(error, match=message):
        metric(blackbox, x, maps)
    assert blackbox.queries == 0


@pytest.mark.parametrize("metric", [deletion, insertion])
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_steps": 21}, ValueError, "n_steps must be at most 20 pixels, got 21"),
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1, got 0"),
        ({"n_steps": 2.0}, TypeError, r"n_steps must be an integer, got 2\.0"),
        ({"baseline": "blur"}, TypeError, "baseline must be a number, got 'blur'"),
        ({"baseline": float("nan")}, ValueError, "baseline must be finite"),
        ({"target": 3}, ValueError, "target 3 is out of range"),
        ({"target": -1}, ValueError, "target must not be negative"),
        (
            {"target": torch.tensor([0])},
            ValueError,
            r"target .*tensor \[2\], got \[1\]",
        ),
    ],
)
def test_wrong_settings(
    metric: Callable, settings: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metric(classifier(60), X, MAPS, **settings)


@pytest.mark.parametrize("metric", [deletion, insertion])
def test_logits_are_refused(metric: Callable) -> None:
    def logits(images: Tensor) -> Tensor:
        return classifier(60)(images).log()

    with pytest.raises(
        ValueError, match=r"probabilities .*scores from -.*add a softmax"
    ):
        metric(logits, X, MAPS, 0)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"quantiles": []}, ValueError, "quantiles must hold at least one"),
        (
            {"quantiles": [50, 101]},
            ValueError,
            r"quantiles must be .*\[0, 100\], got 101",
        ),
        ({"quantiles": [-1]}, ValueError, r"quantiles must be .*got -1"),
        ({"quantiles": ["50"]}, TypeError, "quantiles must be a number, got '50'"),
        ({"value": None}, TypeError, "value must be a number, got None"),
        ({"value": float("inf")}, ValueError, "value must be finite"),
    ],
)
def test_wrong_flipping_settings(
    settings: dict, error: type[Exception], message: str
) -> None:
    blackbox = BlackBox(classifier(60))
    with pytest.raises(error, match=message):
        flipping(blackbox, X, MAPS, **settings)
    assert blackbox.queries == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("metric", [deletion, insertion, flipping])
def test_cuda_agrees_with_the_cpu(metric: Callable) -> None:
    expected = metric(classifier(60), X, MAPS)
    found = metric(classifier(60), X.cuda(), MAPS.cuda())
    for here, there in zip(found, expected, strict=True):
        torch.testing.assert_close(here.cpu(), there)
