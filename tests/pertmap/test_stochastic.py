from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from xai_lib.core import gradients as whitebox
from xai_lib.core.blackbox import BlackBox, NonFiniteOutput
from xai_lib.kernels import philox
from xai_lib.pertmap import LinearPertMap, StochasticPertMap
from xai_lib.pertmap.stochastic import mean_hinge


def half_plane(x: Tensor) -> Tensor:
    """Class 0 leads by 1.5 + x_0 - 2 x_1: the largest box is w = (1, 0.25)."""
    lead = 1.5 + x[:, 0] - 2 * x[:, 1]
    return torch.stack([lead, torch.zeros_like(lead)], dim=1)


def test_two_dimensions_come_near_the_optimum():
    x = torch.zeros(1, 2)
    best = LinearPertMap(half_plane, bound=1, patch=1, penalty=math.inf).solve(x)
    stochastic = StochasticPertMap(
        half_plane, lr=5e-3, n_iterations=800, n_perturbations=256, penalty=1e3
    ).solve(x)
    assert best.w.sum().item() == pytest.approx(1.25)
    # Beyond the constraint by e, E[h] is the mean of a pyramid in one corner,
    # e³ / (48 w_0 w_1), and λ ∂E[h]/∂w_1 = 1 at e = sqrt(2 / λ): the box is too large.
    expected = 1.25 + math.sqrt(2 / 1e3) / 2
    assert stochastic.w.sum().item() == pytest.approx(expected, rel=0.03)
    assert stochastic.size[-200:].mean().item() == pytest.approx(expected, abs=0.004)


def test_hinge_of_a_half_plane_in_closed_form():
    """f_j - f_c = t - m for t uniform in [-1, 1] has E max(0, t - m) = (1 - m)² / 4."""

    def model(x: Tensor) -> Tensor:
        return torch.stack([torch.full_like(x[:, 0], 0.2), x[:, 0]], dim=1)

    t = torch.linspace(-1, 1, 100_001)[:, None].double()
    x = torch.zeros(1, 1).double()
    hinge = mean_hinge(model, x, torch.tensor([0]), torch.ones_like(x), t)
    assert hinge.item() == pytest.approx(0.8**2 / 4, abs=1e-4)


def test_gradient_against_finite_differences(smooth_net, images):
    rng = torch.Generator().manual_seed(3)
    target = smooth_net(images).argmin(dim=1)
    w = torch.rand(images.shape, generator=rng).double().requires_grad_()
    t = torch.rand(5, 2, 5, 4, generator=rng).double() * 2 - 1

    def penalty(w: Tensor) -> Tensor:
        return mean_hinge(smooth_net, images, target, w, t)

    assert penalty(w).min() > 0
    assert torch.autograd.gradcheck(penalty, (w,), eps=1e-7, atol=1e-6)


def test_hinge_against_loops(smooth_net, images):
    rng = torch.Generator().manual_seed(4)
    target = smooth_net(images).argmax(dim=1)
    w = torch.rand(images.shape, generator=rng).double()
    t = torch.rand(4, 2, 5, 4, generator=rng).double() * 2 - 1
    with torch.no_grad():
        got = mean_hinge(smooth_net, images, target, w, t)
        for n, c in enumerate(target.tolist()):
            total = 0.0
            for draw in t:
                y = smooth_net((images[n] + draw * w[n])[None])[0].tolist()
                total += sum(max(0.0, y[j] - y[c]) for j in range(6) if j != c)
            assert got[n].item() == pytest.approx(total / 4)


def test_algorithm_1_with_sgd_step_by_step(smooth_net, images):
    """The whole of Algorithm 1 with plain SGD, written out for one image."""
    x, penalty, lr = images[:1], 3000.0, 0.02
    solution = StochasticPertMap(
        smooth_net,
        "sgd",
        lr=lr,
        n_iterations=40,
        n_perturbations=8,
        penalty=penalty,
        bound=0.6,
        seed=7,
    ).solve(x)
    c = int(smooth_net(x).argmax())
    w = torch.zeros_like(x[0])
    for k in range(40):
        t = philox.uniforms(7, 8 * k, 8, 2 * 5 * 4).double().view(8, 2, 5, 4)
        w.requires_grad_()
        y = smooth_net(x + t * w)
        hinge = sum((y[:, j] - y[:, c]).clamp(min=0).mean() for j in range(6) if j != c)
        objective = w.sum() - penalty * hinge
        (gradient,) = torch.autograd.grad(objective, w)
        assert solution.objective[k, 0].item() == pytest.approx(objective.item())
        assert solution.hinge[k, 0].item() == pytest.approx(hinge.item())
        assert solution.size[k, 0].item() == pytest.approx(w.sum().item())
        w = (w.detach() + lr * gradient).clamp(0, 0.6)
    assert torch.allclose(solution.w[0], w, atol=1e-9)
    assert solution.hinge[-1].item() > 0
    # The clip was at work on both sides.
    assert (w == 0).any()
    assert (w == 0.6).any()


@pytest.mark.parametrize(
    "optimizer",
    [
        "adam",
        "rmsprop",
        "sgd",
        torch.optim.Adagrad,
        torch.optim.Adafactor,
        functools.partial(torch.optim.SGD, momentum=0.9),
    ],
)
def test_batches_and_company_do_not_matter(smooth_net, images, monkeypatch, optimizer):
    explainer = StochasticPertMap(
        smooth_net, optimizer, n_iterations=30, n_perturbations=6, penalty=5.0
    )
    together = explainer.solve(images)
    alone = explainer.solve(images[1:2])
    assert torch.allclose(together.w[1:2], alone.w, atol=1e-9)
    # Four rows at once: two passes per iteration, one image after the other.
    monkeypatch.setitem(whitebox.BATCH_NUMBERS, "cpu", 4 * 40)
    split = explainer.solve(images)
    assert torch.allclose(together.w, split.w, atol=1e-9)
    assert torch.allclose(together.objective, split.objective, atol=1e-9)
    assert together.objective[-1].mean() > together.objective[0].mean()
    assert torch.equal(explainer.attribute(images), -split.w)


def test_seed(smooth_net, images):
    def solve(seed: int) -> Tensor:
        explainer = StochasticPertMap(
            smooth_net, n_iterations=60, n_perturbations=4, penalty=20.0, seed=seed
        )
        return explainer.solve(images).w

    state = torch.random.get_rng_state()
    assert torch.equal(solve(0), solve(0))
    assert not torch.equal(solve(0), solve(1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_default_penalty_is_a_tenth_of_the_dimension(smooth_net, images):
    settings = {"n_iterations": 60, "n_perturbations": 4, "lr": 0.05}
    default = StochasticPertMap(smooth_net, **settings).solve(images)
    named = StochasticPertMap(smooth_net, penalty=4.0, **settings).solve(images)
    assert torch.equal(default.w, named.w)
    assert torch.allclose(default.objective, default.size - 4 * default.hinge)
    assert default.hinge[-1].max() > 0


def test_without_penalty_the_box_fills_the_bound(smooth_net, images):
    solution = StochasticPertMap(
        smooth_net, penalty=0, bound=0.25, lr=0.01, n_iterations=26, n_perturbations=1
    ).solve(images)
    assert (solution.w == 0.25).all()
    assert solution.objective.shape == (26, 3)


def test_probabilities_and_other_targets(smooth_net, images):
    model = torch.nn.Sequential(smooth_net, torch.nn.Softmax(dim=1)).eval()
    explainer = StochasticPertMap(model, n_iterations=10, n_perturbations=4)
    targets = torch.tensor([0, 3, 5])
    together = explainer.attribute(images, targets)
    for n, target in enumerate(targets.tolist()):
        alone = explainer.attribute(images[n : n + 1], target)
        assert torch.allclose(together[n : n + 1], alone, atol=1e-9)


def test_model_and_gradient_mode_are_left_alone(smooth_net, images):
    explainer = StochasticPertMap(smooth_net, n_iterations=5, n_perturbations=4)
    expected = explainer.attribute(images)
    with torch.inference_mode():
        assert torch.equal(explainer.attribute(images.clone()), expected)
    assert all(p.grad is None and p.requires_grad for p in smooth_net.parameters())
    assert expected.shape == images.shape


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"optimizer": "adamw2"}, ValueError, "optimizer must be one of adam"),
        ({"optimizer": 3}, TypeError, "optimizer must be a name or"),
        ({"optimizer": torch.optim.LBFGS}, TypeError, "step without a closure"),
        ({"optimizer": torch.nn.Linear}, TypeError, "optimizer must be built from"),
        ({"lr": 0}, ValueError, "lr must be above 0"),
        ({"n_iterations": 0}, ValueError, "n_iterations must be at least 1"),
        ({"n_perturbations": 1.5}, TypeError, "n_perturbations must be an integer"),
        ({"penalty": -1}, ValueError, "penalty must be finite and at least 0"),
        ({"bound": 0}, ValueError, "bound must be above 0"),
        ({"bound": math.inf}, ValueError, "bound must be finite"),
    ],
)
def test_bad_settings(settings: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        StochasticPertMap(torch.nn.Identity(), **settings)


def test_bad_input_and_models():
    with pytest.raises(TypeError, match="gives no gradients"):
        StochasticPertMap(BlackBox(torch.nn.Identity()))
    explainer = StochasticPertMap(torch.nn.Identity(), n_iterations=3)
    with pytest.raises(ValueError, match=r"\[N, C, H, W\]"):
        explainer.solve(torch.rand(2, 3, 4))
    with pytest.raises(ValueError, match="target 3 is out of range"):
        explainer.attribute(torch.rand(2, 3), 3)
    with pytest.raises(ValueError, match="at least 2 scores"):
        StochasticPertMap(torch.nn.Identity()).attribute(torch.rand(2, 1))
    detached = StochasticPertMap(lambda x: x.detach(), n_iterations=3)
    with pytest.raises(ValueError, match="gives no gradients"):
        detached.attribute(torch.rand(2, 3))
    # Finite at x, not in the box around it.
    root = StochasticPertMap(torch.sqrt, n_iterations=5)
    with pytest.raises(NonFiniteOutput, match="inside the box"):
        root.attribute(torch.tensor([[0.015, 0.9]]))


def test_no_backward_pass_where_no_point_leaves_its_class():
    passes = 0

    def count(_: Tensor) -> None:
        nonlocal passes
        passes += 1

    def model(x: Tensor) -> Tensor:
        scores = half_plane(x)
        if len(x) == 3:  # the points of a step
            scores.register_hook(count)
        return scores

    explainer = StochasticPertMap(model, n_iterations=300, n_perturbations=3)
    hinge = explainer.solve(torch.zeros(1, 2)).hinge
    assert 0 < passes == int((hinge > 0).sum()) < 300


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_iterations_do_not_wait_for_the_device(smooth_net, images):
    net, x = smooth_net.float().cuda(), images.float().cuda()
    explainer = StochasticPertMap(net, n_iterations=5, n_perturbations=4)
    explainer.solve(x)
    target = net(x).argmax(dim=1)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        explainer._ascend(x, target, range(5))
    finally:
        torch.cuda.set_sync_debug_mode("default")
