from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import beta, norm

from xai_book.studies import claims, comparisons, trials
from xai_book.studies.results import NotMeasured, Results
from xai_lib.geex import GEEX
from xai_lib.metrics import bootstrap_mean

SLOW = {"optimisers_agree"}
PAST_PHOTOS = 27
"""An instance without a photograph, whose box takes a minute."""


def store(name: str) -> dict[int, dict[str, float]]:
    rows = Results("trials").rows(trial=name)
    return {row["image"]: row["result"] for row in rows}


@pytest.mark.parametrize("name", sorted(set(trials.TRIALS) - SLOW))
def test_a_stored_row_belongs_to_this_code(name):
    i = PAST_PHOTOS
    (unit,) = [unit for unit in trials.units([name]) if unit.image == i]
    now, stored = trials.measure(unit), store(name)[i]
    assert now.keys() == stored.keys()
    for kind, margin in now.items():
        assert (margin > 0) == (stored[kind] > 0)
        assert margin == pytest.approx(stored[kind], rel=0.02, abs=1e-5)


@pytest.mark.parametrize("name", trials.TRIALS)
def test_the_store_has_all_instances(name):
    found = store(name)
    assert sorted(found) == [unit.image for unit in trials.units([name])]
    read = trials.read(name, Results("trials"))
    assert sum(map(len, read.values())) == sum(map(len, found.values()))
    for kind, margins in read.items():
        assert len(margins) == (26 if kind == "photographs" else trials.N_INSTANCES)
        assert margins.tolist() == [
            r[kind] for _, r in sorted(found.items()) if kind in r
        ]


def test_purposes_do_not_share_their_numbers():
    """One seed for a landscape and for the places where it is asked would put these
    near its hills."""
    names = ("places", "centres", "widths", "search")
    seeds = [trials._seed(i, name) for i in range(60) for name in names]
    assert len(set(seeds)) == len(seeds)
    one, other = (trials._uniform(3, name, 0, 1, 50) for name in names[:2])
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.5


def test_without_rows(tmp_path):
    with pytest.raises(NotMeasured, match=r"trials.parquet has no row of tabular"):
        trials.read("tabular", Results("trials", tmp_path))


@pytest.mark.parametrize(
    ("true", "n", "verdict"),
    [
        (60, 60, "holds"),
        (59, 60, "holds"),
        (58, 60, "open"),
        (54, 60, "open"),
        (40, 60, "fails"),
        (0, 60, "fails"),
        (36, 36, "holds"),
        (35, 35, "too few"),
        (26, 26, "too few"),
        (10, 26, "too few"),
        (19, 19, "too few"),
    ],
)
def test_true_in_most_cases(true, n, verdict):
    claim = comparisons.in_most("", torch.arange(n) < true)
    assert claim.verdict == verdict
    assert claim.images == n
    assert claim.value == pytest.approx(true / n - comparisons.MOST)
    # Clopper and Pearson, by the quantiles of beta distributions.
    low = beta.ppf(0.025, true, n - true + 1) if true else 0
    high = beta.ppf(0.975, true + 1, n - true) if true < n else 1
    assert claim.low == pytest.approx(low - comparisons.MOST)
    assert claim.high == pytest.approx(high - comparisons.MOST)
    # As the interval's end: a share of 0.9 or more would be seen as rarely.
    assert (claim.doubt <= comparisons.WRONG) == (high < comparisons.MOST)


@pytest.mark.parametrize("n", [20, 40, 200])
def test_shares_have_an_exact_interval_where_all_agree(n):
    """The bootstrap of equal values has no width; Clopper and Pearson's has."""
    rest = 1 - 0.025 ** (1 / n)
    ones = torch.ones(n, dtype=torch.float64)
    equal = comparisons.larger("", 0 * ones, margin=0.01, shares=True)
    assert (equal.low, equal.high) == (pytest.approx(-rest), pytest.approx(rest))
    assert equal.verdict == "open" if rest > 0.01 else "holds"
    more = comparisons.larger("", ones, shares=True)
    assert (more.low, more.high) == (pytest.approx(1 - 2 * rest), 1)
    assert comparisons.larger("", 0 * ones, 0.01).verdict == "holds"


def test_resampled_means_have_the_interval_as_quantiles():
    values = torch.from_numpy(np.random.default_rng(4).gamma(2.0, size=40))
    ends = torch.stack(bootstrap_mean(values, 0.9, comparisons.DRAWS))
    found = comparisons._means(values).quantile(torch.tensor([0.05, 0.95]).double())
    torch.testing.assert_close(found, ends)


def test_doubt_is_the_share_of_resamples_that_would_be_true():
    values = torch.from_numpy(np.random.default_rng(3).normal(-0.2, 1, 60))
    claim = comparisons.larger("", values, margin=0.02)
    # A one-sided normal p-value, as the values are normal.
    z = (float(values.mean()) + 0.02) / float(values.std() / 60**0.5)
    assert claim.doubt == pytest.approx(
        norm.cdf(-z) if z > 0 else norm.sf(-z), abs=0.02
    )
    assert comparisons.larger("", values + 9).doubt == 1
    assert comparisons.alike("", values + 9, 0.1).doubt < 0.001


def test_a_margin_of_zero_is_no_yes():
    (row,) = claims.listed()["tabular"]
    (claim,) = claims.compare(row, {"tabular": torch.zeros(60)}, "tumours")
    assert claim.verdict == "fails"
    assert claim.statement == "true of 0 in 60"


# The parts against something independent.


def test_the_best_box_of_a_linear_model_is_that_of_the_linear_program():
    """And so the trial, whose models are curved, can fail."""
    W = torch.tensor([[0.3, -0.2], [-1.0, 0.4], [0.5, 1.1]], dtype=torch.float64)
    b = torch.tensor([1.0, 0.1, -0.2], dtype=torch.float64)
    at = torch.zeros(1, 2, dtype=torch.float64)
    found = trials._largest_sum(lambda z: z @ W.T + b, at, 0, 1.5)
    rows, limits = (W[0] - W[1:]).abs().numpy(), (b[0] - b[1:]).numpy()
    best = -linprog([-1, -1], A_ub=rows, b_ub=limits, bounds=(0, 1.5)).fun
    assert found == pytest.approx(best, abs=2 * 1.5 / 1000)
    assert found <= best
    assert trials._miss(lambda z: z @ W.T + b) < 0.003


def test_the_constant_of_the_hills_from_their_formula():
    """A Gaussian of height h and width w is steepest at w: h / (w √e)."""
    for i in range(3):
        widths = trials._uniform(i, "widths", 0.06, 0.2, 4).numpy()
        steepest = (np.array([0.9, 0.7, 0.5, 0.3]) / widths / math.sqrt(math.e)).max()
        assert trials._steepest(trials._hills(i)) <= steepest * 1.001
        assert trials._steepest(trials._hills(i)) > 0.8 * steepest


def test_high_scores_are_small_sides():
    """A model that sees the left half keeps its class if the right half goes, whose
    sides are small, and loses it with the left half."""
    image = torch.ones(1, 1, 4, 4)
    w = torch.ones(1, 1, 4, 4)
    w[..., 2:] = 0.1

    def left(z):
        return torch.stack([z[..., :2].sum(dim=(1, 2, 3)), 0 * z[:, 0, 0, 0] + 6], 1)

    assert trials._kept(left, image, w) == 1
    assert trials._kept(left, image, w.flip(3)) == -1


def test_answers_vary_with_what_the_model_sees():
    """The mean of 4 × 4 pixels: noise on pixels has a deviation of σ / 4, one number
    for all of σ."""
    x = torch.zeros(1, 1, 4, 4)
    spread = trials._spread(lambda z: z.mean(dim=(1, 2, 3)), x, 0.5, 1, 4000, 0)
    assert spread == pytest.approx(3, abs=0.3)


# A trial that sees what is wrong: a method that is broken on purpose.


class OneSided(GEEX):
    """Formula (1) with noise on one side, and no mean subtracted."""

    def attribute(self, inputs, target=None, **kwargs):
        eps = torch.randn(200, *inputs.shape[1:]).to(inputs)
        scores = self.blackbox(inputs + self.stdevs * eps)[:, target]
        return (scores.to(eps) @ eps / len(eps) / self.stdevs)[None]


def test_a_broken_method_is_seen(monkeypatch):
    sound = [trials.tabular(i)["tumours"] > 0 for i in range(4)]
    monkeypatch.setattr(trials, "GEEX", OneSided)
    seen = [trials.tabular(i)["tumours"] > 0 for i in range(4)]
    assert all(sound)
    assert not any(seen)
