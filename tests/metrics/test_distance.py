"""The distance between maps against a loop over columns, and maps made by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from xai_lib.metrics import map_distance


def maps(n: int, *shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=source, dtype=torch.float64)


def by_loop(first: Tensor, second: Tensor) -> float:
    """For two maps `[H, W]`."""
    a = first / max(abs(v) for v in first.flatten().tolist())
    b = second / max(abs(v) for v in second.flatten().tolist())
    total = 0.0
    for column in (a - b).T:
        total += sum(v**2 for v in column.tolist()) ** 0.5
    return total / a.numel()


def test_is_the_sum_of_the_columns_lengths_per_pixel() -> None:
    first, second = maps(3, 1, 5, 7), maps(3, 1, 5, 7, seed=1)
    found = map_distance(first, second)
    assert found.shape == (3,)
    for i in range(3):
        assert found[i].item() == pytest.approx(by_loop(first[i, 0], second[i, 0]))


def test_by_hand() -> None:
    """Columns (3, 4) and (0, 1) apart, after division by 10: (0.5 + 0.1) / 4."""
    first = torch.tensor([[[[10.0, 0.0], [-4.0, 1.0]]]])
    second = torch.tensor([[[[7.0, 0.0], [-10.0, 0.0]]]])
    # Scaled: (1, −0.4) − (0.7, −1) = (0.3, 0.6), and (0, 0.1) − 0.
    assert map_distance(first, second).item() == pytest.approx((0.45**0.5 + 0.1) / 4)


def test_rows_and_columns_are_not_alike() -> None:
    """The same four numbers: a column of them is shorter than a row."""
    row = torch.zeros(1, 1, 4, 4)
    row[..., 0, :] = 1
    zero = torch.zeros(1, 1, 4, 4)
    assert map_distance(row, zero).item() == pytest.approx(4 / 16)
    assert map_distance(row.mT, zero).item() == pytest.approx(2 / 16)


def test_is_a_distance_that_knows_no_scale() -> None:
    first, second, third = (maps(4, 1, 6, 6, seed=s) for s in range(3))
    apart = map_distance(first, second)
    torch.testing.assert_close(map_distance(second, first), apart)
    torch.testing.assert_close(map_distance(1e-6 * first, 1e6 * second), apart)
    assert (map_distance(first, 3 * first).abs() < 1e-12).all()
    around = map_distance(first, third) + map_distance(third, second)
    assert (apart <= around).all()
    # A map turned over is as far as can be: twice its own size.
    torch.testing.assert_close(
        map_distance(first, -first), 2 * map_distance(first, 0 * first)
    )


def test_channels_are_summed() -> None:
    first, second = maps(2, 3, 5, 5), maps(2, 3, 5, 5, seed=1)
    expected = map_distance(first.sum(1, keepdim=True), second.sum(1, keepdim=True))
    torch.testing.assert_close(map_distance(first, second), expected)
    torch.testing.assert_close(
        map_distance(first, second.sum(1, keepdim=True)), expected
    )


def test_a_map_of_zeros_stays_what_it_is() -> None:
    zero = torch.zeros(2, 1, 3, 3)
    assert map_distance(zero, zero).tolist() == [0, 0]
    one = torch.zeros(2, 1, 3, 3)
    one[:, 0, 1, 1] = -7
    assert map_distance(one, zero).tolist() == pytest.approx([1 / 9, 1 / 9])


@pytest.mark.parametrize(
    ("first", "second", "error", "message"),
    [
        (
            torch.ones(2, 1, 3, 3),
            torch.ones(1, 1, 3, 3),
            ValueError,
            r"first and second must be maps of the same images, got .*\[2, 1, 3, 3\]",
        ),
        (
            torch.ones(1, 1, 3, 3),
            torch.ones(1, 1, 3, 4),
            ValueError,
            r"same images, got shapes \[1, 1, 3, 3\] and \[1, 1, 3, 4\]",
        ),
        (torch.ones(3, 3), torch.ones(3, 3), ValueError, "first must be"),
        (torch.ones(1, 1, 3, 3), [[1.0]], TypeError, "second must be a torch.Tensor"),
        (
            torch.ones(1, 1, 3, 3),
            torch.full((1, 1, 3, 3), float("nan")),
            ValueError,
            "second must be finite",
        ),
    ],
)
def test_wrong_arguments(
    first: Any, second: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        map_distance(first, second)
