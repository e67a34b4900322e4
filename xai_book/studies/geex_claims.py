"""What Cai and Wunder say about their results, held against the rows of `geex`.

Each claim is a difference per image whose mean over images the paper says is positive,
or near zero, with a bootstrap interval over the images and the verdict that follows
from it. Nothing is typed in: what `geex.read` returns decides.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from torch import Tensor

from xai_book.studies.geex import FAMILY, FLOOR, WHITE_BOX, score
from xai_lib.metrics.intervals import bootstrap_mean, image_mean, sign

MARGIN = 0.01
"""Scores, cosines and distances that differ by less are called alike."""
FEWEST = 20
"""Fewer images leave a claim open: a bootstrap of few values is too sure of itself."""
SMALL_DATA = ("mnist", "fashion_mnist")
Found = Mapping[Hashable, Mapping[str, Tensor]]


class Claim(NamedTuple):
    """A statement of the paper, or of this book, held against the rows."""

    where: str
    statement: str
    data: str
    value: float
    """The mean over images of what the statement says is large, or near zero."""
    low: float
    high: float
    """Its 95 % bootstrap interval over images."""
    verdict: str
    """"holds" or "fails" if the whole interval says so, else "open"; an interval that
    touches the limit (`metrics.intervals.sign`) says nothing."""
    images: int
    """How many the mean is of; with fewer than FEWEST the claim is open."""


def larger(
    where: str, statement: str, data: str, difference: Tensor, margin: float = 0
) -> Claim:
    """The claim that differences `[N]` have a mean above -margin."""
    low, high = (float(end) for end in bootstrap_mean(difference))
    mean, images = float(image_mean(difference)), len(difference)
    return positive(where, statement, data, mean, (low, high), images, margin)


def alike(
    where: str, statement: str, data: str, difference: Tensor, margin: float = MARGIN
) -> Claim:
    """The claim that differences `[N]` have a mean within a margin of zero."""
    low, high = (float(end) for end in bootstrap_mean(difference))
    inside = sign(low + margin) > 0 and sign(high - margin) < 0
    outside = sign(low - margin) > 0 or sign(high + margin) < 0
    verdict = "holds" if inside else "fails" if outside else "open"
    mean, images = float(image_mean(difference)), len(difference)
    return _claim(where, statement, data, mean, (low, high), images, verdict)


def apart(where: str, statement: str, data: str, more: Tensor, less: Tensor) -> Claim:
    """The claim that the mean of `more` `[N]` is above that of `less` `[M]`, which is
    of other images: the interval is that of two means apart, at least 95 %."""
    ends = [[float(end) for end in bootstrap_mean(part)] for part in (more, less)]
    low, high = ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]
    value = float(image_mean(more) - image_mean(less))
    images = min(len(more), len(less))
    return positive(where, statement, data, value, (low, high), images)


def positive(
    where: str,
    statement: str,
    data: str,
    value: float,
    interval: tuple[float, float],
    images: int,
    margin: float = 0,
) -> Claim:
    """The claim that a value with this 95 % interval is above -margin."""
    low, high = (sign(end + margin) for end in interval)
    verdict = "holds" if low > 0 else "fails" if high < 0 else "open"
    return _claim(where, statement, data, value, interval, images, verdict)


def _claim(
    where: str,
    statement: str,
    data: str,
    value: float,
    interval: tuple[float, float],
    images: int,
    verdict: str,
) -> Claim:
    if images < FEWEST:
        verdict = "open"
    return Claim(where, statement, data, value, *interval, verdict, images)


def table1_claims(found: Found, data: str, ranking: str = "map") -> list[Claim]:
    """What the paper says about Table 1, on the rows of `table1`."""
    aopc = {method: score(found[method], ranking) for method in found}
    claims = [
        larger("Table 1", f"{ours} above {rival}", data, aopc[ours] - aopc[rival])
        for ours in FAMILY
        for rival in ("RISE", "LIME")
    ]
    difference = aopc["iGEEX"] - aopc["IG"]
    claims.append(alike("Table 1", "iGEEX close to IG", data, difference))
    gain = aopc["GERS"] - aopc["GEEX"]
    if data == "mnist":
        claims.append(alike("Table 1", "GERS about as good as GEEX", data, gain))
    elif data == "fashion_mnist":
        claims.append(larger("Table 1", "GERS below GEEX", data, -gain))
    else:
        claims.append(larger("Table 1", "GERS above GEEX", data, gain))
        drop = aopc["GERS"] - aopc["iGEEX"]
        claims.append(larger("Table 1", "iGEEX below GERS", data, drop))
    return claims


def figure3_claims(found: Found, data: str) -> list[Claim]:
    """What the paper says about Figure 3, on the rows of `table1`."""
    claims = []
    for reference in WHITE_BOX:
        far = {m: found[m]["to_" + reference.lower()] for m in (*FAMILY, "RISE")}
        claims += [
            larger(
                "Figure 3",
                f"{ours} nearer to {reference} than RISE",
                data,
                far["RISE"] - far[ours],
            )
            for ours in FAMILY
        ]
    nearer = found["GERS"]["to_smoothgrad"] - found["GEEX"]["to_smoothgrad"]
    if data in SMALL_DATA:
        said = "GEEX nearer to SmoothGrad than GERS"
        claims.append(larger("Figure 3", said, data, nearer))
    else:
        said = "GERS nearer to SmoothGrad than GEEX"
        claims.append(larger("Figure 3", said, data, -nearer))
    return claims


def figure4_claims(found: Found, data: str) -> list[Claim]:
    """Integration amplifies noise, on the rows of `figure4`."""
    (estimate,) = (label for label in found if label != "iGEEX")
    return [
        larger("Figure 4", statement, data, found["iGEEX"][of] - found[estimate][of])
        for of, statement in (
            ("noise", f"more of iGEEX's map is noise than of {estimate}'s"),
            (
                "bright",
                f"more of iGEEX's noise lies on bright pixels than {estimate}'s",
            ),
        )
    ]


def samples_claims(found: Found, data: str, ranking: str = "map") -> list[Claim]:
    """Growth with the number of samples slows down at 2,000, on the rows of `samples`.

    Two doublings before 2,000 are compared with two after it.
    """
    aopc = {n: score(found[n], ranking) for n in (500, 2000, 8000)}
    before, after = aopc[2000] - aopc[500], aopc[8000] - aopc[2000]
    said = "more gain from 500 to 2,000 samples than from 2,000 to 8,000"
    return [larger("Figure S4", said, data, before - after)]


def mask_sizes_claims(
    found: Found, data: str, peak: int, ranking: str = "map"
) -> list[Claim]:
    """GERS is best at a size in between, on the rows of `mask_sizes`."""
    sizes = sorted(size for size in found if isinstance(size, int))
    best = score(found[peak], ranking)
    return [
        larger(
            "Figure S5",
            f"masks of {peak} better than masks of {end}",
            data,
            best - score(found[end], ranking),
        )
        for end in (sizes[0], sizes[-1])
    ]


def floor_claim(small: Found, large: Found, data: str, ranking: str = "map") -> Claim:
    """A random order is closer to SmoothGrad on large images than on small ones.

    Both arguments are rows of `table1`. The images are not the same, so the interval
    is that of two means apart: at least 95 %.
    """
    near, far = (
        score(f["SmoothGrad"], ranking) - f[FLOOR]["aopc"] for f in (large, small)
    )
    said = "random order closer to SmoothGrad than on small images"
    return apart("S-V", said, data, far, near)


def samplers_claims(found: Found, data: str, ranking: str = "map") -> list[Claim]:
    """Fewer queries for the same map, on the rows of `samplers`: within MARGIN of the
    paper's sampler with 5,000 queries, or better."""
    if data in SMALL_DATA:
        paper = ("mirrored", 5000)
        rivals = [("orthogonal", 1568), ("low-frequency", 500)]
    else:
        paper, rivals = ("resized", 5000), [("low-frequency", 1000)]
    claims = []
    for noise, n in rivals:
        rival = found[noise, n]
        said = f"{noise}, {n} queries, reach {paper[0]}, {paper[1]} queries, in "
        gain = score(rival, ranking) - score(found[paper], ranking)
        claims.append(larger("Section 3", said + "AOPC", data, gain, MARGIN))
        if data in SMALL_DATA:
            gain = rival["cosine"] - found[paper]["cosine"]
            claims.append(larger("Section 3", said + "cosine", data, gain, MARGIN))
    return claims
