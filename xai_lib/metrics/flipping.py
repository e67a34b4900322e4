"""Quantile flipping: how much of the image can go before the decision changes?

Ikeno and Hara, 2018, section 4.2: pixels with scores below the tau % quantile are
replaced by grey; a good map keeps the decision for long, because what matters has
high scores and stays. Their Figure 1 draws the share of images whose class changed.
(Its caption speaks of high scores being flipped; the text and the curves are about
low scores.) Where many pixels share a score, as in maps that are clipped, the rule for
ties decides the curve.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from xai_lib.core.arguments import (
    check_choice,
    check_classes,
    check_number,
    check_numbers,
)
from xai_lib.core.blackbox import as_blackbox
from xai_lib.core.blocks import groups, joined
from xai_lib.core.image_range import check_range
from xai_lib.metrics.sweep import check_maps, ranks, sweep

TIES = ("below", "position", "at most")
"""The rules of `flipping` for equal scores."""


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
    ties: str = "below",
) -> FlipCurve:
    """Flip the features with the lowest scores to `value` and watch the decision.

    Args:
        forward_func: images to scores.
        inputs: `[N, C, H, W]`.
        attributions: `[N, C, H, W]`, each channel of a pixel flips on its own as in
            the paper, or `[N, 1, H, W]`, whole pixels flip.
        quantiles: tau in percent.
        value: 0.5 is the paper's grey; 0 and 1 are the black and white of footnote 6.
        ties: "below", scores smaller than the quantile are flipped, as in the paper's
            step 1, so that the highest stay even at 100; "at most", those at the
            quantile too, so that the lowest are flipped even at 0; "position", just
            floor(tau / 100 * d) of the d scores, equal ones in the order of the pixels.
            Quantiles are NumPy's.

    Raises:
        TypeError, ValueError: a wrong argument, by name; a single score per input,
            which cannot change its class.
    """
    check_maps(attributions, inputs)
    check_range(forward_func, inputs)
    check_number("value", value, float("-inf"))
    percents = check_numbers("quantiles", quantiles, 0, 100)
    check_choice("ties", ties, TIES)
    taus = torch.tensor(percents, dtype=torch.float64, device="cpu")
    blackbox = as_blackbox(forward_func)
    scores = blackbox(inputs)
    check_classes(scores)
    decision = scores.argmax(dim=1)

    def changes(images: Tensor, maps: Tensor, before: Tensor) -> Tensor:
        rank, counts = ranks(maps, descending=False), _counts(maps, taus, ties)
        flipped = images.new_full((), value).expand_as(images)

        def keep(i: slice, scores: Tensor) -> Tensor:
            return scores.argmax(dim=2) != before[i, None]

        return sweep(blackbox, images, flipped, rank, counts, keep)

    parts = groups(inputs, attributions, decision)
    changed = joined(len(inputs), (changes(*part) for part in parts))
    return FlipCurve(taus, changed.cpu())


def _counts(maps: Tensor, taus: Tensor, ties: str) -> Tensor:
    """How many of the lowest scores are flipped: int64 `[T]`, or `[N, T]`.

    A quantile lies between two neighbours of the sorted scores, so that comparing with
    one of them is enough, and nothing is rounded.
    """
    d = maps[0].numel()
    if ties == "position":
        # In whole numbers of features; floor(55 * 0.01 * 100) would be 54 in floats.
        return (taus * d / 100 + 1e-9).floor().long()
    place = taus * (d - 1) / 100
    below = ties == "below"
    at = (place - 1e-9).ceil() if below else (place + 1e-9).floor()
    scores = maps.flatten(1).sort(dim=1).values
    limits = scores[:, at.long().to(scores.device)].contiguous()
    return torch.searchsorted(scores, limits, right=not below)
