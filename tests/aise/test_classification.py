"""AISE for classifiers: against one query at a time, SciPy, and planted models."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from scipy.optimize import direct
from torch import Tensor

from xai_lib.aise.classification import AISE, PRESETS
from xai_lib.aise.samplers import DirectSampler, RandomSampler, Sampler
from xai_lib.core import blackbox as blackbox_module
from xai_lib.core.blackbox import BlackBox, BudgetExceeded, NonFiniteOutput

Model = Callable[[Tensor], Tensor]
SAMPLERS = ("direct", "lipo", "random", "lattice")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


# The middles of the pixels.
Y = (torch.arange(24, dtype=torch.float64)[:, None] + 0.5) / 24
X = (torch.arange(40, dtype=torch.float64) + 0.5) / 40


def kernel(p: Any, sigma: float) -> Tensor:
    """G of (8), float64 `[24, 40]`."""
    return torch.exp(-((X - p[0]) ** 2 + (Y - p[1]) ** 2) / (2 * sigma**2))


def score(model: Model, x: Tensor, p: Any, sigma: float, target: int) -> float:
    """f(x G) - f(x (1 - G)) by two calls of the model with one image each."""
    mask = kernel(p, sigma)
    shown, hidden = model((x * mask)[None]), model((x * (1 - mask))[None])
    return float(shown[0, target] - hidden[0, target])


# The method against other ways to compute it


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_scores_and_map_by_loops(planted, images, sampler: str) -> None:
    x = images.double()
    explainer = AISE(planted, sampler, kernel_widths=(0.1, 0.3), n_kernels=23)
    samples = explainer.sample(x, torch.tensor([0, 2, 1]))
    assert samples.target.tolist() == [0, 2, 1]
    assert samples.widths.tolist() == [0.1, 0.3]
    assert samples.centres.shape == (3, 2, 23, 2)
    assert samples.scores.shape == (3, 2, 23)
    assert samples.maps.shape == (3, 2, 24, 40)
    for i, target in enumerate([0, 2, 1]):
        for w, sigma in enumerate([0.1, 0.3]):
            centres, scores = samples.centres[i, w], samples.scores[i, w]
            expected = [score(planted, x[i], p, sigma, target) for p in centres]
            assert scores.tolist() == pytest.approx(expected, abs=1e-6)
            total = torch.zeros(24, 40, dtype=torch.float64)
            for p, s in zip(centres, scores, strict=True):  # all of them
                raw = kernel(p, sigma) / (2 * math.pi * sigma**2)
                total += (s - scores.mean()) * raw / 23
            torch.testing.assert_close(samples.maps[i, w], total)
    maps = explainer.attribute(x, torch.tensor([0, 2, 1]))
    torch.testing.assert_close(maps, samples.maps.sum(1, keepdim=True))


def test_direct_is_scipys_search_with_one_query_at_a_time(planted, images) -> None:
    x = images.double()
    explainer = AISE(planted, kernel_widths=(0.1, 0.25), n_kernels=60)
    samples = explainer.sample(x, 2)
    for i in range(3):
        for w, sigma in enumerate([0.1, 0.25]):
            visited: list[list[float]] = []

            def lost(p, i=i, sigma=sigma, visited=visited) -> float:
                visited.append(p.tolist())
                return -score(planted, x[i], p, sigma, 2)

            direct(
                lost,
                [(0, 1), (0, 1)],
                eps=0.1,
                maxfun=60,
                locally_biased=False,
                vol_tol=0,
                len_tol=0,
            )
            twin = DirectSampler(convex_hull=True)
            while len(twin.scores) < 60:
                p = twin.ask(1)
                twin.tell(p, [score(planted, x[i], p[0], sigma, 2)])
            # A SciPy that has got its hull back follows the published rule.
            hull = np.array_equal(twin.points, visited[:60])
            ours = samples.centres[i, w].numpy()
            assert hull or np.array_equal(ours, visited[:60])


def test_one_query_at_a_time_gives_the_same_map(planted, images) -> None:
    """A sampler asked for one point after the other, and a batch size of one."""

    class OneByOne(Sampler):
        def __init__(self, bounds: Any, n: int, seed: int) -> None:
            super().__init__(bounds)
            self.inner = DirectSampler(bounds)

        def _propose(self, n: int) -> np.ndarray:
            return self.inner.ask(min(n, 1))

        def _learn(self, scores: np.ndarray) -> None:
            self.inner.tell(self.points[-len(scores) :], scores)

    batched = AISE(planted, n_kernels=30).attribute(images.double(), 2)
    single = AISE(BlackBox(planted, 1), OneByOne, n_kernels=30)
    torch.testing.assert_close(single.attribute(images.double(), 2), batched)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("paradigms", ["both", "preserve", "delete"])
def test_the_planted_rectangle_is_found(
    planted, images, in_rectangle, sampler: str, paradigms: str
) -> None:
    """On an image that is wide, and off its diagonal: x and y mixed up would not do.
    `delete` must have its sign right for that."""
    off = {"both": {}, "preserve": {"delete": False}, "delete": {"preserve": False}}
    maps = AISE(planted, sampler, **off[paradigms]).attribute(images, 0)
    assert maps.shape == (3, 1, 24, 40)
    assert maps.dtype is images.dtype
    for one in maps:
        assert in_rectangle(one)
    # The same on the transposed image, where the rectangle is at (column, row).
    turned = AISE(lambda x: planted(x.transpose(2, 3)), sampler, **off[paradigms])
    for one in turned.attribute(images.transpose(2, 3), 0):
        assert in_rectangle(one.transpose(1, 2))


# Signs and degenerate models


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("sampler", ["random", "lattice"])
def test_evidence_against_is_negative(
    planted, images, sampler: str, normalise: bool
) -> None:
    """Class 1 is minus class 0, and these samplers go to the same places."""
    explainer = AISE(planted, sampler, normalise=normalise)
    towards, against = explainer.attribute(images, 0), explainer.attribute(images, 1)
    torch.testing.assert_close(against, -towards, rtol=1e-4, atol=1e-4)
    assert (against[:, 0, 5, 31] < 0).all()


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("preserve", [True, False])
def test_all_negative_scores_keep_the_sign(
    planted, images, in_rectangle, sampler: str, preserve: bool, normalise: bool
) -> None:
    """A log-probability, say: lower by 20, the same map. (eps is relative to the best
    score in DIRECT, so it is 0 here, and the search is the same too.)"""

    def lowered(x: Tensor) -> Tensor:
        return planted(x) - 20

    settings = {"preserve": preserve, "delete": not preserve, "normalise": normalise}
    settings |= {"eps": 0.0, "n_kernels": 30}
    x = images.double()
    maps = AISE(planted, sampler, **settings).attribute(x, 0)
    low = AISE(lowered, sampler, **settings).attribute(x, 0)
    if sampler == "lipo":  # dlib's steps are not exactly the same
        assert all(low[i, 0, 5, 31] > 0 for i in range(3))
    else:
        torch.testing.assert_close(low, maps, rtol=1e-6, atol=1e-8)
    if not normalise:
        assert all(in_rectangle(one) for one in low)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    "paradigms", [{}, {"preserve": False}, {"delete": False}], ids=str
)
def test_a_constant_model_has_a_map_of_zeros(
    images, sampler: str, paradigms: dict[str, bool], normalise: bool
) -> None:
    def constant(x: Tensor) -> Tensor:
        return torch.tensor([0.7, -250.0, 0.0]).to(x).expand(len(x), 3)

    explainer = AISE(constant, sampler, normalise=normalise, **paradigms)
    maps = explainer.attribute(images, torch.tensor([0, 1, 2]))
    assert torch.equal(maps, torch.zeros(3, 1, 24, 40))


def test_dark_images(planted) -> None:
    maps = AISE(planted).attribute(torch.zeros(1, 2, 24, 40), 0)
    assert torch.equal(maps, torch.zeros(1, 1, 24, 40))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_answers_are_refused(
    planted, images, sampler: str, bad: float
) -> None:
    """With dlib an objective that is NaN everywhere ends the interpreter."""
    blackbox = BlackBox(lambda x: planted(x) * bad)
    with pytest.raises(NonFiniteOutput, match="query 1 in all"):
        AISE(blackbox, sampler).attribute(images, 0)


# Budgets


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("name", "queries"), [("150", 150), ("300", 300), ("700", 696)]
)
def test_presets_ask_exactly(
    planted, images, sampler: str, name: str, queries: int
) -> None:
    blackbox = BlackBox(planted)
    explainer = AISE.preset(blackbox, name, sampler=sampler)
    explainer.attribute(images, 0)
    assert blackbox.queries == 3 * queries
    if sampler == "direct":  # the class is one more query per image
        explainer.attribute(images)
        assert blackbox.queries == 3 * queries + 3 * (queries + 1)


@pytest.mark.parametrize("n_kernels", [1, 4, 5, 6, 53])
def test_exact_number_of_queries(planted, images, n_kernels: int) -> None:
    for preserve, delete in [(True, True), (True, False), (False, True)]:
        blackbox = BlackBox(planted)
        AISE(blackbox, "direct", (0.1, 0.2), n_kernels, preserve, delete).attribute(
            images, 1
        )
        assert blackbox.queries == 3 * 2 * n_kernels * (preserve + delete)


def test_the_budget_holds(planted, images) -> None:
    blackbox = BlackBox(planted, budget=200)
    with pytest.raises(BudgetExceeded):
        AISE.preset(blackbox, "300").attribute(images[:1], 0)
    assert blackbox.queries <= 200


def test_presets_are_the_papers() -> None:
    assert PRESETS["300"] == {"n_kernels": 50, "kernel_widths": (0.1, 0.175, 0.25)}
    explainer = AISE.preset(print, "700", n_kernels=3, seed=5)
    assert explainer.kernel_widths == (0.075, 0.13, 0.19, 0.25)
    assert (explainer.n_kernels, explainer.seed) == (3, 5)
    with pytest.raises(ValueError, match="name must be one of 150, 300, 700"):
        AISE.preset(print, "500")


# The same map in any company


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_map_alone_in_a_batch_and_for_any_batch_size(
    planted, images, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    x = images.double()
    expected = AISE(planted, sampler, n_kernels=26).attribute(x, 2)
    alone = [AISE(planted, sampler, n_kernels=26).attribute(one[None], 2) for one in x]
    torch.testing.assert_close(torch.cat(alone), expected)
    for batch_size in (1, 7, 1000):
        explainer = AISE(BlackBox(planted, batch_size), sampler, n_kernels=26)
        torch.testing.assert_close(explainer.attribute(x, 2), expected)
    for numbers in (1, 5 * x[0].numel()):
        monkeypatch.setattr(blackbox_module, "BLOCK", numbers)
        explainer = AISE(planted, sampler, n_kernels=26)
        torch.testing.assert_close(explainer.attribute(x, 2), expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_seed_decides_and_global_state_is_left_alone(
    planted, images, sampler: str
) -> None:
    def states() -> tuple[Any, ...]:
        numpys = np.random.get_state()[1].tobytes()  # noqa: NPY002
        return numpys, torch.get_rng_state().numpy().tobytes(), random.getstate()

    before = states()
    maps = [AISE(planted, sampler, seed=s).attribute(images, 2) for s in (0, 0, 1)]
    assert states() == before
    assert torch.equal(maps[0], maps[1])
    drawn = sampler in ("random", "lipo")
    assert torch.equal(maps[0], maps[2]) != drawn


def test_widths_have_seeds_of_their_own(planted, images) -> None:
    centres = AISE(planted, "random").sample(images, 0).centres
    assert not torch.equal(centres[0, 0], centres[0, 1])
    assert torch.equal(centres[0, 0], centres[1, 0])  # images share them


def test_all_searches_share_batches(planted, images) -> None:
    rounds: list[int] = []

    def model(x: Tensor) -> Tensor:
        rounds.append(len(x))
        return planted(x)

    AISE(BlackBox(model, 10_000)).attribute(images, 0)
    assert sum(rounds) == 3 * 300
    assert rounds[0] == 3 * 3 * 2 * 5  # images, widths, paradigms, DIRECT's first five
    assert len(rounds) < 20


def test_memory_is_bounded(planted, images, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.numel())
        return planted(x)

    monkeypatch.setattr(blackbox_module, "BLOCK", 12 * images[0].numel())
    AISE(BlackBox(model, 10_000), "random", n_kernels=100).attribute(images, 0)
    assert max(seen) == 12 * images[0].numel()


def test_progress_is_silent_unless_asked_for(planted, images, capfd) -> None:
    explainer = AISE(planted, n_kernels=7)
    explainer.attribute(images, 0)
    assert capfd.readouterr() == ("", "")
    explainer.attribute(images, 0, show_progress=True)
    assert "AISE" in capfd.readouterr().err


# Settings


def test_search_area(planted, images) -> None:
    area = ((0.5, 0.1), (0.75, 0.9))
    for sampler in SAMPLERS:
        centres = AISE(planted, sampler, bounds=area).sample(images, 0).centres
        lower, upper = torch.tensor(area, dtype=torch.float64)
        assert (centres >= lower - 1e-12).all()
        assert (centres <= upper + 1e-12).all()


def test_a_sampler_of_ones_own(planted, images) -> None:
    made: list[tuple[Any, ...]] = []

    def make(bounds: Any, n: int, seed: int) -> Sampler:
        made.append((bounds, n, seed))
        return RandomSampler(bounds, seed)

    maps = AISE(planted, make, n_kernels=20, seed=3).attribute(images, 0)
    expected = AISE(planted, "random", n_kernels=20, seed=3).attribute(images, 0)
    assert torch.equal(maps, expected)
    assert {n for _, n, _ in made} == {20}


def test_functions_on_arrays(planted, images) -> None:
    def on_arrays(x: np.ndarray) -> np.ndarray:
        return np.stack([x[:, :, 3:9, 27:35].mean((1, 2, 3))] * 2, axis=1)

    maps = AISE(BlackBox(on_arrays, backend="numpy")).attribute(images, 0)
    torch.testing.assert_close(
        maps, AISE(planted).attribute(images, 0), rtol=1e-3, atol=1e-3
    )


def test_double_precision_is_kept(planted, images) -> None:
    assert AISE(planted).attribute(images.double(), 0).dtype is torch.float64


def test_captum_takes_it(planted, images) -> None:
    """The paper's setting: 10 perturbed samples, radius 0.02."""
    explainer = AISE(planted)
    with torch.random.fork_rng(devices=[]):
        value = sensitivity_max(
            explainer.attribute,
            images,
            perturb_radius=0.02,
            n_perturb_samples=10,
            target=torch.tensor([0, 1, 2]),
        )
    assert value.shape == (3,)
    assert (value > 0).all()
    assert (value < 1).all()
    # One image that does not change has a map that does not change.
    still = sensitivity_max(
        explainer.attribute, images, perturb_radius=0.0, n_perturb_samples=2, target=0
    )
    assert torch.equal(still, torch.zeros(3))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sampler": "cma"}, ValueError, "sampler must be one of direct, lipo"),
        ({"kernel_widths": ()}, ValueError, "kernel_widths must hold at least one"),
        ({"kernel_widths": (0.1, 0)}, ValueError, "kernel_widths must be above 0"),
        ({"kernel_widths": (0.1, -1)}, ValueError, "kernel_widths must be finite"),
        ({"kernel_widths": ("a",)}, TypeError, "kernel_widths must be a number"),
        ({"n_kernels": 0}, ValueError, "n_kernels must be at least 1, got 0"),
        ({"n_kernels": 5.0}, TypeError, "n_kernels must be an integer"),
        ({"preserve": False, "delete": False}, ValueError, "preserve and delete"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"eps": -0.1}, ValueError, "eps must be finite and at least 0"),
        ({"bounds": ((0, 0), (0, 1))}, ValueError, "bounds must be finite with x0 <"),
    ],
)
def test_wrong_settings(
    planted, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        AISE(planted, **settings)


def test_wrong_inputs(planted, images) -> None:
    for call in (AISE(planted).attribute, AISE(planted).sample):
        with pytest.raises(ValueError, match="inputs must be"):
            call(images[0], 0)
        with pytest.raises(ValueError, match=r"target 3 is out of range.*0 to 2"):
            call(images, 3)


@gpu
def test_cuda_agrees_with_the_cpu(planted, images) -> None:
    expected = AISE(planted, "random").attribute(images, 2)
    maps = AISE(planted, "random").attribute(images.cuda(), 2)
    assert maps.is_cuda
    torch.testing.assert_close(maps.cpu(), expected, rtol=1e-3, atol=1e-4)
