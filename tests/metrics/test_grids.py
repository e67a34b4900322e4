"""Grids of photographs, cell by cell, and the game on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xai_lib.core.blackbox import BlackBox
from xai_lib.metrics import confident, grid_pointing_game, photo_grids

TARGET = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 97])  # ten classes


def photos(height: int = 8, width: int = 6) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.rand(len(TARGET), 3, height, width, generator=source)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_each_cell_shows_its_photo(side: int) -> None:
    grids = photo_grids(photos(), TARGET, n_grids=7, side=side)
    assert grids.images.shape == (7, 3, side * 8, side * 6)
    for image, target, chosen in zip(*grids, strict=True):
        assert len(set(target.tolist())) == side**2  # every class once
        for cell in range(side**2):
            row, column = divmod(cell, side)
            shown = image[:, 8 * row : 8 * row + 8, 6 * column : 6 * column + 6]
            assert torch.equal(shown, photos()[chosen[cell]])
            assert int(target[cell]) == int(TARGET[chosen[cell]])


@pytest.mark.parametrize(("side", "size"), [(2, 20), (3, 21)])
def test_smaller_cells_do_not_leak_into_each_other(side: int, size: int) -> None:
    grids = photo_grids(photos(30, 30), TARGET, 3, side, size)
    assert grids.images.shape == (3, 3, size, size)
    part = size // side
    for image, chosen in zip(grids.images, grids.photos, strict=True):
        for cell in range(side**2):
            row, column = divmod(cell, side)
            shown = image[:, part * row :][:, :part, part * column :][:, :, :part]
            alone = photos(30, 30)[chosen[cell]][None]
            expected = F.interpolate(
                alone, (part, part), mode="bilinear", antialias=True
            )
            torch.testing.assert_close(shown[None], expected)


def test_all_photos_and_cells_get_their_turn() -> None:
    grids = photo_grids(photos(), TARGET, 600)
    # A class is in a grid with probability 4/10, in a cell with 1/10.
    for c in TARGET.unique():
        cells = (grids.target == c).double().mean(0)
        assert (cells - 0.1).abs().max() < 5 * (0.1 * 0.9 / 600) ** 0.5
    assert len(grids.photos.unique()) == len(TARGET)


def test_a_grid_depends_on_the_seed_and_its_number_alone() -> None:
    long = photo_grids(photos(), TARGET, 9, seed=4)
    short = photo_grids(photos(), TARGET, 3, seed=4)
    assert torch.equal(long.images[:3], short.images)
    other = photo_grids(photos(), TARGET, 9, seed=5)
    assert not torch.equal(long.photos, other.photos)


@pytest.mark.parametrize("side", [2, 3])
def test_the_game_equals_a_loop(side: int) -> None:
    height, width = 4 * side, 5 * side
    source = torch.Generator().manual_seed(2)
    maps = torch.randn(40, 1, height, width, generator=source)
    cell = torch.arange(40) % side**2
    game = grid_pointing_game(maps, cell, side)
    for i in range(40):
        row, column = divmod(int(cell[i]), side)
        total = inside = 0.0
        best, where = -float("inf"), (0, 0)
        for y in range(height):
            for x in range(width):
                value = float(maps[i, 0, y, x])
                if value > best:
                    best, where = value, (y // 4, x // 5)
                total += max(value, 0)
                inside += max(value, 0) * ((y // 4, x // 5) == (row, column))
        assert float(game.hits[i]) == (where == (row, column))
        assert float(game.shares[i]) == pytest.approx(inside / total, rel=1e-5)
    assert 0 < game.hits.sum() < 40


def test_a_map_that_says_nothing_scores_by_chance() -> None:
    for value in (0.0, -1.0):
        game = grid_pointing_game(torch.full((9, 1, 6, 6), value), torch.arange(9), 3)
        assert game.hits.tolist() == pytest.approx([1 / 9] * 9)
        assert game.shares.tolist() == pytest.approx([1 / 9] * 9)


def test_a_map_of_the_right_cell_is_perfect() -> None:
    grids = photo_grids(photos(), TARGET, 4)
    for image, chosen in zip(grids.images, grids.photos, strict=True):
        for cell in range(4):
            alone = torch.zeros(2, 2, 3, 8, 6)
            alone[cell // 2, cell % 2] = photos()[chosen[cell]]
            tiled = alone.permute(2, 0, 3, 1, 4).reshape(3, 16, 12)
            same = (tiled == image).all(0, keepdim=True).float()[None]
            game = grid_pointing_game(same, torch.tensor([cell]))
            assert game == (pytest.approx(1), pytest.approx(1))


def test_confident() -> None:
    answers = torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.2, 0.8]])
    blackbox = BlackBox(lambda x: answers[: len(x)])
    x = photos()[:3]
    assert confident(blackbox, x, torch.tensor([0, 1, 0])).tolist() == [1, 1, 0]
    assert confident(blackbox, x, 1, at_least=0.6).tolist() == [0, 0, 1]
    assert blackbox.queries == 6
    with pytest.raises(ValueError, match="target 2 is out of range"):
        confident(blackbox, x, 2)
    with pytest.raises(TypeError, match=r"target must be .* got None"):
        confident(blackbox, x, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"side": 4}, ValueError, r"at least side² = 16 classes, got 10"),
        ({"side": 0}, ValueError, "side must be at least 1, got 0"),
        ({"n_grids": 0}, ValueError, "n_grids must be at least 1, got 0"),
        ({"size": 17}, ValueError, "size must be a multiple of side = 2, got 17"),
        ({"size": 1}, ValueError, "size must be at least 2, got 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"target": None}, TypeError, "target must be a tensor .* got None"),
        ({"target": TARGET[:3]}, ValueError, r"tensor \[12\], got \[3\]"),
        ({"images": photos()[0]}, ValueError, "images must be"),
    ],
)
def test_wrong_grids(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"images": photos(), "target": TARGET, "n_grids": 2, **settings}
    with pytest.raises(error, match=message):
        photo_grids(**given)


@pytest.mark.parametrize(
    ("maps", "cell", "side", "message"),
    [
        (torch.zeros(2, 1, 6, 6), torch.tensor([0, 4]), 2, "from 0 to 3, got"),
        (torch.zeros(2, 1, 6, 6), torch.tensor([0]), 2, r"\[2\], got \[1\]"),
        (torch.zeros(2, 1, 6, 7), torch.tensor([0, 1]), 2, "side = 2, got 6 x 7"),
        (torch.zeros(2, 3, 6, 6), torch.tensor([0, 1]), 2, "reduce the channels"),
        (torch.zeros(2, 6, 6), torch.tensor([0, 1]), 2, "attributions must be"),
    ],
)
def test_a_wrong_game(maps: Tensor, cell: Tensor, side: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_pointing_game(maps, cell, side)
