"""Planted models: what they look at is known to the pixel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

HEIGHT, WIDTH = 24, 40
# Right and above the middle: a map with x and y mixed up would peak elsewhere.
ROWS, COLUMNS = slice(3, 9), slice(27, 35)


def _planted(images: Tensor) -> Tensor:
    """Class 0: mean brightness of the planted rectangle; class 1 is minus that; class
    2 depends on everything, and is not linear."""
    inside = images[:, :, ROWS, COLUMNS].mean((1, 2, 3))
    curved = images.std((1, 2, 3)) + images[:, :, :, :9].mean((1, 2, 3)) ** 2
    return torch.stack([inside, -inside, curved], dim=1)


@pytest.fixture
def planted() -> Callable[[Tensor], Tensor]:
    return _planted


@pytest.fixture
def images() -> Tensor:
    """`[3, 2, HEIGHT, WIDTH]`, none of them dark."""
    source = torch.Generator().manual_seed(4)
    return 0.5 + 0.5 * torch.rand(3, 2, HEIGHT, WIDTH, generator=source)


@pytest.fixture
def in_rectangle() -> Callable[[Tensor], bool]:
    """Does the maximum of one map lie in the planted rectangle?"""

    def inside(values: Tensor) -> bool:
        row, column = divmod(int(values.argmax()), WIDTH)
        return row in range(24)[ROWS] and column in range(40)[COLUMNS]

    return inside
