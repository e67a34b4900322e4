"""Checkers of the exercises of chapter 03, Stochastic PertMap."""

from itertools import product

import torch
from torch import Tensor

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect, shaped
from xai_lib.core.attribution import generator
from xai_lib.pertmap.stochastic import mean_hinge


@exercise("3.1")
def perturbations(answer: Answer) -> None:
    """Each feature needs a number of its own for each of the M points, and it must go
    down as well as up: uniform on [-1, 1], times w."""
    for sides, M in (([0.2, 1.0, 0.5], 4000), ([3.0, 0.1], 5000)):
        w = torch.tensor(sides)
        drawn = [answer(w.clone(), M, generator(seed)) for seed in (9, 9, 10)]
        t = shaped(drawn[0], Tensor, M, len(w)) / w
        if not torch.equal(drawn[0], drawn[1]) or torch.equal(drawn[0], drawn[2]):
            raise WrongAnswer("the same state of rng must give the same r, no other")
        # Of U[-1, 1]: the mean, the variance and the fourth moment.
        for k, expected in ((1, 0.0), (2, 1 / 3), (4, 1 / 5)):
            if not bool(((t**k).mean(dim=0) - expected).abs().max() < 0.05):
                found = [round(float(m), 2) for m in (t**k).mean(dim=0)]
                raise WrongAnswer(
                    f"the means of (r_i / w_i)^{k} are {found}, expected {expected:.2f}"
                )
        if not float(torch.corrcoef(t.T).triu(1).abs().max()) < 0.1:
            raise WrongAnswer("the features of your points move together")
        # A number used twice comes back lagged, in other order or with its sign turned.
        if len((1e5 * t).round().abs().unique()) < 0.8 * t.numel():
            raise WrongAnswer("numbers r_i / w_i return in other places, up to a sign")


@exercise("3.2")
def penalised_width(answer: Answer) -> None:
    """By symmetry the mean hinge is twice that of the text. What does that do to the
    penalty in its formula? Think of small penalties, and of the bound."""
    cases = product((0.3, 0.5), (10.0, 1000.0, 2.1, 2.0, 1.5), (1.0, 0.2, 2.5))
    for margin, penalty, bound in cases:
        w = torch.linspace(0, bound, 200_001, dtype=torch.float64)
        over = (w - margin).clamp(min=0) ** 2 / (2 * w).clamp(min=1e-12)
        best = float(w[(w - penalty * over).argmax()])
        expect(answer, best, margin, penalty, bound, atol=1e-4)


@exercise("3.3")
def stochastic_step(answer: Answer) -> None:
    """Put the objective together from w.sum() and the mean over the draws of the sum
    over the classes of max(0, f_j - f_c); clip after the step, not before."""
    rng = generator(6)
    first, second = torch.randn(2, 8, 8, generator=rng, dtype=torch.float64)

    def model(z: Tensor) -> Tensor:
        """a small network with 8 inputs and 8 classes"""
        return torch.tanh(z @ first) @ second

    x, w = torch.rand(2, 8, generator=rng, dtype=torch.float64)
    t = 2 * torch.rand(16, 8, generator=rng, dtype=torch.float64) - 1
    for c, penalty, lr, bound in (
        (3, 0.3, 0.1, 5.0),
        (5, 0.0, 0.5, 1.1),
        (1, 9.0, 0.3, 0.9),
    ):
        v = w.clone().requires_grad_()
        lead = mean_hinge(model, x[None], torch.tensor([c]), v[None], t).sum()
        (slope,) = torch.autograd.grad(v.sum() - penalty * lead, v)
        expected = (w + lr * slope).clamp(0, bound)
        expect(answer, expected, model, x, c, w, t, penalty, lr, bound)
