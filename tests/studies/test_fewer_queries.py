"""The study of RISE's estimators, against the library and all masks of a tiny grid."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor

from xai_book.methods import METHODS
from xai_book.studies import aise, showdown
from xai_book.studies import fewer_queries as study
from xai_book.studies.comparisons import Claim
from xai_book.studies.results import Results, Unit
from xai_lib.aise import AISE
from xai_lib.baselines import RISE
from xai_lib.baselines import estimators as library
from xai_lib.core.blackbox import BlackBox
from xai_lib.kernels.masks import most_shift, upsampling
from xai_lib.metrics import energy_inside

SIDE, GRID = 4, 2


def curved(x: Tensor) -> Tensor:
    """A score in which cells act together."""
    part = x[:, 0, :2, 1:].flatten(1)
    return (part.prod(dim=1) + x.mean((1, 2, 3)))[:, None]


def image() -> Tensor:
    drawn = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    return drawn + 0.3


def expectation(x: Tensor) -> Tensor:
    """E[f m] / p over all masks, p = 1/2: `[SIDE, SIDE]`."""
    up = upsampling(GRID, SIDE).double().numpy()
    shifts = range(most_shift(GRID, SIDE) + 1)
    masks = []
    for flat in itertools.product((0.0, 1.0), repeat=GRID**2):
        large = up @ np.reshape(flat, (GRID, GRID)) @ up.T
        for i, j in itertools.product(shifts, repeat=2):
            masks.append(torch.from_numpy(large[i : i + SIDE, j : j + SIDE]))
    every = torch.stack(masks)
    scores = curved(x * every.float()[:, None])[:, 0].double()
    return torch.tensordot(scores, every, 1) / len(every) / 0.5


def maps(name: str, n: int, count: int) -> Tensor:
    """`count` maps, each from n masks of its own."""
    found = [
        study.Variant(curved, name, n_samples=n, mask_size=GRID, seed=seed)
        for seed in range(count)
    ]
    return torch.stack([one.attribute(image(), 0)[0, 0] for one in found]).double()


def deviation(drawn: Tensor, exact: Tensor) -> float:
    """Of the mean, in standard errors, the largest of 16 pixels."""
    error = drawn.std(dim=0) / len(drawn) ** 0.5
    return float(((drawn.mean(dim=0) - exact) / error).abs().max())


@pytest.mark.parametrize("name", ["control variate", "antithetic", "unbiased ridge"])
def test_what_is_called_unbiased_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "PENALTIES", torch.tensor([0.1]).double())
    exact = expectation(image())
    assert deviation(maps(name, 8, 120), exact) < 4
    # With the same penalty what is not called so is not.
    assert deviation(maps("independent ridge", 8, 120), exact) > 4


@pytest.mark.parametrize("name", study.NAMES)
def test_with_many_masks_each_estimator_finds_the_expectation(name: str) -> None:
    exact = expectation(image())
    found = maps(name, 800, 1)[0]
    # The spread of a score times that of a mask, over p and the root of n.
    assert float((found - exact).abs().max()) < 5 * 0.5 / 800**0.5
    if name not in ("plain", "self-normalised", "control variate", "antithetic"):
        assert pearsonr(found.flatten(), exact.flatten()).statistic > 0.9


def test_balanced_cells_are_pairs_in_which_each_pair_of_cells_is_balanced() -> None:
    explainer = study.Variant(curved, "balanced", n_samples=200, mask_size=3)
    rows = explainer._rows()
    assert rows.shape == (224, 9)
    assert torch.equal(rows[::2] + rows[1::2], torch.ones(112, 9))
    signs = 2 * rows[:32] - 1  # one block of 16 pairs
    torch.testing.assert_close(signs.T @ signs, 32 * torch.eye(9))


def test_a_process_on_a_linear_score_is_ridge_with_its_noise() -> None:
    """Without the second term of the kernel, by the dual form of ridge regression."""
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(30, 4, generator=draw, dtype=torch.float64)
    y = torch.rand(30, 1, generator=draw, dtype=torch.float64)
    process = study.Process(image(), 0.5, GRID)
    slopes = process.fit(x, y)
    centred = x - 0.5
    scale = centred.square().sum(1).mean()
    inner = centred @ centred.T / scale
    kernel = inner + inner**2
    errors, found = [], []
    for noise in library.PENALTIES * torch.linalg.eigvalsh(kernel)[-1]:
        total = 0.0
        for i in range(30):
            rest = torch.arange(30) != i
            inverse = torch.linalg.inv(kernel[rest][:, rest] + noise * torch.eye(29))
            guess = kernel[i, rest] @ inverse @ (y - y.mean())[rest]
            total += float((y[i] - y.mean() - guess).square())
        errors.append(total)
        weights = torch.linalg.solve(kernel + noise * torch.eye(30), y - y.mean())
        found.append(centred.T @ weights / scale)
    torch.testing.assert_close(slopes, found[int(np.argmin(errors))])


def test_a_row_is_the_librarys_map_against_other_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "N_CONVERGED", 300)
    study.converged.cache_clear()
    names = ("self-normalised", "ridge")
    units = [Unit(study.settings("mnist", name, 100, 7), 3) for name in names]
    results = Results("estimators", tmp_path)
    assert study.run(units, results) == 2
    assert study.run(units, Results("estimators", tmp_path)) == 0
    one, memory = study.asked("mnist", 3)
    explainer = RISE(memory.box, 2300, 7, seed=3)
    masks = torch.cat(list(explainer.masks(28, 28)))[2000:].double()
    with torch.no_grad():
        scores = memory.box(one * masks.float()[:, None])[:, memory.target].double()
    # The mean of two halves' covariances.
    halves = []
    for half in (slice(0, None, 2), slice(1, None, 2)):
        y, m = scores[half], masks[half]
        halves.append(np.cov(y, m.flatten(1).T)[0, 1:])
    limit = sum(halves)
    r = pearsonr(*halves).statistic
    for row, name in zip(results.rows(), names, strict=True):
        mine = RISE(memory.box, 100, 7, seed=3, estimator=name)
        expected = pearsonr(mine.attribute(one, memory.target).flatten(), limit)
        assert row["result"]["correlation"] == pytest.approx(
            expected.statistic, abs=1e-4
        )
        assert row["result"]["ceiling"] == pytest.approx(
            (2 * r / (1 + r)) ** 0.5, abs=1e-4
        )
    study.converged.cache_clear()


def test_where_a_truth_is_known_the_share_in_it_is_measured() -> None:
    unit = Unit(study.settings("scenes", "ridge", 100, 7), 2)
    found = study.measure(unit)
    assert set(found) == {"energy"}
    one, place = showdown.load("scenes", 2)
    _, memory = study.asked("scenes", 2)
    explainer = RISE(memory.box, 100, 7, seed=2, estimator="ridge")
    heat = explainer.attribute(one, memory.target).double()
    expected = float(energy_inside(heat - heat.mean(), place))
    assert found["energy"] == pytest.approx(expected, abs=2e-3)
    assert 0.2 < found["energy"] < 1


def test_no_question_is_asked_twice() -> None:
    study.asked.cache_clear()
    _, memory = study.asked("mnist", 0)
    before = memory.box.queries
    for name in ("plain", "self-normalised", "control variate"):
        study.measure(Unit(study.settings("mnist", name, 50, 7) | {"converged": 0}, 0))
    assert memory.box.queries - before == 50


def test_what_few_queries_reach_by_the_files_themselves() -> None:
    """LIME's and coarse to fine's differences, paired by hand from the rows."""
    found = {(name, bed, c.statement): c for name, bed, c in study.goals()}
    assert {name for name, _, _ in found} == set(study.GOALS)
    lime: dict[int, dict[int, float]] = {500: {}, 2000: {}}
    for row in Results("showdown_mnist").rows(method="LIME"):
        n = row["settings"]["arguments"]["n_samples"]
        if n in lime:
            lime[n][row["image"]] = row["result"]["insertion"]
    claim = found[
        "few_segments", "mnist", "LIME with 500 reaches LIME with 2,000, insertion"
    ]
    assert_is_mean(claim, [lime[500][i] - lime[2000][i] for i in lime[500]])
    finer, direct = (
        {
            row["image"]: np.mean(row["result"]["energy_box"])
            for row in Results(store).rows(
                **case._asdict(), data="scenes", measures="pointing"
            )
            if row["result"]["target"]
        }
        for store, case in (
            ("estimators", study.FEWER["coarse to fine", 96]),
            ("aise_scenes", aise.table()["AISE-DIRECT-300"]),
        )
    )
    said = "coarse to fine with 96 reaches AISE-DIRECT with 300, energy"
    claim = found["few_aise", "scenes", said]
    assert_is_mean(claim, [finer[i] - direct[i] for i in finer.keys() & direct])


def assert_is_mean(claim: Claim, gaps: list[float]) -> None:
    assert claim.images == len(gaps)
    assert claim.value == pytest.approx(np.mean(gaps), abs=1e-9)
    assert claim.low <= claim.value <= claim.high
    assert (claim.verdict == "holds") == (claim.low > -0.01)


def test_without_rows_no_goal_is_decided(tmp_path: Path) -> None:
    assert study.goals(tmp_path) == []


def test_the_order_of_the_pixels_is_tried_as_on_the_bench(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = METHODS["AISE-DIRECT"].settings(100)
    rows = Results("showdown_scenes").rows(method="AISE-DIRECT", arguments=settings)
    (stored,) = (row["result"] for row in rows if row["image"] == 0)
    unit = Unit(study.pictured("scenes", "AISE-DIRECT", 100), 0)
    expected = {m: pytest.approx(stored[m], abs=2e-3) for m in ("aopc", "insertion")}
    assert study.measure(unit) == expected

    def same(box: BlackBox, image: Tensor, target: int, **_: object) -> Tensor:
        return AISE(box, **settings).attribute(image, target)

    monkeypatch.setattr(study, "coarse_to_fine", same)
    unit = Unit(study.pictured("scenes", "coarse to fine", 96), 0)
    assert study.measure(unit) == expected


def test_many_masks_are_not_those_of_the_converged_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study, "N_CONVERGED", 300)
    monkeypatch.setattr(study, "BUDGETS", (100,))
    study.converged.cache_clear()
    one, memory = study.asked("mnist", 4)
    found = study.measure(Unit(study.settings("mnist", "plain", 200, 7), 4))
    limit, _ = study.converged("mnist", 4, 7)
    mine = RISE(memory.box, 200, 7, seed=1004, estimator="plain")
    expected = pearsonr(mine.attribute(one, memory.target).flatten(), limit.flatten())
    assert found["correlation"] == pytest.approx(expected.statistic, abs=1e-4)
    study.converged.cache_clear()
