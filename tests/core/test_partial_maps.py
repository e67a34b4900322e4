"""What a budget paid for is not lost: `BudgetExceeded.partial` of each method."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xai_lib import AISE, GEEX, RISE
from xai_lib.baselines import LIME, KernelSHAP, Occlusion
from xai_lib.core.blackbox import BlackBox, BudgetExceeded

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def corner(images: Tensor) -> Tensor:
    """Only the upper left quarter counts."""
    return images[:, :, :16, :16].mean(dim=(2, 3))


SQUARES = torch.arange(16).view(4, 4).repeat_interleave(8, 0).repeat_interleave(8, 1)
MAKE = {
    "LIME": lambda model: LIME(model, n_samples=1500, feature_mask=SQUARES),
    "KernelSHAP": lambda model: KernelSHAP(model, n_samples=1500, feature_mask=SQUARES),
    "RISE": lambda model: RISE(model, n_samples=400),
    "RISE, ridge": lambda model: RISE(model, n_samples=400, estimator="ridge"),
    "GEEX": lambda model: GEEX(model, n_samples=2000, stdevs=0.1),
    "Occlusion": lambda model: Occlusion(model, window=2, stride=2),
    "AISE": lambda model: AISE(model, n_kernels=60),
}


@pytest.mark.parametrize("name", MAKE)
def test_what_was_asked_gives_a_map(name: str) -> None:
    whole = MAKE[name](BlackBox(corner)).attribute(IMAGES, 1)
    free = BlackBox(corner)
    MAKE[name](free).attribute(IMAGES, 1)
    short = BlackBox(corner, budget=int(0.7 * free.queries))
    with pytest.raises(BudgetExceeded) as caught:
        MAKE[name](short).attribute(IMAGES, 1)
    partial = caught.value.partial
    assert partial is not None
    assert partial.shape == whole.shape
    assert bool(partial.isfinite().all())
    alike = torch.corrcoef(torch.stack([partial.flatten(), whole.flatten()]).double())
    assert float(alike[0, 1]) > 0.6


@pytest.mark.parametrize("name", ["AISE", "LIME", "KernelSHAP", "RISE", "RISE, ridge"])
def test_nothing_asked_gives_no_map(name: str) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        MAKE[name](BlackBox(corner, budget=1)).attribute(IMAGES, 1)
    assert caught.value.partial is None
