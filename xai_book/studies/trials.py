"""Statements that no study's rows decide, each tried on many instances.

A proof says why such a statement holds, and is in its chapter. A trial says what
comes out when it is put to the test: a random network, landscape or density, an image
or a row of a table, on which the statement is either true or not. One counter-example
does not count as often; the share of instances on which it is true does (see
`claims.in_most`). Kinds of instances are such as the statement speaks of; what goes
wrong beyond its condition, such as for models with jumps, is shown in the chapters.

A trial is a function from the number of an instance to its margins, by the kind of
instance: above zero where the statement is true.

    TRIALS["printed_bound"](0)  # {"the unit square": -0.4, ...}: missed by 0.4
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import direct
from torch import Tensor, nn

from xai_book.methods import METHODS
from xai_book.studies import geex, pertmap
from xai_book.studies.results import NotMeasured, Results, Unit
from xai_lib.aise.density import weighted_density
from xai_lib.aise.kernels import gaussian_masks
from xai_lib.aise.samplers import DirectSampler, LipoSampler, search
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.extras import extra
from xai_lib.geex import GEEX, IGEEX
from xai_lib.geex.estimator import Estimate
from xai_lib.geex.noise import search_noise
from xai_lib.metrics import flipping
from xai_lib.pertmap import LinearPertMap, StochasticPertMap
from xai_lib.pertmap.stochastic import mean_hinge
from xai_lib.zoo import digits, models, photos

with extra("book"):
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeRegressor

N_INSTANCES = 60
"""With at most one exception a statement holds, see `claims.in_most`. There are fewer
photographs: with less than 36 of a kind nothing is sure to hold, but it may fail."""

SIGMA = 0.5
"""The book's width of search noise, in input units."""

LITE = "efficientnet_lite0"
SMALL = {"MNIST": "mnist", "Fashion-MNIST": "fashion_mnist"}
Margins = dict[str, float]


def units(
    names: Iterable[str] | None = None, n_instances: int = N_INSTANCES
) -> list[Unit]:
    """One unit per trial and instance; those of photographs alone have fewer."""
    chosen = TRIALS if names is None else names
    counts = {name: FEWER.get(name, n_instances) for name in chosen}
    return [
        Unit({"trial": name}, i)
        for name, n in counts.items()
        for i in range(min(n, n_instances))
    ]


def measure(unit: Unit) -> dict[str, Any]:
    """The margins of an instance, by its kind, rounded."""
    found = TRIALS[unit.settings["trial"]](unit.image)
    return {kind: float(f"{margin:.6g}") for kind, margin in found.items()}


def read(name: str, results: Results) -> dict[str, Tensor]:
    """The stored margins of a trial by the kind of instance, each `[N]`.

    Raises:
        NotMeasured: there is no row of it.
    """
    found: dict[str, list[float]] = {}
    for row in sorted(results.rows(trial=name), key=lambda row: row["image"]):
        for kind, margin in row["result"].items():
            found.setdefault(kind, []).append(margin)
    if not found:
        raise NotMeasured(f"{results.path.name} has no row of {name}")
    return {kind: torch.tensor(v, dtype=torch.float64) for kind, v in found.items()}


def _sign(true: bool) -> float:
    return 1.0 if true else -1.0


def _seed(i: int, purpose: str) -> int:
    """A seed of instance i that is not used for another purpose."""
    return zlib.crc32(f"{purpose} {i}".encode())


def _uniform(i: int, what: str, low: float, high: float, *shape: int) -> Tensor:
    """Numbers of instance i, named so that others are independent of them."""
    rng = generator(_seed(i, what))
    return low + (high - low) * torch.rand(*shape, generator=rng, dtype=torch.float64)


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


# Ikeno and Hara.


def lp_only_approximates(i: int) -> Margins:
    """The sums of the sides of the linear program's box and of the best one, found by
    trying all, differ by more than 1 %. Two features, three classes, whose scores fall
    with the squared distance from centres, at three speeds."""
    centres = _uniform(i, "centres", -2.5, 2.5, 3, 2)
    centres[0] /= 5
    order = torch.randperm(3, generator=generator(_seed(i, "speeds")))
    speeds = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)[order]

    def curved(z: Tensor) -> Tensor:
        return -((z[:, None] - centres) ** 2).sum(dim=2) * speeds

    return {"curved scores": _miss(curved) - 0.01}


def _miss(model: Callable[[Tensor], Tensor]) -> float:
    """By how much of the best sum the linear program misses it, at zero. The bound is
    half as long again as its longest side, so that the grid is fine enough."""
    at = torch.zeros(1, 2, dtype=torch.float64)
    c = int(model(at).argmax())
    program = partial(LinearPertMap, model, patch=1, penalty=math.inf)
    bound = 1.5 * float(program(bound=4).solve(at, c).w.max())
    best = _largest_sum(model, at, c, bound)
    return abs(float(program(bound=bound).solve(at, c).w.sum()) - best) / best


def _largest_sum(
    model: Callable[[Tensor], Tensor], at: Tensor, c: int, bound: float, n: int = 1000
) -> float:
    """max w_1 + w_2 of Problem 2.1, from all points of a grid of n steps per side."""
    t = torch.linspace(0, bound, n + 1, dtype=torch.float64)
    bad = torch.zeros(n + 1, n + 1, dtype=torch.bool)
    plane = torch.stack(torch.meshgrid(t, t, indexing="ij"), dim=2).view(-1, 2)
    for signs in product((-1.0, 1.0), repeat=2):
        decided = model(at + plane * torch.tensor(signs).to(at)).argmax(dim=1)
        bad |= (decided != c).view(n + 1, n + 1)
    # For each w_1 the sides of w_2 that no bad point within w_1 forbids.
    lowest = torch.where(bad.any(dim=1), bad.float().argmax(dim=1), n + 1)
    allowed = lowest.cummin(dim=0).values - 1
    return float((t + t[allowed.clamp(min=0)])[allowed >= 0].max())


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


@lru_cache
def _digits(data: str) -> tuple[nn.Module, digits.Digits]:
    return models.load(f"cnn_{data}"), getattr(digits, data)(N_INSTANCES)


def _image(data: str, i: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, an image `[1, 1, 28, 28]` and the class it predicts `[1]`."""
    model, found = _digits(data)
    image = found.images[i : i + 1]
    return model, image, model(image).argmax(dim=1)


@lru_cache
def _photographs() -> tuple[nn.Module, BlackBox, Tensor]:
    """The network for photographs, its probabilities from queries, and the photographs
    that show one of its classes."""
    network = models.load(LITE)
    box = BlackBox(models.probabilities(network))
    return network, box, photos.labelled().images


def optimisers_agree(i: int) -> Margins:
    """SGD, RMSProp and Adam end within 10 % of the best of them, by (3.2) on draws that
    none has seen. SGD has the better of two steps: only its steps scale with λ."""
    t = torch.rand(256, 1, 28, 28, generator=generator(_seed(i, "draws"))) * 2 - 1
    found = {}
    for kind, data in SMALL.items():
        model, image, target = _image(data, i)
        ends: dict[str, float] = {}
        for name, lr, n in (
            ("sgd", 0.01, 300),
            ("sgd", 0.003, 500),
            ("rmsprop", 0.01, 300),
            ("adam", 0.01, 300),
        ):
            solver = StochasticPertMap(model, name, lr, n, n_perturbations=8)
            w = solver.solve(image, target).w
            with torch.no_grad():
                hinge = mean_hinge(model, image, target, w, t)
            end = float(w.sum() - 78.4 * hinge)
            ends[name] = max(end, ends.get(name, -math.inf))
        best = max(ends.values())
        found[kind] = 0.1 - (best - min(ends.values())) / abs(best)
    return found


def high_scores_flipped(i: int) -> Margins:
    """The class is kept when the half with the highest scores is set to grey, as it is
    for nearly all images up to 50 % in Figure 1. Equal scores go in the order of the
    pixels."""
    found = {}
    for kind, data in SMALL.items():
        model, image, target = _image(data, i)
        solver = StochasticPertMap(model, n_iterations=300, n_perturbations=8)
        found[kind] = _kept(model, image, solver.solve(image, target).w)
    model, _, images = _photographs()
    if i < len(images):
        found["photographs"] = _kept(model, images[i : i + 1], _photo_box(i))
    return found


def _kept(model: nn.Module, image: Tensor, w: Tensor) -> float:
    """Whether the half with the smallest sides, whose scores are highest, may go."""
    return _sign(not bool(flipping(model, image, w, [50]).changed))


@lru_cache
def _photo_box(i: int) -> Tensor:
    """The stochastic box of a photograph, with the book's smaller budget."""
    return _photo_map("Stochastic", i).neg()


def _photo_map(method: str, i: int) -> Tensor:
    """The map of a photograph's predicted class, `[1, 3, H, W]`."""
    model, _, images = _photographs()
    settings = pertmap.arguments(method, LITE, pertmap.REDUCED)
    kind = METHODS[pertmap.LABELS[method]].explainer
    return kind(model, **settings).attribute(images[i : i + 1])


_NOISY = ("Gradient", "GuidedBP", "SmoothGrad", "IntGrad", "LRP", "DeepLIFT")


def higher_ratio(i: int) -> Margins:
    """The stochastic map's ratio of signal to noise is above that of every map that
    comes from gradients. Signal is what averaging over 8 × 8 pixels leaves, noise what
    it takes away. (Occlusion and the linear programs are constant on squares.)"""
    best = max(_ratio(_photo_map(method, i)) for method in _NOISY)
    return {"photographs": _ratio(_photo_box(i)) / best - 1}


def _ratio(attribution: Tensor) -> float:
    """The variance of block means over that within the blocks, of `[1, C, H, W]`."""
    values = attribution.sum(dim=1, keepdim=True).double()
    coarse = F.avg_pool2d(values, 8)
    rest = values - coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    return float(coarse.var() / rest.var())


# Cai and Wunder.


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
    """The queries that are needed grow by a larger factor with each doubling of the
    input: for a given relative error of a linear score's map, or until the first answer
    of a saturated score changes."""
    linear, saturated = [], []
    steep = float(_uniform(i, "slope", 1.9, 2.5, 1))
    for size in (1, 2, 4, 8):
        # For another error, as many as there are, times the square of this error.
        g = _normal(i, f"gradient {size}", 16 * size)
        maps = [
            GEEX(
                lambda z, g=g: z.to(g)[:, None] @ g, 500, seed=_seed(i, f"{size} {k}")
            ).attribute(torch.zeros(1, len(g)), 0)[0]
            for k in range(10)
        ]
        errors = [float((m - g).square().sum() / g.square().sum()) for m in maps]
        linear.append(sum(errors))
        eps = _normal(i, f"patch {size}", 200_000, size)
        moved = steep * (1 + SIGMA * eps).mean(dim=1) < 1  # off min(1, s · mean)
        saturated.append(1 / float(moved.double().mean()))
    found = {}
    for kind, n in (("linear scores", linear), ("saturated scores", saturated)):
        factors = [after / before for before, after in pairwise(n)]
        found[kind] = min(after - before for before, after in pairwise(factors))
    return found


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


def resizing_cures(i: int) -> Margins:
    """Answers to resized noise vary more than those to noise on pixels, by standard
    deviation. Digits are enlarged eightfold, and their network sees block means: inputs
    whose size makes noise on pixels average out, which is what the paper describes.
    Photographs have the settings of Table 1."""
    cnn, image, target = _image("mnist", i)

    def digit(z: Tensor) -> Tensor:
        return cnn(F.avg_pool2d(z, 8)).softmax(dim=1)[:, int(target)]

    large = image.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    found = {"enlarged digits": _spread(digit, large, SIGMA, 14, 150, i)}
    _, box, images = _photographs()
    photo = images[i : i + 1]
    if len(photo):
        c = int(box(photo).argmax())
        settings = geex.table1(LITE)["GERS"].arguments
        width, cells = settings["stdevs"], settings["mask_size"]
        found["photographs"] = _spread(
            lambda z: box(z)[:, c], photo, width, cells, 60, i
        )
    return found


def _spread(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    sigma: float,
    cells: int,
    n: int,
    i: int,
) -> float:
    """The deviation of answers to resized noise over that to pixel noise, less 1."""
    deviations = []
    for size in (cells, None):
        noise = search_noise("mirrored", x.shape[1:], n, _seed(i, "search"), size)
        with torch.no_grad():
            answers = torch.cat([score(x + sigma * e) for e in noise])
        deviations.append(float(answers.std()))
    resized, pixels = deviations
    return resized / max(pixels, 1e-12) - 1


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


@lru_cache
def _stumps() -> tuple[GradientBoostingClassifier, Tensor]:
    """Trees of one split on 30 measurements of tumours, and those, standardised."""
    data = load_breast_cancer()
    cases = StandardScaler().fit_transform(data.data)
    trees = GradientBoostingClassifier(max_depth=1, random_state=0)
    return trees.fit(cases, data.target), torch.from_numpy(cases)


def tabular(i: int) -> Margins:
    """The map has a cosine above 0.9 with the gradient of the smoothed log-odds: a
    split with a jump J at t adds J φ((x - t) / σ) / σ to its feature."""
    trees, cases = _stumps()
    x, exact = cases[i], torch.zeros(30, dtype=torch.float64)
    for (stump,) in trees.estimators_:
        tree = stump.tree_
        left, right = tree.value[1:, 0, 0]
        u = (float(x[tree.feature[0]]) - tree.threshold[0]) / SIGMA
        density = math.exp(-(u**2) / 2) / math.sqrt(2 * math.pi) / SIGMA
        exact[tree.feature[0]] += trees.learning_rate * (right - left) * density

    def log_odds(z: np.ndarray) -> np.ndarray:
        return trees.decision_function(z)[:, None]

    box = BlackBox(log_odds, backend="numpy")
    explainer = GEEX(box, 5000, SIGMA, seed=_seed(i, "search"))
    found = explainer.attribute(x[None], 0)[0].double()
    return {"tumours": float(F.cosine_similarity(found, exact, dim=0)) - 0.9}


# Tsykunov, Lee and Park.


def _hills(i: int) -> Callable[[np.ndarray], np.ndarray]:
    """A landscape of four hills, from points `[k, 2]` to scores `[k]` in (0, 1)."""
    centres = _uniform(i, "centres", 0.1, 0.9, 4, 2).numpy()
    widths = _uniform(i, "widths", 0.06, 0.2, 4).numpy()
    heights = np.array([0.9, 0.7, 0.5, 0.3])

    def score(p: np.ndarray) -> np.ndarray:
        squared = ((p[:, None] - centres) ** 2).sum(axis=2)
        return (heights * np.exp(-squared / (2 * widths**2))).max(axis=1)

    return score


def _grid(n: int) -> np.ndarray:
    side = (np.arange(n) + 0.5) / n
    return np.stack([a.ravel() for a in np.meshgrid(side, side)], axis=1)


def _steepest(score: Callable[[np.ndarray], np.ndarray]) -> float:
    """The Lipschitz constant of a landscape, from a fine grid."""
    values = score(_grid(600)).reshape(600, 600)
    down, across = np.gradient(values, 1 / 600)
    return float(np.hypot(down, across).max())


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


def _landscape(
    model: nn.Module, image: Tensor, c: int, p: np.ndarray, width: float
) -> Tensor:
    """The score at centres p `[k, 2]` of a mask that preserves: `[k]`."""
    masks = gaussian_masks(p, width, *image.shape[2:])[:, None]
    with torch.no_grad():
        parts = [model(image * part).softmax(dim=1)[:, c] for part in masks.split(256)]
    return torch.cat(parts).double()


def narrow_optima(i: int) -> Margins:
    """A smaller share of places scores over half of the best with the narrowest kernel
    than with the widest."""
    found = {}
    for kind, data in SMALL.items():
        model, image, target = _image(data, i)
        narrow, wide = (
            float((at > at.max() / 2).double().mean())
            for at in (
                _landscape(model, image, int(target), _grid(28), width)
                for width in (0.1, 0.25)
            )
        )
        found[kind] = wide - narrow
    return found


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


def slope_estimates_constant(i: int) -> Margins:
    """The steepest slope between two places is at least 0.9 of the constant: of as many
    places as LIPO asks for in the paper, and of many random ones."""
    score = _hills(i)
    constant = _steepest(score)
    lipo = LipoSampler(seed=_seed(i, "lipo") % 2**31)
    search([lipo], 87, lambda _, points: score(points))
    random = _uniform(i, "places", 0, 1, 3000, 2).numpy()
    found = {}
    for kind, places in (
        ("LIPO's 87 places", lipo.points),
        ("3,000 random places", random),
    ):
        scores = score(places)
        apart = np.linalg.norm(places[:, None] - places, axis=2)
        slopes = np.abs(scores[:, None] - scores) / np.where(apart > 0, apart, np.inf)
        found[kind] = float(slopes.max()) / constant - 0.9
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


TRIALS: dict[str, Callable[[int], Margins]] = {
    trial.__name__: trial
    for trial in (
        lp_only_approximates,
        constraint_is_mean_hinge,
        large_penalty_constrains,
        optimisers_agree,
        high_scores_flipped,
        higher_ratio,
        any_model,
        estimate_of_expected_loss,
        any_density,
        samples_grow_exponentially,
        unchanged_answers_vanish,
        resizing_cures,
        geex_insensitive,
        igeex_sensitive,
        igeex_insensitive,
        same_function_same_map,
        linear_in_the_score,
        tabular,
        map_is_a_density,
        narrow_optima,
        score_is_lipschitz,
        printed_bound,
        slope_estimates_constant,
        direct_needs_no_constant,
        direct_in_batches,
    )
}
"""The trials by name, as `data/published/claims.csv` has them."""

FEWER = {"higher_ratio": 26}
"""The instances of trials whose only kind are photographs."""
