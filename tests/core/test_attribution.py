"""What all explainers share: Captum's call shape, targets, and clean hands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor

from xai_lib.baselines.rise import RISE
from xai_lib.core import attribution as attribution_module
from xai_lib.core.attribution import Attribution, BlackBoxAttribution, generator
from xai_lib.core.blackbox import BlackBox

IMAGES = torch.randn(3, 1, 6, 5, generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))


def linear(images: Tensor) -> Tensor:
    return images.flatten(1) @ WEIGHTS.to(images)


class Slope(Attribution):
    """The gradient by autograd, in as few lines as the base class asks for."""

    def _scores(self, inputs: Tensor) -> Tensor:
        return self.forward_func(inputs)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        with torch.enable_grad():
            inputs = inputs.requires_grad_()
            scores = self.forward_func(inputs).gather(1, target[:, None])
            return torch.autograd.grad(scores.sum(), inputs)[0]


def rise(forward_func: Callable = linear) -> RISE:
    return RISE(forward_func, n_samples=70, mask_size=3)


def slopes(target: list[int]) -> Tensor:
    return torch.stack([WEIGHTS[:, t].view(1, 6, 5) for t in target])


def test_threads_that_come_first_share_one_blackbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    barrier, made = threading.Barrier(3), []

    def slowly(forward_func: Callable) -> BlackBox:
        barrier.wait(timeout=10)  # until all three are here
        made.append(BlackBox(forward_func))
        return made[-1]

    explainer = rise()
    monkeypatch.setattr(attribution_module, "as_blackbox", slowly)
    # Python 3.10 and 3.11 hold a lock around a cached property, later ones do not.
    ask = BlackBoxAttribution.blackbox.func
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(ask, [explainer] * 3))
    assert len(made) == 3
    assert all(blackbox is found[0] for blackbox in found)
    assert explainer.blackbox is found[0]


def test_targets() -> None:
    explainer = Slope(linear)
    predicted = linear(IMAGES).argmax(1).tolist()
    assert len(set(predicted)) > 1
    torch.testing.assert_close(explainer.attribute(IMAGES), slopes(predicted))
    torch.testing.assert_close(explainer.attribute(IMAGES, 2), slopes([2, 2, 2]))
    torch.testing.assert_close(
        explainer.attribute(IMAGES, target=torch.tensor([3, 0, 1])), slopes([3, 0, 1])
    )


def test_none_is_fixed_at_the_input() -> None:
    """The prediction changes under masks; the explained class must not."""
    explainer = rise()
    predicted = linear(IMAGES).argmax(1)
    seen = []

    def scores(images: Tensor) -> Tensor:
        seen.append(linear(images).argmax(1))
        return linear(images)

    maps = rise(scores).attribute(IMAGES)
    assert len(torch.cat(seen).unique()) > 1
    assert torch.equal(maps, explainer.attribute(IMAGES, predicted))


@pytest.mark.parametrize("kind", [Slope, rise])
@pytest.mark.parametrize(
    ("inputs", "target", "error", "message"),
    [
        (IMAGES.numpy(), 0, TypeError, r"inputs must be a torch\.Tensor"),
        (
            IMAGES.long(),
            0,
            TypeError,
            r"inputs must be floating point.*float\(\) / 255",
        ),
        (IMAGES[0], 0, ValueError, r"inputs .*unsqueeze"),
        (IMAGES.flatten(1), 0, ValueError, r"inputs must be \[N, C, H, W\]"),
        (IMAGES[:0], 0, ValueError, "inputs must not be empty"),
        (IMAGES / 0, 0, ValueError, "inputs must be finite"),
        (IMAGES, "cat", TypeError, "target must be an int"),
        (IMAGES, torch.tensor([0, 1]), ValueError, r"target .*tensor \[3\], got \[2\]"),
        (IMAGES, -1, ValueError, "target must not be negative"),
    ],
)
def test_wrong_arguments(
    kind: Callable, inputs: Any, target: Any, error: type[Exception], message: str
) -> None:
    asked: list[int] = []

    def scores(images: Tensor) -> Tensor:
        asked.append(len(images))
        return linear(images)

    with pytest.raises(error, match=message):
        kind(scores).attribute(inputs, target)
    assert asked == []


@pytest.mark.parametrize("forward_func", [None, "vgg16"])
def test_forward_func_must_be_callable(forward_func: Any) -> None:
    with pytest.raises(TypeError, match="forward_func must be callable"):
        rise(forward_func)


def test_abstract_classes_cannot_be_made() -> None:
    for base in (Attribution, BlackBoxAttribution):
        with pytest.raises(TypeError, match="abstract"):
            base(linear)  # type: ignore[abstract]


def test_rows_where_a_method_allows_them() -> None:
    class Rows(Slope):
        input_dims = (2, 4)

    rows = torch.rand(2, 30)
    assert torch.equal(Rows(linear).attribute(rows, 1), WEIGHTS[:, 1].expand(2, -1))


def test_a_blackbox_of_ones_own_counts() -> None:
    blackbox = BlackBox(linear, budget=1000)
    explainer = rise(blackbox)
    explainer.attribute(IMAGES, 0)
    assert explainer.blackbox is blackbox
    assert blackbox.queries == 210


# Captum's tools


@pytest.mark.parametrize("kind", [Slope, rise])
@pytest.mark.parametrize("target", [1, torch.tensor([2, 0, 1])])
def test_noise_tunnel_without_noise_changes_nothing(
    kind: Callable, target: int | Tensor
) -> None:
    explainer = kind(linear)
    tunnel = NoiseTunnel(explainer)
    maps = tunnel.attribute(IMAGES, nt_samples=3, stdevs=0.0, target=target)
    torch.testing.assert_close(maps, explainer.attribute(IMAGES, target))


def test_noise_tunnel_averages_over_noise() -> None:
    maps = NoiseTunnel(Slope(lambda x: linear(x) ** 2 / 2)).attribute(
        IMAGES, nt_samples=2000, nt_samples_batch_size=100, stdevs=0.1, target=1
    )
    # The gradient of a square is linear, so its mean over noise is its value at x.
    exact = linear(IMAGES)[:, 1, None, None, None] * slopes([1, 1, 1])
    spread = 0.1 * WEIGHTS[:, 1].norm() * slopes([1, 1, 1]).abs() / 2000**0.5
    assert ((maps - exact).abs() <= 5 * spread + 1e-4).all()


def test_sensitivity_max_equals_its_formula() -> None:
    explainer = rise()

    def brighter(images: Tensor) -> Tensor:
        return images + 0.1

    worst = sensitivity_max(
        explainer.attribute, IMAGES, brighter, n_perturb_samples=2, target=1
    )
    here = explainer.attribute(IMAGES, 1).flatten(1)
    there = explainer.attribute(IMAGES + 0.1, 1).flatten(1)
    torch.testing.assert_close(worst, (there - here).norm(dim=1) / here.norm(dim=1))


def test_sensitivity_max_sees_no_sampling_noise() -> None:
    """A model that ignores the image: whatever moved would be our own noise."""

    def constant(images: Tensor) -> Tensor:
        return torch.full((len(images), 2), 3.0)

    worst = sensitivity_max(rise(constant).attribute, IMAGES, target=0)
    assert (worst < 1e-6).all()


def test_infidelity_equals_its_formula() -> None:
    shift = 0.1 * torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(3))

    def perturb(images: Tensor) -> tuple[Tensor, Tensor]:
        return shift, images - shift

    exact = Slope(linear).attribute(IMAGES, 1)
    zero = infidelity(linear, perturb, IMAGES, exact, target=1, n_perturb_samples=1)
    assert (zero < 1e-10).all()
    maps = rise().attribute(IMAGES, 1)
    value = infidelity(linear, perturb, IMAGES, maps, target=1, n_perturb_samples=1)
    drop = (linear(IMAGES) - linear(IMAGES - shift))[:, 1]
    expected = ((maps * shift).sum((1, 2, 3)) - drop) ** 2
    torch.testing.assert_close(value, expected)


def test_a_tuple_of_one_gives_a_tuple_of_one() -> None:
    (maps,) = Slope(linear).attribute((IMAGES,), target=1)
    assert torch.equal(maps, slopes([1, 1, 1]))
    with pytest.raises(TypeError, match=r"inputs must be .*got tuple"):
        Slope(linear).attribute((IMAGES, IMAGES), target=1)


# Progress, seeds and clean hands


def test_progress_is_silent_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    rise().attribute(IMAGES, 0)
    assert capfd.readouterr() == ("", "")
    rise().attribute(IMAGES, 0, show_progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "RISE:" in err
    assert err.endswith("\r")  # leave=False: the bar wipes itself out


def test_progress_heeds_the_switch_of_tqdm(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    rise().attribute(IMAGES, 0, show_progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [Slope, rise])
def test_clean_hands(kind: Callable) -> None:
    images = IMAGES.clone().requires_grad_()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first = kind(linear).attribute(images)
    assert torch.equal(first, kind(linear).attribute(images))  # same seed, same map
    assert torch.equal(images, IMAGES)
    assert images.grad is None
    assert images.requires_grad
    assert not first.requires_grad
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002


def test_works_where_gradients_are_off() -> None:
    with torch.no_grad():
        assert torch.equal(Slope(linear).attribute(IMAGES, 1), slopes([1, 1, 1]))


def test_generators_are_independent_of_each_other() -> None:
    first, second = generator(3), generator(3)
    torch.rand(5, generator=first)
    assert torch.equal(
        torch.rand(2, generator=second), torch.rand(2, generator=generator(3))
    )
