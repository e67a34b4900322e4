"""The data of the live figures of chapters 02 and 03."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle

from live_pieces import Found, bare, grey_levels, highest, packed, unpacked
from xai_lib import viz
from xai_lib.pertmap import StochasticPertMap, violation_rates
from xai_lib.zoo import digits, models

SIDE = 28

# Chapter 02: the box grows


def box() -> Found:
    """The chapter's classifier of two features; the browser finds the boxes."""
    return {
        "centres": [[-0.6, -0.5], [2.2, 0.6], [0.1, 2.1]],
        "widths": [1.0, 1.6, 1.3],
        "bound": 1.5,
        "half": 3,
        "start": [1.6, -0.6],
    }


def curved(found: Found, points: np.ndarray) -> np.ndarray:
    """The class of points `[..., 2]`: the nearest centre, in units of its width."""
    far = ((points[..., None, :] - np.array(found["centres"])) ** 2).sum(axis=-1)
    return (-far / np.array(found["widths"]) ** 2).argmax(axis=-1)


def best_box(found: Found, x: np.ndarray, n: int = 100) -> np.ndarray:
    """The sides `[2]` of the largest box around x in which the class stays, as the
    browser finds it: of all with sides that are n-ths of the bound, the longest."""
    t = np.arange(n + 1) * found["bound"] / n
    steps = np.stack(np.meshgrid(t, t, indexing="ij"), axis=-1)
    bad = np.zeros((n + 1, n + 1), dtype=bool)
    for sign in ([1, 1], [1, -1], [-1, 1], [-1, -1]):
        bad |= curved(found, x + sign * steps) != curved(found, x)
    best = (-1, 0, 0)
    highest = n
    for i in range(n + 1):
        highest = min(highest, int(bad[i].argmax()) - 1 if bad[i].any() else n)
        if highest >= 0:
            best = max(best, (i + highest, -i, highest))
    return t[[-best[1], best[2]]]


def draw_box(found: Found) -> plt.Figure:
    """The classes, and boxes around x up to the best one."""
    half, x = found["half"], np.array(found["start"])
    line = np.linspace(-half, half, 301)
    grid = np.stack(np.meshgrid(line, line), axis=-1)
    fig, ax = plt.subplots(figsize=(3.4, 3.4))
    ax.imshow(
        curved(found, grid),
        cmap="Pastel1",
        vmin=0,
        vmax=8,
        origin="lower",
        extent=(-half, half, -half, half),
    )
    for share in (0.25, 0.5, 0.75, 1):
        w = share * best_box(found, x)
        color, width = ("#D55E00", 2) if share == 1 else ("black", 0.7)
        corner = (float(x[0] - w[0]), float(x[1] - w[1]))
        sides = (float(2 * w[0]), float(2 * w[1]))
        ax.add_patch(Rectangle(corner, *sides, fill=False, ec=color, lw=width))
    ax.plot(*x, "k.", ls="")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    ax.grid(False)
    return fig


# Chapter 03: the penalty slides

QUANTILES = tuple(range(0, 101, 10))


def penalty() -> Found:
    """Boxes of two digits for penalties from 0.01 to 10 times the number of pixels,
    how often they break, and the class when the freest pixels turn grey."""
    network, mnist = models.load("cnn_mnist"), digits.mnist()
    penalties = [round(float(p), 4) for p in np.logspace(-2, 1, 10)]
    rows = []
    for index in (1, 4):
        x, label = mnist.images[index : index + 1], int(mnist.labels[index])
        boxes = []
        for share in penalties:
            explainer = StochasticPertMap(
                network, n_perturbations=8, n_iterations=150, penalty=share * SIDE**2
            )
            solved = explainer.solve(x, label)
            broken = violation_rates(network, x, solved, label, n_samples=1000)
            w = (solved.w.flatten() * 255).round().byte().numpy()
            grey = torch.stack([greyed(x, w, q) for q in QUANTILES])
            with torch.no_grad():
                classes = network(grey).argmax(dim=1)
            boxes.append(
                {
                    "w": packed(w, np.uint8),
                    "points": round(float(broken.uniform), 4),
                    "corners": round(float(broken.corners), 4),
                    "classes": classes.tolist(),
                }
            )
        rows.append({"label": label, "image": grey_levels(x), "boxes": boxes})
    return {"penalties": penalties, "quantiles": list(QUANTILES), "digits": rows}


def greyed(x: torch.Tensor, w: np.ndarray, quantile: int) -> torch.Tensor:
    """The digit `[1, 1, S, S]` with its freest pixels at 0.5, `[1, S, S]`."""
    flipped = x.flatten().clone()
    flipped[torch.from_numpy(highest(w, quantile / 100))] = 0.5
    return flipped.view(x.shape[1:])


def draw_penalty(found: Found) -> plt.Figure:
    """The sides of one digit's box, for four penalties."""
    one = found["digits"][0]
    fig, axes = plt.subplots(1, 5, figsize=(7.4, 1.9))
    image = unpacked(one["image"], np.uint8).reshape(SIDE, SIDE)
    axes[0].imshow(image, cmap="gray")
    axes[0].set_title(f"a “{one['label']}”")
    for ax, k in zip(axes[1:], (0, 3, 6, 9), strict=True):
        sides = unpacked(one["boxes"][k]["w"], np.uint8).reshape(SIDE, SIDE)
        ax.imshow(sides, cmap=viz.style.POSITIVE, vmin=0, vmax=255)
        ax.set_title(f"λ = {found['penalties'][k]:g} d")
        ax.set_xlabel(f"{one['boxes'][k]['points']:.0%} of points break it", size=8)
    bare(axes)
    return fig
