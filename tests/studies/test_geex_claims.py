from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xai_book.studies import claims
from xai_book.studies.comparisons import alike, apart, larger
from xai_book.studies.geex import FAMILY, METHODS

N = 50


def around(value: float, spread: float = 0.01, seed: int = 0) -> Tensor:
    """N values with exactly this mean."""
    noise = torch.randn(N, generator=torch.Generator().manual_seed(seed))
    return value + spread * (noise - noise.mean())


def table(**aopc: float) -> dict[str, dict[str, Tensor]]:
    """Rows of Table 1 with known means."""
    means = {**dict.fromkeys(METHODS, 0.5), **aopc}
    return {
        method: {
            name: around(mean, 0.002, seed)
            for name in ("aopc", "to_smoothgrad", "to_ig")
        }
        for seed, (method, mean) in enumerate(means.items())
    }


TABLE1 = ("family_above_rivals", "table1")
FIGURE3 = ("family_nearer_than_rise", "resizing_harms_small", "resizing_pays_large")


def verdicts(found: list[claims.Claim]) -> dict[str, str]:
    assert len({c.statement for c in found}) == len(found)
    for c in found:
        assert c.low <= c.value <= c.high
    return {c.statement: c.verdict for c in found}


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.03, "holds"), (-0.03, "fails"), (0.001, "open")]
)
def test_larger(mean, verdict):
    claim = larger("it is", around(mean, 0.05))
    assert claim.verdict == verdict
    assert claim.value == pytest.approx(mean, abs=1e-6)
    # 1.96 standard errors, as the values are normal.
    half = 1.96 * float(around(mean, 0.05).std()) / N**0.5
    assert claim.high - claim.low == pytest.approx(2 * half, rel=0.1)


def test_a_tie_is_open():
    """Differences that add up to nothing in all but the last bit, or just touch."""
    assert 0.1 + 0.2 - 0.3 > 0
    zero = torch.full((N,), 0.1 + 0.2 - 0.3, dtype=torch.float64)
    for touching, margin in ((zero, 0), (zero - 0.01, 0.01), (-zero, 0)):
        assert larger("", touching, margin).verdict == "open"
    for touching in (zero + 0.01, zero - 0.01):
        assert alike("", touching, margin=0.01).verdict == "open"
    assert alike("", zero, margin=0.01).verdict == "holds"
    assert apart("", zero + 0.3, -zero + 0.3).verdict == "open"


def test_larger_with_a_margin():
    for mean, verdict in ((-0.005, "holds"), (-0.015, "fails"), (-0.01, "open")):
        found = larger("", around(mean, 0.005), margin=0.01)
        assert found.verdict == verdict
        assert found.value == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [
        (0.004, 0.005, "holds"),
        (-0.004, 0.005, "holds"),
        (0.02, 0.005, "fails"),
        (-0.02, 0.005, "fails"),
        (0.01, 0.005, "open"),
        (0.0, 0.1, "open"),
    ],
)
def test_alike(mean, spread, verdict):
    assert alike("", around(mean, spread)).verdict == verdict


def test_table1_as_published_and_reversed():
    as_said = table(
        SmoothGrad=0.93, IG=0.94, RISE=0.85, LIME=0.8, GEEX=0.9, GERS=0.902, iGEEX=0.938
    )
    found = claims.comparisons(as_said, "mnist", *TABLE1)
    assert set(verdicts(found).values()) == {"holds"}
    assert len(found) == 8
    # On large images GERS must be better, and integration a loss.
    large = verdicts(claims.comparisons(as_said, "photos", *TABLE1))
    assert large["iGEEX below GERS"] == "fails"
    reverse = table(RISE=0.95, LIME=0.94, GEEX=0.7, GERS=0.8, iGEEX=0.6, IG=0.9)
    said = verdicts(claims.comparisons(reverse, "fashion_mnist", *TABLE1))
    assert set(said.values()) == {"fails"}
    assert said["GERS below GEEX"] == "fails"
    swapped = table(GEEX=0.8, GERS=0.7)
    said = verdicts(claims.comparisons(swapped, "fashion_mnist", *TABLE1))
    assert said["GERS below GEEX"] == "holds"
    assert verdicts(claims.comparisons(swapped, "photos", *TABLE1))[
        "GERS above GEEX"
    ] == ("fails")
    assert verdicts(claims.comparisons(swapped, "mnist", *TABLE1))[
        "GERS about as good as GEEX"
    ] == ("fails")


def test_the_ranking_changes_the_verdict():
    found = table(GEEX=0.8, RISE=0.7)
    found["GEEX"]["aopc_input"] = around(0.6)
    assert claims.comparisons(found, "mnist", *TABLE1)[0].statement == "GEEX above RISE"
    assert claims.comparisons(found, "mnist", *TABLE1)[0].verdict == "holds"
    assert (
        claims.comparisons(found, "mnist", *TABLE1, ranking="input")[0].verdict
        == "fails"
    )


def test_figure3():
    near = table(RISE=0.3, GEEX=0.1, GERS=0.15, iGEEX=0.12)
    small = verdicts(claims.comparisons(near, "mnist", *FIGURE3))
    assert len(small) == 7
    assert set(small.values()) == {"holds"}
    large = verdicts(claims.comparisons(near, "photos", *FIGURE3))
    assert large.pop("GERS nearer to SmoothGrad than GEEX") == "fails"
    assert set(large.values()) == {"holds"}
    far = table(RISE=0.05, GEEX=0.3, GERS=0.2, iGEEX=0.2)
    large = verdicts(claims.comparisons(far, "photos", *FIGURE3))
    assert large.pop("GERS nearer to SmoothGrad than GEEX") == "holds"
    assert set(large.values()) == {"fails"}
    small = verdicts(claims.comparisons(far, "fashion_mnist", *FIGURE3))
    assert small["GEEX nearer to SmoothGrad than GERS"] == "fails"


@pytest.mark.parametrize(("integral", "verdict"), [(0.7, "holds"), (0.3, "fails")])
def test_figure4(integral, verdict):
    found = {
        "GERS": {"noise": around(0.5), "bright": around(0.5)},
        "iGEEX": {"noise": around(integral), "bright": around(integral)},
    }
    assert set(
        verdicts(claims.comparisons(found, "photos", "integration_amplifies")).values()
    ) == {verdict}


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ((0.5, 0.8, 0.85), "holds"),
        ((0.5, 0.55, 0.8), "fails"),
        ((0.5, 0.6, 0.7), "open"),
    ],
)
def test_growth_with_samples(scores, verdict):
    found = {
        n: {"aopc": around(mean, seed=n)}
        for n, mean in zip((500, 2000, 8000), scores, strict=True)
    }
    (claim,) = claims.comparisons(found, "mnist", "growth_slows_small")
    assert claim.verdict == verdict
    assert claim.value == pytest.approx(2 * scores[1] - scores[0] - scores[2], abs=1e-6)


def test_peak_of_the_mask_sizes():
    found = {
        "SmoothGrad": {"aopc": around(0.9)},
        **{
            s: {"aopc": around(m)}
            for s, m in ((7, 0.6), (14, 0.7), (28, 0.8), (56, 0.9))
        },
    }
    (row,) = claims.listed()["ratio_peaks_large"]
    small, large = claims.DECIDE[row["by"]](row, found, "photos")
    assert small.statement == "masks of 28 better than masks of 7"
    assert (small.verdict, large.verdict) == ("holds", "fails")


@pytest.mark.parametrize(
    ("floors", "verdict"),
    [((0.4, 0.85), "holds"), ((0.85, 0.4), "fails"), ((0.5, 0.5), "open")],
)
def test_the_floor(floors, verdict):
    small, large = (table(SmoothGrad=0.9, random=floor) for floor in floors)
    for i, rows in enumerate((small, large)):
        rows["random"]["aopc"] = around(floors[i], 0.05, seed=i + 1)
    (row,) = claims.listed()["random_close_large"]
    (claim,) = claims.compare(row, large, "photos", small)
    assert claim.verdict == verdict
    assert claim.value == pytest.approx(floors[1] - floors[0], abs=1e-6)


def test_samplers_reach_the_papers_or_not():
    def rows(aopc: float, cosine: float) -> dict[str, Tensor]:
        return {"aopc": around(aopc), "cosine": around(cosine)}

    found = {
        ("mirrored", 5000): rows(0.9, 0.8),
        ("orthogonal", 1568): rows(0.895, 0.7),
        ("low-frequency", 500): rows(0.95, 0.9),
        ("resized", 5000): rows(0.93, 0.8),
        ("low-frequency", 1000): rows(0.9, 0.8),
    }
    said = verdicts(claims.comparisons(found, "mnist", "fewer_queries"))
    assert list(said.values()) == ["holds", "fails", "holds", "holds"]
    (photo,) = claims.comparisons(found, "photos", "fewer_queries")
    assert photo.verdict == "fails"
    found["low-frequency", 1000] = rows(0.925, 0.8)
    assert claims.comparisons(found, "photos", "fewer_queries")[0].verdict == "holds"


def test_every_claim_names_its_methods():
    for claim in claims.comparisons(table(), "mnist", *TABLE1):
        assert any(method in claim.statement for method in FAMILY)
