"""Checkers of the exercises of chapter 01, What an attribution is."""

from __future__ import annotations

from collections.abc import Callable

import torch

from xai_book.exercises.exercise import WrongAnswer, exercise, expect_close
from xai_lib.core.attribution import generator


@exercise("1.1")
def integrated_gradients(answer: Callable) -> None:
    """`answer(gradient, x, baseline, n_steps)`: the path integral, by midpoints."""
    rng = generator(3)
    x = torch.rand(4, generator=rng, dtype=torch.float64) + 1
    baseline = torch.rand(4, generator=rng, dtype=torch.float64)
    # For the sum of squares the integral is exact at any number of steps.
    expect_close(
        answer(lambda z: 2 * z, x, baseline, 7),
        x**2 - baseline**2,
        "average the gradient at baseline + (k + 1/2) / n_steps * (x - baseline) for "
        "k = 0 ... n_steps - 1, and multiply by (x - baseline)",
    )
    # A product of neighbours has a gradient that mixes the features.
    maps = answer(lambda z: z.roll(1) + z.roll(-1), x, baseline, 50)
    total = (x * x.roll(1) - baseline * baseline.roll(1)).sum()
    expect_close(
        maps.sum(), total, "the attributions must add up to f(x) - f(baseline)"
    )


@exercise("1.2")
def aopc(answer: Callable) -> None:
    """`answer(scores)`: the normalised area over one deletion curve."""
    for scores in (
        torch.tensor([0.8, 0.4, 0.2, 0.0]),
        torch.tensor([0.5, 0.5, 0.5]),
        torch.rand(30, generator=generator(4)) + 0.1,
    ):
        drops = (scores[0] - scores[1:]) / scores[0]
        expect_close(
            answer(scores),
            drops.mean(),
            "scores[0] is f(x) before any deletion: average the relative drops "
            "(f(x) - f(x_k)) / f(x) over k = 1 ... T",
        )


@exercise("1.3")
def delete_top(answer: Callable) -> None:
    """`answer(image, attribution, k)`: the k pixels of largest score set to zero."""
    rng = generator(5)
    for k in (0, 1, 7, 30):
        image = torch.rand(5, 6, generator=rng) + 0.1
        # Whole numbers, so that there are ties.
        attribution = torch.randint(-3, 4, (5, 6), generator=rng).float()
        places = sorted(range(30), key=(-attribution.flatten()).tolist().__getitem__)
        expected = image.flatten().clone()
        expected[places[:k]] = 0
        expect_close(
            answer(image.clone(), attribution, k),
            expected.view(5, 6),
            "sort all pixels by score, largest first, keep the order of the pixels "
            "among equal scores (stable=True), and set the first k to 0",
        )


@exercise("1.4")
def blind_spot(answer: Callable) -> None:
    """`answer(x)`: a function of `[2]` that the gradient at (1, 1) cannot see."""

    def value_and_gradient(point: list[float]) -> tuple[float, torch.Tensor]:
        x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
        value = answer(x)
        if not isinstance(value, torch.Tensor) or value.ndim:
            raise WrongAnswer("return one number, as a tensor made from x")
        if not value.requires_grad:
            return float(value), torch.zeros(2)
        return float(value.detach()), torch.autograd.grad(value, x)[0]

    at_x, gradient = value_and_gradient([1.0, 1.0])
    if float(gradient.abs().max()) > 1e-6:
        raise WrongAnswer(f"the gradient at (1, 1) is {gradient.tolist()}, not zero")
    if abs(at_x - value_and_gradient([0.0, 0.0])[0]) < 0.5:
        raise WrongAnswer("f(1, 1) and f(0, 0) must differ by at least 0.5")
    both = [abs(at_x - value_and_gradient(p)[0]) for p in ([-5.0, 1.0], [1.0, -5.0])]
    if min(both) < 0.5:
        raise WrongAnswer("both features must matter: moving either far must change f")
