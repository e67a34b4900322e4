"""Occlusion against a loop over squares, and the number of its queries."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xai_lib.baselines import occlusion as module
from xai_lib.baselines.occlusion import Occlusion
from xai_lib.core.blackbox import BlackBox, BudgetExceeded


def images(n: int, *shape: int) -> Tensor:
    source = torch.Generator().manual_seed(4)
    return torch.rand(n, *shape, dtype=torch.float64, generator=source)


def curved(x: Tensor) -> Tensor:
    """Three scores that no single square explains."""
    return torch.stack(
        [x.mean((1, 2, 3)), x.std((1, 2, 3)), x[:, :, 1:4].prod(2).sum((1, 2))], 1
    )


def by_loop(
    image: Tensor, target: int, window: int, stride: int, baseline: Tensor
) -> Tensor:
    """The map `[H, W]` of one image `[C, H, W]`: one square after the other."""

    def score(x: Tensor) -> Tensor:
        return curved(x[None])[0, target]

    height, width = image.shape[1:]
    total = torch.zeros(height, width, dtype=image.dtype)
    seen = torch.zeros(height, width, dtype=image.dtype)
    for top in range(0, height - window + stride, stride):
        for left in range(0, width - window + stride, stride):
            square = (slice(top, top + window), slice(left, left + window))
            hidden = image.clone()
            hidden[(slice(None), *square)] = baseline[(slice(None), *square)]
            total[square] += score(image) - score(hidden)
            seen[square] += 1
    return total / seen


@pytest.mark.parametrize(
    ("window", "stride"), [(3, None), (3, 2), (4, 1), (5, 3), (7, 7), (1, 1)]
)
def test_is_the_mean_loss_over_the_squares_on_a_pixel(
    window: int, stride: int | None
) -> None:
    x = images(3, 2, 7, 9)
    target = torch.tensor([0, 2, 1])
    maps = Occlusion(curved, window, stride).attribute(x, target)
    assert maps.shape == (3, 1, 7, 9)
    step = window if stride is None else stride
    for image, chosen, drawn in zip(x, target, maps, strict=True):
        expected = by_loop(image, int(chosen), window, step, torch.zeros(2, 7, 9))
        torch.testing.assert_close(drawn[0], expected, rtol=2e-7, atol=1e-8)


@pytest.mark.parametrize("baselines", [0.5, torch.rand(2, 7, 9).double()])
def test_the_square_shows_the_baseline(baselines: float | Tensor) -> None:
    x = images(1, 2, 7, 9)
    drawn = Occlusion(curved, 3, baselines=baselines).attribute(x, 1)[0, 0]
    shown = torch.zeros(2, 7, 9).double() + baselines
    expected = by_loop(x[0], 1, 3, 3, shown)
    torch.testing.assert_close(drawn, expected, rtol=2e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("window", "stride", "squares"), [(3, 3, 9), (3, 2, 12), (2, 1, 48)]
)
@pytest.mark.parametrize("n", [1, 5])
def test_queries(window: int, stride: int, squares: int, n: int) -> None:
    blackbox = BlackBox(curved)
    Occlusion(blackbox, window, stride).attribute(images(n, 1, 7, 9), target=0)
    assert blackbox.queries == n * (1 + squares)
    with pytest.raises(BudgetExceeded):
        Occlusion(BlackBox(curved, budget=5), window).attribute(images(1, 1, 7, 9), 0)


def test_how_queries_are_bundled_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, target = images(5, 2, 7, 9), torch.tensor([0, 1, 2, 1, 0])
    together = Occlusion(curved, 3, 2).attribute(x, target)
    alone = [
        Occlusion(curved, 3, 2).attribute(x[i : i + 1], target[i : i + 1])
        for i in range(5)
    ]
    monkeypatch.setattr(module, "QUERIES_PER_CALL", 2)
    bundled = Occlusion(curved, 3, 2).attribute(x, target)
    torch.testing.assert_close(torch.cat(alone), together, rtol=2e-7, atol=1e-10)
    torch.testing.assert_close(bundled, together, rtol=2e-7, atol=1e-10)


def test_the_predicted_class_is_the_default_and_the_input_stays() -> None:
    x = images(4, 2, 7, 9)
    before = x.clone()
    explainer = Occlusion(curved, 3)
    predicted = curved(x).argmax(dim=1)
    assert torch.equal(explainer.attribute(x), explainer.attribute(x, predicted))
    assert torch.equal(x, before)


def test_bad_settings_and_inputs() -> None:
    with pytest.raises(ValueError, match=r"stride must be at most window \(3\).*got 4"):
        Occlusion(curved, 3, 4)
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        Occlusion(curved, 0)
    with pytest.raises(TypeError, match=r"window must be an integer, got 2\.5"):
        Occlusion(curved, 2.5)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="window must be at most the image's side, got 8"
    ):
        Occlusion(curved, 8).attribute(images(1, 2, 7, 9), 0)
    with pytest.raises(
        ValueError, match=r"shaped like one input, \[2, 7, 9\], got \[7, 9\]"
    ):
        Occlusion(curved, 3, baselines=torch.zeros(7, 9)).attribute(
            images(1, 2, 7, 9), 0
        )
    with pytest.raises(ValueError, match="target 3 is out of range"):
        Occlusion(curved, 3).attribute(images(1, 2, 7, 9), 3)
