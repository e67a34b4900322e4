"""Checkers of the exercises of chapter 05, Mask resizing."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xai_book.exercises.exercise import Answer, WrongAnswer, exercise, expect
from xai_lib.core.attribution import generator


@exercise("5.1")
def gers(answer: Answer) -> None:
    """Enlarge z with interpolate(z, size=..., mode="bilinear") to the size of x; then
    the mirrored estimate of chapter 04, over the number of pixels per cell."""

    def f(images: Tensor) -> Tensor:
        """a score that is bent"""
        return images.flatten(1).pow(3).cumsum(dim=1).sum(dim=1) / 10

    for size, cells, m, sigma in ((7, 3, 5, 0.5), (8, 2, 40, 0.2)):
        x = torch.rand(2, size, size, generator=generator(size))
        z = torch.randn(m, 2, cells, cells, generator=generator(m))
        expected = torch.zeros_like(x)
        for e in interpolate(z, size=size, mode="bilinear"):
            up, down = f(torch.stack([x + sigma * e, x - sigma * e]))
            expected += (up - down) / (2 * sigma * m) * e * cells**2 / size**2
        expect(answer, expected, f, x, z, sigma, atol=1e-4)


@exercise("5.2")
def dummy_shares(answer: Answer) -> None:
    """The estimate goes to U Uᵀ times the gradient, and the gradient has one entry that
    is not zero; divide by what p itself gets."""
    drawn = torch.randn(6, 3, generator=generator(5))
    row = interpolate(torch.eye(4)[None], size=9, mode="linear")[0].T
    small = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]])
    for U, p in ((small, 1), (row, 3), (row, 0), (drawn, 4)):
        W = U @ U.T
        expect(answer, W[:, p] / W[p, p], U, p)


@exercise("5.3")
def dead_columns(answer: Answer) -> None:
    """What stays at its own standard error, the dashed line, is noise. What is above it
    comes from columns that are read, by noise that they share."""
    got = answer()
    said = {
        "a": "with more queries the dashed lines sink, and what is above them stays",
        "b": "the network does not read there, so that its gradient is exactly zero",
        "d": "GEEX asks about the same digits, and stays at its noise there",
    }
    if got != "c":
        raise WrongAnswer(said.get(got, "return one of the four letters"))


@exercise("5.4")
def one_round(answer: Answer) -> None:
    """Along each column v take (f(x + h v) - f(x - h v)) / (2 h), and add up these
    slopes times v."""
    rng = generator(7)
    a, x = torch.randn(2, 8, generator=rng)
    H = torch.randn(8, 8, generator=rng)
    V = torch.linalg.qr(torch.randn(8, 5, generator=rng)).Q
    asked = 0

    def f(rows: Tensor) -> Tensor:
        """a polynomial of degree 3"""
        nonlocal asked
        asked += len(rows)
        # Of degree 3, so that the estimate depends on the step.
        return rows @ a + ((rows @ H) * rows + rows**3).sum(dim=1)

    for step, k in ((0.3, 3), (1.5, 5)):
        expected = torch.zeros(8)
        for v in V[:, :k].T:
            up, down = f(torch.stack([x + step * v, x - step * v]))
            expected += (up - down) / (2 * step) * v
        asked = 0
        expect(answer, expected, f, x, V[:, :k], step, atol=1e-3)
        if asked != 2 * k:
            raise WrongAnswer(f"{k} directions are {2 * k} queries, you ask {asked}")
