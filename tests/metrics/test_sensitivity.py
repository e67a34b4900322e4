"""Max-sensitivity against a loop, and what must not leak into it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from xai_lib.baselines import RISE, Gradient, SmoothGrad
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox
from xai_lib.kernels import philox
from xai_lib.metrics import max_sensitivity


def images(n: int, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=generator(3), dtype=torch.float64)


def curved(x: Tensor) -> Tensor:
    weights = torch.randn(x[0].numel(), 3, generator=generator(1)).to(x)
    return (x.flatten(1) @ weights).tanh()


def deltas(shape: tuple[int, ...], radius: float, n: int, seed: int) -> list[Tensor]:
    drawn = philox.uniforms(seed, 0, n, math.prod(shape))
    return [radius * t for t in drawn.view(n, *shape)]


def by_loop(
    attribute: Callable[..., Tensor],
    x: Tensor,
    target: Tensor,
    radius: float,
    n: int,
    seed: int,
) -> Tensor:
    worst = torch.zeros(len(x), dtype=torch.float64)
    for i in range(len(x)):
        here = attribute(x[i : i + 1], target=target[i : i + 1])
        for delta in deltas(x.shape[1:], radius, n, seed):
            there = attribute(x[i : i + 1] + delta, target=target[i : i + 1])
            worst[i] = max(worst[i], (there - here).norm() / here.norm())
    return worst


@pytest.mark.parametrize(
    ("radius", "n_samples", "seed"), [(0.02, 10, 0), (0.3, 3, 7), (0.1, 1, 2)]
)
@pytest.mark.parametrize(
    "explainer",
    [Gradient(curved), SmoothGrad(curved, 6), RISE(curved, 70, mask_size=3)],
    ids=["Gradient", "SmoothGrad", "RISE"],
)
def test_equals_a_loop(
    explainer: Any, radius: float, n_samples: int, seed: int
) -> None:
    x, target = images(4, 2, 5, 6), torch.tensor([0, 2, 1, 2])
    found = max_sensitivity(explainer.attribute, x, target, radius, n_samples, seed)
    expected = by_loop(explainer.attribute, x, target, radius, n_samples, seed)
    assert found.shape == (4,)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert (found > 1e-4).all()


def test_a_linear_explainer_has_a_closed_form() -> None:
    """E(x) = x: the largest ‖δ‖ / ‖x‖, and δ is uniform in the cube."""
    x = images(3, 1, 40, 40) + 1

    def identity(images: Tensor, target: Tensor) -> Tensor:
        return images

    found = max_sensitivity(identity, x, 0, radius=0.05, n_samples=20)
    drawn = deltas((1, 40, 40), 0.05, 20, 0)
    largest = max(float(delta.norm()) for delta in drawn)
    torch.testing.assert_close(found, largest / x.flatten(1).norm(dim=1))
    # E‖δ‖² = d r² / 3, with little spread in 1,600 dimensions.
    assert largest == pytest.approx((1600 / 3) ** 0.5 * 0.05, rel=0.05)
    assert max(float(delta.abs().max()) for delta in drawn) <= 0.05


def test_an_image_has_the_same_value_alone() -> None:
    x, target = images(3, 1, 6, 6), torch.tensor([0, 2, 1])
    attribute = RISE(curved, 40, mask_size=3).attribute
    together = max_sensitivity(attribute, x, target, n_samples=4)
    alone = [
        max_sensitivity(attribute, x[i : i + 1], target[i : i + 1], n_samples=4)
        for i in range(3)
    ]
    torch.testing.assert_close(torch.cat(alone), together)


def test_the_class_does_not_change_with_the_image() -> None:
    """At the border between two classes, E for each class is stable, for both not."""
    asked: list[list[int]] = []

    def of_class(images: Tensor, target: Tensor) -> Tensor:
        asked.append(target.tolist())
        return (1 + target).double()[:, None, None, None].expand(-1, 1, 2, 2)

    x = images(2, 1, 2, 2)
    assert max_sensitivity(of_class, x, torch.tensor([0, 1])).tolist() == [0, 0]
    assert asked == [[0, 1]] * 11
    with pytest.raises(
        TypeError, match=r"target must .* None; fix it, e\.g\. to model"
    ):
        max_sensitivity(of_class, x, None)


def test_sampling_noise_is_not_measured() -> None:
    """Captum's NoiseTunnel draws from the global state; its model is linear here."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).double()
    x = images(2, 1, 3, 3)

    def noisy(images: Tensor, target: Tensor) -> Tensor:
        return Gradient(linear).attribute(images, target) + torch.randn(1, 3, 3)

    found = max_sensitivity(noisy, x, 1)
    assert found.tolist() == pytest.approx([0, 0], abs=1e-12)
    tunnel = captum.attr.NoiseTunnel(captum.attr.InputXGradient(linear))
    found = max_sensitivity(
        lambda images, target: tunnel.attribute(images, target=target, nt_samples=5),
        x,
        1,
    )
    assert (found < 0.1).all()  # with noise of its own: about 1


def test_the_global_random_state_is_restored() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()

    def drawing(images: Tensor, target: Tensor) -> Tensor:
        return images + torch.randn(images.shape)

    found = max_sensitivity(drawing, images(2, 1, 3, 3), 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)  # has no say
    assert torch.equal(max_sensitivity(drawing, images(2, 1, 3, 3), 0), found)
    other = max_sensitivity(drawing, images(2, 1, 3, 3), 0, seed=1)
    assert not torch.equal(other, found)


def test_explainers_that_differentiate_are_welcome() -> None:
    """Captum calls explainers under no_grad."""

    def differentiating(images: Tensor, target: Tensor) -> Tensor:
        images = images.clone().requires_grad_()
        return torch.autograd.grad(curved(images)[:, 0].sum(), images)[0]

    x = images(2, 1, 3, 3)
    expected = max_sensitivity(Gradient(curved).attribute, x, 0)
    torch.testing.assert_close(max_sensitivity(differentiating, x, 0), expected)


def test_limits() -> None:
    x = images(2, 1, 4, 4)
    before = x.clone()
    assert max_sensitivity(Gradient(curved).attribute, x, 0, radius=0).tolist() == [
        0,
        0,
    ]
    nothing = max_sensitivity(lambda images, target: 0 * images, x, 0)
    assert nothing.tolist() == [0, 0]
    assert torch.equal(x, before)
    blackbox = BlackBox(curved)
    max_sensitivity(RISE(blackbox, 30, mask_size=3).attribute, x, 0, n_samples=4)
    assert blackbox.queries == 2 * 30 * (1 + 4)


@pytest.mark.parametrize("change", [Tensor.numpy, lambda maps: (maps,)])
def test_maps_are_tensors(change: Callable) -> None:
    with pytest.raises(TypeError, match="attribute must return a tensor, got"):
        max_sensitivity(lambda x, target: change(x), images(2, 1, 3, 3), 0)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"radius": -0.1}, ValueError, r"radius must be .* at least 0, got -0\.1"),
        ({"n_samples": 0}, ValueError, "n_samples must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"target": torch.tensor([0, 1, 2])}, ValueError, r"\[2\], got \[3\]"),
        ({"inputs": images(1, 3, 3)}, ValueError, "inputs must be"),
    ],
)
def test_wrong_arguments(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"inputs": images(2, 1, 3, 3), "target": 0, **settings}
    with pytest.raises(error, match=message):
        max_sensitivity(Gradient(curved).attribute, **given)
