"""How many queries RISE's map takes, by the estimator of its expectation.

A row is the map of one estimator from B masks on one image: its correlation over pixels
with a map of N_CONVERGED other masks, and where it is known which pixels show the class
the share of the map that lies there. The library has those of `RISE`; the others are
here:

- "control variate": scores less their mean, f̄ + Σ (f_i − f̄) m_i / ((B − 1) p). The sum
  is a sample covariance, so it is unbiased for RISE's own expectation.
- "antithetic": the mean of pairs m, 1 − m; unbiased, too.
- "balanced": pairs of the rows of a Hadamard matrix, with columns drawn and signs
  flipped at random, and ridge: among the rows of a block no cell goes with another one.
- "independent ridge": ridge as in the library, without pairs.
- "unbiased ridge": its map, and the sample covariance of what it leaves of each answer
  when fitted without it. Each of the B terms is unbiased while the penalty is given.
- "Gaussian process": kernel t + t², t the inner product of two masks. At p = 1/2 the
  second term has no covariance with a mask, so the map is that of the first.

Whether other methods reach with few queries what they have with many is asked, too
(`goals`): by rules in `claims.csv`, of images on which nothing was chosen.
"""

import hashlib
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor

from xai_book.methods import METHODS
from xai_book.studies import aise, beds, claims, geex, showdown
from xai_book.studies.comparisons import Claim
from xai_book.studies.engine import Runner, Study, units_of
from xai_book.studies.results import Case, NotMeasured, Results, Unit
from xai_book.studies.rows import Found, Rows
from xai_book.studies.saliencies import coarse_to_fine
from xai_lib.baselines import RISE
from xai_lib.baselines.estimators import PENALTIES, Estimate, Mean, Ridge, ridge
from xai_lib.baselines.rise import ESTIMATORS
from xai_lib.core.arguments import check_choice
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox
from xai_lib.metrics import deletion, energy_inside, insertion

BUDGETS = (100, 250, 500, 1000, 2000)
N_CONVERGED = 16_000
OWN = (
    *("control variate", "antithetic", "balanced", "independent ridge"),
    *("unbiased ridge", "Gaussian process"),
)
NAMES = (*ESTIMATORS, *OWN)
PAIRED = ("ridge", "antithetic", "balanced")
MOST = {"Gaussian process": 1000}
"""Queries up to which an estimator is asked; its own work grows with their cube."""
N_IMAGES: dict[tuple[str, int], int] = {
    ("mnist", 7): 20,
    ("mnist", 10): 20,
    ("photos", 7): 1,
    ("scenes", 7): 20,
}
"""Images by bed and mask size."""
ASKED_FOR_PLACE = (*ESTIMATORS, "control variate", "antithetic")
CHEAP = {"scenes": ((100, 250, 500), ASKED_FOR_PLACE)}
"""Beds of which only the truth is asked and no converged map: budgets and names."""
GOALS = ("few_rise", "few_aise", "few_geex", "few_segments")
"""Ids of the rules in `claims.csv`, whose labels end in the number of queries."""
RISES = (("ridge", 800), ("plain", 8000), ("self-normalised", 8000))
FEWER = {
    ("coarse to fine", 96): Case(
        "coarse to fine", {"kernel_widths": [0.1, 0.175, 0.25], "n_kernels": 16}
    ),
    ("ridge", 800): Case(
        "RISE", {"n_samples": 800, "mask_size": 7, "p": 0.5, "estimator": "ridge"}
    ),
}
"""What asks less than the methods of other studies; "ridge" is RISE by ridge."""
AISES = (("coarse to fine", 96), ("AISE-DIRECT", 300))
SEGMENTS = tuple((m, n) for m in ("LIME", "KernelSHAP") for n in (500, 2000))
PICTURES: dict[str, tuple[tuple[tuple[str, int], ...], range]] = {
    "scenes": ((*AISES, ("AISE-DIRECT", 96), *SEGMENTS), range(20, 60)),
    "fashion_mnist": (SEGMENTS, range(40, 100)),
    "photos": (AISES, range(26)),
}
"""Methods whose order of the pixels is tried, and images that the bench has not; of
photographs it has most, but nothing of coarse to fine was chosen on them."""
NOISES = (("low-frequency", 250), ("mirrored", 5000))


class ControlVariate(Mean):
    """Scores less their mean."""

    def __init__(self, inputs: Tensor, p: float) -> None:
        super().__init__(inputs, p)
        self.sum = self.coverage.new_zeros(1)

    def add(self, masks: Tensor, scores: Tensor) -> None:
        super().add(masks, scores)
        self.sum = self.sum + scores.sum(dim=1).to(self.total)[..., None, None]

    def maps(self) -> Tensor:
        assert self.p is not None
        mean = self.sum / self.count
        covariance = (self.total - mean * self.coverage) / (self.count - 1)
        return mean + covariance / self.p


class Halves(Estimate):
    """Control variates of the even and of the odd masks after the first ones."""

    def __init__(self, inputs: Tensor, p: float, skip: int) -> None:
        self.halves = [ControlVariate(inputs, p) for _ in range(2)]
        self.seen, self.skip = 0, skip

    def add(self, masks: Tensor, scores: Tensor) -> None:
        number = torch.arange(self.seen, self.seen + len(masks))
        self.seen += len(masks)
        for i, half in enumerate(self.halves):
            mine = (number >= self.skip) & (number % 2 == i)
            if bool(mine.any()):
                half.add(masks[mine], scores[:, mine])

    def maps(self) -> Tensor:
        return torch.cat([half.maps() for half in self.halves], dim=1)


class UnbiasedRidge(Ridge):
    """Ridge as a control variate of each answer that it has not seen."""

    def __init__(self, inputs: Tensor, p: float, mask_size: int, again: Any) -> None:
        super().__init__(inputs, p, mask_size)
        self.again = again

    def fit(self, x: Tensor, y: Tensor) -> Tensor:
        slopes, penalty = ridge(x, y)
        x, y = x - x.mean(dim=0), y - y.mean(dim=0)
        u, d, vt = torch.linalg.svd(x, full_matrices=False)
        shrink = d.square() / (d.square() + penalty)
        hat = 1 / len(x) + u.square() @ shrink
        self.unseen = (y - x @ slopes) / (1 - hat)[:, None]
        weighted = u * (d / (d.square() + penalty))
        return slopes - vt.T @ weighted.T @ self.unseen / len(x)

    def maps(self) -> Tensor | None:
        found = super().maps()
        if found is None:
            return None
        rest = torch.zeros_like(found)
        start = 0
        for masks in self.again():
            part = self.unseen[start : start + len(masks), 0].to(rest)
            rest += torch.tensordot(part, masks.to(rest) - self.p, 1)
            start += len(masks)
        return found + rest / (start * self.p)


class Process(Ridge):
    """A Gaussian process on the mask, its noise by leaving out single answers."""

    def fit(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = x - self.p, y - y.mean(dim=0)
        scale = x.square().sum(dim=1).mean()
        inner = x @ x.T / scale
        values, vectors = torch.linalg.eigh(inner + inner.square())
        found = []
        for noise in PENALTIES * values[-1]:
            inverse = 1 / (values.clamp_min(0) + noise)
            weights = vectors @ (inverse[:, None] * (vectors.T @ y))
            unseen = weights / (vectors.square() @ inverse)[:, None]
            found.append((float(unseen.square().sum()), weights))
        return x.T @ min(found, key=lambda one: one[0])[1] / scale


class Variant(RISE):
    """RISE with an estimator of NAMES."""

    def __init__(self, forward_func: Any, name: str, **settings: Any) -> None:
        known = name if name in ESTIMATORS else "plain"
        super().__init__(forward_func, **settings, estimator=known)
        self.name, self.paired = check_choice("name", name, NAMES), name in PAIRED

    def _estimate(self, inputs: Tensor) -> Estimate:
        again = partial(self.masks, *inputs.shape[2:])
        where = inputs, self.p, self.mask_size
        if self.name == "control variate":
            return ControlVariate(inputs, self.p)
        if self.name == "unbiased ridge":
            return UnbiasedRidge(*where, again)
        if self.name == "Gaussian process":
            return Process(*where)
        if self.name in ("balanced", "independent ridge"):
            return Ridge(*where)
        return super()._estimate(inputs)

    def _draws(
        self, height: int, width: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        start = 0
        for cells, shifts in super()._draws(height, width, device):
            if self.name == "balanced":
                rows = self._rows()[start : start + len(cells)]
                cells = rows.view_as(cells).to(cells)
            start += len(cells)
            yield cells, shifts

    def _rows(self) -> Tensor:
        """Cells of all masks, `[n_samples', mask_size²]`, mirrored in neighbours."""
        cells = self.mask_size**2
        side = 1 << cells.bit_length()
        draw, found = generator(self.seed), []
        for _ in range(-(-self.n_samples // (2 * side))):
            columns = torch.randperm(side, generator=draw)[:cells]
            signs = torch.randint(0, 2, (cells,), generator=draw) * 2 - 1
            rows = torch.from_numpy(hadamard(side))[:, columns] * signs
            rows = rows[torch.randperm(side, generator=draw)]
            found.append(torch.stack([rows, -rows], dim=1).flatten(0, 1))
        return (torch.cat(found).float() + 1) / 2


class Halved(RISE):
    """RISE whose "map" are the two halves of a converged one."""

    def _estimate(self, inputs: Tensor) -> Estimate:
        return Halves(inputs, self.p, max(BUDGETS))


class Remembered:
    """A class's probability, asked once for each image: estimators share masks."""

    def __init__(self, box: BlackBox, target: int) -> None:
        self.box, self.target = box, target
        self.known: dict[bytes, float] = {}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        keys = [key(one) for one in images]
        new = {k: i for i, k in enumerate(keys) if k not in self.known}
        if new:
            scores = self.box(torch.from_numpy(images[list(new.values())]))
            self.known |= dict(zip(new, scores[:, self.target].tolist(), strict=True))
        return np.array([[self.known[k]] for k in keys], dtype=np.float32)


def key(image: np.ndarray) -> bytes:
    """What tells a masked image from others."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


@lru_cache(maxsize=1)
def asked(data: str, image: int) -> tuple[Tensor, Remembered]:
    """An image of a bed, and the probability of the class that is predicted there."""
    model = beds.BEDS[data].model
    one, box = beds.load(data, [image], model), showdown.blackbox(model, "probability")
    return one, Remembered(box, int(box(one).argmax()))


@lru_cache(maxsize=1)
def converged(data: str, image: int, mask_size: int) -> tuple[Tensor, float]:
    """A map of N_CONVERGED masks that no estimate has, and its own correlation with
    the limit: r between its halves means √(2 r / (1 + r)) for both together."""
    one, memory = asked(data, image)
    n = max(BUDGETS) + N_CONVERGED
    halved = Halved(BlackBox(memory, 64, backend="numpy"), n, mask_size, seed=image)
    halves = halved.attribute_all(one)[0]
    r = correlation(*halves)
    return halves.mean(dim=0), (2 * r / (1 + r)) ** 0.5


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's, over pixels."""
    both = torch.stack([first.flatten(), second.flatten()]).double()
    return float(torch.corrcoef(both)[0, 1])


def settings(data: str, name: str, n: int, mask_size: int) -> dict[str, Any]:
    """What a row holds beside its image."""
    return {
        "model": beds.BEDS[data].model,
        "data": data,
        "method": "RISE",
        "estimator": name,
        "arguments": {"n_samples": n, "mask_size": mask_size},
        "converged": 0 if data in CHEAP else N_CONVERGED,
    }


def wanted(data: str, mask_size: int) -> dict[tuple[str, int], dict[str, Any]]:
    """The settings of all rows of a bed and mask size, by estimator and queries."""
    budgets, names = CHEAP.get(data, (BUDGETS, NAMES))
    return {
        (name, n): settings(data, name, n, mask_size)
        for n in budgets
        for name in names
        if n <= MOST.get(name, n)
    }


def units() -> list[Unit]:
    """All of the store, image by image."""
    found = further()
    for where, count in N_IMAGES.items():
        found += units_of(wanted(*where).values(), range(count))
    return found


def further() -> list[Unit]:
    """What `goals` asks for."""
    found: list[Unit] = []
    for bed, label, images in (
        # `aise` has coarse to fine on the first hundred scenes.
        ("scenes", ("coarse to fine", 96), range(100, 300)),
        ("scenes", ("ridge", 800), range(60)),
        ("grids 2x2", ("coarse to fine", 96), range(20)),
        ("grids 2x2", ("ridge", 800), range(20)),
    ):
        found += aise.units({label: FEWER[label]}, bed, images)
    for data in ("mnist", "fashion_mnist"):
        for size in (7, 10):
            every = [settings(data, *label, size) for label in RISES]
            found += units_of(every, range(20))
        model = beds.BEDS[data].model
        found += geex.units(noises(model), model, data, range(60, 100))
    for data, (labels, images) in PICTURES.items():
        found += units_of([pictured(data, *label) for label in labels], images)
    return found


def noises(model: str) -> dict[Hashable, Case]:
    """The kinds of search noise in NOISES."""
    every = geex.samplers(model, [n for _, n in NOISES])
    return {label: every[label] for label in NOISES}


def pictured(data: str, method: str, n: int) -> dict[str, Any]:
    """What a row holds of a method whose order of the pixels is tried."""
    known = FEWER.get((method, n)) or Case(method, METHODS[method].settings(n))
    return {"model": beds.BEDS[data].model, "data": data, **known._asdict()}


def ordered(unit: Unit) -> dict[str, Any]:
    """How a method orders the pixels: "aopc" and "insertion", as in `showdown`."""
    one = unit.settings
    image, memory = asked(one["data"], unit.image)
    box, target = memory.box, memory.target
    if one["method"] == "coarse to fine":
        heat = coarse_to_fine(box, image, target, seed=unit.image, **one["arguments"])
    else:
        kind = METHODS[one["method"]].explainer
        explainer = kind(box, seed=unit.image, **one["arguments"])
        heat = explainer.attribute(image, target)
    curves = box, image, heat, target, showdown.STEPS
    return {
        "aopc": round(float(deletion(*curves).aopc), 5),
        "insertion": round(float(insertion(*curves).auc), 5),
    }


def measure(unit: Unit) -> dict[str, Any]:
    """One map; rows of the kinds of `aise` and `geex` as there, and `ordered`.

    Returns:
        "correlation": Pearson's over pixels with the converged map.
        "ceiling": what that map itself has with the limit.
        "energy": the share of the map above its mean that lies where the class is.
        Each where it is known.
    """
    one = unit.settings
    if "measures" in one:
        return aise.measure(unit)
    if "explains" in one:
        return geex.measure([unit])[0]
    if "estimator" not in one:
        return ordered(unit)
    data, arguments = one["data"], one["arguments"]
    image, memory = asked(data, unit.image)
    # Only the first masks of an image's seed are not those of the converged map.
    apart = 0 if arguments["n_samples"] <= max(BUDGETS) else 1000
    explainer = Variant(
        BlackBox(memory, 64, backend="numpy"),
        one["estimator"],
        seed=unit.image + apart,
        **arguments,
    )
    attribution = explainer.attribute(image, 0)
    found: dict[str, Any] = {}
    if one["converged"]:
        limit, ceiling = converged(data, unit.image, arguments["mask_size"])
        found["correlation"] = round(correlation(attribution, limit), 5)
        found["ceiling"] = round(ceiling, 5)
    if places := beds.BEDS[data].places:
        above = (attribution - attribution.mean()).double()
        inside = energy_inside(above, places()[unit.image][None])
        found["energy"] = round(float(inside), 5)
    return found


run = Runner(measure)


def read(
    data: str,
    mask_size: int,
    results: Results | None = None,
    measure: str = "correlation",
) -> Mapping[tuple[str, int], Tensor]:
    """A measure by estimator and queries, `[N]` in the order of the images that all
    have; without those that have less than half of the images of the others.

    Args:
        data, mask_size: of N_IMAGES.
        results: the store; None is the book's.
        measure: "correlation", "ceiling" or "energy".

    Raises:
        NotMeasured: no rows.
    """
    store = results or Results("estimators")
    counts = f"image of {data}", lambda row: measure in row
    found, _ = store.shared(wanted(data, mask_size), *counts, well=True)
    return {
        label: torch.tensor([row[measure] for row in rows.values()]).double()
        for label, rows in found.items()
    }


class _Rows(Rows):
    """Readers of `few` queries beside many; for each label the images that both have,
    and what was measured of them."""

    def few(self, bed: str, *labels: tuple[str, int]) -> Found:
        """Rows of this study; with the cells of a mask, "mnist, 7", of estimators."""
        data, _, cells = bed.partition(", ")
        wanted = {
            label: settings(data, *label, int(cells))
            if cells
            else pictured(data, *label)
            for label in labels
        }
        found, _ = self._store("estimators").shared(wanted, f"image of {bed}")
        return {label: _columns(list(rows.values())) for label, rows in found.items()}

    def few_directions(self, bed: str, *labels: tuple[str, int]) -> Found:
        """Kinds of search noise."""
        model, store = beds.BEDS[bed].model, self._store("estimators")
        return geex.read(noises(model), model, bed, store)

    def few_segments(self, bed: str, *labels: tuple[str, int]) -> Found:
        """The bench's rows."""
        cases = {
            showdown.Label(*x): showdown.bench(bed)[showdown.Label(*x)] for x in labels
        }
        where = cases, bed, self._store(f"showdown_{bed}")
        found = {m: showdown.read(*where, m) for m in ("aopc", "insertion")}
        return {
            label: {m: scores[showdown.Label(*label)] for m, scores in found.items()}
            for label in labels
        }

    def few_places(self, bed: str, *labels: tuple[str, int]) -> Found:
        """The pointing game and the energy, of which other studies have the rows with
        many queries."""
        every, store = aise.rows_of(bed)
        found: dict[Any, dict[str, Tensor]] = {}
        for label in labels:
            name = "-".join(map(str, label))
            case, at = (
                (every[name], store) if name in every else (FEWER[label], "estimators")
            )
            found |= aise.read({label: case}, bed, self._store(at))
        images = [rows["image"] for rows in found.values()]
        common = images[0][torch.isin(images[0], images[1])].unique()
        place = "energy_cell" if bed.startswith("grids") else "energy_box"
        for label, rows in found.items():
            kept = torch.isin(rows["image"], common)
            rows = {name: values[kept] for name, values in rows.items()}
            found[label] = rows | {"energy": aise.per_image(rows, place)}
        return found


def _columns(rows: list[dict[str, float]]) -> dict[str, Tensor]:
    return {m: torch.tensor([row[m] for row in rows]).double() for m in rows[0]}


def goals(folder: str | Path | None = None) -> list[tuple[str, str, Claim]]:
    """Whether a method reaches with few queries what it has with many: of each rule
    that has rows, its id in GOALS, the bed and the comparison.

    Args:
        folder: of the stores; None is the book's.
    """
    rows, found = _Rows(folder), []
    for goal in GOALS:
        for rule in claims.listed()[goal]:
            labels = [
                tuple(int(x) if x.isdigit() else x for x in rule[name].split(", "))
                for name in ("better", "worse")
            ]
            for bed in rule["bed"].split(" | "):
                with suppress(NotMeasured):
                    of = claims.compare(
                        rule, rows.read(rule["study"], bed, *labels), bed
                    )
                    found += [(goal, bed, claim) for claim in of]
    return found


STUDIES = {
    "estimators": Study("fewer queries for the same map; chapter 10", units, run)
}
