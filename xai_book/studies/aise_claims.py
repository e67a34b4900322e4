"""What Tsykunov, Lee and Park say about their results, held against rows of `aise`.

An accuracy of the pointing game is a mean over classes, not over images, so a
difference of two gets its interval from resamples of the images that both share. All
other claims are means over images, as in `geex_claims`. Nothing is typed in.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from xai_book.studies import aise
from xai_book.studies.geex_claims import Claim, larger, positive

MARGIN = 0.01
"""A point of accuracy: who is nearer than that reaches the other."""
Rows = Mapping[str, Tensor]
Found = Mapping[Hashable, Rows]
ADAPTIVE = ("LIPO", "DIRECT")


def ahead(
    where: str,
    statement: str,
    data: str,
    better: Rows,
    worse: Rows,
    margin: float = 0.0,
    *,
    tolerance: float = aise.SCALED,
    place: str = "box",
) -> Claim:
    """The claim that one accuracy is above another one less a margin.

    Args:
        where, statement, data: as in `geex_claims.larger`.
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
    return positive(where, statement, data, value, (low, high), images, margin)


def table_claims(found: Found, data: str, **how: Any) -> list[Claim]:
    """What the project page says about the table, on the rows of `aise.table` or of
    `aise.grid_table`. `how` goes to `aise.game`."""
    claims = []
    rivals = [label for label in found if str(label).startswith(("RISE", "SHAP"))]
    rivals += [label for label in ("Extremal", "Extremal-200") if label in found]

    def claim(statement: str, better: str, worse: Hashable, margin: float) -> None:
        claims.append(
            ahead(
                "the table",
                statement,
                data,
                found[better],
                found[worse],
                margin,
                **how,
            )
        )

    for sampler in ADAPTIVE:
        for rival in rivals:
            few = f"AISE-{sampler}-300"
            claim(f"{few} reaches {rival}", few, rival, MARGIN)
        rise = next(label for label in rivals if str(label).startswith("RISE"))
        many = f"AISE-{sampler}-700"
        claim(f"{many} overcomes {rise}", many, rise, 0)
        claim(f"{many} above {few}", many, few, 0)
    for budget in ("300", "700"):
        direct, lipo = (f"AISE-{name}-{budget}" for name in ("DIRECT", "LIPO"))
        claim(f"{direct} reaches {lipo}", direct, lipo, MARGIN)
        claim(f"{lipo} reaches {direct}", lipo, direct, MARGIN)
    return claims


def variants_claims(found: Found, data: str, place: str = "box") -> list[Claim]:
    """What the paper says about its choices, and what this book adds, by the share of
    the map's mass on the object, on the rows of `aise.variants`."""
    energy = {
        label: aise.per_image(rows, f"energy_{place}") for label, rows in found.items()
    }
    ours = energy["AISE-DIRECT-300"]
    said = [
        (
            "section 9",
            "unbiased DIRECT above its locally biased form",
            "locally biased",
        ),
        ("section 9", "precision 0.1 above 0.0001", "eps 0.0001"),
        ("project page", "several widths above one", "one width"),
        ("project page", "adaptive samples above random ones", "random"),
        ("chapter 08", "adaptive samples above a lattice", "lattice"),
        ("chapter 07", "covariance above the plain sum", "plain sum"),
        ("chapter 07", "covariance above the normalised form", "normalised"),
    ]
    claims = [
        larger(where, statement, data, ours - energy[rival])
        for where, statement, rival in said
    ]
    claims += [
        larger(
            "section 9",
            f"the Gaussian as good as the {kernel} kernel",
            data,
            ours - energy[f"{kernel} kernel"],
            MARGIN,
        )
        for kernel in aise.KERNELS
    ]
    claims += [
        ahead(
            "chapter 07",
            f"covariance above the {form}, in the pointing game",
            data,
            found["AISE-DIRECT-300"],
            found[form.removesuffix(" form")],
            tolerance=0.0,
            place=place,
        )
        for form in ("plain sum", "normalised form")
    ]
    gain = energy["coarse to fine"] - ours
    claims.append(larger("section 6", "coarse to fine above AISE-DIRECT", data, gain))
    return claims


def convergence_claims(
    found: Mapping[tuple[str, str, int], Rows], data: str, place: str = "box"
) -> list[Claim]:
    """What the project page says about speed, on the rows of
    `aise.read_convergence`."""

    def energy(sampler: str, n: int) -> Tensor:
        return aise.per_image(found[sampler, "default", n], f"energy_{place}")

    claims = []
    for n in (30, 96, 300):
        for sampler in ADAPTIVE:
            for rival in ("random", "lattice"):
                said = f"{sampler} above {rival} sampling after {n} queries"
                claims.append(
                    larger(
                        "project page",
                        f"{said}, by the mass on the object",
                        data,
                        energy(sampler, n) - energy(rival, n),
                    )
                )
                claims.append(
                    ahead(
                        "project page",
                        f"{said}, in the pointing game",
                        data,
                        found[sampler, "default", n],
                        found[rival, "default", n],
                        place=place,
                    )
                )
    for sampler in ADAPTIVE:
        for few, many in ((30, 1500), (300, 3000)):
            claims.append(
                ahead(
                    "project page",
                    f"{sampler} after {few} queries reaches RISE after {many:,}",
                    data,
                    found[sampler, "default", few],
                    found["RISE", "default", many],
                    MARGIN,
                    place=place,
                )
            )
    claims.append(
        ahead(
            "project page",
            "RISE after 3,000 queries above RISE after 300",
            data,
            found["RISE", "default", 3000],
            found["RISE", "default", 300],
            place=place,
        )
    )
    # By the maximum alone: a narrowed area draws the mass together whatever is in it.
    for n in (30, 96, 300):
        claims.append(
            ahead(
                "section 6",
                f"coarse to fine above DIRECT after {n} queries, in the pointing game",
                data,
                found["coarse to fine", "default", n],
                found["DIRECT", "default", n],
                place=place,
            )
        )
    nearer = [
        aise.per_image(found["DIRECT", widths, 150], f"distance_{place}")
        for widths in ("narrow", "default")
    ]
    claims.append(
        larger(
            "section 6",
            "a narrow kernel alone has a harder time: its maximum is farther away",
            data,
            nearer[0] - nearer[1],
        )
    )
    return claims


def sensitivity_claims(found: Mapping[str, Tensor], data: str) -> list[Claim]:
    """AISE's maps change less than others if the image hardly does, on what
    `aise.read_sensitivity` returns. The paper measured it (section 9.1); what it found
    is not in our copy, so that no statement in `claims.csv` rests on this."""
    rivals = [label for label in found if not label.startswith(("AISE", "GradCAM"))]
    return [
        larger(
            "section 9.1",
            f"{ours} less sensitive than {rival}",
            data,
            found[rival] - found[ours],
        )
        for ours in (f"AISE-{sampler}-300" for sampler in ADAPTIVE)
        for rival in rivals
    ]
