"""Comparisons of what was measured, each with an interval and the verdict it allows.

A comparison is a difference per image whose mean over images is said to be positive, or
near zero. Its 95 % interval decides (see `Claim`); nothing is typed in.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

from xai_book.studies import aise
from xai_lib.metrics.intervals import bootstrap_mean, image_mean, sign, times_drawn

MARGIN = 0.01
"""Scores, cosines and distances that differ by less are called alike; who is nearer
than a point of accuracy reaches the other."""
FEWEST = 20
"""Fewer images are too few: a bootstrap of few values is too sure of itself."""
MOST = 0.9
"""The share of cases in which a statement is true that is called true."""
WRONG = 0.025
"""How often an end of an interval is wrong."""
DRAWS = 5000
"""Resamples for `Claim.doubt`, which is then 0.0002 at least: enough for 125
comparisons of one statement (`claims.with_holm`)."""


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
    touches the limit (`metrics.intervals.sign`) says nothing. "too few" images cannot
    make it hold, whatever they are."""
    images: int
    """How many the mean is of."""
    doubt: float = 1.0
    """How often what fails as clearly would be seen if the statement were true: a
    one-sided p-value, for `claims.with_holm`."""
    level: float = 0.0
    """Of a share, what has been subtracted from it and the ends of its interval."""


def larger(
    statement: str, difference: Tensor, margin: float = 0, *, shares: bool = False
) -> Claim:
    """The claim that differences `[N]` have a mean above -margin.

    Args:
        statement: in words.
        difference: one per image.
        margin: in the units of the difference.
        shares: they are of zeros and ones; then all equal do not mean no width.
    """
    ends = [float(end) for end in bootstrap_mean(difference)]
    if shares:
        ends = _widened(ends, len(difference))
    value = float(image_mean(difference))
    doubt = _doubt(_means(difference) + margin)
    return positive(statement, value, ends, len(difference), margin, doubt)


def alike(statement: str, difference: Tensor, margin: float = MARGIN) -> Claim:
    """The claim that differences `[N]` have a mean within a margin of zero."""
    low, high = (float(end) for end in bootstrap_mean(difference))
    inside = bool(sign(low + margin) > 0 and sign(high - margin) < 0)
    outside = bool(sign(low - margin) > 0 or sign(high + margin) < 0)
    images, means = len(difference), _means(difference)
    verdict = _verdict(inside, outside, images)
    doubt = min(_doubt(means + margin), _doubt(margin - means))
    value = float(image_mean(difference))
    return Claim(statement, value, low, high, verdict, images, doubt)


def apart(statement: str, more: Tensor, less: Tensor) -> Claim:
    """The claim that the mean of `more` `[N]` is above that of `less` `[M]`, which is
    of other images: the interval is that of two means apart, at least 95 %."""
    ends = [[float(end) for end in bootstrap_mean(part)] for part in (more, less)]
    interval = ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]
    value = float(image_mean(more) - image_mean(less))
    images = min(len(more), len(less))
    # Other images, so other draws.
    doubt = _doubt(_means(more) - _means(less, 1))
    return positive(statement, value, interval, images, doubt=doubt)


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
    ends = torch.tensor([WRONG, 1 - WRONG], dtype=torch.float64)
    value = games[0].accuracy - games[1].accuracy
    images = len(better["image"].unique())
    interval = _widened((first - second).quantile(ends).tolist(), images)
    doubt = _doubt(first - second + margin)
    return positive(statement, value, interval, images, margin, doubt)


def in_most(statement: str, true: Tensor, level: float = MOST) -> Claim:
    """The claim that something is true, bool `[N]`, in more than `level` of all cases.

    The interval is the exact one of a share (Clopper and Pearson): where all cases are
    true, resampling would see no variance at all. Where it would not clear the level
    if all were true, the cases are too few.
    """
    count, n = int(true.sum()), len(true)
    ends = binomtest(count, n).proportion_ci(0.95)
    interval = ends.low - level, ends.high - level
    doubt = float(binomtest(count, n, level, alternative="less").pvalue)
    claim = positive(statement, count / n - level, interval, n, doubt=doubt)
    enough = sign(_all_of(n) - level) > 0
    verdict = claim.verdict if enough else "too few"
    return claim._replace(verdict=verdict, level=level)


def positive(
    statement: str,
    value: float,
    interval: Sequence[float],
    images: int,
    margin: float = 0,
    doubt: float = 1.0,
) -> Claim:
    """The claim that a value with this 95 % interval is above -margin."""
    low, high = interval
    holds, fails = bool(sign(low + margin) > 0), bool(sign(high + margin) < 0)
    verdict = _verdict(holds, fails, images)
    return Claim(statement, value, low, high, verdict, images, doubt)


def _means(values: Tensor, seed: int = 0) -> Tensor:
    """The means of resampled images, of which `bootstrap_mean` takes quantiles."""
    first = values[0].double()
    drawn = times_drawn(len(values), DRAWS, seed)
    return first + drawn @ (values.double() - first) / len(values)


def _doubt(above: Tensor) -> float:
    """From resampled means less what they ought to be above, `[resamples]`."""
    return (1 + int((sign(above) >= 0).sum())) / (1 + len(above))


def _all_of(n: int) -> float:
    """The lower end of the exact interval of a share, n of n."""
    return float(binomtest(n, n).proportion_ci(0.95).low)


def _widened(ends: list[float], images: int) -> list[float]:
    """The interval of a difference of shares, also where all images agree: then as many
    others as the exact interval of n of n leaves out may differ by one."""
    if sign(ends[1] - ends[0]) != 0:
        return ends
    rest = (1 - _all_of(images)) * (1 + abs(ends[0]))
    return [max(ends[0] - rest, -1.0), min(ends[1] + rest, 1.0)]


def _verdict(holds: bool, fails: bool, images: int) -> str:
    if images < FEWEST:
        return "too few"
    return "holds" if holds else "fails" if fails else "open"
