from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from xai_lib.core import gradients as whitebox
from xai_lib.core.blackbox import NonFiniteOutput
from xai_lib.kernels import philox
from xai_lib.pertmap import LinearPertMap, worst_point
from xai_lib.pertmap.linear import largest_box, margin_gradients


def whole_program(
    slopes: np.ndarray,
    limits: np.ndarray,
    delta: float,
    penalty: float,
    groups: np.ndarray,
    two_sided: bool,
) -> float:
    """The optimum with all rows at once, feature by feature.

    Unknowns u_i, v_i for every single feature and ξ; that features share a score, and
    u = v, is written as equalities.
    """
    d = slopes.shape[1]
    lhs = np.hstack([np.maximum(slopes, 0), np.maximum(-slopes, 0)])
    equal = []
    for i in range(d):
        first = int(np.flatnonzero(groups == groups[i])[0])
        for side in (0, d) if first != i else ():
            row = np.zeros(2 * d + 1)
            row[side + i], row[side + first] = 1, -1
            equal.append(row)
        if not two_sided:
            row = np.zeros(2 * d + 1)
            row[i], row[d + i] = 1, -1
            equal.append(row)
    hard = math.isinf(penalty)
    answer = linprog(
        np.append(-np.full(2 * d, 0.5), 0 if hard else penalty),
        A_ub=np.hstack([lhs, -np.ones((len(lhs), 1))]),
        b_ub=limits,
        A_eq=np.array(equal) if equal else None,
        b_eq=np.zeros(len(equal)) if equal else None,
        bounds=[(0, delta)] * (2 * d) + [(0, 0 if hard else None)],
        method="highs-ipm",
    )
    assert answer.status == 0
    return -answer.fun


def affine_rows(model, x: Tensor, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and margins of an affine model, from its weights."""
    weight, scores = model.weight.detach(), model(x[None])[0].detach()
    others = [j for j in range(len(weight)) if j != c]
    return (weight[c] - weight[others]).numpy(), (scores[c] - scores[others]).numpy()


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("penalty", [0.05, 1.0, math.inf])
def test_affine_model_reaches_the_optimum(affine, two_sided: bool, penalty: float):
    model = affine(40, 12)
    rng = torch.Generator().manual_seed(5)
    x = torch.rand(3, 12, generator=rng, dtype=torch.float64)
    explainer = LinearPertMap(
        model, bound=0.7, patch=1, penalty=penalty, two_sided=two_sided
    )
    solution = explainer.solve(x)
    for n in range(3):
        slopes, margins = affine_rows(model, x[n], int(solution.target[n]))
        best = whole_program(slopes, margins, 0.7, penalty, np.arange(12), two_sided)
        assert solution.objective[n].item() == pytest.approx(best, rel=1e-6)
        # The reported box is feasible and worth what it says.
        u, v = solution.lower[n].numpy(), solution.upper[n].numpy()
        needed = np.maximum(slopes, 0) @ u + np.maximum(-slopes, 0) @ v
        missed = solution.slack[n].item()
        assert (needed <= margins + missed + 1e-6).all()
        price = 0 if math.isinf(penalty) else penalty * missed
        assert (u + v).sum() / 2 - price == pytest.approx(best, rel=1e-6)
    assert torch.equal(explainer.attribute(x), -solution.w)
    if not two_sided:
        assert torch.equal(solution.lower, solution.upper)


def test_two_dimensions_by_hand():
    """max w_0 + w_1 with w_0 + 2 w_1 <= 1.5 and w <= 1: w = (1, 0.25)."""

    def model(x: Tensor) -> Tensor:
        lead = 1.5 + x[:, 0] - 2 * x[:, 1]
        return torch.stack([lead, torch.zeros_like(lead)], dim=1)

    explainer = LinearPertMap(model, bound=1, patch=1, penalty=math.inf)
    solution = explainer.solve(torch.zeros(1, 2))
    assert torch.allclose(solution.w, torch.tensor([[1.0, 0.25]]))
    assert solution.n_rows.tolist() == [1]
    # The worst corner of the exact box of an affine model is a tie.
    worst = worst_point(model, torch.zeros(1, 2), solution)
    assert worst.excess.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("n_smooth", [0, 3])
def test_curved_model_with_patches(smooth_net, images, n_smooth: int, two_sided: bool):
    """Against jacrev, at x and at each noisy copy, patches cut off at the edges."""
    explainer = LinearPertMap(
        smooth_net,
        bound=0.5,
        patch=3,
        n_smooth=n_smooth,
        stdevs=0.3,
        penalty=2.0,
        two_sided=two_sided,
    )
    solution = explainer.solve(images)
    # 5 × 4 pixels: rows 0-2 and 3-4, columns 0-2 and 3, each channel by itself.
    y, x = np.meshgrid(np.arange(5) // 3, np.arange(4) // 3, indexing="ij")
    groups = (np.arange(2)[:, None, None] * 4 + y * 2 + x).ravel()
    drawn = philox.normals(0, 0, n_smooth + 1, 2 * 5 * 4).view(-1, 2, 5, 4)
    noise = [torch.zeros(2, 5, 4), *(0.3 * drawn[1:])]
    for n, image in enumerate(images):
        c = int(solution.target[n])
        others = [j for j in range(6) if j != c]
        slopes, limits = [], []
        for e in noise:
            point = image + e.double()
            jacobian = torch.func.jacrev(lambda p: smooth_net(p[None])[0])(point)
            g = (jacobian[c] - jacobian[others]).flatten(1).detach()
            scores = smooth_net(point[None])[0].detach()
            slopes.append(g)
            # f_c - f_j at x + r is h + g · (r - e).
            limits.append(scores[c] - scores[others] - g @ e.double().flatten())
        best = whole_program(
            torch.cat(slopes).numpy(),
            torch.cat(limits).numpy(),
            0.5,
            2.0,
            groups,
            two_sided,
        )
        assert solution.objective[n].item() == pytest.approx(best, rel=1e-6)
        flat = solution.lower[n].flatten().numpy()
        for group in range(8):
            assert np.ptp(flat[groups == group]) == 0


def test_smoothing_an_affine_model_changes_nothing(affine):
    """Its linearisation is the same everywhere, if the right-hand side is right."""
    model = affine(8, 6)
    x = torch.zeros(1, 6, dtype=torch.float64)
    plain = LinearPertMap(model, patch=1, bound=0.5, penalty=0.5).solve(x)
    smooth = LinearPertMap(
        model, patch=1, bound=0.5, penalty=0.5, n_smooth=5, stdevs=1.0
    ).solve(x)
    assert smooth.objective.item() == pytest.approx(plain.objective.item(), rel=1e-9)


@pytest.mark.parametrize("penalty", [3.0, math.inf])
def test_row_generation_leaves_rows_out_and_keeps_the_optimum(penalty: float):
    rng = np.random.default_rng(3)
    rows = rng.gamma(0.5, size=(400, 60))
    limits = rng.uniform(2, 40, size=400)
    gains = rng.integers(1, 65, size=60).astype(float)
    w, slack, used = largest_box(rows, limits, gains, 0.3, penalty)
    hard = math.isinf(penalty)
    whole = linprog(
        np.append(-gains, 0 if hard else penalty),
        A_ub=np.column_stack([rows, -np.ones(400)]),
        b_ub=limits,
        bounds=[(0, 0.3)] * 60 + [(0, 0 if hard else None)],
        method="highs-ds",
    )
    assert gains @ w - (0 if hard else penalty * slack) == pytest.approx(
        -whole.fun, rel=1e-6
    )
    assert 0 < used < 200


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_the_units_of_the_scores_do_not_matter(affine, factor: float):
    model = affine(30, 10)
    x = torch.rand(1, 10, generator=torch.Generator().manual_seed(1)).double()
    args = {"bound": 0.7, "patch": 1}
    plain = LinearPertMap(model, penalty=0.5, **args).solve(x)
    scaled = LinearPertMap(
        lambda x: factor * model(x), penalty=0.5 / factor, **args
    ).solve(x)
    assert scaled.objective.item() == pytest.approx(plain.objective.item(), rel=1e-6)
    assert scaled.slack.item() == pytest.approx(factor * plain.slack.item(), rel=1e-5)


def test_a_class_that_is_not_predicted_costs_its_deficit(affine):
    model = affine(5, 6)
    x = torch.zeros(1, 6, dtype=torch.float64)
    loser = int(model(x).argmin())
    slopes, margins = affine_rows(model, x[0], loser)
    solution = LinearPertMap(model, patch=1, bound=0.2, penalty=100).solve(x, loser)
    best = whole_program(slopes, margins, 0.2, 100, np.arange(6), False)
    assert solution.objective.item() == pytest.approx(best, rel=1e-6)
    with pytest.raises(ValueError, match=f"target {loser} cannot be kept for image 0"):
        LinearPertMap(model, patch=1, penalty=math.inf).solve(x, loser)


def test_an_irrelevant_model_gives_the_full_box():
    flat = LinearPertMap(lambda x: x.flatten(1).sum(1, True) * torch.tensor([0.0, 0.0]))
    solution = flat.solve(torch.rand(1, 1, 28, 28))
    assert (solution.w == 0.1).all()
    assert solution.n_rows.item() == 0
    assert solution.objective.item() == pytest.approx(78.4)


@pytest.mark.parametrize(("slope", "size"), [(1.9, 0.1), (2.1, 0.01 / 2.1)])
def test_default_penalty_is_the_published_one(slope: float, size: float):
    """Hara et al. maximise Σ_p (u_p + v_p) - 0.5 ξ over 8 × 8 patches p.

    On one patch, with slope (u + v) <= 0.02 + ξ, a miss pays off below slope 2.
    """
    signs = torch.ones(64)
    signs[::2] = -1

    def model(x: Tensor) -> Tensor:
        lead = 0.02 + x.flatten(1) @ (slope / 32 * signs)
        return torch.stack([lead, torch.zeros_like(lead)], dim=1)

    solution = LinearPertMap(model, two_sided=True).solve(torch.zeros(1, 1, 8, 8))
    assert solution.w.mean().item() == pytest.approx(size, rel=1e-5)
    missed = max(0, slope * 0.2 - 0.02) if slope < 2 else 0
    assert solution.slack.item() == pytest.approx(missed, abs=1e-6)


def test_batches_and_company_do_not_matter(smooth_net, images, monkeypatch):
    explainer = LinearPertMap(smooth_net, patch=2, n_smooth=4, bound=0.5, penalty=1.0)
    together = explainer.solve(images)
    alone = explainer.solve(images[1:2])
    assert torch.allclose(together.w[1:2], alone.w, atol=1e-9)
    monkeypatch.setitem(whitebox.BATCH_NUMBERS, "cpu", 2 * 40)
    assert torch.allclose(explainer.solve(images).w, together.w, atol=1e-9)


def test_margin_gradients_from_copies_of_the_points():
    points = torch.rand(2, 3, dtype=torch.float64)
    weight = torch.rand(5, 3, dtype=torch.float64)
    copies = points.repeat(4, 1).requires_grad_()
    scores = copies**2 @ weight.T
    others = torch.tensor([0, 3, 4])
    got = margin_gradients(scores, copies, 2, others, n_points=2)
    assert torch.allclose(got, 2 * points * (weight[2] - weight[others, None]))
    # The graph is kept for the next classes.
    again = margin_gradients(scores, copies, 2, others[1:], n_points=2)
    assert torch.equal(again, got[1:])


def test_model_and_gradient_mode_are_left_alone(smooth_net, images):
    explainer = LinearPertMap(smooth_net, patch=2, bound=0.5)
    expected = explainer.attribute(images)
    with torch.inference_mode():
        assert torch.equal(explainer.attribute(images.clone()), expected)
    assert all(p.grad is None for p in smooth_net.parameters())
    assert expected.shape == images.shape
    assert not expected.requires_grad


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"bound": 0}, ValueError, "bound must be above 0"),
        ({"bound": -0.1}, ValueError, "bound must be finite and at least 0"),
        ({"patch": 0}, ValueError, "patch must be at least 1"),
        ({"patch": 2.5}, TypeError, "patch must be an integer"),
        ({"n_smooth": -1}, ValueError, "n_smooth must be at least 0"),
        ({"stdevs": math.nan}, ValueError, "stdevs must be finite"),
        ({"penalty": 0}, ValueError, "penalty must be above 0"),
        ({"penalty": "0.5"}, TypeError, "penalty must be a number"),
    ],
)
def test_bad_settings(settings: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        LinearPertMap(torch.nn.Identity(), **settings)


def test_bad_input_and_models():
    explainer = LinearPertMap(torch.nn.Identity())
    with pytest.raises(ValueError, match=r"patch must be 1 for inputs \[N, d\]"):
        explainer.attribute(torch.rand(2, 3))
    one = LinearPertMap(lambda x: x.sum(1, keepdim=True), patch=1)
    with pytest.raises(ValueError, match="at least 2 scores"):
        one.attribute(torch.rand(2, 3))
    plain = LinearPertMap(torch.nn.Identity(), patch=1)
    with pytest.raises(ValueError, match="target 3 is out of range"):
        plain.attribute(torch.rand(2, 3), 3)
    with pytest.raises(ValueError, match="inputs must be finite"):
        plain.attribute(torch.tensor([[0.0, torch.nan]]))
    detached = LinearPertMap(lambda x: x.detach(), patch=1)
    with pytest.raises(ValueError, match="gives no gradients"):
        detached.attribute(torch.rand(2, 3))
    infinite = LinearPertMap(torch.sqrt, patch=1)
    with pytest.raises(NonFiniteOutput, match="image 1"):
        infinite.attribute(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
