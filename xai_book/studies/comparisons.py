"""Comparisons of what was measured, each with an interval and the verdict it allows.

A comparison is a difference per image whose mean over images is said to be positive, or
near zero. Its 95 % interval decides (see `Claim`); nothing is typed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

from xai_book.studies import aise
from xai_lib.metrics.intervals import bootstrap_mean, image_mean, sign

MARGIN = 0.01
"""Scores, cosines and distances that differ by less are called alike; who is nearer
than a point of accuracy reaches the other."""
FEWEST = 20
"""Fewer images leave a claim open: a bootstrap of few values is too sure of itself."""
MOST = 0.9
"""The share of cases in which a statement is true that is called true."""


class Claim(NamedTuple):
    """A statement of a paper, or of this book, held against the rows."""

    statement: str
    value: float
    """The mean over images of what the statement says is large, or near zero."""
    low: float
    high: float
    """Its 95 % interval over images."""
    verdict: str
    """"holds" or "fails" if the whole interval says so, else "open"; an interval that
    touches the limit (`metrics.intervals.sign`) says nothing."""
    images: int
    """How many the mean is of; with fewer than FEWEST the claim is open."""


def larger(statement: str, difference: Tensor, margin: float = 0) -> Claim:
    """The claim that differences `[N]` have a mean above -margin."""
    low, high = (float(end) for end in bootstrap_mean(difference))
    mean, images = float(image_mean(difference)), len(difference)
    return positive(statement, mean, (low, high), images, margin)


def alike(statement: str, difference: Tensor, margin: float = MARGIN) -> Claim:
    """The claim that differences `[N]` have a mean within a margin of zero."""
    low, high = (float(end) for end in bootstrap_mean(difference))
    inside = bool(sign(low + margin) > 0 and sign(high - margin) < 0)
    outside = bool(sign(low - margin) > 0 or sign(high + margin) < 0)
    images = len(difference)
    verdict = _verdict(inside, outside, images)
    return Claim(statement, float(image_mean(difference)), low, high, verdict, images)


def apart(statement: str, more: Tensor, less: Tensor) -> Claim:
    """The claim that the mean of `more` `[N]` is above that of `less` `[M]`, which is
    of other images: the interval is that of two means apart, at least 95 %."""
    ends = [[float(end) for end in bootstrap_mean(part)] for part in (more, less)]
    low, high = ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]
    value = float(image_mean(more) - image_mean(less))
    return positive(statement, value, (low, high), min(len(more), len(less)))


def ahead(
    statement: str,
    better: Mapping[str, Tensor],
    worse: Mapping[str, Tensor],
    margin: float = 0,
    *,
    tolerance: float = aise.SCALED,
    place: str = "box",
) -> Claim:
    """The claim that one accuracy of the pointing game is above another one less a
    margin. An accuracy is a mean over classes, not over images, so the difference gets
    its interval from resamples of the images that both share.

    Args:
        statement: in words.
        better, worse: rows of the same pairs, from `aise.read`.
        margin: in units of accuracy.
        tolerance, place: as in `aise.game`.
    """
    games = [aise.game(rows, tolerance, place) for rows in (better, worse)]
    # Both draw the same images again.
    first, second = (game.bootstrap() for game in games)
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = (first - second).quantile(ends).tolist()
    value = games[0].accuracy - games[1].accuracy
    images = len(better["image"].unique())
    return positive(statement, value, (low, high), images, margin)


def in_most(statement: str, true: Tensor, level: float = MOST) -> Claim:
    """The claim that something is true, bool `[N]`, in more than `level` of all cases.

    The interval is the exact one of a share (Clopper and Pearson): where all cases are
    true, resampling would see no variance at all.
    """
    count, n = int(true.sum()), len(true)
    ends = binomtest(count, n).proportion_ci(0.95)
    interval = ends.low - level, ends.high - level
    return positive(statement, count / n - level, interval, n)


def positive(
    statement: str,
    value: float,
    interval: tuple[float, float],
    images: int,
    margin: float = 0,
) -> Claim:
    """The claim that a value with this 95 % interval is above -margin."""
    low, high = (float(sign(end + margin)) for end in interval)
    verdict = _verdict(low > 0, high < 0, images)
    return Claim(statement, value, *interval, verdict, images)


def _verdict(holds: bool, fails: bool, images: int) -> str:
    if images < FEWEST:
        return "open"
    return "holds" if holds else "fails" if fails else "open"
