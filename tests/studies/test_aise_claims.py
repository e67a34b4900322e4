from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from xai_book.studies import aise, claims
from xai_book.studies.comparisons import ahead

IMAGES = 200
ADAPTIVE = ("LIPO", "DIRECT")
TABLE = ("aise_reaches_rise", "aise_reaches_shap", "pointing_game")
VARIANTS = (
    *("unbiased_better", "coarse_precision_better", "several_widths_better"),
    *("other_samples", "other_kernels_useless", "other_forms", "coarse_to_fine"),
)
CONVERGENCE = (
    *("adaptive_faster", "lattice", "thirty_queries_enough", "three_hundred"),
    *("wide_first_better", "narrow_harder"),
)


def rows(accuracy: float, energy: float = 0.5, seed: int = 0) -> dict[str, Tensor]:
    """A pair of classes in each image; for both, exactly this share of hits."""
    rng = np.random.default_rng(seed)
    hits = torch.zeros(IMAGES, 2, dtype=torch.float64)
    for k in range(2):
        chosen = rng.permutation(IMAGES)[: round(accuracy * IMAGES)]
        hits[torch.from_numpy(chosen), k] = 1
    flat = hits.flatten()
    noise = torch.from_numpy(rng.normal(0, 0.01, 2 * IMAGES))
    return {
        "image": torch.arange(IMAGES).repeat_interleave(2),
        "target": torch.tensor([0, 1]).repeat(IMAGES),
        "difficult": torch.ones(2 * IMAGES, dtype=torch.bool),
        "hits_box": flat[:, None].repeat(1, len(aise.TOLERANCES)),
        "energy_box": energy + noise,
        "distance_box": 10 * (1 - flat),
    }


def verdicts(found: list[claims.Claim]) -> dict[str, str]:
    assert len({c.statement for c in found}) == len(found)
    for c in found:
        assert c.low <= c.value <= c.high
        assert c.images == IMAGES
    return {c.statement: c.verdict for c in found}


@pytest.mark.parametrize(
    ("one", "other", "margin", "verdict"),
    [
        (0.9, 0.7, 0, "holds"),
        (0.7, 0.9, 0, "fails"),
        (0.8, 0.8, 0, "open"),
        (0.8, 0.8, 0.1, "holds"),
        (0.7, 0.9, 0.1, "fails"),
        (0.8, 0.9, 0.1, "open"),
    ],
)
def test_ahead(one: float, other: float, margin: float, verdict: str) -> None:
    found = ahead("", rows(one), rows(other, seed=1), margin)
    assert found.verdict == verdict
    assert found.value == pytest.approx(one - other)


def test_the_interval_is_that_of_paired_images() -> None:
    """By the normal approximation over images: classes are equally frequent, so the
    accuracy is the mean over all pairs."""
    a, b = rows(0.8), rows(0.7, seed=1)
    difference = (a["hits_box"] - b["hits_box"])[:, 0].view(IMAGES, 2).mean(dim=1)
    half = 1.96 * float(difference.std()) / IMAGES**0.5
    found = ahead("", a, b)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    # Of the same rows the difference is none, as far as so many images can say.
    same, rest = ahead("", a, a, 0.01), 1 - 0.025 ** (1 / IMAGES)
    assert (same.value, same.low, same.high) == (0, *map(pytest.approx, (-rest, rest)))
    assert same.verdict == ("holds" if rest < 0.01 else "open")
    assert ahead("", a, a, 1.1 * rest).verdict == "holds"


def test_few_images_leave_a_claim_open() -> None:
    few = {n: v[:20] for n, v in rows(1.0).items()}
    worse = {n: v[:20] for n, v in rows(0.0).items()}
    found = ahead("", few, worse)
    assert (found.verdict, found.images, found.value) == ("too few", 10, 1)


def table(accuracies: Mapping[str, float]) -> dict[str, dict[str, Tensor]]:
    labels = list(aise.table())
    return {
        label: rows(accuracies.get(label, 0.5), seed=seed)
        for seed, label in enumerate(labels)
    }


def test_table_as_said_and_reversed() -> None:
    said = {
        **{"RISE-8000": 0.5, "SHAP-8000": 0.5, "Extremal": 0.5},
        **{f"AISE-{s}-300": 0.7 for s in ADAPTIVE},
        **{f"AISE-{s}-700": 0.9 for s in ADAPTIVE},
    }
    found = verdicts(claims.comparisons(table(said), "scenes", *TABLE))
    equal = {label for label in found if "reaches AISE" in label}
    assert len(equal) == 4
    assert {v for label, v in found.items() if label not in equal} == {"holds"}
    assert len(found) == 2 * 5 + 4
    turned = {label: 1 - share for label, share in said.items()}
    found = verdicts(claims.comparisons(table(turned), "scenes", *TABLE))
    assert found["AISE-LIPO-700 overcomes RISE-8000"] == "fails"
    assert found["AISE-DIRECT-700 above AISE-DIRECT-300"] == "fails"
    assert found["AISE-DIRECT-300 reaches SHAP-8000"] == "fails"
    assert set(found.values()) == {"fails", "open"}


def test_variants() -> None:
    share = dict.fromkeys(aise.variants(), 0.4) | {
        "AISE-DIRECT-300": 0.55,
        "coarse to fine": 0.7,
    }
    said = {k: rows(v, v, seed) for seed, (k, v) in enumerate(share.items())}
    assert set(verdicts(claims.comparisons(said, "scenes", *VARIANTS)).values()) == {
        "holds"
    }
    turned = {k: rows(1 - v, 1 - v, seed) for seed, (k, v) in enumerate(share.items())}
    assert set(verdicts(claims.comparisons(turned, "scenes", *VARIANTS)).values()) == {
        "fails"
    }
    # Each variant but the hull, which the paper does not speak of; two of them twice.
    assert len(claims.comparisons(said, "scenes", *VARIANTS)) == len(share) - 2 + 2


def converging(adaptive: float, other: float) -> dict[tuple[str, str, int], dict]:
    found = {}
    for seed, (sampler, widths) in enumerate(aise.convergence()):
        share = adaptive if sampler in ADAPTIVE else other
        if sampler == "coarse to fine":  # better still than what is better
            share = adaptive + (0.07 if adaptive > other else -0.07)
        if widths == "narrow":
            share = 1 - share
        for n in aise.QUERIES:
            found[sampler, widths, n] = rows(share, share, seed)
    # RISE needs thousands, or does not.
    found["RISE", "default", 3000] = rows((adaptive + other) / 2)
    return found


def test_convergence_as_said_and_reversed() -> None:
    found = claims.comparisons(converging(0.9, 0.4), "scenes", *CONVERGENCE)
    assert set(verdicts(found).values()) == {"holds"}
    assert len(found) == 3 * 2 * 2 * 2 + 2 * 2 + 1 + 3 + 1
    found = claims.comparisons(converging(0.1, 0.6), "scenes", *CONVERGENCE)
    assert set(verdicts(found).values()) == {"fails"}


def test_sensitivity() -> None:
    generator = torch.Generator().manual_seed(0)
    means = {
        "Gradient": 0.8,
        "RISE-8000": 0.3,
        "AISE-LIPO-300": 0.5,
        "AISE-DIRECT-300": 0.2,
    }
    found = {
        label: mean + 0.01 * torch.randn(30, generator=generator).double()
        for label, mean in means.items()
    }
    decided = claims.comparisons(found, "scenes", "sensitivity")
    assert {c.statement: c.verdict for c in decided} == {
        "AISE-LIPO-300 less sensitive than Gradient": "holds",
        "AISE-LIPO-300 less sensitive than RISE-8000": "fails",
        "AISE-DIRECT-300 less sensitive than Gradient": "holds",
        "AISE-DIRECT-300 less sensitive than RISE-8000": "holds",
    }
