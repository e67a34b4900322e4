from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import beta
from torch import nn

from xai_lib.aise.samplers import DirectSampler
from xai_lib.geex import GEEX, IGEEX
from xai_lib.geex.estimator import Estimate
from xai_lib.studies import claims, trials
from xai_lib.studies.results import NotMeasured, Results

SLOW = {"very_high_ratio", "optimisers_agree", "resizing_cures"}


def store(name: str) -> dict[int, dict[str, float]]:
    rows = Results("trials").rows(trial=name)
    return {row["image"]: row["result"] for row in rows}


@pytest.mark.parametrize("name", sorted(set(trials.TRIALS) - SLOW))
def test_a_stored_row_belongs_to_this_code(name):
    (unit,) = [unit for unit in trials.units([name]) if unit.image == 7]
    now, stored = trials.measure(unit), store(name)[7]
    assert now.keys() == stored.keys()
    for kind, margin in now.items():
        assert (margin > 0) == (stored[kind] > 0)
        assert margin == pytest.approx(stored[kind], rel=0.1, abs=2e-3)


@pytest.mark.parametrize("name", trials.TRIALS)
def test_the_store_has_all_instances(name):
    found = store(name)
    assert sorted(found) == list(range(trials.N_INSTANCES))
    read = trials.read(name, Results("trials"))
    assert sum(map(len, read.values())) == sum(map(len, found.values()))
    for kind, margins in read.items():
        assert len(margins) >= 20
        assert margins.tolist() == [
            r[kind] for _, r in sorted(found.items()) if kind in r
        ]


def test_without_rows(tmp_path):
    with pytest.raises(NotMeasured, match=r"trials.jsonl has no row of any_model"):
        trials.read("any_model", Results("trials", tmp_path))


@pytest.mark.parametrize(
    ("true", "n", "verdict"),
    [
        (60, 60, "holds"),
        (59, 60, "holds"),
        (58, 60, "open"),
        (54, 60, "open"),
        (40, 60, "fails"),
        (0, 60, "fails"),
        (19, 19, "open"),
    ],
)
def test_true_in_most_cases(true, n, verdict):
    claim = claims.in_most("", "", "", torch.arange(n) < true)
    assert claim.verdict == verdict
    assert claim.images == n
    assert claim.value == pytest.approx(true / n - claims.MOST)
    # Clopper and Pearson, by the quantiles of beta distributions.
    low = beta.ppf(0.025, true, n - true + 1) if true else 0
    high = beta.ppf(0.975, true + 1, n - true) if true < n else 1
    assert claim.low == pytest.approx(low - claims.MOST)
    assert claim.high == pytest.approx(high - claims.MOST)


def test_a_margin_of_zero_is_no_yes(monkeypatch):
    class Rows:
        def trial(self, name):
            return {"networks": torch.zeros(60)}

    (claim,) = claims.DECIDE["any_model"](Rows())["networks"]
    assert claim.verdict == "fails"


# The parts against something independent.


def test_the_best_box_of_a_linear_model_is_that_of_the_linear_program():
    W = torch.tensor([[0.3, -0.2], [-1.0, 0.4], [0.5, 1.1]], dtype=torch.float64)
    b = torch.tensor([1.0, 0.1, -0.2], dtype=torch.float64)
    at = torch.zeros(1, 2, dtype=torch.float64)
    found = trials._largest_sum(lambda z: z @ W.T + b, at, 0, 1.5)
    rows, limits = (W[0] - W[1:]).abs().numpy(), (b[0] - b[1:]).numpy()
    best = -linprog([-1, -1], A_ub=rows, b_ub=limits, bounds=(0, 1.5)).fun
    assert found == pytest.approx(best, abs=2 * 1.5 / 1000)
    assert found <= best


def test_the_constant_of_the_hills_from_their_formula():
    """A Gaussian of height h and width w is steepest at w: h / (w √e)."""
    for i in range(3):
        rng = np.random.default_rng(i)
        _, widths = rng.uniform(0.1, 0.9, (4, 2)), rng.uniform(0.06, 0.2, 4)
        steepest = (np.array([0.9, 0.7, 0.5, 0.3]) / widths / math.sqrt(math.e)).max()
        assert trials._steepest(trials._hills(i)) <= steepest * 1.001
        assert trials._steepest(trials._hills(i)) > 0.8 * steepest


@pytest.mark.parametrize("name", ["Gaussian", "logistic", "Student"])
def test_slopes_of_densities_by_autograd(name):
    log_density, slope = trials._SLOPES[name]
    u = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)
    (by_autograd,) = torch.autograd.grad(log_density(u).sum(), u)
    torch.testing.assert_close(slope(u), -by_autograd)


def test_the_network_of_an_instance_is_the_same_each_time():
    before = torch.get_rng_state()
    z = torch.ones(1, 4, dtype=torch.float64)
    one, again, other = (trials._network(i, 4, 8, 2) for i in (3, 3, 4))
    assert torch.equal(one(z), again(z))
    assert not torch.equal(one(z), other(z))
    assert [type(layer) for layer in one] == [nn.Linear, nn.ReLU, nn.Linear]
    assert torch.equal(torch.get_rng_state(), before)


# Trials that see what is wrong: methods that are broken on purpose.


class HalfAsLong(GEEX):
    def estimate(self, *args, **kwargs):
        found = super().estimate(*args, **kwargs)
        return Estimate(found.gradient / 2, found.standard_error)


class Forgetful(IGEEX):
    def attribute(self, inputs, target=None, **kwargs):
        return super().attribute(inputs, target, **kwargs).square()


class Precise(DirectSampler):
    def __init__(self):
        super().__init__(eps=0)


@pytest.mark.parametrize(
    ("name", "kind", "method", "broken"),
    [
        ("estimate_of_expected_loss", "sums of sines", "GEEX", HalfAsLong),
        ("any_model", "trees", "GEEX", HalfAsLong),
        ("linear_in_the_score", "the score as loss", "IGEEX", Forgetful),
        ("direct_in_batches", "hills", "DirectSampler", Precise),
    ],
)
def test_a_broken_method_is_seen(monkeypatch, name, kind, method, broken):
    sound = [trials.TRIALS[name](i)[kind] > 0 for i in range(4)]
    monkeypatch.setattr(trials, method, broken)
    seen = [trials.TRIALS[name](i)[kind] > 0 for i in range(4)]
    assert all(sound)
    assert not all(seen)
