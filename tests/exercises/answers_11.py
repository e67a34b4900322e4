"""Right and wrong answers to the exercises of chapter 11."""

from __future__ import annotations

import numpy as np
import torch

from xai_book.exercises import chapter11


def one_sided(score, x, eps, sigma, size):
    at_x = score(x[None])
    changes = torch.cat([score(x + sigma * part) - at_x for part in eps.split(size)])
    return (changes[:, None] * eps).mean(dim=0) / sigma


def batched(score, x, eps, sigma, size, gap=2.0, divide="pairs", together=False):
    total, batches = torch.zeros_like(x), 0
    for part in eps.split(len(eps) if together else size):
        up, down = score(x + sigma * part), score(x - sigma * part)
        votes = (up - down)[:, None] * part
        total = total + (votes.mean(dim=0) if divide == "mean" else votes.sum(dim=0))
        batches += 1
    pairs = {"pairs": len(eps), "full": batches * size, "mean": batches}[divide]
    return total / pairs / (gap * sigma)


def integral(gradients, x, baseline, n, points="middles", start=True, weight=0):
    alphas = {
        "middles": (torch.arange(n) + 0.5) / n,
        "ends": torch.linspace(0, 1, n + 1),
        "half": (torch.arange(n) + 0.5) / (2 * n),
    }[points].to(x)
    step = x - baseline if start else x
    found = gradients(baseline + alphas[:, None] * step)
    return step * found.sum(dim=0) / (n + weight)


def pointing(maps, masks, ties=True, empty="left out", top=torch.max, pool=False):
    hits = []
    for values, mask in zip(maps, masks, strict=True):
        if not mask.any() and empty == "left out":
            continue
        at = mask[values >= top(values)] if ties else mask.flatten()[values.argmax()]
        if pool:
            hits += list(at.double())
            continue
        hit = at.double().mean()
        hits.append(torch.ones_like(hit) if empty == "hit" and not mask.any() else hit)
    return torch.stack(hits).mean()


def curved(program, x=(1.0, -2.0, 0.5), baseline=(0.5, 1.0, -1.0), what="map"):
    """Hold the program against x² - baseline², scaled feature by feature."""
    x, baseline = torch.tensor(x).double(), torch.tensor(baseline).double()
    scale = torch.tensor([1.0, 2.0, 3.0]).double()
    found = program(lambda z: 2 * scale * z, x, baseline)
    exact = scale * (x**2 - baseline**2)
    if what == "sum":
        found, exact = found.sum(), exact.sum()
    return torch.allclose(found, exact, atol=1e-3)


def up_to_a_factor(program):
    x, baseline = torch.tensor([[1.0, -2.0, 0.5], [0.5, 1.0, -1.0]]).double()
    found, exact = program(lambda z: 3 * z**2, x, baseline), x**3 - baseline**3
    return torch.allclose(found / found.norm(), exact / exact.norm(), atol=1e-3)


def linear(program):
    x, slope = torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, -3.0]).double()
    found = program(lambda z: slope.expand_as(z), x, 0 * x)
    return torch.allclose(found, slope * x, atol=1e-3)


RIGHT = {
    chapter11.batched_gradient: batched,
    chapter11.path_integral: integral,
    chapter11.top_first: lambda values: np.argsort(255 - values.ravel(), kind="stable"),
    chapter11.pointing_score: pointing,
    chapter11.unmasks: curved,
}

WRONG = {
    chapter11.batched_gradient: [
        lambda *args: batched(*args, gap=1.0, divide="mean"),  # the program itself
        lambda *args: batched(*args, divide="mean"),
        lambda *args: batched(*args, divide="full"),
        lambda *args: batched(*args, gap=1.0),
        lambda *args: batched(*args, together=True),
        lambda *args: batched(*args).tolist(),
        one_sided,
        lambda score, x, eps, sigma, size: batched(score, x, eps[:size], sigma, size),
        lambda score, x, eps, sigma, size: batched(score, x, eps, sigma, size) / sigma,
    ],
    chapter11.path_integral: [
        lambda *args: integral(*args, points="ends", start=False),  # the program itself
        lambda *args: integral(*args, points="ends"),
        lambda *args: integral(*args, start=False),
        lambda *args: integral(*args, points="half"),
        lambda *args: integral(*args, weight=1),
        lambda *args: integral(*args[:3], 1),  # the middle of the path alone
        lambda *args: integral(*args[:3], 50),
        lambda *args: integral(*args[:3], 10 * args[3]),
        lambda *args: integral(*args).abs(),
    ],
    chapter11.top_first: [
        lambda values: np.argsort(-values.ravel()),  # the program itself
        lambda values: np.argsort(values.ravel()),
        lambda values: np.sort(values.ravel())[::-1],
        lambda values: np.argsort(255 - values.ravel())[:1],
        lambda values: np.argsort(-values.ravel().astype(np.int8)),
        lambda values: np.argsort(np.where(values, -values, 255).ravel()),
        lambda values: np.argsort(255 - values.ravel("F")),
    ],
    chapter11.pointing_score: [
        lambda *args: pointing(*args, ties=False, empty="hit"),  # the program itself
        lambda *args: pointing(*args, ties=False),
        lambda *args: pointing(*args, empty="hit"),
        lambda *args: pointing(*args, empty="miss"),
        lambda maps, masks: pointing(maps.abs(), masks),
        lambda maps, masks: pointing(maps.clamp_min(0), masks),
        lambda *args: pointing(*args, top=lambda values: values.max() - 0.1),
        lambda *args: pointing(*args, pool=True),  # ties count by their number
        lambda maps, masks: "none",
    ],
    chapter11.unmasks: [
        lambda program: True,
        lambda program: False,
        linear,
        lambda program: curved(program, baseline=(0.0, 0.0, 0.0)),
        lambda program: curved(program, what="sum"),
        lambda program: curved(lambda *args: program(*args).sort()[0]),
        up_to_a_factor,
        lambda program: "right",
    ],
}
