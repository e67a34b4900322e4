"""Small models whose boxes are known, or cheap to compute by brute force."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class Affine(nn.Module):
    """Scores W x + b of the flattened inputs, W `[K, d]`."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1) @ self.weight.T + self.bias


def _affine(n_classes: int, d: int, seed: int = 0) -> Affine:
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_classes, d, generator=rng, dtype=torch.float64)
    bias = torch.randn(n_classes, generator=rng, dtype=torch.float64)
    return Affine(weight, bias).eval()


@pytest.fixture
def affine() -> Callable[..., Affine]:
    return _affine


@pytest.fixture
def smooth_net() -> nn.Module:
    """Curved everywhere: images `[N, 2, 5, 4]` to 6 scores, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(60, 16),
            nn.Tanh(),
            nn.Linear(16, 6),
        )
    return net.double().eval()


@pytest.fixture
def images() -> Tensor:
    rng = torch.Generator().manual_seed(2)
    return torch.rand(3, 2, 5, 4, generator=rng, dtype=torch.float64)
