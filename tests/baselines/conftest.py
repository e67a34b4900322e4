"""The four architectures that the white-box baselines must be right on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torchvision
from torch import nn

from xai_lib.zoo import models

SIZES = {"vgg16": 32, "resnet50": 32, "inception_v3": 75, "efficientnet_lite0": 32}


def _vgg16() -> nn.Module:
    """VGG16 with dense layers of 64 units instead of 4,096, which take seconds."""
    with torch.device("meta"):
        network = torchvision.models.vgg16()
    network.classifier[0] = nn.Linear(512 * 7 * 7, 64)
    network.classifier[3] = nn.Linear(64, 64)
    network.classifier[6] = nn.Linear(64, 1000)
    network.features.to_empty(device="cpu")
    return nn.Sequential(models.normalization((0.485,) * 3, (0.23,) * 3), network)


@cache
def _lively(name: str, biased: bool) -> nn.Module:
    """Random weights that keep activations alive, biases and batch norms uneven."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _vgg16() if name == "vgg16" else models.load(name, pretrained=False)
        # Random numbers fill a tensor in the order of its memory.
        model.to(memory_format=torch.contiguous_format)
        shift = 0.2 if biased else 0.0
        for layer in model.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)
            if getattr(layer, "bias", None) is not None:
                nn.init.uniform_(layer.bias, -shift, shift)
            if isinstance(layer, nn.BatchNorm2d) and layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.0)
                nn.init.uniform_(layer.running_mean, -shift, shift)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
    model.to(torch.float64, memory_format=torch.channels_last)
    return model.eval().requires_grad_(False)


@pytest.fixture(params=list(SIZES))
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def lively() -> Callable[..., nn.Module]:
    """`lively(name, biased=True)`: the architecture in float64, random weights."""
    return lambda name, biased=True: _lively(name, biased)


@pytest.fixture
def photo(architecture: str) -> torch.Tensor:
    """Float64 `[1, 3, size, size]`, as small as the architecture allows."""
    size = SIZES[architecture]
    source = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, size, size, dtype=torch.float64, generator=source)
