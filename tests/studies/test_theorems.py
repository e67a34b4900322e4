"""The theorems among the papers' statements, on a few instances each.

`data/published/claims.csv` says what is true and in which cases, and which section of
which chapter proves it. A theorem here is a function, with the name of the statement,
from the number of an instance to its margins by the case: above zero where the
statement is true.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import direct
from sklearn.tree import DecisionTreeRegressor
from torch import Tensor, nn

from xai_book.studies import claims
from xai_book.studies.trials import (
    SIGMA,
    Margins,
    _grid,
    _hills,
    _image,
    _landscape,
    _seed,
    _steepest,
    _uniform,
)
from xai_lib.aise.density import weighted_density
from xai_lib.aise.samplers import DirectSampler, RandomSampler, search
from xai_lib.core.attribution import generator
from xai_lib.geex import GEEX, IGEEX
from xai_lib.geex.estimator import Estimate
from xai_lib.pertmap.stochastic import mean_hinge

CHAPTERS = Path(__file__).parents[2] / "notebooks"


def _sign(true: bool) -> float:
    return 1.0 if true else -1.0


def _normal(i: int, what: str, *shape: int) -> Tensor:
    """The same from N(0, 1)."""
    rng = generator(_seed(i, what))
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def _network(
    i: int, what: str, *sizes: int, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """A random network of instance i with these layers, in double precision."""
    rng = generator(_seed(i, what))
    layers: list[nn.Module] = []
    for d, k in pairwise(sizes):
        # Without torch's own draws, which would move the global random state.
        layer = nn.utils.skip_init(nn.Linear, d, k).double().requires_grad_(False)
        layer.weight.normal_(0, d**-0.5, generator=rng)
        layer.bias.normal_(0, 0.3, generator=rng)
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1])


def constraint_is_mean_hinge(i: int) -> Margins:
    """Proposition 3.1: the decision stays on the whole box exactly if no random point
    has a hinge. Boxes a fifth below the largest one, and a quarter above."""
    t = _uniform(i, "points", -1, 1, 100_000, 3)
    axis = torch.linspace(-1, 1, 25, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis, axis)
    net = _network(i, "network", 3, 16, 3, activation=nn.Tanh)
    at = torch.zeros(1, 3, dtype=torch.float64)
    target = net(at).argmax(dim=1)

    def stays(w: Tensor) -> bool:
        return bool((net(at + grid * w).argmax(dim=1) == target).all())

    sides = _uniform(i, "sides", 0.2, 1, 1, 3)
    low, high = 0.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if stays(middle * sides) else (low, middle)
    w = sides * low * (0.8 if i % 2 else 1.25)
    hinge = float(mean_hinge(net, at, target, w, t))
    return {"networks": _sign(stays(w) == (hinge <= 0))}


def large_penalty_constrains(i: int) -> Margins:
    """For some λ up to a million the best box of (3.2) keeps the constraint (3.1): its
    mean hinge is zero. One feature, lead g r - m: the hinge is (g w - m)² / 4 g w for
    w > m / g, and the best w is m / (g √(1 - 4 / λ g))."""
    g, m = (float(_uniform(i, "g", 0.5, 2, 1)), float(_uniform(i, "m", 0.1, 0.4, 1)))
    hinges = []
    for k in range(1, 7):
        w = m / g / math.sqrt(1 - 4 / (10.0**k * g))
        hinges.append(max(0.0, g * w - m) ** 2 / (4 * g * w))
    return {"a linear lead": -min(hinges) or 1.0}


def _near(estimate: Estimate, exact: Tensor) -> float:
    """3 less the root mean square of an estimate's errors in standard errors, to each
    of which 0.001 is added: a grid has an error, too, and equal answers have none."""
    errors = (estimate.gradient[0] - exact) / (estimate.standard_error[0] + 1e-3)
    return 3 - float(errors.square().mean().sqrt())


def any_model(i: int) -> Margins:
    """GEEX meets the gradient of the smoothed score, which is computed on a grid, for
    models that have no gradient."""
    a, at = _normal(i, "direction", 2), _normal(i, "input", 1, 2)
    edge = at @ a + SIGMA * a.norm() * _uniform(i, "edge", -1, 1, 1)
    points = _normal(i, "points", 200, 2).numpy()
    tree = DecisionTreeRegressor(max_depth=4, random_state=i)
    tree.fit(points, _normal(i, "values", 200).numpy())
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "a step": lambda z: (z @ a > edge) * 1.0,
        "trees": lambda z: torch.from_numpy(tree.predict(z.numpy())),
        "rounded answers": lambda z: (5 * (z @ a).sin()).round() / 5,
    }
    axis = torch.linspace(-5, 5, 801, dtype=torch.float64)
    eps = torch.cartesian_prod(axis, axis)
    weights = (-eps.square().sum(dim=1) / 2).exp()
    weights = weights / weights.sum()
    found = {}
    for kind, score in kinds.items():
        exact = (score(at + SIGMA * eps) * weights) @ eps / SIGMA
        explainer = _geex(_double(score), i, 4000)
        found[kind] = _near(explainer.estimate(at, 0), exact)
    return found


def _double(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The model for inputs in single precision."""
    return lambda z: model(z.double())


def _geex(score: Callable[[Tensor], Tensor], i: int, n: int = 5000) -> GEEX:
    """GEEX of a score of inputs `[m, d]`, with search noise of instance i."""
    return GEEX(lambda z: score(z)[:, None], n, SIGMA, seed=_seed(i, "search"))


def _igeex(
    model: Callable[[Tensor], Tensor], i: int, cells: int | None = None
) -> IGEEX:
    """iGEEX of a model with scores `[m, K]`, with search noise of instance i."""
    return IGEEX(model, 4000, SIGMA, mask_size=cells, seed=_seed(i, "search"))


def estimate_of_expected_loss(i: int) -> Margins:
    """GEEX meets the gradient of E f(x + σε), in closed form: E sin(a·(x + σε)) is
    exp(-σ²|a|² / 2) sin(a·x)."""
    a, at = _normal(i, "waves", 4, 5), _normal(i, "input", 1, 5)
    shrunk = (-(SIGMA**2) * a.square().sum(dim=1) / 2).exp() * (at @ a.T).cos()
    explainer = _geex(lambda z: (z.to(a) @ a.T).sin().sum(dim=1), i, 4000)
    return {"sums of sines": _near(explainer.estimate(at, 0), (shrunk @ a)[0])}


_SLOPES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    # log π up to a constant, and minus its derivative.
    "Gaussian": (lambda u: -(u**2) / 2, lambda u: u),
    "logistic": (lambda u: -u - 2 * F.softplus(-u), lambda u: (u / 2).tanh()),
    "Student": (lambda u: -3 * (1 + u**2 / 5).log(), lambda u: 6 * u / (5 + u**2)),
    "Laplace": (lambda u: -u.abs(), torch.sign),
}


def any_density(i: int) -> Margins:
    """The trick, E L ∇log π, gives the derivative of the expected loss, which for a
    smooth L is also E L'. To 0.001, by sums over a grid; Student's has 5 degrees."""
    a, b = _uniform(i, "a", 0.5, 2, 1), _uniform(i, "b", 0, 6, 1)
    u = torch.linspace(-60, 60, 600_001, dtype=torch.float64)
    gaps = {}
    for name, (log_density, slope) in _SLOPES.items():
        density = log_density(u).exp()
        density = density / density.sum()
        trick = ((a * u + b).sin() * slope(u) * density).sum()
        gaps[name] = abs(float(trick - (a * (a * u + b).cos() * density).sum()))
    kink = gaps.pop("Laplace")
    return {
        "smooth densities": 1e-3 - max(gaps.values()),
        "a kinked density": 1e-3 - kink,
    }


def samples_grow_exponentially(i: int) -> Margins:
    """The queries that are needed grow more than linearly with the size of the input:
    for a given relative error of a linear score's map, which are as many as there were,
    times the square of this error; or until the first answer of a saturated score
    changes. Eight times the size costs more than 12 times as many."""
    linear, saturated = [], []
    steep = float(_uniform(i, "slope", 1.9, 2.5, 1))
    for size in (1, 8):
        g = _normal(i, f"gradient {size}", 16 * size)
        maps = [
            GEEX(
                lambda z, g=g: z.to(g)[:, None] @ g, 500, seed=_seed(i, f"{size} {k}")
            ).attribute(torch.zeros(1, len(g)), 0)[0]
            for k in range(40)
        ]
        errors = [float((m - g).square().sum() / g.square().sum()) for m in maps]
        linear.append(sum(errors))
        eps = _normal(i, f"patch {size}", 200_000, size)
        moved = steep * (1 + SIGMA * eps).mean(dim=1) < 1  # off min(1, s · mean)
        saturated.append(1 / float(moved.double().mean()))
    kinds = {"linear scores": linear, "saturated scores": saturated}
    return {kind: large / small - 12 for kind, (small, large) in kinds.items()}


def unchanged_answers_vanish(i: int) -> Margins:
    """S-I: where all answers are the same, the map is zero: to 1e-6 with mirrored
    noise, and to 4.5 standard errors by formula (1) alone."""
    score, x = _uniform(i, "answer", -5, 5, 1), torch.zeros(1, 5)
    explainer = _geex(lambda z: score.expand(len(z)), i)
    eps = _normal(i, "noise", 5000, 5)
    errors = score * eps.mean(dim=0) / (score.abs() / math.sqrt(len(eps)))
    return {
        "mirrored noise": 1e-6 - float(explainer.attribute(x, 0).abs().max()),
        "formula (1) alone": 4.5 - float(errors.abs().max()),
    }


def geex_insensitive(i: int) -> Margins:
    """A feature that makes the whole difference to the baseline gets zero, from GEEX
    as from the gradient: the score min(1, x / t) is flat around the input. One witness
    would do."""
    t = float(_uniform(i, "threshold", 0.2, 1, 1))

    def score(z: Tensor) -> Tensor:
        return (z[:, 0] / t).clamp(max=1)

    at = torch.tensor([[t + 6 * SIGMA, 0.3]], requires_grad=True)
    (gradient,) = torch.autograd.grad(score(at).sum(), at)
    maps = torch.cat([gradient, _geex(score, i).attribute(at.detach(), 0)])
    return {"saturated scores": 1e-6 - float(maps[:, 0].abs().max())}


def igeex_sensitive(i: int) -> Margins:
    """The one feature that differs from the baseline, and makes a difference, gets
    more than 4 standard errors. Smoothing hides the difference that c z + cos(w z)
    makes from 0 to 1 if c is (1 - cos w) exp(-w²σ² / 2)."""
    k, w = float(_uniform(i, "k", 1, 4, 1)), float(_uniform(i, "w", 2, 5, 1))
    c = (1 - math.cos(w)) * math.exp(-((w * SIGMA) ** 2) / 2)
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "tanh": lambda z: (k * z[:, :1]).tanh(),
        "hidden differences": lambda z: c * z[:, :1] + (w * z[:, :1]).cos(),
    }
    found = {}
    for kind, f in kinds.items():
        explainer = _igeex(_double(f), i)
        value, error = explainer.estimate(torch.tensor([[1.0, 0.0]]), 0)
        found[kind] = float(value[0, 0].abs() / error[0, 0]) - 4
    return found


def igeex_insensitive(i: int) -> Margins:
    """No pixel that the model does not see gets more than 4.5 standard errors. It sees
    the left half; resized masks are those of the paper for photographs."""
    g = _normal(i, "weights", 1, 8, 8).float() / 8
    g[..., 4:] = 0
    at = _uniform(i, "image", 0.5, 1.5, 1, 1, 8, 8).float()
    found = {}
    for kind, cells in (("noise on pixels", None), ("resized masks", 4)):
        explainer = _igeex(lambda z: (z * g).sum(dim=(2, 3)).tanh(), i, cells)
        value, error = explainer.estimate(at, 0)
        found[kind] = 4.5 - float((value / error).abs()[..., 4:].max())
    return found


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def same_function_same_map(i: int) -> Margins:
    """Two models that give the same scores get the same map, to 0.1 % of its length:
    one has its hidden units in another order, and scaled."""
    net = _network(i, "network", 4, 8, 2)
    first, _, last = net.children()
    order = torch.randperm(8, generator=generator(_seed(i, "order")))
    scale = _uniform(i, "scale", 0.2, 5, 8)

    def again(z: Tensor) -> Tensor:
        hidden = (first(z)[:, order] * scale).relu()
        return last((hidden / scale)[:, order.argsort()])

    at = _uniform(i, "input", 0, 1, 1, 4).float()
    plain, rewritten = (_igeex(_double(f), i).attribute(at, 0) for f in (net, again))
    return {"networks": 1e-3 - _gap(rewritten, plain)}


def linear_in_the_score(i: int) -> Margins:
    """The map of a f + b h is a times that of f plus b times that of h, to 0.1 % of
    its length."""
    one, other = (_network(i, name, 4, 8, 2) for name in ("f", "h"))
    a, b = _uniform(i, "factors", -2, 2, 2).tolist()
    at = _uniform(i, "input", 0, 1, 1, 4).float()
    maps = [
        _igeex(_double(f), i).attribute(at, 0)
        for f in (one, other, lambda z: a * one(z) + b * other(z))
    ]
    return {"networks": 1e-3 - _gap(a * maps[0] + b * maps[1], maps[2])}


def _visited(i: int, n: int, factor: float = 1) -> DirectSampler:
    sampler, score = DirectSampler(), _hills(i)
    search([sampler], n, lambda _, points: factor * score(points))
    return sampler


def map_is_a_density(i: int) -> Margins:
    """The paper's sum over the samples is nowhere negative, so that it can be scaled
    to a density. Scores are in (0, 1), as probabilities are."""
    sampler = _visited(i, 100)
    total = weighted_density(sampler.points, sampler.scores, 0.1, 60, 60)
    return {"hills": float(total.min() / total.abs().max()) + 1e-9}


def score_is_lipschitz(i: int) -> Margins:
    """The steepest slope between neighbours in 2,000 steps across a digit is at most
    1.5 times that in 200 steps: slopes do not grow without bound."""
    model, image, target = _image("mnist", i)
    line = np.stack([np.linspace(0, 1, 2001), np.full(2001, 0.5)], axis=1)
    score = _landscape(model, image, int(target), line, 0.175)
    found = {}
    for kind, s in (
        ("a network", score),
        ("rounded answers", score.round(decimals=2)),
    ):
        fine, coarse = s.diff() * 2000, s[::10].diff() * 200
        found[kind] = 1.5 - float(fine.abs().max() / coarse.abs().max())
    return found


def printed_bound(i: int) -> Margins:
    """(6) as printed, with a squared distance, is nowhere below the score, with the
    true constant and ten known places: in the unit square, or in pixels, of which two
    are at least 1 apart."""
    score, size = _hills(i), 100
    constant, dense = _steepest(score), _grid(size)
    order = torch.randperm(len(dense), generator=generator(_seed(i, "places")))
    known = dense[order[:10].numpy()]
    squared = ((dense[:, None] - known) ** 2).sum(axis=2)
    found = {}
    for kind, unit in (("the unit square", 1), ("pixels", size)):
        bound = score(known) + constant / unit * squared * unit**2
        found[kind] = float((bound.min(axis=1) - score(dense)).min()) + 1e-9
    return found


def direct_needs_no_constant(i: int) -> Margins:
    """DIRECT visits the same places when it is run again, and when all slopes are a
    thousand times as steep; but other places on other hills."""
    first, again, steep = (_visited(i, 200, f).points for f in (1, 1, 1000))
    same = np.array_equal(first, again) and np.array_equal(first, steep)
    other = _visited(i + 1, 200).points
    return {"hills": _sign(same and not np.array_equal(first, other))}


def direct_in_batches(i: int) -> Margins:
    """Told its scores in batches, of which some have more than four places, DIRECT
    visits the places of SciPy's, which asks one by one, in the same order."""
    score, visited = _hills(i), []
    sampler, sizes = DirectSampler(), []

    def one(p: np.ndarray) -> float:  # SciPy minimises
        visited.append(np.array(p))
        return -float(score(visited[-1][None])[0])

    def batch(_: np.ndarray, points: np.ndarray) -> np.ndarray:
        sizes.append(len(points))
        return score(points)

    settings = {"eps": 0.1, "locally_biased": False, "vol_tol": 0, "len_tol": 0}
    direct(one, [(0, 1), (0, 1)], maxfun=200, **settings)
    search([sampler], 200, batch)
    same = np.array_equal(sampler.points, np.array(visited[:200]))
    return {"hills": _sign(same and max(sizes) > 4)}


THEOREMS = {
    theorem.__name__: theorem
    for theorem in (
        constraint_is_mean_hinge,
        large_penalty_constrains,
        any_model,
        estimate_of_expected_loss,
        any_density,
        samples_grow_exponentially,
        unchanged_answers_vanish,
        geex_insensitive,
        igeex_sensitive,
        igeex_insensitive,
        same_function_same_map,
        linear_in_the_score,
        map_is_a_density,
        score_is_lipschitz,
        printed_bound,
        direct_needs_no_constant,
        direct_in_batches,
    )
}
LISTED = {name: rows for name, rows in claims.listed().items() if rows[0]["proved"]}


def test_all_theorems_are_tested():
    assert list(THEOREMS) == list(LISTED)


@pytest.mark.parametrize("i", range(3))
@pytest.mark.parametrize("name", THEOREMS)
def test_what_is_true_and_where(name, i):
    said = {
        case: row["rule"] for row in LISTED[name] for case in row["bed"].split(" | ")
    }
    assert set(said.values()) <= {"true", "false"}
    margins = THEOREMS[name](i)
    assert {case: margin > 0 for case, margin in margins.items()} == {
        case: rule == "true" for case, rule in said.items()
    }


@pytest.mark.parametrize("name", THEOREMS)
def test_the_proof_is_in_the_chapter(name):
    number, _, section = LISTED[name][0]["proved"].partition(", ")
    (path,) = CHAPTERS.glob(f"{number}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join(
        "".join(c["source"]) for c in cells if c["cell_type"] == "markdown"
    )
    assert section in [line.lstrip("# ") for line in text.splitlines() if "#" in line]


# The parts against something independent.


def test_a_bound_with_a_plain_distance_holds(monkeypatch):
    """So that the trial of the printed one can hold: in pixels it does."""
    found = [printed_bound(i) for i in range(3)]
    assert all(f["the unit square"] < -0.1 for f in found)
    assert all(f["pixels"] > 0 for f in found)


def test_the_best_side_with_a_penalty():
    """By trying all: the closed form of the trial, λ = 100."""
    g, m = (
        float(_uniform(0, name, *ends, 1))
        for name, ends in (("g", (0.5, 2)), ("m", (0.1, 0.4)))
    )
    w = torch.linspace(0.01, 1, 200_001, dtype=torch.float64)
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)  # g t w > m for t > 0 only
    at = w[(w - 100 * (g * w - m).clamp_min(0) ** 2 / (4 * g * w)).argmax()]
    assert float(at) == pytest.approx(m / (g * math.sqrt(1 - 4 / 100 / g)), abs=1e-5)
    hinge = (g * t * at - m).clamp_min(0).mean() / 2
    assert float(hinge) == pytest.approx(
        float((g * at - m) ** 2 / (4 * g * at)), rel=0.2
    )
    assert large_penalty_constrains(0)["a linear lead"] < 0


@pytest.mark.parametrize("name", sorted(_SLOPES))
def test_slopes_of_densities_by_autograd(name):
    log_density, slope = _SLOPES[name]
    u = torch.linspace(-4, 4, 32, dtype=torch.float64, requires_grad=True)
    (by_autograd,) = torch.autograd.grad(log_density(u).sum(), u)
    torch.testing.assert_close(slope(u), -by_autograd)


def test_the_network_of_an_instance_is_the_same_each_time():
    before = torch.get_rng_state()
    z = torch.ones(1, 4, dtype=torch.float64)
    one, again, other = (_network(i, "f", 4, 8, 2) for i in (3, 3, 4))
    assert torch.equal(one(z), again(z))
    assert not torch.equal(one(z), other(z))
    assert [type(layer) for layer in one] == [nn.Linear, nn.ReLU, nn.Linear]
    assert torch.equal(torch.get_rng_state(), before)


# Theorems that see what is wrong: methods that are broken on purpose.


class HalfAsLong(GEEX):
    def estimate(self, *args, **kwargs):
        found = super().estimate(*args, **kwargs)
        return Estimate(found.gradient / 2, found.standard_error)


class OneSided(GEEX):
    """Formula (1) with noise on one side, and no mean subtracted."""

    def attribute(self, inputs, target=None, **kwargs):
        eps = torch.randn(200, *inputs.shape[1:]).to(inputs)
        scores = self.blackbox(inputs + self.stdevs * eps)[:, target]
        return (scores.to(eps) @ eps / len(eps) / self.stdevs)[None]


class OfAnotherSeed(IGEEX):
    """Noise that is not the same for all models."""

    count = 0

    def __init__(self, *args, seed=0, **kwargs):
        OfAnotherSeed.count += 1
        super().__init__(*args, seed=OfAnotherSeed.count, **kwargs)


class Leaky(IGEEX):
    """Each pixel gets part of the value of its neighbour."""

    def estimate(self, *args, **kwargs):
        found = super().estimate(*args, **kwargs)
        return Estimate(
            found.gradient + found.gradient.roll(1, 3), found.standard_error
        )


class Precise(DirectSampler):
    def __init__(self):
        super().__init__(eps=0)


class OneByOne(DirectSampler):
    def ask(self, n):
        return super().ask(min(n, 1))


class AtRandom(RandomSampler):
    def __init__(self):
        super().__init__(seed=0)


@pytest.mark.parametrize(
    ("name", "kind", "method", "broken"),
    [
        ("estimate_of_expected_loss", "sums of sines", "GEEX", HalfAsLong),
        ("any_model", "trees", "GEEX", HalfAsLong),
        ("unchanged_answers_vanish", "mirrored noise", "GEEX", OneSided),
        ("igeex_insensitive", "noise on pixels", "IGEEX", Leaky),
        ("linear_in_the_score", "networks", "IGEEX", OfAnotherSeed),
        ("same_function_same_map", "networks", "IGEEX", OfAnotherSeed),
        ("direct_in_batches", "hills", "DirectSampler", Precise),
        ("direct_in_batches", "hills", "DirectSampler", OneByOne),
        ("direct_needs_no_constant", "hills", "DirectSampler", AtRandom),
    ],
)
def test_a_broken_method_is_seen(monkeypatch, name, kind, method, broken):
    sound = [THEOREMS[name](i)[kind] > 0 for i in range(4)]
    monkeypatch.setitem(globals(), method, broken)
    seen = [THEOREMS[name](i)[kind] > 0 for i in range(4)]
    assert all(sound)
    assert not any(seen)
