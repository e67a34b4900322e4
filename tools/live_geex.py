"""The data of the live figures of chapters 04 to 06."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from live_pieces import Found, bare, normal, packed, signed_digits, unpacked
from xai_lib import viz
from xai_lib.baselines import Gradient, SmoothGrad
from xai_lib.core.blackbox import BlackBox
from xai_lib.geex import GEEX
from xai_lib.zoo import digits, models

# Chapter 04: the estimate settles


def settle() -> Found:
    """Answers to 2,000 noisy digits, from which the browser estimates the gradient."""
    seed, sigma, n = 4, 0.5, 2000
    network, mnist = models.load("cnn_mnist"), digits.mnist()
    image, label = mnist.images[:1], int(mnist.labels[0])
    noise = np.stack([normal(seed, k, 784) for k in range(n)])
    steps = sigma * torch.from_numpy(noise).float().view(n, 1, 28, 28)
    # The network itself: the noise steps outside of [0, 1] on purpose.
    logits = torch.nn.Sequential(network.normalize, network.network)
    with torch.no_grad():
        plus, minus = logits(image + steps), logits(image - steps)
    # What both estimates converge to: the gradient of the score under this noise.
    several = torch.cat([image + steps, image - steps]).requires_grad_(True)
    (slopes,) = torch.autograd.grad(logits(several)[:, label].sum(), several)
    return {
        "title": f"a “{label}”",
        "seed": seed,
        "sigma": sigma,
        "stops": [2, 4, 10, 20, 50, 100, 200, 300, 500, 700, 1000, 1400, 2000],
        "image": packed(image, np.float32),
        "gradient": packed(slopes.mean(dim=0), np.float32),
        "plus": packed(plus[:, label], np.float32),
        "minus": packed(minus[: n // 2, label], np.float32),
    }


def estimate(found: Found, queries: int, mirrored: bool) -> np.ndarray:
    """(1/nσ) Σ f ε from the first queries, as the browser adds it up: `[784]`."""
    plus, minus = (unpacked(found[k], np.float32) for k in ("plus", "minus"))
    n = queries // 2 if mirrored else queries
    noise = np.stack([normal(found["seed"], k, 784) for k in range(n)])
    weights = plus[:n].astype(np.float64)
    if mirrored:
        weights = weights - minus[:n]
    return weights @ noise / (queries * found["sigma"])


def draw_settle(found: Found) -> plt.Figure:
    """The gradient, and its estimate from few and from many queries."""
    fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.2))
    axes[0].imshow(unpacked(found["image"], np.float32).reshape(28, 28), cmap="gray")
    axes[0].set_title(found["title"])
    maps = {"the gradient": unpacked(found["gradient"], np.float32)}
    for queries in (100, 2000):
        title = f"from {queries:,} queries"
        maps[title] = estimate(found, queries, mirrored=True)
    signed_digits(axes[1:], maps)
    bare(axes)
    return fig


# Chapter 05: the grid of the noise against the map


def cells() -> Found:
    """Answers to a digit with noise on grids of 2 to 28 cells, from which the browser
    estimates the map of each grid."""
    seed, sigma, pairs = 5, 0.5, 500
    network, mnist = models.load("cnn_mnist"), digits.mnist()
    image, label = mnist.images[:1], int(mnist.labels[0])
    logits = torch.nn.Sequential(network.normalize, network.network)
    sizes = [2, 4, 7, 10, 14, 20, 28]
    answers = []
    for size in sizes:
        noise = np.stack([normal(seed, k, size**2) for k in range(pairs)])
        steps = sigma * upsampled(noise, size).view(pairs, 1, 28, 28)
        with torch.no_grad():
            differences = logits(image + steps) - logits(image - steps)
        answers.append(packed(differences[:, label], np.float32))
    smooth = SmoothGrad(logits, n_samples=1000, stdevs=sigma).attribute(image, label)
    return {
        "title": f"a “{label}”",
        "seed": seed,
        "sigma": sigma,
        "sizes": sizes,
        "start": 4,
        "stops": [20, 50, 100, 200, 500, 1000],
        "image": packed((image * 255).round(), np.uint8),
        "reference": packed(smooth, np.float32),
        "answers": answers,
    }


def upsampled(noise: np.ndarray, size: int) -> torch.Tensor:
    """Noise on cells `[n, size²]`, bilinearly on the pixels: `[n, 28, 28]`."""
    small = torch.from_numpy(noise).float().view(-1, 1, size, size)
    return F.interpolate(small, size=28, mode="bilinear")[:, 0]


def resized(found: Found, place: int, queries: int) -> np.ndarray:
    """GERS's estimate with the grid of that place from the first queries, as the
    browser adds it up: `[784]`."""
    size, n = found["sizes"][place], queries // 2
    answers = unpacked(found["answers"][place], np.float32)[:n].astype(np.float64)
    noise = np.stack([normal(found["seed"], k, size**2) for k in range(n)])
    gain = (28 / size) ** 2
    total = upsampled((answers @ noise)[None], size).flatten().numpy()
    return total / (queries * found["sigma"] * gain)


def draw_cells(found: Found) -> plt.Figure:
    """SmoothGrad's map, and what three grids find with 1,000 queries."""
    fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.1))
    maps = {"SmoothGrad": unpacked(found["reference"], np.float32)}
    for place in (2, 4, 6):
        size = found["sizes"][place]
        maps[f"{size} × {size} cells"] = resized(found, place, 1000)
    signed_digits(axes, maps)
    bare(axes)
    return fig


# Chapter 06: the point on the path


def path() -> Found:
    """What each of 20 points on the path from black to a digit adds to its map."""
    n_steps, n_samples, sigma = 20, 400, 0.3
    network, mnist = models.load("cnn_mnist"), digits.mnist()
    probability = models.probabilities(network)
    ask = BlackBox(probability)
    rows = []
    for index in (4, 1):
        x, label = mnist.images[index : index + 1], int(mnist.labels[index])
        alphas = (torch.arange(n_steps) + 0.5) / n_steps
        points = alphas.view(-1, 1, 1, 1) * x
        ends = ask(torch.linspace(0, 1, n_steps + 1).view(-1, 1, 1, 1) * x)[:, label]
        targets = torch.full((n_steps,), label)
        slopes = {
            "exact": Gradient(probability).attribute(points, targets),
            "asked": GEEX(ask, n_samples, sigma).attribute(points, targets),
        }
        # Black pixels do not move on the path, so they add nothing.
        inside = x.flatten() > 0
        added = {
            name: _bytes((x * slope / n_steps).flatten(1)[:, inside].numpy())
            for name, slope in slopes.items()
        }
        rows.append(
            {
                "label": label,
                "image": packed((x * 255).round(), np.uint8),
                "scores": [round(float(score), 4) for score in ends],
                **added,
            }
        )
    return {"n_steps": n_steps, "queries": n_samples, "digits": rows}


def _bytes(rows: np.ndarray) -> list[dict[str, float | str]]:
    """Each row as bytes and what they count in."""
    units = np.abs(rows).max(axis=1) / 127
    return [
        {"unit": float(f"{u:.6g}"), "values": packed((row / u).round(), np.int8)}
        for row, u in zip(rows, units, strict=True)
    ]


def contributions(row: Found, kind: str) -> np.ndarray:
    """What the points of a digit's path add, `[n_steps, 784]`."""
    inside = unpacked(row["image"], np.uint8) > 0
    found = np.zeros((len(row[kind]), inside.size))
    for k, frame in enumerate(row[kind]):
        found[k, inside] = unpacked(frame["values"], np.int8) * frame["unit"]
    return found


def draw_path(found: Found) -> plt.Figure:
    """The score on the path of one digit, three points' parts, and their sum."""
    row = found["digits"][0]
    parts = contributions(row, "exact")
    fig, axes = plt.subplots(1, 5, figsize=(7.4, 2))
    axes[0].plot(np.linspace(0, 1, found["n_steps"] + 1), row["scores"], marker="")
    axes[0].set(xlabel="place on the path", title=f"probability of {row['label']}")
    limit = np.abs(parts.sum(axis=0)).max()
    maps = {f"at {(k + 0.5) / found['n_steps']:.0%}": parts[k] for k in (2, 7, 17)}
    for ax, (title, values) in zip(
        axes[1:], (maps | {"all 20": parts.sum(axis=0)}).items(), strict=True
    ):
        shown = values.reshape(28, 28)
        scale = limit if title == "all 20" else limit / 4
        ax.imshow(shown, cmap=viz.style.SIGNED, vmin=-scale, vmax=scale)
        ax.set_title(title)
    bare(axes[1:])
    return fig
