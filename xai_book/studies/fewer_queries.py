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
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor

from xai_book.studies import beds, claims, showdown
from xai_book.studies.comparisons import Claim
from xai_book.studies.engine import Runner, Study, units_of
from xai_book.studies.results import Results, Unit
from xai_lib.baselines import RISE
from xai_lib.baselines.estimators import PENALTIES, Estimate, Mean, Ridge, ridge
from xai_lib.baselines.rise import ESTIMATORS
from xai_lib.core.arguments import check_choice
from xai_lib.core.attribution import generator
from xai_lib.core.blackbox import BlackBox
from xai_lib.metrics import energy_inside

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
    return [
        unit
        for where, count in N_IMAGES.items()
        for unit in units_of(wanted(*where).values(), range(count))
    ]


def measure(unit: Unit) -> dict[str, Any]:
    """One map.

    Returns:
        "correlation": Pearson's over pixels with the converged map.
        "ceiling": what that map itself has with the limit.
        "energy": the share of the map above its mean that lies where the class is.
        Each where it is known.
    """
    one = unit.settings
    data, arguments = one["data"], one["arguments"]
    image, memory = asked(data, unit.image)
    explainer = Variant(
        BlackBox(memory, 64, backend="numpy"),
        one["estimator"],
        seed=unit.image,
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


def others() -> list[Claim]:
    """Whether other methods reach with a share of their queries what they have with
    all, from the book's rows of other studies."""
    return claims.own("few_lime", "few_kernelshap", "few_geex", "few_aise")


STUDIES = {"estimators": Study("RISE with fewer queries; chapter 10", units, run)}
