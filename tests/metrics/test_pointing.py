"""The pointing game against loops over pixels, and against TorchRay's rule in full."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xai_lib.metrics import PointingGame, box_masks, energy_inside, pointing_hits

SHAPES = [(6, 9), (12, 5), (1, 7), (20, 20)]


def maps(m: int, height: int, width: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(m, 1, height, width, generator=source)


def regions(m: int, height: int, width: int, share: float = 0.05) -> Tensor:
    """Scattered pixels, at least one per mask."""
    rng = np.random.default_rng(1)
    masks = rng.random((m, height, width)) < share
    for mask in masks:
        mask[rng.integers(height), rng.integers(width)] = True
    return torch.from_numpy(masks)


def near(mask: np.ndarray, row: int, column: int, tolerance: float) -> bool:
    """Any pixel of the mask on (row, column), or nearer than the tolerance."""
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            squared = (y - row) ** 2 + (x - column) ** 2
            if mask[y, x] and (squared == 0 or squared < tolerance**2):
                return True
    return False


# Hits


@pytest.mark.parametrize("tolerance", [0, 1, 2.5, 5, 15])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_hits_equal_a_loop(height: int, width: int, tolerance: float) -> None:
    scores, masks = maps(30, height, width), regions(30, height, width)
    hits = pointing_hits(scores, masks, tolerance)
    assert hits.dtype is torch.float64
    for i in range(30):
        row, column = divmod(int(scores[i].argmax()), width)
        assert float(hits[i]) == near(masks[i].numpy(), row, column, tolerance)
    if (height, width, tolerance) == (20, 20, 2.5):
        assert 0.1 < float(hits.mean()) < 0.9  # both outcomes are tested


@pytest.mark.parametrize(
    ("distance", "hit"), [((0, 14), 1), ((9, 11), 1), ((9, 12), 0), ((0, 15), 0)]
)
def test_the_tolerance_is_strict_as_in_torchray(
    distance: tuple[int, int], hit: int
) -> None:
    """9² + 12² = 15²: just missed. Torchray: squared distance < tolerance²."""
    scores = torch.zeros(1, 1, 30, 30)
    scores[0, 0, 5, 5] = 1
    mask = torch.zeros(1, 30, 30, dtype=torch.bool)
    mask[0, 5 + distance[0], 5 + distance[1]] = True
    assert float(pointing_hits(scores, mask)) == hit


def test_any_pixel_of_the_class_will_do() -> None:
    scores = torch.zeros(1, 1, 40, 40)
    scores[0, 0, 35, 35] = 1
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[0, :3, :3] = True  # a large object, far away
    assert float(pointing_hits(scores, mask)) == 0
    mask[0, 30, 39] = True  # one pixel of a second object
    assert float(pointing_hits(scores, mask)) == 1


def test_rows_and_columns_are_not_mixed_up() -> None:
    scores = torch.zeros(1, 1, 10, 40)
    scores[0, 0, 5, 30] = 1
    mask = torch.zeros(1, 10, 40, dtype=torch.bool)
    mask[0, 5, 30] = True
    assert float(pointing_hits(scores, mask, 0)) == 1


@pytest.mark.parametrize("tolerance", [0, 3])
def test_several_maxima_count_as_the_share_that_hits(tolerance: float) -> None:
    scores = maps(25, 9, 8).round()
    masks = regions(25, 9, 8)
    hits = pointing_hits(scores, masks, tolerance)
    tied = 0
    for i in range(25):
        places = (scores[i, 0] == scores[i, 0].max()).nonzero().tolist()
        tied += len(places) > 1
        found = [near(masks[i].numpy(), y, x, tolerance) for y, x in places]
        assert float(hits[i]) == pytest.approx(sum(found) / len(found))
    assert tied > 5


def test_a_flat_map_scores_what_a_random_point_does() -> None:
    """TorchRay's first maximum would be the corner: a hit here, if only by luck."""
    mask = torch.zeros(1, 40, 50, dtype=torch.bool)
    mask[0, :10, :20] = True
    hit = pointing_hits(torch.zeros(1, 1, 40, 50), mask, tolerance=0)
    assert float(hit) == pytest.approx(200 / 2000)


def test_a_map_of_negative_values_has_a_maximum_too() -> None:
    scores = torch.full((1, 1, 5, 5), -2.0)
    scores[0, 0, 1, 1] = -1
    mask = torch.zeros(1, 5, 5, dtype=torch.bool)
    mask[0, 1, 1] = True
    assert float(pointing_hits(scores, mask, 0)) == 1


# Energy


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_energy_equals_a_loop(height: int, width: int) -> None:
    scores, masks = maps(10, height, width), regions(10, height, width, 0.4)
    shares = energy_inside(scores, masks)
    for i in range(10):
        values = scores[i, 0].flatten().tolist()
        inside = masks[i].flatten().tolist()
        positive = [max(v, 0) for v in values]
        part = math.fsum(v for v, m in zip(positive, inside, strict=True) if m)
        assert float(shares[i]) == pytest.approx(part / math.fsum(positive))


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_map_without_positive_values_gets_the_share_of_the_area(value: float) -> None:
    masks = regions(4, 6, 7, 0.4)
    shares = energy_inside(torch.full((4, 1, 6, 7), value), masks)
    assert shares.tolist() == pytest.approx(masks.flatten(1).double().mean(1).tolist())


@pytest.mark.parametrize("scale", [1e-40, 1e38, 1.0])
def test_energy_does_not_depend_on_the_scale(scale: float) -> None:
    masks = regions(4, 6, 7, 0.4)
    expected = energy_inside(maps(4, 6, 7), masks)
    scaled = energy_inside(maps(4, 6, 7).double() * scale, masks)
    assert scaled.tolist() == pytest.approx(expected.tolist())


def test_maps_may_have_a_graph() -> None:
    traced, masks = maps(4, 6, 7).requires_grad_(), regions(4, 6, 7, 0.4)
    for metric in (energy_inside, pointing_hits):
        scores = metric(traced, masks)
        assert not scores.requires_grad
        assert torch.equal(scores, metric(traced.detach(), masks))


def test_boxes_agree_with_the_masks_of_scenes() -> None:
    from xai_lib.zoo import scenes

    made = scenes.make(5, seed=3)
    for boxes, masks in zip(made.boxes, made.masks, strict=True):
        inside = box_masks(boxes, *masks.shape[1:])
        assert not bool((masks & ~inside).any())
        for axis in (1, 2):  # the tightest boxes: no row or column less
            assert torch.equal(inside.any(axis), masks.any(axis))


# The score


def a_game(pairs: int = 60) -> PointingGame:
    rng = np.random.default_rng(5)
    target = torch.from_numpy(rng.choice([2, 3, 7], pairs, p=[0.6, 0.3, 0.1]))
    hits = torch.from_numpy((rng.random(pairs) < 0.7).astype(float))
    return PointingGame(hits, target, torch.arange(pairs) // 2 + 100)


def test_the_score_is_the_mean_over_classes_that_occur() -> None:
    game = PointingGame(
        hits=torch.tensor([1, 1, 0, 1, 0.5]),
        target=torch.tensor([4, 4, 4, 0, 9]),
        image=torch.arange(5),
    )
    assert game.per_class == pytest.approx({0: 1, 4: 2 / 3, 9: 0.5})
    assert game.accuracy == pytest.approx((1 + 2 / 3 + 0.5) / 3)
    # Not the mean over pairs, which is 0.7, nor over ten classes.
    hard = game.subset(torch.tensor([False, False, True, True, False]))
    assert hard.per_class == {0: 1.0, 4: 0.0}
    assert hard.accuracy == 0.5


def test_the_bootstrap_draws_images_and_recomputes_the_score() -> None:
    game = a_game()
    found = game.bootstrap(50, seed=3)
    images = game.image.unique().tolist()
    counts = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30), 50)
    for score, drawn in zip(found.tolist(), counts, strict=True):
        hits: dict[int, list[float]] = {}
        for image, times in zip(images, drawn, strict=True):
            for row in (game.image == image).nonzero()[:, 0].tolist():
                of_class = hits.setdefault(int(game.target[row]), [])
                of_class += [float(game.hits[row])] * int(times)
        means = [np.mean(h) for h in hits.values() if h]
        assert score == pytest.approx(np.mean(means))


def test_the_interval_covers_the_score_as_often_as_it_says() -> None:
    """300 sets of 80 images with two pairs; classes hit at 0.5 and 0.9: mean 0.7."""
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(300):
        hits = torch.from_numpy(rng.random((80, 2)) < np.array([0.5, 0.9])).double()
        target, image = torch.tensor([0, 1]).repeat(80), torch.arange(160) // 2
        game = PointingGame(hits.flatten(), target, image)
        low, high = game.interval(0.9, n_resamples=300)
        covered += low <= 0.7 <= high
    # 270 expected, with a standard deviation of 5.2.
    assert 248 <= covered <= 290


@pytest.mark.parametrize("hit", [1.0, 0.4, 1 / 3])
def test_equal_hits_are_their_accuracy_and_have_no_width(hit: float) -> None:
    game = a_game()
    game = game._replace(hits=torch.full_like(game.hits.double(), hit))
    assert game.accuracy == hit
    assert game.interval() == (hit, hit)


def test_two_methods_share_their_resamples() -> None:
    """Hits that are 0.1 higher give scores that are 0.1 higher, in each resample."""
    game = a_game()
    better = game._replace(hits=game.hits + 0.1)
    difference = better.bootstrap(200) - game.bootstrap(200)
    assert difference.tolist() == pytest.approx([0.1] * 200)
    assert float(game.bootstrap(200).std()) > 0.01


def test_interval_is_a_quantile_and_the_seed_decides() -> None:
    game = a_game()
    ends = [game.interval(level) for level in (0.5, 0.9, 0.99)]
    for (low, high), (wider_low, wider_high) in pairwise(ends):
        assert wider_low < low < game.accuracy < high < wider_high
    assert torch.equal(game.bootstrap(9), game.bootstrap(9))
    assert not torch.equal(game.bootstrap(9), game.bootstrap(9, seed=1))


# What is refused


def test_an_empty_mask_is_refused() -> None:
    """Quantus counts a pair without ground truth as a hit."""
    masks = regions(3, 6, 6)
    masks[1] = False
    for metric in (pointing_hits, energy_inside):
        with pytest.raises(ValueError, match=r"mask 1 has no pixel.*leave the pair"):
            metric(maps(3, 6, 6), masks)


@pytest.mark.parametrize("metric", [pointing_hits, energy_inside])
@pytest.mark.parametrize(
    ("scores", "masks", "error", "message"),
    [
        (maps(2, 4, 4)[:, 0], regions(2, 4, 4), ValueError, r"\[N, C, H, W\], got"),
        (
            torch.zeros(2, 3, 4, 4),
            regions(2, 4, 4),
            ValueError,
            r"must be \[M, 1, H, W\], got \[2, 3, 4, 4\]; reduce the channels",
        ),
        (maps(2, 4, 4), regions(2, 4, 4).float(), TypeError, "bool.*got torch.float"),
        (maps(2, 4, 4), None, TypeError, "bool tensor.*got NoneType"),
        (
            maps(2, 4, 4),
            regions(2, 4, 5),
            ValueError,
            r"masks must be \[2, 4, 4\].*got \[2, 4, 5\]",
        ),
        (maps(2, 4, 4), regions(1, 4, 4), ValueError, r"\[2, 4, 4\].*\[1, 4, 4\]"),
        (maps(2, 4, 4) * math.nan, regions(2, 4, 4), ValueError, "must be finite"),
    ],
)
def test_wrong_maps_and_masks(
    metric: Any, scores: Tensor, masks: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metric(scores, masks)


def test_other_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"tolerance must be .* at least 0, got -1"):
        pointing_hits(maps(1, 4, 4), regions(1, 4, 4), -1)
    with pytest.raises(ValueError, match=r"level must be .*in \[0, 1\], got 95"):
        a_game().interval(95)
    nothing = a_game().subset(torch.zeros(60, dtype=torch.bool))
    for empty in (lambda: nothing.accuracy, nothing.bootstrap):
        with pytest.raises(ValueError, match="number of pairs must be at least 1"):
            empty()
