"""The book's own pictures: logo, icon, card for links, and the two of README.md.

    python tools/brand.py              all of them, into docs/_static/brand/ (a minute)
    python tools/brand.py logo card    some

All are drawn from Chelsea the cat (CC0, S. van der Walt), the photograph that the book
begins with, in the figures' colours. `moving` is a film of the site's live figure in
Chromium; it needs `make site` before.
"""

import argparse
import io
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw
from torch import Tensor

from sync_notebooks import ROOT
from xai_lib import viz
from xai_lib.aise import AISE
from xai_lib.baselines import RISE, Gradient, IntegratedGradients, Occlusion
from xai_lib.core.blackbox import BlackBox
from xai_lib.viz.style import COLORS
from xai_lib.zoo import models, photos

FOLDER = Path("docs", "_static", "brand")
POOL = 8
"""Pixels a side that are averaged, so that a map of gradients can be read."""


def cat() -> Tensor:
    """Chelsea, `[1, 3, 224, 224]` in [0, 1]."""
    return photos.load("chelsea").image


def pixels(image: Tensor) -> Image.Image:
    """An image `[3, H, W]` for Pillow."""
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def save(drawn: Image.Image, path: Path, colours: int = 64) -> None:
    """As a PNG of few colours."""
    method = Image.Quantize.FASTOCTREE if drawn.mode == "RGBA" else None
    drawn.quantize(colours, method=method).save(path, optimize=True)


def emblem(side: int) -> Image.Image:
    """The cat's face dimmed, and in the light what a box around an eye leaves."""
    large = 4 * side
    face = pixels(cat()[0]).crop((0, 8, 208, 216)).resize((large, large))
    left, top, right, bottom = (round(large * t) for t in (0.1, 0.2, 0.56, 0.6))
    box = (left, top, right, bottom)
    grey = face.convert("L").convert("RGB")
    dim = Image.blend(grey, Image.new("RGB", face.size), 0.45)
    dim.paste(face.crop(box), (left, top))
    line = max(round(large * 0.035), 8)
    ImageDraw.Draw(dim).rectangle(box, outline=COLORS[5], width=line)
    shape = Image.new("L", face.size)
    corners = (0, 0, large - 1, large - 1)
    ImageDraw.Draw(shape).rounded_rectangle(corners, large * 0.16, fill=255)
    dim.putalpha(shape)
    return dim.resize((side, side), Image.Resampling.LANCZOS)


def logo(folder: Path) -> None:
    """The emblem beside the site's contents, and in tabs."""
    save(emblem(160), folder / "logo.png", 128)
    save(emblem(48), folder / "icon.png", 128)


def maps() -> dict[str, Tensor]:
    """Chapter 00's four maps of the cat, those of gradients pooled: `[1, 224, 224]`."""
    image = cat()
    network = models.probabilities(models.load("efficientnet_lite0"))
    ask = BlackBox(network)
    target = int(ask(image).argmax())
    gradient = Gradient(network).attribute(image, target)
    path = IntegratedGradients(network, n_steps=300).attribute(image, target)
    rise = RISE(ask, n_samples=4000).attribute(image, target)
    return {
        "Gradient": pooled(gradient.abs()),
        "Integrated Gradients": pooled(path),
        "Occlusion": Occlusion(ask, 32, 8).attribute(image, target)[0],
        "RISE": (rise - rise.mean())[0],
    }


def pooled(found: Tensor) -> Tensor:
    """A map `[1, 3, H, W]` as its means over blocks, smooth again: `[1, H, W]`."""
    means = F.avg_pool2d(found.sum(dim=1, keepdim=True), POOL)
    return F.interpolate(means, size=found.shape[2:], mode="bicubic")[0]


SAYS = {
    "Gradient": "where a small change\nmatters (|slope|, pooled)",
    "Integrated Gradients": "what each block adds,\nfrom black to the photo",
    "Occlusion": "what is lost\nwhere a square hides it",
    "RISE": "what random masks\nhave in common",
}


def four(folder: Path) -> None:
    """Four explanations of one decision, for README.md."""
    viz.use_style()
    image, found = cat()[0], maps()
    fig, axes = plt.subplots(1, 5, figsize=(9.6, 2.75), layout="constrained")
    viz.show_image(axes[0], image, "Why “tiger cat”?")
    axes[0].set_xlabel("the photograph", fontsize=9)
    for ax, (name, heat) in zip(axes[1:], found.items(), strict=True):
        viz.heatmap(ax, heat, image, name, signed=True)
        ax.set_xlabel(SAYS[name], fontsize=9)
    buffer = io.BytesIO()
    fig.savefig(buffer, dpi=180)
    plt.close(fig)
    save(Image.open(buffer).convert("RGB"), folder / "four.png", 256)


def card(folder: Path) -> None:
    """What a link to the book shows elsewhere, 1200 x 630."""
    viz.use_style()
    fig = plt.figure(figsize=(12, 6.3), facecolor="white", layout="none")
    image = cat()[0]
    ask = BlackBox(models.probabilities(models.load("efficientnet_lite0")))
    heat = AISE(ask, n_kernels=50).attribute(image[None])[0]
    ax = fig.add_axes((0, 0, 0.525, 1))
    viz.heatmap(ax, heat - heat.mean(), image, signed=True)
    ax.set_axis_off()
    words: dict[str, Any] = {
        "transform": fig.transFigure,
        "va": "top",
        "color": "#1b1b1b",
    }
    title = "Explaining\nimage models\nby perturbing\ntheir inputs"
    fig.text(0.56, 0.86, title, fontsize=43, weight="bold", linespacing=1.15, **words)
    said = "Three papers derived, implemented\nand reproduced, in notebooks that run"
    fig.text(0.56, 0.33, said, fontsize=18, linespacing=1.4, **words)
    bar = Rectangle((0.56, 0.14), 0.1, 0.008, color=COLORS[1], lw=0)
    bar.set_transform(fig.transFigure)
    fig.add_artist(bar)
    buffer = io.BytesIO()
    fig.savefig(buffer, dpi=100)
    plt.close(fig)
    drawn = Image.open(buffer).convert("RGB")
    drawn.save(folder / "card.jpg", quality=82, optimize=True, progressive=True)


def moving(folder: Path) -> None:
    """A film of the landing page's live figure: three questions, then the answer."""
    from playwright.sync_api import sync_playwright  # only here

    page_file = ROOT / "_build" / "site" / "index.html"
    if not page_file.exists():
        raise FileNotFoundError(f"{page_file} is not there: run `make site` first")
    shots: list[tuple[bytes, int]] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = chromium.new_page(viewport={"width": 1100, "height": 900})
        page.emulate_media(color_scheme="light")
        page.goto(page_file.as_uri())
        stage = page.locator(".live-stage").first

        def shoot(milliseconds: int) -> None:
            shots.append((stage.screenshot(), milliseconds))

        shoot(900)
        canvas = stage.locator("canvas").first.bounding_box()
        assert canvas is not None
        now = (0.3, 0.7)
        for there in ((0.75, 0.3), (0.2, 0.25), (0.5, 0.45)):
            page.mouse.move(*place(canvas, now))
            page.mouse.down()
            for share in np.linspace(0, 1, 7)[1:]:
                point = np.add(now, share * np.subtract(there, now))
                page.mouse.move(*place(canvas, point))
                shoot(70)
            page.mouse.up()
            shoot(1000)
            now = there
        stage.get_by_role("button", name="Reveal").click()
        for shown in ("DIRECT's rectangles", "the score everywhere"):
            stage.get_by_label(shown).check()
            page.wait_for_timeout(200)
            shoot(2000)
        chromium.close()
    frames = [Image.open(io.BytesIO(shot)).convert("RGB") for shot, _ in shots]
    # A frame's own height can change with the text; the largest holds them all.
    height = max(frame.height for frame in frames)
    width = 560
    scale = width / frames[0].width
    film = []
    for frame in frames:
        whole = Image.new("RGB", (frame.width, height), "white")
        whole.paste(frame)
        small = whole.resize((width, round(height * scale)), Image.Resampling.LANCZOS)
        film.append(small)
    every = Image.new("RGB", (width, film[0].height * (len(film[::5]) + 1)))
    for n, frame in enumerate(film[::5] + film[-1:]):
        every.paste(frame, (0, n * frame.height))
    palette = every.quantize(200)
    plain = Image.Dither.NONE
    coded = [frame.quantize(palette=palette, dither=plain) for frame in film]
    coded[0].save(
        folder / "moving.gif",
        save_all=True,
        append_images=coded[1:],
        duration=[milliseconds for _, milliseconds in shots],
        loop=0,
        optimize=True,
    )


def place(box: Mapping[str, Any], share: Any) -> tuple[float, float]:
    """A point of a box on the screen, from shares of its width and height."""
    return box["x"] + share[0] * box["width"], box["y"] + share[1] * box["height"]


PICTURES: dict[str, Callable[[Path], None]] = {
    "logo": logo,
    "card": card,
    "four": four,
    "moving": moving,
}


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *PICTURES], default=[])
    names = parser.parse_args(arguments).names or list(PICTURES)
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    for name in names:
        PICTURES[name](root / FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
