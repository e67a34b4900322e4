"""The data of the live figures of chapters 07 to 09."""

from __future__ import annotations

from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle

from live_pieces import Found, bare, opened, packed, picture, unpacked
from xai_lib import viz
from xai_lib.aise import AISE, DirectSampler, detection_score, gaussian_masks, saliency
from xai_lib.aise.classification import Samples
from xai_lib.aise.detection import place
from xai_lib.core.blackbox import BlackBox
from xai_lib.zoo import detectors, models, photos, scenes

# Chapter 07: drag a spot


def spot() -> Found:
    """The score s of a spot at 27 x 27 places, and DIRECT's search among them."""
    side, sigma, n = 27, 0.15, 50
    image = photos.load("coffee").image
    network = BlackBox(models.probabilities(models.load("efficientnet_lite0")))
    whole = network(image)[0]
    target = int(whole.argmax())
    # The drop, f(x) less what is left, is easier to read than what is left. The search
    # is AISE's, without that constant.
    shift = float(whole[target])
    known: dict[tuple[float, float], float] = {}

    def score(points: np.ndarray) -> np.ndarray:
        for point in points[[tuple(p) not in known for p in points.tolist()]]:
            mask = gaussian_masks(point[None], sigma, 224, 224)
            shown = network(torch.cat([image * mask, image * (1 - mask)]))[:, target]
            known[tuple(point.tolist())] = float(shown[0] - shown[1])
        return np.array([known[tuple(p)] for p in points.tolist()])

    middles = (np.arange(side) + 0.5) / side
    places = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
    scores = score(places)
    sampler, frames = DirectSampler(), []
    while len(sampler.scores) < n:
        points = sampler.ask(n - len(sampler.scores))
        sampler.tell(points, score(points))
        found = sampler.rectangles
        told = found.scores + shift
        rows = np.column_stack([found.centres, found.sides, told])
        frames.append({"n": len(sampler.scores), "rectangles": rows.round(4).tolist()})
    return {
        "title": "a cup of coffee",
        "task": f"Where does the network find the {photos.class_name(target)}? Drag "
        "the spot over the picture; where you let go, the network is asked. Find the "
        "highest score with as few questions as you can.",
        "photo": picture(image[0]),
        "sigma": sigma,
        "side": side,
        "scores": (scores + shift).round(4).tolist(),
        "direct": [frame for frame in frames if frame["rectangles"]],
        "direct_scores": (sampler.scores + shift).round(4).tolist(),
    }


def draw_spot(found: Found) -> plt.Figure:
    """The score everywhere, and DIRECT's last rectangles."""
    fig, axes = plt.subplots(1, 2, figsize=(6, 3))
    grid = np.reshape(found["scores"], (found["side"], -1))
    axes[0].imshow(grid, cmap="magma", extent=(0, 1, 1, 0))
    axes[0].set_title("the score, asked everywhere")
    axes[1].imshow(opened(found["photo"]), extent=(0, 1, 1, 0))
    for x, y, width, height, _ in found["direct"][-1]["rectangles"]:
        corner = (x - width / 2, y - height / 2)
        axes[1].add_patch(Rectangle(corner, width, height, fill=False, ec="white"))
    axes[1].set_title(f"DIRECT's {found['direct'][-1]['n']} rectangles")
    bare(axes)
    return fig


# Chapters 08 and 09: densities of kernel centres, which the browser adds up


def sampled(samples: Samples) -> list[dict[str, Any]]:
    """Of one image, for each width its centres (x, y, x, y, …) and scores."""
    return [
        {
            "width": round(float(width), 6),
            "centres": packed(centres, np.float32),
            "scores": packed(scores, np.float32),
        }
        for width, centres, scores in zip(
            samples.widths, samples.centres[0], samples.scores[0], strict=True
        )
    ]


def summed(rows: list[dict[str, Any]], side: int) -> np.ndarray:
    """The map `[side, side]` of such rows, by the library."""
    maps = [
        saliency(
            unpacked(row["centres"], np.float32).reshape(-1, 2).astype(np.float64),
            unpacked(row["scores"], np.float32),
            row["width"],
            side,
            side,
        )
        for row in rows
    ]
    return torch.stack(maps).sum(dim=0).numpy()


def _photographed(image: torch.Tensor) -> str:
    return picture(image.expand(3, -1, -1))


# Chapter 08: preserve, delete, and the widths of the kernels

PARADIGMS = ("both", "preserve", "delete")
SAMPLERS = ("direct", "lattice")


def kernels() -> Found:
    """AISE's centres and scores for two scenes with two articles of one class and one
    with a single one, for both samplers, the paradigms and four widths."""
    data = scenes.make(40, seed=8)
    network = models.load("scenes_classifier")
    ask = BlackBox(models.probabilities(network))
    rows = []
    for index, target in ((22, 7), (26, 4), (7, 8)):
        image = data.images[index : index + 1]
        boxes = data.boxes[index][data.classes[index] == target]
        searches = {}
        for sampler, paradigm in product(SAMPLERS, PARADIGMS):
            explainer = AISE(
                ask,
                sampler,
                kernel_widths=(0.05, 0.1, 0.175, 0.25),
                n_kernels=25,
                preserve=paradigm != "delete",
                delete=paradigm != "preserve",
            )
            found = explainer.sample(image, target)
            searches[f"{sampler} {paradigm}"] = sampled(found)
        rows.append(
            {
                "label": network.categories[target].lower(),
                "photo": _photographed(image[0]),
                "boxes": (boxes / scenes.SIZE).numpy().round(4).tolist(),
                "searches": searches,
            }
        )
    return {"samplers": SAMPLERS, "paradigms": PARADIGMS, "scenes": rows}


def draw_kernels(found: Found) -> plt.Figure:
    """One scene, and its maps by what is asked and how wide the kernels are."""
    row = found["scenes"][0]
    fig, axes = plt.subplots(1, 5, figsize=(7.4, 1.9))
    axes[0].imshow(opened(row["photo"]), extent=(0, 1, 1, 0))
    axes[0].set_title(f"two: {row['label']}")
    wanted = [("preserve", 1), ("delete", 1), ("both", 1), ("both", 3)]
    for ax, (paradigm, width) in zip(axes[1:], wanted, strict=True):
        one = row["searches"][f"direct {paradigm}"][width]
        _signed(ax, summed([one], 56))
        ax.set_title(f"{paradigm}, σ = {one['width']:g}")
    for ax in axes:
        _outline(ax, row["boxes"])
    bare(axes)
    return fig


def _signed(ax: Any, values: np.ndarray) -> None:
    limit = np.abs(values).max()
    shown = {"cmap": viz.style.SIGNED, "vmin": -limit, "vmax": limit}
    ax.imshow(values, extent=(0, 1, 1, 0), **shown)


def _outline(ax: Any, boxes: list[list[float]], **style: Any) -> None:
    for x0, y0, x1, y1 in boxes:
        look: dict[str, Any] = {"fill": False, "ec": "#D55E00"} | style
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **look))


# Chapter 09: the search area and the box


def area() -> Found:
    """AISE-99's centres and scores for three detections of a scene, searched in the box
    alone, in the paper's half a box around it, further away, and everywhere."""
    data = scenes.make(100, seed=1000)
    detector = detectors.load("scenes_detector")
    rows = []
    for index, k in ((7, 0), (7, 1), (2, 0)):
        image = data.images[index : index + 1]
        found = detector(image)[0]
        detected, label = found.boxes[k], int(found.labels[k])
        x0, y0, x1, y1 = (detected.double() / scenes.SIZE).clamp(0, 1).tolist()
        widths, _ = place(detected, scenes.SIZE, scenes.SIZE)

        def again(
            images: torch.Tensor, box: torch.Tensor = detected, label: int = label
        ) -> torch.Tensor:
            return detection_score(detector(images), box, label)[:, None]

        areas = []
        for margin in (0, 0.25, 0.5, 1, None):
            # The whole image is as far as any box reaches.
            far = (1, 1) if margin is None else (margin * (x1 - x0), margin * (y1 - y0))
            bounds = (
                (max(0.0, x0 - far[0]), max(0.0, y0 - far[1])),
                (min(1.0, x1 + far[0]), min(1.0, y1 + far[1])),
            )
            explainer = AISE(
                *(again, "direct", widths),
                n_kernels=33,
                delete=False,
                eps=0.05,
                bounds=bounds,
            )
            areas.append(
                {
                    "margin": margin,
                    "bounds": np.round([*bounds[0], *bounds[1]], 4).tolist(),
                    "widths": sampled(explainer.sample(image, 0)),
                }
            )
        rows.append(
            {
                "label": detector.categories[label].lower(),
                "score": round(float(found.scores[k]), 3),
                "photo": _photographed(image[0]),
                "box": np.round([x0, y0, x1, y1], 4).tolist(),
                "areas": areas,
            }
        )
    return {"start": 2, "detections": rows}


def draw_area(found: Found) -> plt.Figure:
    """One detection, and its map for three search areas."""
    row = found["detections"][0]
    fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.1))
    axes[0].imshow(opened(row["photo"]), extent=(0, 1, 1, 0))
    axes[0].set_title(f"{row['label']} {row['score']:.2f}")
    titles = {0: "in the box", 2: "half a box around", 4: "everywhere"}
    for ax, (k, title) in zip(axes[1:], titles.items(), strict=True):
        one = row["areas"][k]
        _signed(ax, summed(one["widths"], 56))
        _outline(ax, [one["bounds"]], ec="white", ls="--")
        ax.set_title(title)
    for ax in axes:
        _outline(ax, [row["box"]])
    bare(axes)
    return fig
