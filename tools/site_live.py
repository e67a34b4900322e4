"""The data of the site's live figures, and the pieces of HTML that show them.

    python tools/site_live.py             writes docs/_static/live/data/ (four minutes)
    python tools/site_live.py claims      one of them

`docs/_static/live/figures/` has a script for each figure, on top of `live.js`.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import live_aise
import live_book
import live_geex
import live_pertmap
from live_pieces import Found
from sync_notebooks import ROOT
from xai_lib import viz

DATA = Path("docs", "_static", "live", "data")
DPI = 180

FIGURES: dict[str, tuple[Callable[[], Found], Callable[[Found], plt.Figure] | None]] = {
    "threshold": (live_book.threshold, live_book.draw_threshold),
    "deletion": (live_book.deletion, live_book.draw_deletion),
    "box": (live_pertmap.box, live_pertmap.draw_box),
    "penalty": (live_pertmap.penalty, live_pertmap.draw_penalty),
    "settle": (live_geex.settle, live_geex.draw_settle),
    "cells": (live_geex.cells, live_geex.draw_cells),
    "path": (live_geex.path, live_geex.draw_path),
    "spot": (live_aise.spot, live_aise.draw_spot),
    "kernels": (live_aise.kernels, live_aise.draw_kernels),
    "area": (live_aise.area, live_aise.draw_area),
    "method": (live_book.method, live_book.draw_method),
    "claims": (live_book.ruled, None),
}
"""What makes the data of a figure, and what draws its picture; in the book's order."""
TITLES = {
    "threshold": "Maps and a threshold",
    "deletion": "Delete the best pixels",
    "box": "The box grows",
    "penalty": "The penalty slides",
    "settle": "The estimate settles",
    "cells": "The grid of the noise",
    "path": "A point on the path",
    "spot": "Drag a spot",
    "kernels": "Preserve, delete, and the width",
    "area": "The search area",
    "method": "Which method",
    "claims": "The claims",
}
CAPTIONS = {
    "threshold": "Four explanations keep different pixels of one photograph, and the "
    "class survives with some of them only.",
    "deletion": "Without its best pixels a digit loses its class, and a map that knows "
    "nothing of the network, only the middle, takes it away as well.",
    "box": "The largest box in which the class stays: long where the feature may move, "
    "short where it matters.",
    "penalty": "A larger penalty λ buys fewer broken points with shorter sides; those "
    "that stay long belong to pixels that do not matter.",
    "settle": "The estimate approaches the gradient as queries come in, with mirrored "
    "noise much sooner than with plain noise.",
    "cells": "The fewer the queries, the coarser the grid that comes nearest to "
    "SmoothGrad; what is finer than its cells, a grid cannot show.",
    "path": "A few points on the path, where the probability rises, make nearly all of "
    "the map.",
    "spot": "Ask where you like, then compare yourself with DIRECT: it needs no luck, "
    "only the order in which it divides.",
    "kernels": "Narrow kernels name a place, wide ones an area; showing a part and "
    "hiding it are two questions with two maps.",
    "area": "Kernels are placed in the search area only, so a map knows nothing of "
    "what lies outside of it.",
    "method": "What to take follows from four answers: the images, the measure, the "
    "queries you can pay, and whether you have gradients.",
    "claims": "What the papers state, and what the rows measured for this book say.",
}


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
        still = live_book.claims_table(json.loads(text))
    else:
        address = f"{to_top}_static/live/data/{name}.png"
        size = Image.open(root / DATA / f"{name}.png").size
        width, height = (round(96 * side / DPI) for side in size)
        still = (
            f'<img src="{address}" alt="{html.escape(CAPTIONS[name])}" '
            f'width="{width}" height="{height}">'
        )
        # "<" would end the script early.
        text = text.strip().replace("<", "\\u003c")
        data = f'<script type="application/json">{text}</script>\n'
    return (
        f'<figure class="live" id="live-{name}" data-live="{name}">\n'
        '<div class="live-stage" hidden></div>\n'
        f'<div class="live-still">{still}</div>\n'
        f"<figcaption><b>{html.escape(TITLES[name])}.</b> "
        f"{html.escape(CAPTIONS[name])}</figcaption>\n{data}</figure>\n"
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
    fig.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
    plt.close(fig)
    drawn = Image.open(buffer).convert("RGB")
    drawn.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
