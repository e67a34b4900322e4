"""The papers' checkable statements, and what the stored rows say of them.

`data/published/claims.csv` lists the statements, each with its chapter and who decides
it: a function here, or a trial of `trials` for what no data set decides. A function
returns, for each data set that has the rows, the comparisons that the statement makes.
On a data set the statement holds if all of them hold, and fails if one of them fails
(see `geex_claims.Claim`); the verdict follows from all data sets. Nothing is typed in.

    for ruling in rulings():
        print(ruling.statement, ruling.verdict)
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from scipy.stats import binomtest
from torch import Tensor

from xai_book.studies import (
    aise,
    aise_claims,
    aise_detection,
    geex,
    pertmap,
    trials,
)
from xai_book.studies import geex_claims as gc
from xai_book.studies.geex import FAMILY, FLOOR, score
from xai_book.studies.geex_claims import (
    Claim,
    Found,
    alike,
    apart,
    larger,
    positive,
)
from xai_book.studies.results import NotMeasured, published
from xai_book.studies.rows import TITLES, Rows
from xai_lib.metrics.intervals import TIE, image_mean, places, sign

SMALL = ("mnist", "fashion_mnist")
LARGE = ("photos",)
ALMOST_ZERO = 0.05
"""The share of images whose class may change."""

MOST = 0.9
"""The share of cases in which a statement is true that is called true."""

_T = TypeVar("_T")
Decided = dict[str, list[Claim]]
"""By the data set, as it is named to a reader."""


def _on(names: Iterable[str], decide: Callable[[str], list[Claim]]) -> Decided:
    """Decide on each data set that has the rows."""
    found: Decided = {}
    for data in names:
        with suppress(NotMeasured):
            found[TITLES[data]] = decide(data)
    return found


def _ranked(names: Iterable[str], decide: Callable[..., list[Claim]]) -> Decided:
    """The same, with gradient-like maps ranked as they are, and times the input where
    that makes a difference."""
    found = _on(names, partial(decide, ranking="map"))
    for data, claims in _on(names, partial(decide, ranking="input")).items():
        if claims != found[data]:
            found[f"{data} (map × input)"] = claims
    return found


def _above(differences: Tensor) -> Tensor:
    """Where differences are above zero, and no ties: bool, of the same shape."""
    return torch.from_numpy(sign(differences) > 0)


def _best(scores: Mapping[_T, Tensor]) -> _T:
    """The name with the highest mean score over images; of equals the first."""
    ranks = places([float(image_mean(values)) for values in scores.values()])
    return list(scores)[int(ranks.argmin())]


# Ikeno and Hara, on the rows of `pertmap.figure1`.

_FIGURE1 = ("mnist", "fashion_mnist", "photos", "coco_animals")
_RIVALS = tuple(name for name in pertmap.LABELS if name != "Stochastic")


def _share(found: Mapping[str, pertmap.Curves], method: str, colour: str) -> Tensor:
    """How often an image's class has changed, over the quantiles `[N]`."""
    return found[method].changed[colour].double().mean(dim=1)


def _fewer_changes(rows: Rows, rivals: Iterable[str]) -> Decided:
    def decide(data: str) -> list[Claim]:
        found = rows.figure1(data, "Stochastic", *rivals)
        own = _share(found, "Stochastic", "grey")
        return [
            larger(
                "Figure 1", f"{r} changes more", data, _share(found, r, "grey") - own
            )
            for r in rivals
        ]

    return _on(_FIGURE1, decide)


def almost_zero(rows: Rows) -> Decided:
    """At every quantile up to 50 %, at most ALMOST_ZERO of the classes change."""

    def decide(data: str) -> list[Claim]:
        changed = rows.figure1(data, "Stochastic")["Stochastic"].changed["grey"]
        return [
            larger("Figure 1", f"few changes at {q} %", data, ALMOST_ZERO - at.double())
            for q, at in zip(pertmap.QUANTILES, changed.T, strict=True)
            if q <= 50
        ]

    return _on(_FIGURE1, decide)


def most_resistant(rows: Rows) -> Decided:
    return _fewer_changes(rows, _RIVALS)


def above_linear_programs(rows: Rows) -> Decided:
    return _fewer_changes(rows, ("LP", "LP (Smooth)"))


def colours_alike(rows: Rows) -> Decided:
    """Who changes surely more, or less, than the stochastic form when flipped to grey
    does so with the other colour too."""

    def decide(data: str) -> list[Claim]:
        found = rows.figure1(data, "Stochastic", *_RIVALS)
        claims: list[Claim] = []
        unclear: list[Claim] = []
        for rival in _RIVALS:
            more = {
                colour: _share(found, rival, colour)
                - _share(found, "Stochastic", colour)
                for colour in pertmap.COLOURS
            }
            said = f"{rival} changes more, grey"
            grey = larger("Figure 1", said, data, more.pop("grey"))
            if grey.verdict == "open":
                unclear.append(grey)
                continue
            side, word = (1, "more") if grey.verdict == "holds" else (-1, "less")
            claims += [
                larger("footnote 6", f"{rival} changes {word}, {c}", data, side * m)
                for c, m in more.items()
            ]
        return claims or unclear

    return _on(_FIGURE1, decide)


_TESTS = {
    "uniform": "random points",
    "corners": "random corners",
    "worst": "the worst point",
}


def _violations(found: Mapping[str, pertmap.Curves], method: str, test: str) -> Tensor:
    """The share of points that break the constraint, or whether the worst does."""
    values = found[method].boxes[test]
    return _above(values).double() if test == "worst" else values.double()


def linear_programs_violate(rows: Rows) -> Decided:
    """For more than ALMOST_ZERO of the images a point of the box is found that changes
    the decision."""

    def decide(data: str) -> list[Claim]:
        found = rows.figure1(data, "LP", "LP (Smooth)")
        return [
            larger(
                "section 4.2",
                f"{method} has a violation",
                data,
                _violations(found, method, "worst") - ALMOST_ZERO,
            )
            for method in found
        ]

    return _on(_FIGURE1, decide)


def stochastic_violates_less(rows: Rows) -> Decided:
    def decide(data: str) -> list[Claim]:
        found = rows.figure1(data, *pertmap.BOXES)
        return [
            larger(
                "section 4.2",
                f"{rival} violates more, {where}",
                data,
                _violations(found, rival, test)
                - _violations(found, "Stochastic", test),
            )
            for rival in ("LP", "LP (Smooth)")
            for test, where in _TESTS.items()
        ]

    return _on(_FIGURE1, decide)


# Cai and Wunder, section 3.


def accurate_gradients(rows: Rows) -> Decided:
    """Noise is less than half of the squared values of an estimate."""

    def decide(data: str) -> list[Claim]:
        found = rows.table1(data, "GEEX", "GERS")
        return [
            larger(
                "section 3",
                f"less than half of {method}'s map is noise",
                data,
                0.5 - found[method]["noise"],
            )
            for method in found
        ]

    return _on((*SMALL, *LARGE), decide)


def cross_entropy_better(rows: Rows) -> Decided:
    def decide(data: str) -> list[Claim]:
        found = rows.losses(data)
        return [
            larger(
                "section 3",
                f"{method}: cross-entropy above logit, AOPC",
                data,
                score(found[method, "non-informative"]) - score(found[method, "logit"]),
            )
            for method in FAMILY
        ]

    return _on(SMALL, decide)


def mirroring_helps(rows: Rows) -> Decided:
    """The estimate is nearer to the gradient of f_σ than one from as many independent
    queries, whose mean answer is subtracted."""

    def decide(data: str) -> list[Claim]:
        claims = []
        for n in (500, 1568, 5000):
            labels = ("mirrored", n), ("independent", n)
            found = rows.samplers(data, *labels)
            mirrored, independent = (found[label]["cosine"] for label in labels)
            said = f"mirrored noise has the higher cosine, {n:,} queries"
            claims.append(larger("section 3", said, data, mirrored - independent))
        return claims

    return _on(("mnist",), decide)


def fewer_queries(rows: Rows) -> Decided:
    def decide(data: str) -> list[Claim]:
        labels = (
            [("mirrored", 5000), ("orthogonal", 1568), ("low-frequency", 500)]
            if data in SMALL
            else [("resized", 5000), ("low-frequency", 1000)]
        )
        return gc.samplers_claims(rows.samplers(data, *labels), data)

    return _on(("mnist", "photos"), decide)


def resizing_denoises(rows: Rows) -> Decided:
    def decide(data: str) -> list[Claim]:
        found = rows.table1(data, "GEEX", "GERS")
        said = "less of GERS's map is noise than of GEEX's"
        gain = found["GEEX"]["noise"] - found["GERS"]["noise"]
        return [larger("section 3", said, data, gain)]

    return _on((*SMALL, *LARGE), decide)


# Figures 2 to 4.


def homologous_small(rows: Rows) -> Decided:
    """GEEX is nearer to SmoothGrad than IG, another map from gradients, is."""

    def decide(data: str) -> list[Claim]:
        found = rows.table1(data, "GEEX", "IG")
        gain = found["IG"]["to_smoothgrad"] - found["GEEX"]["to_smoothgrad"]
        return [larger("Figure 2", "GEEX nearer to SmoothGrad than IG", data, gain)]

    return _on(SMALL, decide)


def igeex_nearest_ig_small(rows: Rows) -> Decided:
    """iGEEX is less than half as far from IG as SmoothGrad is, which is not multiplied
    by the input."""

    def decide(data: str) -> list[Claim]:
        found = rows.table1(data, "iGEEX", "SmoothGrad")
        gain = found["SmoothGrad"]["to_ig"] / 2 - found["iGEEX"]["to_ig"]
        said = "iGEEX less than half as far from IG as SmoothGrad"
        return [larger("Figure 2", said, data, gain)]

    return _on(SMALL, decide)


def family_nearer_than_rise(rows: Rows) -> Decided:
    def decide(data: str) -> list[Claim]:
        found = rows.table1(data, *FAMILY, "RISE")
        return [c for c in gc.figure3_claims(found, data) if "RISE" in c.statement]

    return _on((*SMALL, *LARGE), decide)


def _resizing_nearer(rows: Rows, names: Iterable[str]) -> Decided:
    def decide(data: str) -> list[Claim]:
        found = rows.table1(data, *FAMILY, "RISE")
        return [c for c in gc.figure3_claims(found, data) if "RISE" not in c.statement]

    return _on(names, decide)


def resizing_harms_small(rows: Rows) -> Decided:
    return _resizing_nearer(rows, SMALL)


def resizing_pays_large(rows: Rows) -> Decided:
    return _resizing_nearer(rows, LARGE)


def rise_nearer_large(rows: Rows) -> Decided:
    def decide(data: str) -> list[Claim]:
        near = rows.table1(data, "RISE")["RISE"]["to_smoothgrad"]
        return [
            apart(
                "Figure 3",
                f"nearer than on {TITLES[small]}",
                data,
                rows.table1(small, "RISE")["RISE"]["to_smoothgrad"],
                near,
            )
            for small in SMALL
        ]

    return _on(LARGE, decide)


def integration_amplifies(rows: Rows) -> Decided:
    def decide(data: str) -> list[Claim]:
        estimate = "GEEX" if data in SMALL else "GERS"
        return gc.figure4_claims(rows.table1(data, estimate, "iGEEX"), data)

    return _on((*SMALL, *LARGE), decide)


# Table 1.


def _differences(
    rows: Rows,
    names: Iterable[str],
    pairs: Iterable[tuple[str, str]],
    claim: Callable[..., Claim] = larger,
    word: str = "above",
) -> Decided:
    """Claims about the AOPC of the first of each pair less that of the second."""
    wanted = list(pairs)

    def decide(data: str, ranking: str) -> list[Claim]:
        methods = dict.fromkeys(method for pair in wanted for method in pair)
        found = rows.table1(data, *methods)
        aopc = {method: score(found[method], ranking) for method in methods}
        return [
            claim("Table 1", f"{a} {word} {b}", data, aopc[a] - aopc[b])
            for a, b in wanted
        ]

    return _ranked(names, decide)


def family_above_rivals(rows: Rows) -> Decided:
    rivals = ("RISE", "LIME")
    return _differences(
        rows, (*SMALL, *LARGE), [(a, b) for a in FAMILY for b in rivals]
    )


def white_box_leads(rows: Rows) -> Decided:
    """The better one of SmoothGrad and IG is above every method that only queries."""

    def decide(data: str, ranking: str) -> list[Claim]:
        others = ("RISE", "LIME", *FAMILY)
        found = rows.table1(data, *geex.WHITE_BOX, *others)
        aopc = {method: score(found[method], ranking) for method in found}
        best = _best({method: aopc[method] for method in geex.WHITE_BOX})
        return [
            larger("Table 1", f"{best} above {m}", data, aopc[best] - aopc[m])
            for m in others
        ]

    return _ranked((*SMALL, *LARGE), decide)


def lime_last(rows: Rows) -> Decided:
    others = [m for m in geex.TABLE if m != "LIME"]
    return _differences(rows, (*SMALL, *LARGE), [(m, "LIME") for m in others])


def resizing_minor_small(rows: Rows) -> Decided:
    return _differences(rows, SMALL, [("GERS", "GEEX")], alike, "about as good as")


def resizing_negative_fashion(rows: Rows) -> Decided:
    return _differences(rows, ("fashion_mnist",), [("GEEX", "GERS")])


def like_smoothgrad_small(rows: Rows) -> Decided:
    pairs = [("GEEX", "SmoothGrad"), ("GERS", "SmoothGrad")]
    return _differences(rows, SMALL, pairs, alike, "about as good as")


def igeex_like_ig_small(rows: Rows) -> Decided:
    return _differences(rows, SMALL, [("iGEEX", "IG")], alike, "about as good as")


def rise_similar_small(rows: Rows) -> Decided:
    pairs = [("RISE", method) for method in FAMILY]
    return _differences(rows, SMALL, pairs, alike, "about as good as")


def rise_less_effective_large(rows: Rows) -> Decided:
    return _differences(rows, LARGE, [(method, "RISE") for method in FAMILY])


def resizing_improves_large(rows: Rows) -> Decided:
    return _differences(rows, LARGE, [("GERS", "GEEX")])


def integration_drops_large(rows: Rows) -> Decided:
    return _differences(rows, LARGE, [("GERS", "iGEEX")])


# Supplement S-V.


def _effects(
    read: Callable[..., Found],
    names: Iterable[str],
    pairs: Sequence[tuple[float, float]],
    said: str,
) -> Decided:
    """Claims that GEEX has a higher AOPC with the first setting of each pair."""
    settings = sorted({setting for pair in pairs for setting in pair})

    def decide(data: str, ranking: str) -> list[Claim]:
        found = read(data, *settings)
        aopc = {setting: score(found[setting], ranking) for setting in settings}
        return [
            larger("Figure S4", said.format(a, b), data, aopc[a] - aopc[b])
            for a, b in pairs
        ]

    return _ranked(names, decide)


_MORE_SAMPLES = "{:,} samples above {:,}"


def more_samples_better(rows: Rows) -> Decided:
    pairs = [(1000, 250), (8000, 1000)]
    return _effects(rows.samples, (*SMALL, *LARGE), pairs, _MORE_SAMPLES)


def growth_slows_small(rows: Rows) -> Decided:
    return _ranked(
        SMALL,
        lambda data, ranking: gc.samples_claims(
            rows.samples(data, 500, 2000, 8000), data, ranking
        ),
    )


def growth_goes_on_large(rows: Rows) -> Decided:
    pairs = [(2000, 500), (8000, 2000)]
    return _effects(rows.samples, LARGE, pairs, _MORE_SAMPLES)


def converges(rows: Rows) -> Decided:
    """With 8,000 samples, AOPC alike."""

    def decide(data: str, ranking: str) -> list[Claim]:
        found = rows.samples(data, 8000)
        gap = score(found["SmoothGrad"], ranking) - score(found[8000], ranking)
        return [alike("Figure S4", "8,000 samples as good as SmoothGrad", data, gap)]

    return _ranked((*SMALL, *LARGE), decide)


def samples_matter_more_small(rows: Rows) -> Decided:
    def gain(data: str, ranking: str) -> Tensor:
        found = rows.samples(data, 250, 8000)
        return score(found[8000], ranking) - score(found[250], ranking)

    def decide(data: str, ranking: str) -> list[Claim]:
        return [
            apart(
                "Figure S4",
                f"less gain than on {TITLES[small]}",
                data,
                gain(small, ranking),
                gain(data, ranking),
            )
            for small in SMALL
        ]

    return _ranked(LARGE, decide)


def wider_improves(rows: Rows) -> Decided:
    said = "σ = {} above {}"
    return _effects(rows.stdevs, (*SMALL, *LARGE), [(0.5, 0.05)], said)


def width_bounded(rows: Rows) -> Decided:
    said = "σ = {} above {}"
    return _effects(rows.stdevs, (*SMALL, *LARGE), [(0.5, 1.0)], said)


def random_close_large(rows: Rows) -> Decided:
    def decide(data: str, ranking: str) -> list[Claim]:
        large = rows.table1(data, "SmoothGrad", FLOOR)
        return [
            gc.floor_claim(
                rows.table1(small, "SmoothGrad", FLOOR), large, data, ranking
            )
            for small in SMALL
        ]

    return _ranked(LARGE, decide)


def _best_size(found: Found, ranking: str) -> int:
    sizes = [size for size in found if isinstance(size, int)]
    return _best({size: score(found[size], ranking) for size in sizes})


def ratio_peaks_large(rows: Rows) -> Decided:
    """The best size in between is better than the smallest and than the largest."""

    def decide(data: str, ranking: str) -> list[Claim]:
        found = rows.mask_sizes(data)
        sizes = sorted(size for size in found if isinstance(size, int))
        peak = _best_size({size: found[size] for size in sizes[1:-1]}, ranking)
        return gc.mask_sizes_claims(found, data, peak, ranking)

    return _ranked(LARGE, decide)


def ratio_lower_small(rows: Rows) -> Decided:
    """With the ratio that is best on photographs, digits have a lower AOPC than with
    the best lower one."""

    def decide(data: str, ranking: str) -> list[Claim]:
        ratio = 224 / _best_size(rows.mask_sizes("photos"), ranking)
        found = rows.mask_sizes(data)
        sizes = sorted(size for size in found if isinstance(size, int))
        same = min(sizes, key=lambda size: abs(28 / size - ratio))
        lower: Found = {size: found[size] for size in sizes if size > same}
        best = _best_size(lower, ranking) if lower else same
        gain = score(found[best], ranking) - score(found[same], ranking)
        said = f"ratio {28 / best:.1f} better than {28 / same:.1f}"
        return [larger("Figure S5", said, data, gain)]

    return _ranked(SMALL, decide)


# Tsykunov, Lee and Park.


def _pointing(
    rows: Rows, pairs: Iterable[tuple[str, str]], margin: float, word: str
) -> Decided:
    wanted = list(pairs)

    def decide(data: str) -> list[Claim]:
        labels = dict.fromkeys(label for pair in wanted for label in pair)
        found = rows.pointing(data, *labels)
        how = aise.CELL if data.startswith("grids") else {}
        return [
            aise_claims.ahead(
                "the table", f"{a} {word} {b}", data, found[a], found[b], margin, **how
            )
            for a, b in wanted
        ]

    return _on(("scenes", "grids 2x2"), decide)


_AISE_300 = ("AISE-LIPO-300", "AISE-DIRECT-300")


def aise_reaches_rise(rows: Rows) -> Decided:
    pairs = [(ours, "RISE-8000") for ours in _AISE_300]
    return _pointing(rows, pairs, aise_claims.MARGIN, "reaches")


def aise_reaches_shap(rows: Rows) -> Decided:
    pairs = [(ours, "SHAP-8000") for ours in _AISE_300]
    return _pointing(rows, pairs, aise_claims.MARGIN, "reaches")


def aise_above_gradients(rows: Rows) -> Decided:
    """Above the two methods that are plain gradients, as in all published columns."""
    rivals = ("Gradient", "GuidedBackprop")
    pairs = [(ours, rival) for ours in _AISE_300 for rival in rivals]
    return _pointing(rows, pairs, 0, "above")


def aise_mostly_ahead(rows: Rows) -> Decided:
    """With either sampler and budget, against RISE and SHAP: more than half of these
    cases."""
    pairs = [
        (f"AISE-{sampler}-{budget}", rival)
        for sampler in aise_claims.ADAPTIVE
        for budget in (300, 700)
        for rival in ("RISE-8000", "SHAP-8000")
    ]
    found = _pointing(rows, pairs, 0, "above")
    return {data: _most(cases) for data, cases in found.items()}


def _most(claims: Sequence[Claim]) -> list[Claim]:
    """The just over half of the claims that fare best. Most of all hold if each of
    these does, and cannot if one of them fails."""
    best_first = worst_first(claims[::-1])[::-1]
    return best_first[: len(claims) // 2 + 1]


def state_of_the_art(rows: Rows) -> Decided:
    rivals = (*aise.WHITE_BOX, "RISE-8000", "SHAP-8000")
    pairs = [(ours, rival) for ours in _AISE_300 for rival in rivals]
    return _pointing(rows, pairs, aise_claims.MARGIN, "reaches")


def _converges(rows: Rows, *words: str) -> Decided:
    def decide(data: str) -> list[Claim]:
        claims = aise_claims.convergence_claims(rows.convergence(data), data)
        return [c for c in claims if any(said in c.statement for said in words)]

    return _on(("scenes", "small", "large"), decide)


def adaptive_faster(rows: Rows) -> Decided:
    return _converges(rows, "above random sampling")


def thirty_queries_enough(rows: Rows) -> Decided:
    """AISE after 30 queries reaches RISE after thousands, and RISE needs these."""
    return _converges(rows, "after 30 queries reaches RISE", "above RISE after")


def narrow_harder(rows: Rows) -> Decided:
    return _converges(rows, "narrow kernel")


def narrow_needs_more(rows: Rows) -> Decided:
    """With a narrow kernel alone, more hits in the pointing game after 1,500 queries
    than after 30."""

    def decide(data: str) -> list[Claim]:
        found = rows.convergence(data)
        return [
            aise_claims.ahead(
                "section 6",
                f"{sampler}, narrow: 1,500 queries above 30",
                data,
                found[sampler, "narrow", 1500],
                found[sampler, "narrow", 30],
            )
            for sampler in aise_claims.ADAPTIVE
        ]

    return _on(("scenes", "small", "large"), decide)


def _variant(rows: Rows, words: str) -> Decided:
    def decide(data: str) -> list[Claim]:
        claims = aise_claims.variants_claims(rows.variants(data), data)
        return [claim for claim in claims if words in claim.statement]

    return _on(("scenes",), decide)


def unbiased_better(rows: Rows) -> Decided:
    return _variant(rows, "unbiased")


def coarse_precision_better(rows: Rows) -> Decided:
    return _variant(rows, "precision")


def other_kernels_useless(rows: Rows) -> Decided:
    return _variant(rows, "kernel")


def unsure_meaningless(rows: Rows) -> Decided:
    """Of the classes that are in a scene and have a probability below 0.5, more than
    half are missed by the map's maximum, in the mean over scenes; a maximum near the
    box, within SCALED pixels, is no miss."""

    def decide(data: str) -> list[Claim]:
        ours = "AISE-DIRECT-300"
        found = rows.pointing(data, ours)[ours]
        near = aise.TOLERANCES.index(aise.SCALED)
        hits = aise.image_means(found["hits_box"][:, near], found["image"])
        return [larger("section 9", f"{ours} misses", data, 0.5 - hits)]

    return _on(("unsure",), decide)


def several_widths_better(rows: Rows) -> Decided:
    return _variant(rows, "several widths")


def wide_first_better(rows: Rows) -> Decided:
    return _converges(rows, "coarse to fine above DIRECT")


def responsible_pixels_near(rows: Rows) -> Decided:
    """In MOST of the scenes the maxima of D-RISE's maps, which search the whole image,
    are in the boxes of all right detections."""

    def decide(data: str) -> list[Claim]:
        hits = rows.detection("D-RISE-5000")["D-RISE-5000"]["hit_box"]
        said = "D-RISE's maxima in the boxes"
        return [in_most("section 9", said, data, ~_above(1 - hits))]

    return _on(("scenes",), decide)


def few_masks_detect(rows: Rows) -> Decided:
    """By where the map lies, and by what its top pixels do to the detection."""
    few, many = "AISE-99", "D-RISE-5000"

    def decide(data: str) -> list[Claim]:
        found = rows.detection(few, many)
        gains = {
            said: sign * (found[few][name] - found[many][name])
            for name, (said, sign) in aise_detection.MEASURES.items()
        }
        return [
            larger(
                "section 9",
                f"{few} as good as {many}, {said}",
                data,
                gain.reshape(len(gain), -1).mean(dim=1),  # over the shares of pixels
                aise_detection.AS_GOOD,
            )
            for said, gain in gains.items()
        ]

    return _on(("scenes",), decide)


# What no data set decides.


def in_most(where: str, statement: str, data: str, true: Tensor) -> Claim:
    """The claim that something is true, bool `[N]`, in more than MOST of all cases.

    The interval is the exact one of a share (Clopper and Pearson): where all cases are
    true, resampling would see no variance at all.
    """
    count, n = int(true.sum()), len(true)
    ends = binomtest(count, n).proportion_ci(0.95)
    interval = ends.low - MOST, ends.high - MOST
    return positive(where, statement, data, count / n - MOST, interval, n)


def _count(true: Tensor) -> str:
    return f"true of {int(true.sum())} in {len(true)}, share - {MOST}"


def _tried(name: str, rows: Rows) -> Decided:
    """A trial decides: in MOST of its instances, for each kind of them."""
    with suppress(NotMeasured):
        return {
            kind: [in_most("", _count(margins > 0), kind, margins > 0)]
            for kind, margins in rows.trial(name).items()
        }
    return {}


# All together.


class Ruling(NamedTuple):
    """A statement of a paper and what became of it."""

    paper: str
    section: str
    statement: str
    chapter: str
    """Where the book deals with it, as "05"."""
    decided_by: str
    """A name in DECIDE."""
    verdict: str
    """"holds", "does not hold", "open", what holds where, or "not measured"."""
    parts: dict[str, list[Claim]]
    """By data set, or by the kind of instance; empty if there are no rows."""


def rulings(chapter: str | None = None, rows: Rows | None = None) -> list[Ruling]:
    """The statements of `data/published/claims.csv` with their verdicts.

    Args:
        chapter: only those that this chapter deals with, as "05"; None is all.
        rows: what is read; None is the book's `data/results`.
    """
    rows = Rows() if rows is None else rows
    found = []
    for row in published("claims"):
        if chapter is not None and row["chapter"] != chapter:
            continue
        parts = DECIDE[row["decided_by"]](rows)
        verdict = overall({data: on_data(said) for data, said in parts.items()})
        found.append(Ruling(**row, verdict=verdict, parts=parts))
    return found


def on_data(claims: Iterable[Claim]) -> str:
    """The verdict on one data set, from all comparisons of a statement."""
    verdicts = {claim.verdict for claim in claims}
    if "fails" in verdicts:
        return "does not hold"
    return "holds" if verdicts == {"holds"} else "open"


def overall(verdicts: Mapping[str, str]) -> str:
    """The verdict from all data sets."""
    if not verdicts:
        return "not measured"
    if len(set(verdicts.values())) == 1:
        return next(iter(verdicts.values()))
    where = {
        verdict: ", ".join(data for data, said in verdicts.items() if said == verdict)
        for verdict in ("holds", "does not hold", "open")
    }
    only = "holds only on" if where["does not hold"] else "holds on"
    words = {"holds": only, "does not hold": "does not hold on", "open": "open on"}
    return "; ".join(f"{words[v]} {data}" for v, data in where.items() if data)


def deciding(claims: Iterable[Claim]) -> Claim:
    """The comparison that decides: one that fails before an open one before others,
    and of these the one with the lowest value."""
    return worst_first(claims)[0]


def worst_first(claims: Iterable[Claim]) -> list[Claim]:
    """Comparisons that fail, then open ones, then those that hold; each by their
    values, of which equal ones keep their order."""
    said = list(claims)
    ranks = places([claim.value for claim in said])
    verdicts = ("fails", "open", "holds")
    order = sorted(
        range(len(said)), key=lambda i: (verdicts.index(said[i].verdict), -ranks[i])
    )
    return [said[i] for i in order]


def table(found: Iterable[Ruling]) -> str:
    """The statements, their verdicts, and under each the deciding comparison of every
    data set with its 95 % interval, in lines of at most 88 characters."""
    lines, paper = [], ""

    def add(indent: int, text: str) -> None:
        margin = " " * indent
        lines.extend(
            textwrap.wrap(text, 88, initial_indent=margin, subsequent_indent=margin)
        )

    for ruling in found:
        if ruling.paper != paper:
            paper = ruling.paper
            lines += ["", paper, "=" * len(paper)]
        add(0, f"{ruling.section}: {ruling.statement}")
        add(4, f"-> {ruling.verdict}")
        for data, claims in ruling.parts.items():
            c = deciding(claims)
            add(
                8,
                f"{data}: {on_data(claims)}; {c.statement}: {_numbers(c)}, "
                f"n = {c.images}",
            )
    return "\n".join(lines[1:])


def _numbers(claim: Claim) -> str:
    """The mean and its interval to three digits. With TIE added, halves of the last one
    go up and a tie with zero is positive, on whichever side of them the last bit lies.
    """
    numbers = (claim.value, claim.low, claim.high)
    value, low, high = (f"{x + TIE:+.3f}" for x in numbers)
    return f"{value} [{low}, {high}]"


def brief(found: Iterable[Ruling]) -> str:
    """The statements that have rows, by their numbers in `found`. For each verdict a
    line with the comparison that decides, of the data set that speaks least for the
    statement, in at most 88 characters."""
    lines = []
    for number, ruling in enumerate(found, 1):
        name = f"{number:>2} " + textwrap.shorten(ruling.statement, 33, placeholder="…")
        decisive = {data: deciding(said) for data, said in ruling.parts.items()}
        for verdict in ("holds", "fails", "open"):
            of = {data: c for data, c in decisive.items() if c.verdict == verdict}
            if not of:
                continue
            c = deciding(of.values())
            data = next(data for data in of if of[data] is c)
            where = data.replace(" (map × input)", " × input")
            lines.append(f"{name:<36} {verdict:<5} {_numbers(c)} {where}")
            name = ""
    return "\n".join(lines)


_BY_ROWS: tuple[Callable[[Rows], Decided], ...] = (
    almost_zero,
    most_resistant,
    above_linear_programs,
    colours_alike,
    linear_programs_violate,
    stochastic_violates_less,
    accurate_gradients,
    cross_entropy_better,
    mirroring_helps,
    fewer_queries,
    resizing_denoises,
    homologous_small,
    igeex_nearest_ig_small,
    family_nearer_than_rise,
    resizing_harms_small,
    resizing_pays_large,
    rise_nearer_large,
    integration_amplifies,
    family_above_rivals,
    white_box_leads,
    lime_last,
    resizing_minor_small,
    resizing_negative_fashion,
    like_smoothgrad_small,
    igeex_like_ig_small,
    rise_similar_small,
    rise_less_effective_large,
    resizing_improves_large,
    integration_drops_large,
    more_samples_better,
    growth_slows_small,
    growth_goes_on_large,
    converges,
    samples_matter_more_small,
    wider_improves,
    width_bounded,
    random_close_large,
    ratio_peaks_large,
    ratio_lower_small,
    aise_reaches_rise,
    aise_reaches_shap,
    aise_above_gradients,
    aise_mostly_ahead,
    state_of_the_art,
    adaptive_faster,
    thirty_queries_enough,
    narrow_harder,
    narrow_needs_more,
    unbiased_better,
    coarse_precision_better,
    other_kernels_useless,
    unsure_meaningless,
    several_widths_better,
    wide_first_better,
    responsible_pixels_near,
    few_masks_detect,
)
DECIDE: dict[str, Callable[[Rows], Decided]] = {
    **{decide.__name__: decide for decide in _BY_ROWS},
    **{name: partial(_tried, name) for name in trials.TRIALS},
}
"""Who decides, by the names in `claims.csv`."""
