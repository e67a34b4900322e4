"""Empirical statements that no study's rows decide, each tried on many instances.

An instance is a random model or landscape, an image or a row of a table, on which the
statement is either true or not; the share of those on which it is true decides (see
`comparisons.in_most`). Theorems are not tried: they are proved in the chapters, and
tested.

A trial is a function from the number of an instance to its margins, by the kind of
instance: above zero where the statement is true.

    TRIALS["tabular"](0)  # {"tumours": 0.07}: a cosine of 0.97, which 0.9 is enough
"""

import math
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai_book.studies import geex
from xai_book.studies.results import NotMeasured, Results, Unit
from xai_lib.aise.kernels import gaussian_masks
from xai_lib.aise.samplers import LipoSampler, search
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.extras import extra
from xai_lib.geex import GEEX
from xai_lib.geex.noise import search_noise
from xai_lib.metrics import flipping
from xai_lib.pertmap import LinearPertMap, StochasticPertMap
from xai_lib.pertmap.stochastic import mean_hinge
from xai_lib.zoo import digits, models, photos

with extra("book"):
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.preprocessing import StandardScaler

N_INSTANCES = 60
"""With at most one exception a statement holds. There are fewer photographs: with less
than 36 of a kind nothing is sure to hold."""

SIGMA = 0.5
"""The book's width of search noise, in input units."""

LITE = "efficientnet_lite0"
SMALL = {"MNIST": "mnist", "Fashion-MNIST": "fashion_mnist"}
Margins = dict[str, float]
Score = Callable[[Tensor], Tensor]


def units(names: Iterable[str] | None = None) -> list[Unit]:
    """One unit per trial and instance."""
    wanted = TRIALS if names is None else names
    return [Unit({"trial": name}, i) for name in wanted for i in range(N_INSTANCES)]


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


def _seed(i: int, purpose: str) -> int:
    """A seed of instance i that is not used for another purpose."""
    return zlib.crc32(f"{purpose} {i}".encode())


def _uniform(i: int, what: str, low: float, high: float, *shape: int) -> Tensor:
    """Numbers of instance i, named so that others are independent of them."""
    rng = generator(_seed(i, what))
    return low + (high - low) * torch.rand(*shape, generator=rng, dtype=torch.float64)


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


def _miss(model: Score) -> float:
    """By how much of the best sum the linear program misses it, at zero. The bound is
    half as long again as its longest side, so that the grid is fine enough."""
    at = torch.zeros(1, 2, dtype=torch.float64)
    c = int(model(at).argmax())
    program = partial(LinearPertMap, model, patch=1, penalty=math.inf)
    bound = 1.5 * float(program(bound=4).solve(at, c).w.max())
    best = _largest_sum(model, at, c, bound)
    return abs(float(program(bound=bound).solve(at, c).w.sum()) - best) / best


def _largest_sum(
    model: Score, at: Tensor, c: int, bound: float, n: int = 1000
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


@lru_cache
def _digits(data: str) -> tuple[nn.Module, digits.Digits]:
    return models.load(f"cnn_{data}"), getattr(digits, data)(N_INSTANCES)


def _image(data: str, i: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, an image `[1, 1, 28, 28]` and the class it predicts `[1]`."""
    model, found = _digits(data)
    image = found.images[i : i + 1]
    return model, image, model(image).argmax(dim=1)


@lru_cache
def _photographs() -> tuple[BlackBox, Tensor]:
    """Probabilities of the network for photographs, and the photographs that show one
    of its classes."""
    box = BlackBox(models.probabilities(models.load(LITE)))
    return box, photos.labelled().images


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
    return found


def _kept(model: nn.Module, image: Tensor, w: Tensor) -> float:
    """Whether the half with the smallest sides, whose scores are highest, may go."""
    found = flipping(model, image, w, [50], ties="position")
    return -1.0 if bool(found.changed) else 1.0


# Cai and Wunder.


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
    box, images = _photographs()
    photo = images[i : i + 1]
    if len(photo):
        c = int(box(photo).argmax())
        settings = geex.table1(LITE)["GERS"].arguments
        noise = settings["stdevs"], settings["mask_size"]
        found["photographs"] = _spread(lambda z: box(z)[:, c], photo, *noise, 60, i)
    return found


def _spread(score: Score, x: Tensor, sigma: float, cells: int, n: int, i: int) -> float:
    """The deviation of answers to resized noise over that to pixel noise, less 1."""
    deviations = []
    for size in (cells, None):
        noise = search_noise("mirrored", x.shape[1:], n, _seed(i, "search"), size)
        with torch.no_grad():
            answers = torch.cat([score(x + sigma * e) for e in noise])
        deviations.append(float(answers.std()))
    resized, pixels = deviations
    return resized / max(pixels, 1e-12) - 1


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
            _landscape(model, image, int(target), _grid(28), width)
            for width in (0.1, 0.25)
        )
        shares = [(s > s.max() / 2).double().mean() for s in (narrow, wide)]
        found[kind] = float(shares[1]) - float(shares[0])
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
    kinds = {"LIPO's 87 places": lipo.points, "3,000 random places": random}
    for kind, places in kinds.items():
        scores = score(places)
        apart = np.linalg.norm(places[:, None] - places, axis=2)
        slopes = np.abs(scores[:, None] - scores) / np.where(apart > 0, apart, np.inf)
        found[kind] = float(slopes.max()) / constant - 0.9
    return found


TRIALS: dict[str, Callable[[int], Margins]] = {
    trial.__name__: trial
    for trial in (
        lp_only_approximates,
        optimisers_agree,
        high_scores_flipped,
        resizing_cures,
        tabular,
        narrow_optima,
        slope_estimates_constant,
    )
}
"""The trials by name, as `data/published/claims.csv` has them."""
