"""What `docs/teachers.md` says about maps on another processor.

oneDNN, which computes convolutions in another order than torch's own code does, is
switched off to imitate one. Where there is no oneDNN, both are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from xai_lib import baselines
from xai_lib.aise import AISE
from xai_lib.geex import GEEX
from xai_lib.zoo import digits, models

pytestmark = pytest.mark.filterwarnings("ignore:TF32")

METHODS: dict[str, Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]]] = {
    "RISE": lambda net: baselines.RISE(net, n_samples=200).attribute,
    "AISE": lambda net: AISE(net, sampler="random", n_kernels=50).attribute,
    "GEEX": lambda net: GEEX(net, n_samples=200, stdevs=0.5).attribute,
    "SmoothGrad": lambda net: baselines.SmoothGrad(net, n_samples=10).attribute,
    "GradCAM": lambda net: baselines.GradCAM(net).attribute,
}


@pytest.mark.parametrize("data", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("method", METHODS)
def test_maps_that_are_the_same_up_to_rounding(method: str, data: str) -> None:
    network = models.load(f"cnn_{data}")
    images = getattr(digits, data)(6).images
    with torch.no_grad():
        scores = network(images)
    target = scores.argmax(dim=1)
    here = METHODS[method](network)(images, target)
    with torch.backends.mkldnn.flags(enabled=False):
        with torch.no_grad():
            torch.testing.assert_close(network(images), scores, atol=1e-5, rtol=0)
        there = METHODS[method](network)(images, target)
    largest = here.abs().amax(dim=(1, 2, 3), keepdim=True)
    assert float(((here - there).abs() / largest).max()) < 1e-4


def test_of_equal_values_the_first_passes_the_gradient_on() -> None:
    for on in (True, False):
        with torch.backends.mkldnn.flags(enabled=on):
            image = torch.ones(2, 3, 8, 8, requires_grad=True)
            pooled = nn.functional.max_pool2d(image, 2)
            (passed,) = torch.autograd.grad(pooled.sum(), image)
        assert torch.equal(passed.nonzero()[:, 2:] % 2, torch.zeros(96, 2).long())
