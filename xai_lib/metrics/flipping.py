"""Quantile flipping: how much of the image can go before the decision changes?

Ikeno and Hara, 2018, section 4.2: pixels with scores below the tau % quantile are
replaced by grey; a good map keeps the decision for long, because what matters has
high scores and stays. Their Figure 1 draws the share of images whose class changed.
(Its caption speaks of high scores being flipped; the text and the curves are about
low scores.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from xai_lib.arguments import check_number
from xai_lib.blackbox import as_blackbox
from xai_lib.image_range import check_range
from xai_lib.metrics.sweep import check_maps, ranks, sweep


class FlipCurve(NamedTuple):
    """The outcome of `flipping`."""

    quantiles: Tensor
    """tau in percent, `[T]`."""
    changed: Tensor
    """Whether the predicted class differs from the one at the input, bool `[N, T]`."""

    @property
    def ratio(self) -> Tensor:
        """The share of images whose class changed, `[T]`, as in the paper."""
        return self.changed.double().mean(dim=0)


def flipping(
    forward_func: Callable,
    inputs: Tensor,
    attributions: Tensor,
    quantiles: Sequence[float] = tuple(range(0, 101, 5)),
    value: float = 0.5,
) -> FlipCurve:
    """Flip the features with the lowest scores to `value` and watch the decision.

    Args:
        forward_func: images to scores.
        inputs: `[N, C, H, W]`.
        attributions: `[N, C, H, W]`, each channel of a pixel flips on its own as in
            the paper, or `[N, 1, H, W]`, whole pixels flip.
        quantiles: tau in percent. At tau the floor(tau / 100 * d) lowest of the d
            scores are flipped; ties go in the order of the pixels.
        value: 0.5 is the paper's grey; 0 and 1 are the black and white of footnote 6.

    Raises:
        TypeError, ValueError: a wrong argument, by name.
    """
    check_maps(attributions, inputs)
    check_range(forward_func, inputs)
    check_number("value", value, float("-inf"))
    taus = torch.tensor(
        [check_number("quantiles", q, 0, 100) for q in quantiles], dtype=torch.float64
    )
    if not len(taus):
        raise ValueError("quantiles must not be empty")
    blackbox = as_blackbox(forward_func)
    decision = blackbox(inputs).argmax(dim=1)
    # In whole numbers of features; floor(55 * 0.01 * 100) would be 54 in floats.
    counts = (taus * attributions[0].numel() / 100 + 1e-9).floor().long()
    flipped = torch.full_like(inputs, value)
    rank = ranks(attributions, descending=False)
    scores = sweep(blackbox, inputs, flipped, rank, counts)
    return FlipCurve(taus, (scores.argmax(dim=2) != decision[:, None]).cpu())
