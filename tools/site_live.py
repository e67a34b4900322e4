"""The data of the site's live figures, and the pieces of HTML that show them.

    python tools/site_live.py             writes docs/_static/live/data/ (three minutes)
    python tools/site_live.py claims      one of them

`docs/_static/live/live.js` has a function for each figure. What a browser adds up
itself, it makes from the same numbers as here: noise comes from Philox, which both
have.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from sync_notebooks import ROOT
from xai_book.studies import claims
from xai_lib import viz
from xai_lib.aise.kernels import gaussian_masks
from xai_lib.aise.samplers import DirectSampler
from xai_lib.baselines import RISE, Gradient, IntegratedGradients, Occlusion
from xai_lib.core.blackbox import BlackBox
from xai_lib.zoo import digits, models, photos

DATA = Path("docs", "_static", "live", "data")
Found = dict[str, Any]


# What is in a file


def picture(image: Tensor) -> str:
    """An image `[3, H, W]` as an address that holds it, WebP."""
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def packed(values: Any, kind: type) -> str:
    """Numbers, little-endian, in base64."""
    array = np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(array.tobytes()).decode()


def unpacked(text: str, kind: type) -> np.ndarray:
    """The numbers of `packed`."""
    return np.frombuffer(base64.b64decode(text), np.dtype(kind).newbyteorder("<"))


# Noise that a browser makes too


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox 4x32-10 (Salmon et al., 2011): words `[n, 4]` from counters `[n, 4]`."""
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = counter.astype(np.uint64).T
    k0, k1 = (np.uint64(k) for k in key)
    for _ in range(10):
        left, right = c2 * np.uint64(0xCD9E8D57), c0 * np.uint64(0xD2511F53)
        c0, c2 = (left >> 32) ^ c1 ^ k0, (right >> 32) ^ c3 ^ k1
        c1, c3 = left & low, right & low
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([c0, c1, c2, c3], axis=1)


def uniform(seed: int, draw: int, count: int) -> np.ndarray:
    """`Philox.uniform` of philox.js: `[count]` in [0, 1)."""
    blocks = -(-count // 4)
    counter = np.zeros((blocks, 4))
    counter[:, 0], counter[:, 1] = np.arange(blocks), draw
    return philox(counter, (seed, 0)).ravel()[:count] / 2.0**32


def normal(seed: int, draw: int, count: int) -> np.ndarray:
    """`Philox.normal` of philox.js: `[count]`, by Box and Muller."""
    pairs = uniform(seed, draw, count + count % 2).reshape(-1, 2)
    length = np.sqrt(-2 * np.log(pairs[:, 0] + 2.0**-33))
    angle = 2 * np.pi * pairs[:, 1]
    both = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)
    return both.ravel()[:count]


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
    axes[1].imshow(_opened(found["photo"]), extent=(0, 1, 1, 0))
    for x, y, width, height, _ in found["direct"][-1]["rectangles"]:
        corner = (x - width / 2, y - height / 2)
        axes[1].add_patch(Rectangle(corner, width, height, fill=False, ec="white"))
    axes[1].set_title(f"DIRECT's {found['direct'][-1]['n']} rectangles")
    _bare(axes)
    return fig


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
    for ax, (title, values) in zip(axes[1:], maps.items(), strict=True):
        limit = np.abs(values).max()
        shown = values.reshape(28, 28)
        ax.imshow(shown, cmap=viz.style.SIGNED, vmin=-limit, vmax=limit)
        ax.set_title(title)
    _bare(axes)
    return fig


# Chapter 00: maps and a threshold


def threshold() -> Found:
    """Four maps of one photograph, and the probability with their best pixels alone."""
    side = 56
    image = photos.load("chelsea").image
    network = models.probabilities(models.load("efficientnet_lite0"))
    target = int(network(image).argmax())
    ask = BlackBox(network)
    explainers = {
        "Gradient": Gradient(network),
        "Integrated Gradients": IntegratedGradients(network, n_steps=64),
        "Occlusion": Occlusion(ask, 32, 16),
        "RISE": RISE(ask, n_samples=1000),
    }
    shares = [share / 100 for share in range(5, 101, 5)]
    maps = []
    for name, explainer in explainers.items():
        heat = explainer.attribute(image, target)
        if "Grad" in name:
            heat = heat.abs().sum(dim=1, keepdim=True)
        heat = F.adaptive_avg_pool2d(heat, side)[0, 0].double()
        span = heat.max() - heat.min()
        values = ((heat - heat.min()) / span * 65535).round().numpy().astype(np.uint16)
        kept = torch.stack([torch.from_numpy(highest(values, s)) for s in shares])
        large = F.interpolate(kept[:, None].float(), size=224)
        chances = ask(image * large)[:, target]
        maps.append(
            {
                "name": name,
                "values": packed(values, np.uint16),
                "chances": [round(chance, 4) for chance in chances.tolist()],
            }
        )
    return {
        "photo": picture(image[0]),
        "label": photos.class_name(target),
        "side": side,
        "shares": shares,
        "start": 0.7,
        "maps": maps,
    }


def highest(values: np.ndarray, share: float) -> np.ndarray:
    """Which are among the highest `share`: bool, of the same shape; of equals the
    first, as the browser decides."""
    order = np.argsort(-values.ravel().astype(np.int64), kind="stable")
    kept = np.zeros(values.size, dtype=bool)
    kept[order[: int(share * values.size + 0.5)]] = True
    return kept.reshape(values.shape)


def draw_threshold(found: Found) -> plt.Figure:
    """What each map leaves of the photograph."""
    fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.4))
    photo, stop = _opened(found["photo"]), found["shares"].index(found["start"])
    for ax, row in zip(axes, found["maps"], strict=True):
        values = unpacked(row["values"], np.uint16).reshape(found["side"], -1)
        kept = highest(values, found["start"])
        factor = photo.shape[0] // found["side"]
        ax.imshow(photo * kept.repeat(factor, 0).repeat(factor, 1)[..., None])
        ax.set_title(row["name"])
        ax.set_xlabel(f"{found['label']}: {row['chances'][stop]:.0%}")
    _bare(axes)
    return fig


# Chapter 11: the claims


def ruled() -> Found:
    """The papers' statements with their verdicts."""
    return {
        "rows": [
            {
                "id": ruling.id,
                "paper": ruling.paper,
                "section": ruling.where,
                "statement": ruling.statement,
                "chapter": ruling.chapter,
                "verdict": ruling.verdict,
                "data": list(ruling.verdicts),
                "proved": ruling.proved,
                "printed": "" if ruling.proved else ruling.printed,
                "note": ruling.note,
                "scale": ruling.scale,
                "paper_scale": ruling.paper_scale,
            }
            for ruling in claims.rulings()
        ]
    }


SIMPLE = ("holds", "does not hold", "open", "too few", "not measured")


def claims_table(found: Found) -> str:
    """The table, each row with what it can be filtered by."""
    body = []
    for row in found["rows"]:
        kind = row["verdict"] if row["verdict"] in SIMPLE else "depends on the data"
        filters = {"paper": row["paper"], "verdict": kind, "chapter": row["chapter"]}
        data = "".join(f' data-{k}="{html.escape(v)}"' for k, v in filters.items())
        paper = f"{row['paper']}, {row['section']}"
        scale = f"{row['scale']}; in the paper: {row['paper_scale']}"
        cells = (
            *(paper, ". ".join(filter(None, (row["statement"], row["note"])))),
            *(row["verdict"], row["printed"], scale if row["scale"] else ""),
            row["chapter"],
        )
        text = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        body.append(f"<tr{data}>{text}</tr>")
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            *("Paper, section", "Statement", "Verdict", "On the printed numbers"),
            *("Scale", "Chapter"),
        )
    )
    rows = "\n".join(body)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"


# All of them

FIGURES: dict[str, tuple[Callable[[], Found], Callable[[Found], plt.Figure] | None]] = {
    "spot": (spot, draw_spot),
    "settle": (settle, draw_settle),
    "threshold": (threshold, draw_threshold),
    "claims": (ruled, None),
}
CAPTIONS = {
    "spot": "Ask where you like, then compare yourself with DIRECT: it needs no luck, "
    "only the order in which it divides.",
    "settle": "The estimate approaches the gradient as queries come in, with mirrored "
    "noise much sooner than with plain noise.",
    "threshold": "Four explanations keep different pixels of one photograph, and the "
    "class survives with some of them only.",
    "claims": "What the papers state, and what the rows measured for this book say.",
}


def _opened(address: str) -> np.ndarray:
    content = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) / 255


def _bare(axes: Any) -> None:
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)


def block(name: str, root: Path = ROOT, to_top: str = "") -> str:
    """The figure's HTML, for a page from which `to_top` leads to the site's top.

    Args:
        name: one of FIGURES.
        root: of the repository.
        to_top: "" for a page at the top, "../" for a chapter.
    """
    text = (root / DATA / f"{name}.json").read_text(encoding="utf-8")
    data = ""
    if FIGURES[name][1] is None:
        still = claims_table(json.loads(text))
    else:
        address = f"{to_top}_static/live/data/{name}.png"
        still = f'<img src="{address}" alt="{html.escape(CAPTIONS[name])}">'
        # "<" would end the script early.
        text = text.strip().replace("<", "\\u003c")
        data = f'<script type="application/json">{text}</script>\n'
    return (
        f'<figure class="live" id="live-{name}" data-live="{name}">\n'
        '<div class="live-stage" hidden></div>\n'
        f'<div class="live-still">{still}</div>\n'
        f"<figcaption>{html.escape(CAPTIONS[name])}</figcaption>\n{data}</figure>\n"
    )


def add_live_figures(source: Path, root: Path = ROOT) -> None:
    """Write each figure as `live/NAME.html` beside the site's pages and the chapters.

    A page or a notebook's Markdown takes one in with

        ```{raw} html
        :file: live/NAME.html
        ```
    """
    for folder, to_top in ((source, ""), (source / "chapters", "../")):
        (folder / "live").mkdir(parents=True)
        for name in FIGURES:
            path = folder / "live" / f"{name}.html"
            path.write_text(block(name, root, to_top), encoding="utf-8")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *FIGURES], default=[])
    names = parser.parse_args(arguments).names or list(FIGURES)
    (root / DATA).mkdir(parents=True, exist_ok=True)
    viz.use_style()
    for name in names:
        make, draw = FIGURES[name]
        found = make()
        path = root / DATA / f"{name}.json"
        path.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
        if draw is not None:
            save(draw(found), path.with_suffix(".png"))
    return 0


def save(fig: plt.Figure, path: Path) -> None:
    """As a PNG of 256 colours, which is a third of the size."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=180, bbox_inches="tight")
    plt.close(fig)
    drawn = Image.open(buffer).convert("RGB")
    drawn.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
