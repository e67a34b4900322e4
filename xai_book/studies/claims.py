"""The papers' checkable statements, and what the stored rows say of them.

`data/published/claims.csv` lists the statements and what decides each: comparisons of
methods or settings on beds, which one evaluator makes (`compare`), or a proof, where
the statement is a theorem. On a bed a statement holds if all of its comparisons hold,
and fails if one of them fails (see `comparisons.Claim`); the verdict follows from all
beds. Nothing is typed in. The columns:

id: of the statement; several rows of one id make more comparisons of it, and have the
    next four columns empty. A row without a paper has comparisons of the book's own.
paper, where, chapter, statement: where it is said, the book's chapter, and the words.
study, bed: a reader of `rows.Rows`, else the first row's, and the beds it is asked on.
each: values of which each is put for {each} in what follows.
measure: a name in MEASURES, or of what the rows hold.
better, worse: labels; all of `better` are held against all of `worse`. "A - B" is a
    difference, "A / 2" a fraction.
level: a number in place of `worse`.
rule: "higher" or "lower", which is better; "alike", a mean within `margin` of zero;
    "share", true in more than `level` of the cases; "apart", higher on `other_bed`,
    whose images are others. Of a theorem: "true" or "false" in the cases `bed`.
margin: by which the better may be worse; 0 if empty.
said: the comparison in words.
by: a function of DECIDE that makes the comparisons, where the columns cannot say it.
proved: of a theorem, the chapter and its section with the proof, or with the
    counter-example. Its test is `test_<id>` in `tests/studies/test_theorems.py`.
scale, paper_scale: models, data, images and queries, here and in the paper.
note: of a rule that has changed, or that the printed numbers fail.

A rule is first run on the numbers that the paper prints (`on_print`): one that these
fail is the paper's finding, or a wrong rule.

    for ruling in rulings():
        print(ruling.statement, ruling.verdict)
"""

import textwrap
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xai_book.studies import aise, aise_detection, geex, pertmap
from xai_book.studies.comparisons import (
    FEWEST,
    MARGIN,
    WRONG,
    Claim,
    ahead,
    alike,
    apart,
    in_most,
    larger,
)
from xai_book.studies.results import NotMeasured, published
from xai_book.studies.rows import TITLES, Found, Rows
from xai_lib.core.extras import extra
from xai_lib.metrics.intervals import image_mean, places, sign

with extra("book"):
    import pandas as pd

Row = Mapping[str, str]
"""A row of `claims.csv`."""
BY_INPUT = " (map × input)"
"""The second ranking of gradient-like maps, beside the maps as they are."""
NUDGE = 4.82e-6
"""Less than half of the last decimal of a row; a mean of rows is never on an edge of
rounding after it."""


def _above(differences: Tensor) -> Tensor:
    """Where differences are above zero, and no ties: bool, of the same shape."""
    return torch.from_numpy(sign(differences) > 0)


def _changed(colour: str, found: pertmap.Curves) -> Tensor:
    """How often an image's class has changed, over the quantiles."""
    return found.changed[colour].double().mean(dim=1)


def _changed_at(quantile: int, found: pertmap.Curves) -> Tensor:
    """Whether it has changed when so many per cent are grey."""
    return found.changed["grey"][:, pertmap.QUANTILES.index(quantile)].double()


def _near(rows: Mapping[str, Tensor]) -> Tensor:
    """The share of an image's maxima that are in the box, or within SCALED pixels."""
    hits = rows["hits_box"][:, aise.TOLERANCES.index(aise.SCALED)]
    return aise.image_means(hits, rows["image"])


MEASURES: dict[str, Callable[[Any], Tensor]] = {
    # Of `pertmap.Curves`: changed classes, broken boxes, signal over noise.
    **{colour: partial(_changed, colour) for colour in pertmap.COLOURS},
    **{f"grey at {q} %": partial(_changed_at, q) for q in pertmap.QUANTILES},
    "random points": lambda found: found.maps["uniform"].double(),
    "random corners": lambda found: found.maps["corners"].double(),
    "the worst point": lambda found: _above(found.maps["worst"]).double(),
    "signal over noise": lambda found: found.maps["ratio"].double().log(),
    "without the highest": lambda found: ~found.maps["highest"],
    # Of `geex.read`. "Either AOPC" is that of the maps, and then "AOPC × input".
    **dict.fromkeys(("AOPC", "either AOPC"), geex.score),
    "AOPC × input": partial(geex.score, ranking="input"),
    "to SmoothGrad": itemgetter("to_smoothgrad"),
    "to IG": itemgetter("to_ig"),
    # Of `aise.read` and `aise.read_sensitivity`.
    "mass": lambda rows: aise.per_image(rows, "energy_box"),
    "distance": lambda rows: aise.per_image(rows, "distance_box"),
    "near": _near,
    "sensitivity": lambda values: values,
    # Of `aise_detection.read`, some `[N, shares of pixels]`; and of trials.
    **{said: itemgetter(n) for n, (said, _) in aise_detection.MEASURES.items()},
    "in the area": lambda rows: ~_above(1 - rows["hit_area"]),
    "margin": lambda margins: margins > 0,
    "printed": lambda means: means,
}
"""What a label's rows say of each image, `[N]`. The accuracy of the pointing game is no
mean over images, and has a comparison of its own:"""
_GAMES: dict[str, dict[str, Any]] = {"hits": {}, "hits of the box": {"tolerance": 0.0}}
SATURATED = 0.9
"""An accuracy that leaves little room above it."""


# One evaluator.


def compare(
    row: Row, found: Found, bed: str, other: Found | None = None
) -> list[Claim]:
    """The comparisons of a row of `claims.csv`.

    Args:
        row: with the columns that the module lists.
        found: by label, what `MEASURES` reads.
        bed: where it was measured.
        other: the same on `other_bed`, if the rule is "apart".
    """
    return [_compared(row, one, found, bed, other) for one in _expanded(row)]


class _Comparison(NamedTuple):
    """One comparison of a row, with its cells filled in."""

    said: str
    measure: str
    better: str
    worse: str


def _compared(
    row: Row, one: _Comparison, found: Found, bed: str, other: Found | None
) -> Claim:
    said, measure, better, worse = one
    margin = float(row["margin"] or 0)
    if measure.startswith("hits"):
        how = _game(measure, bed)
        return ahead(said, found[_label(better)], found[_label(worse)], margin, **how)
    of = MEASURES.get(measure, itemgetter(measure))
    value = _value(better, found, of)
    if row["rule"] == "share":
        true = f"true of {int(value.sum())} in {len(value)}"
        return in_most(said or true, value, float(row["level"]))
    if row["rule"] == "apart" and other is not None:
        return apart(said, _value(better, other, of), value)
    lower = row["rule"] == "lower"
    if row["level"] and _is_share(value):
        level = float(row["level"])
        return in_most(said, *((1 - value, 1 - level) if lower else (value, level)))
    rival = float(row["level"]) if row["level"] else _value(worse, found, of)
    shares = _is_share(value) and isinstance(rival, Tensor) and _is_share(rival)
    difference = rival - value if lower else value - rival
    if difference.ndim > 1:
        difference = difference.mean(dim=1)
    if row["rule"] == "alike":
        return alike(said, difference, margin or MARGIN)
    return larger(said, difference, margin, shares=shares)


def _is_share(value: Tensor) -> bool:
    """Whether all values are zero or one."""
    return bool(((value == 0) | (value == 1)).all())


def _game(measure: str, bed: str) -> dict[str, Any]:
    return dict(aise.CELL) if bed.startswith("grids") else _GAMES[measure]


def _expanded(row: Row) -> Iterator[_Comparison]:
    """All comparisons of a row."""
    for value in _options(row["each"]):
        each = _label(value)
        columns = (
            row[name].format(each=each) for name in ("better", "worse", "measure")
        )
        for better, worse, measure in product(*map(_options, columns)):
            words = {"better": _label(better), "worse": _label(worse)}
            words |= {"each": each, "measure": measure, "other_bed": row["other_bed"]}
            said = row["said"].format(**words)
            yield _Comparison(said, measure, better, worse)


def _options(cell: str) -> list[str]:
    return cell.split(" | ")


def _label(text: str) -> Any:
    """A label as the studies have it: text, a number, or several of them."""
    parts = tuple(map(_number, text.split(", ")))
    return parts if len(parts) > 1 else parts[0]


def _number(text: str) -> float | str:
    with suppress(ValueError):
        return float(text) if "." in text else int(text)
    return text


def _terms(text: str) -> list[Any]:
    """The labels in an expression such as "A - B" or "A / 2"."""
    return [_label(term.partition(" / ")[0]) for term in text.split(" - ") if term]


def _labels(one: _Comparison) -> list[Any]:
    """The labels that a comparison needs."""
    return _terms(one.better) + _terms(one.worse)


def _value(text: str, found: Found, of: Callable[[Any], Tensor]) -> Tensor:
    """The value of an expression for each image, `[N]`."""
    whole, _, divisor = text.partition(" / ")
    first, *rest = (of(found[label]) for label in _terms(whole))
    for term in rest:
        first = first - term
    return first / float(divisor) if divisor else first


# What the columns cannot say.


def _best(labels: Sequence[Any], found: Found, row: Row) -> Any:
    """The label with the highest mean of the row's measure; of equals the first."""
    of = MEASURES[row["measure"]]
    ranks = places([float(image_mean(of(found[label]))) for label in labels])
    return labels[int(ranks.argmin())]


def _best_leads(row: Row, found: Found, bed: str) -> list[Claim]:
    """The comparisons of that label of `better` which has the highest mean."""
    best = _best([_label(text) for text in _options(row["better"])], found, row)
    return compare({**row, "better": str(best)}, found, bed)


def _most(row: Row, found: Found, bed: str) -> list[Claim]:
    """The just over half of the comparisons that fare best. Most of all hold if each of
    these does, and cannot if one of them fails."""
    return _best_half(compare(row, found, bed))


def _best_half(claims: list[Claim]) -> list[Claim]:
    best_first = worst_first(claims[::-1])[::-1]
    return best_first[: len(claims) // 2 + 1]


def _colours_alike(row: Row, found: Found, bed: str) -> list[Claim]:
    """Who changes surely more, or less, than the stochastic form when flipped to grey
    does so with the other colours too."""
    claims: list[Claim] = []
    unclear: list[Claim] = []
    grey, *others = pertmap.COLOURS

    def more(said: str, colour: str, rival: str, side: int = 1) -> Claim:
        of = MEASURES[colour]
        difference = of(found[rival]) - of(found[row["better"]])
        return larger(f"{rival} changes {said}, {colour}", side * difference)

    for rival in _options(row["worse"]):
        first = more("more", grey, rival)
        if first.verdict not in ("holds", "fails"):
            unclear.append(first)
            continue
        said, side = ("more", 1) if first.verdict == "holds" else ("less", -1)
        claims += [more(said, colour, rival, side) for colour in others]
    return claims or unclear


def _lower_ratio(row: Row, found: Found, bed: str, photos: Found) -> list[Claim]:
    """With the ratio that is best on photographs, digits have a lower AOPC than with
    the best lower one."""
    sizes, large = ([s for s in rows if isinstance(s, int)] for rows in (found, photos))
    ratio = 224 / _best(large, photos, row)
    same = min(sorted(sizes), key=lambda size: abs(28 / size - ratio))
    lower = [size for size in sizes if size > same]
    best = _best(lower, found, row) if lower else same
    said = f"ratio {28 / best:.1f} better than {28 / same:.1f}"
    return compare(
        {**row, "better": str(best), "worse": str(same), "said": said}, found, bed
    )


def _stronger(row: Row, found: Found, bed: str) -> list[Claim]:
    """The comparisons of a rule that asks for more than the paper says, or of a part
    of its cases: that they fail says nothing against it."""
    return [
        claim._replace(verdict="open") if claim.verdict == "fails" else claim
        for claim in compare(row, found, bed)
    ]


def _unsaturated(row: Row, found: Found, bed: str) -> list[Claim]:
    """The comparisons in which the worse accuracy leaves room for a better one."""
    return [
        _compared(row, one, found, bed, None)
        for one in _expanded(row)
        for rival in [aise.game(found[_label(one.worse)], **_game(one.measure, bed))]
        if sign(rival.accuracy - SATURATED) < 0
    ]


DECIDE: dict[str, Callable[..., list[Claim]]] = {
    "best leads": _best_leads,
    "most": _most,
    "colours alike": _colours_alike,
    "lower ratio": _lower_ratio,
    "stronger": _stronger,
    "unsaturated": _unsaturated,
}
"""By the name in the column `by`: from a row, what was measured and the bed, and what
was measured on the other bed, to the comparisons."""


# All together.


class Ruling(NamedTuple):
    """A statement of a paper and what became of it; `claims.csv` has more on the parts.

    `verdict` is "holds", "does not hold", "open", "too few", what holds where, or "not
    measured"; `verdicts` the same by bed, as it is named to a reader, or by the case of
    a theorem; `parts` the comparisons by bed, none of a theorem. `printed` is the
    verdict of the same rule on the numbers that the paper prints.
    """

    id: str
    paper: str
    where: str
    statement: str
    chapter: str
    proved: str
    verdict: str
    verdicts: dict[str, str]
    parts: dict[str, list[Claim]]
    printed: str = "not printed"
    scale: str = ""
    paper_scale: str = ""
    note: str = ""


def listed() -> dict[str, list[Row]]:
    """The rows of `claims.csv`, by the ids of statements."""
    found: dict[str, list[Row]] = {}
    for row in published("claims"):
        found.setdefault(row["id"], []).append(row)
    return found


def comparisons(found: Found, bed: str, *ids: str, ranking: str = "map") -> list[Claim]:
    """The comparisons with these ids that are made on a bed, of rows at hand; those
    whose labels were not measured are left out.

    Args:
        found: by label, as `Rows` returns it.
        bed: such as "mnist".
        ids: of `claims.csv`, in the order of the answer.
        ranking: of gradient-like maps, as in `geex.score`.
    """
    every = listed()
    return [
        _compared(row, one, found, bed, None)
        for row in (_ranked(row, ranking) for name in ids for row in every[name])
        if bed in _options(row["bed"])
        for one in _expanded(row)
        if found.keys() >= set(_labels(one))
    ]


def _ranked(row: Row, ranking: str) -> Row:
    """The row for one of the rankings of gradient-like maps."""
    if ranking == "map" or row["measure"] != "either AOPC":
        return row
    return {**row, "measure": "AOPC × input"}


def rulings(chapter: str | None = None, rows: Rows | None = None) -> list[Ruling]:
    """The statements of `claims.csv` with their verdicts.

    Args:
        chapter: only those that this chapter deals with, as "05"; None is all.
        rows: what is read; None is the book's `data/results`.
    """
    rows = Rows() if rows is None else rows
    found = []
    for family in listed().values():
        first, parts = family[0], {}
        if not first["paper"] or chapter not in (None, first["chapter"]):
            continue
        if first["proved"]:
            verdicts = {
                case: "holds" if row["rule"] == "true" else "does not hold"
                for row in family
                for case in _options(row["bed"])
            }
        else:
            parts = with_holm(_decided(family, rows))
            verdicts = {bed: on_data(claims) for bed, claims in parts.items()}
        about = {k: v for k, v in first.items() if k in Ruling._fields}
        more = {"verdict": overall(verdicts), "printed": on_print(family)}
        found.append(Ruling(**about, **more, verdicts=verdicts, parts=parts))
    return found


def _decided(family: Sequence[Row], rows: Rows) -> dict[str, list[Claim]]:
    """The comparisons by bed: with gradient-like maps ranked as they are, and then
    times the input where that makes a difference."""
    beds = dict.fromkeys(bed for row in family for bed in _options(row["bed"]))
    parts: dict[str, list[Claim]] = {}
    for ranking, suffix in (("map", ""), ("input", BY_INPUT)):
        ranked = [_ranked(row, ranking) for row in family]
        for bed in beds if ranking == "map" or ranked != family else ():
            title = TITLES.get(bed, bed)
            with suppress(NotMeasured):
                claims = _on_bed(ranked, bed, rows)
                if claims != parts.get(title):
                    parts[title + suffix] = claims
    return parts


def _on_bed(family: Sequence[Row], bed: str, rows: Rows) -> list[Claim]:
    """The comparisons on a bed, of the images that all of its labels have.

    Raises:
        NotMeasured: there is none.
    """
    there = [row for row in family if bed in _options(row["bed"])]
    comparisons = [one for row in there for one in _expanded(row)]
    labels = [label for one in comparisons for label in _labels(one)]
    read = partial(rows.read, there[0]["study"] or family[0]["study"])
    found = read(bed, *dict.fromkeys(labels))
    claims = []
    for row in there:
        decide = DECIDE.get(row["by"], compare)
        for other in _options(row["other_bed"]):
            elsewhere = [read(other, *dict.fromkeys(labels))] if other else []
            named = {**row, "other_bed": TITLES.get(other, other)}
            claims += decide(named, found, bed, *elsewhere)
    return claims


def with_holm(parts: Mapping[str, Sequence[Claim]]) -> dict[str, list[Claim]]:
    """The comparisons of one statement, on all beds, of which no more fail than its
    number of comparisons allows; the others are open.

    To hold, a statement needs all of its comparisons, each of which may be wrong by
    chance as often as one; to fail it needs a single one, and of forty one fails by
    chance. So failures are taken in the order of their `doubt`, as long as it is at
    most WRONG over the number of comparisons that are left (Holm, 1979).
    """
    every = sorted((c for of in parts.values() for c in of), key=lambda c: c.doubt)
    limit = -1.0
    for place, claim in enumerate(every):
        if claim.doubt * (len(every) - place) > WRONG:
            break
        limit = claim.doubt

    def held(claim: Claim) -> Claim:
        fails = claim.verdict == "fails" and claim.doubt > limit
        return claim._replace(verdict="open") if fails else claim

    return {bed: [held(claim) for claim in of] for bed, of in parts.items()}


class _Printed(Rows):
    """The papers' tables as rows: each number a mean of images that all agree."""

    def __init__(self, study: str) -> None:
        self.columns = geex.published_table1()
        if study == "pointing":
            self.columns = {
                data: {method: value / 100 for method, value in of.items()}
                for data, of in aise.published_table().items()
            }

    def read(self, study: str, bed: str, *labels: Hashable) -> Found:
        if not self.columns[bed].keys() >= set(labels):
            raise NotMeasured(f"the paper's {bed} lacks some of {labels}")
        of = self.columns[bed]
        return {x: torch.full((FEWEST,), of[str(x)]).double() for x in labels}


def on_print(family: Sequence[Row]) -> str:
    """The verdict of a statement's rule on the numbers that the paper prints; "not
    printed" where it lacks what is compared. Most cases are those of all columns."""
    study, by = family[0]["study"], family[0]["by"]
    printed = {"table1": "either AOPC", "pointing": "hits"}.get(study)
    if {(row["measure"], row["other_bed"]) for row in family} != {(printed, "")}:
        return "not printed"
    rows = _Printed(study)
    names = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "photos": "ImageNet"}

    asked = []
    for row in family:
        own = [names[bed] for bed in _options(row["bed"]) if bed in names]
        bed = " | ".join(own or rows.columns)
        method = "" if by == "most" else by
        asked.append({**row, "measure": "printed", "bed": bed, "by": method})
    parts = _decided(asked, rows)
    if by == "most":
        parts = {"all": _best_half([claim for of in parts.values() for claim in of])}
    verdicts = {data: on_data(claims) for data, claims in parts.items()}
    return overall(verdicts) if verdicts else "not printed"


VERDICTS = ("holds", "does not hold", "open", "too few")


def on_data(claims: Iterable[Claim]) -> str:
    """The verdict on one data set, from all comparisons of a statement."""
    verdicts = {claim.verdict for claim in claims}
    if "fails" in verdicts:
        return "does not hold"
    if "too few" in verdicts:
        return "too few"
    return "holds" if verdicts == {"holds"} else "open"


def overall(verdicts: Mapping[str, str]) -> str:
    """The verdict from all data sets."""
    if not verdicts:
        return "not measured"
    if len(set(verdicts.values())) == 1:
        return next(iter(verdicts.values()))
    where = {
        verdict: ", ".join(data for data, said in verdicts.items() if said == verdict)
        for verdict in VERDICTS
    }
    words = {verdict: f"{verdict} on" for verdict in where}
    if where["does not hold"]:
        words["holds"] = "holds only on"
    return "; ".join(f"{words[v]} {data}" for v, data in where.items() if data)


def deciding(claims: Iterable[Claim]) -> Claim:
    """The comparison that decides: one that fails before an open one, or one with too
    few images, before others, and of these the one with the lowest value."""
    return worst_first(claims)[0]


def worst_first(claims: Iterable[Claim]) -> list[Claim]:
    """Comparisons that fail, then open ones, then those that hold; each by their
    values, of which equal ones keep their order."""
    said = list(claims)
    ranks = places([claim.value for claim in said])
    verdicts = ("fails", "too few", "open", "holds")
    order = sorted(
        range(len(said)), key=lambda i: (verdicts.index(said[i].verdict), -ranks[i])
    )
    return [said[i] for i in order]


# In words.


def table(found: Iterable[Ruling]) -> str:
    """The statements, their verdicts, also on the published numbers, and their scale;
    under each for every data set the deciding comparison with its 95 % interval and how
    many there are, or where a theorem is proved, in lines of at most 88 characters."""
    wrap = textwrap.TextWrapper(88, break_on_hyphens=False)
    lines, paper = [], ""
    for ruling in found:
        if ruling.paper != paper:
            paper = ruling.paper
            lines += ["", paper, "=" * len(paper)]
        said = [(0, f"{ruling.where}: {ruling.statement}"), (4, f"-> {ruling.verdict}")]
        if not ruling.proved:
            note = [f"note: {ruling.note}"] if ruling.note else []
            scale = f"here: {ruling.scale}; in the paper: {ruling.paper_scale}"
            about = [f"published numbers: {ruling.printed}", *note, scale]
            said += [(7, text) for text in about]
        for data, verdict in ruling.verdicts.items():
            count = len(ruling.parts.get(data, ()))
            more = f"; the least of {count} comparisons" if count > 1 else ""
            said.append((8, f"{data}: {verdict}; {_why(ruling, data)}{more}"))
        for indent, text in said:
            wrap.initial_indent = wrap.subsequent_indent = " " * indent
            lines += wrap.wrap(text)
    return "\n".join(lines[1:])


def html(found: Iterable[Ruling]) -> str:
    """The statements as a table for a notebook: where it is said, the words, the rule's
    verdict on the paper's own numbers, the verdict here, and what decides, of the data
    set that speaks least for the statement."""
    rows = []
    for ruling in found:
        each = [(deciding(said), data) for data, said in ruling.parts.items()]
        # Of equal ones the first.
        data = dict(each[::-1])[deciding(one for one, _ in each)] if each else ""
        why = _why(ruling, data) if data or ruling.proved else "no rows"
        printed = ruling.printed.replace("not printed", "–")
        about = (ruling.where, ruling.statement, printed, ruling.verdict)
        rows.append((*about, f"{data}: {why}" if data else why))
    columns = ("where", "the paper says", "its own numbers", "verdict", "what decides")
    with pd.option_context("display.max_colwidth", None):
        return pd.DataFrame(rows, columns=columns).to_html(index=False, border=0)


def _why(ruling: Ruling, data: str) -> str:
    """What decides on a data set: the proof of a theorem, or a comparison with its mean
    and its interval to three digits, of a share the share itself. With NUDGE added,
    halves of the last digit go up and a tie with zero is positive, on whichever side of
    them the last bit lies."""
    if ruling.proved:
        return f"theorem: chapter {ruling.proved}"
    claim = deciding(ruling.parts[data])
    value, low, high = (
        f"{x + claim.level + NUDGE:{'' if claim.level else '+'}.3f}"
        for x in (claim.value, claim.low, claim.high)
    )
    asked = f", above {claim.level:g} asked" if claim.level else ""
    numbers = f"{value} [{low}, {high}]{asked}"
    return f"{claim.statement}: {numbers}, n = {claim.images}"
