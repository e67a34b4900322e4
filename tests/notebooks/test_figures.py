"""Every figure of the book can be read as it is shown, and says what to see.

`viz.show` measures a figure when it is drawn; here the stored pictures are read.
"""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from functools import partial
from itertools import combinations, product
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from nbformat import NotebookNode
from nbformat.v4 import new_output
from PIL import Image

from hygiene import CAPTION
from sync_notebooks import ROOT, notebooks, tags
from xai_book.methods import ASKING, LOOKS
from xai_lib import viz
from xai_lib.viz import picture
from xai_lib.viz.picture import DPI, PIXELS, SMALLEST, WIDEST
from xai_lib.viz.style import COLORS

PATHS = notebooks(ROOT / "notebooks")
LARGEST = 2_000_000  # bytes of a notebook
# What dichromats see of linear RGB: Machado, Oliveira and Fernandes, "A
# physiologically-based model for simulation of color vision deficiency", 2009,
# severity 1.0.
SEEN_BY = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def outputs_with(kind: str, notebook: NotebookNode) -> list[tuple[str, NotebookNode]]:
    """The outputs of this kind, each with the id of its cell."""
    return [
        (cell.id, output)
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if kind in output.get("data", {})
    ]


pictures = partial(outputs_with, "image/png")


def problems(output: NotebookNode) -> list[str]:
    """What is wrong with a stored picture."""
    found = []
    png = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    dpi = float(png.info.get("dpi", (0, 0))[0])
    if abs(dpi - DPI) > 0.5:
        found.append(f"{dpi:g} dots per inch instead of {DPI}")
    if png.width > WIDEST * DPI:
        found.append(f"{png.width / DPI:.1f} in wide, at most {WIDEST}")
    if png.mode != "P":
        found.append(f"of mode {png.mode}, which makes large files, instead of P")
    smallest = float(png.info.get("smallest type", "0 pt").removesuffix(" pt"))
    if smallest < SMALLEST:
        found.append(f"smallest type {smallest:g} pt, at least {SMALLEST:g}")
    shown = output.metadata.get("image/png", {})
    if shown.get("width") != png.width * PIXELS // DPI:
        found.append(f"shown {shown.get('width')} pixels wide")
    caption = output.data.get("text/plain", "")
    if not re.fullmatch(r"[A-Z0-9“|][^\n]{19,}[^.]\.", caption):
        found.append(f"caption {caption!r} is no sentence")
    if shown.get("alt") != caption:
        found.append(f"alternative text {shown.get('alt')!r} is not the caption")
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_figures_can_be_read_as_shown(path: Path) -> None:
    stored = pictures(nbformat.read(path, as_version=4))
    assert stored, "a chapter without a figure"
    found = [f"{where}: {p}" for where, output in stored for p in problems(output)]
    assert not found, f"run `make outputs {path.stem}`:\n" + "\n".join(found)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_caption_stands_below_each_picture(path: Path) -> None:
    """And nowhere else: the site leaves this kind of output away."""
    notebook = nbformat.read(path, as_version=4)
    said = [(where, o.data["text/plain"]) for where, o in pictures(notebook)]
    below = [
        (where, re.sub(r"\\(.)", r"\1", output.data[CAPTION][1:-1]))
        for where, output in outputs_with(CAPTION, notebook)
    ]
    assert below == said, f"run `make outputs {path.stem}`"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_figures_are_shown_by_the_book(path: Path) -> None:
    """`plt.show` measures nothing, and a resolution is set in one place."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        assert not re.search(r"plt\.show|\.savefig|\.dpi\b", cell.source), cell.id
        if "exercise" not in tags(cell):
            small = re.findall(r"\b(?:font)?size=[0-7](?:\.\d+)?\b", cell.source)
            assert not small, cell.id


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_notebooks_are_small(path: Path) -> None:
    assert path.stat().st_size < LARGEST


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> NotebookNode:
    """The output of a cell that ends with `viz.show`."""
    found = []
    monkeypatch.setattr(picture, "display", lambda one, raw=False: found.append(one))
    with mpl.rc_context():
        mpl.use("Agg")
        viz.use_style()
        plt.subplots(figsize=(3, 2))
        viz.show("An empty pair of axes waits for its data.")
    data, metadata = found[0]._repr_mimebundle_()
    return new_output("display_data", data, metadata=metadata)


def test_a_figure_that_was_just_shown_has_no_problem(shown: NotebookNode) -> None:
    assert problems(shown) == []


def test_every_problem_of_a_figure_is_found(shown: NotebookNode) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1400, 20)).save(buffer, format="png", dpi=(72, 72))
    shown.data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    shown.data["text/plain"] = "<Figure size 720x252 with 2 Axes>"
    words = "dots per inch", "in wide", "mode RGB", "smallest type 0", "pixels wide"
    words += "is no sentence", "is not the caption"
    found = problems(shown)
    assert len(found) == len(words)
    for word, problem in zip(words, found, strict=True):
        assert word in problem


def test_no_two_figures_say_the_same() -> None:
    said = Counter(
        output.metadata["image/png"].get("alt")
        for path in PATHS
        for _, output in pictures(nbformat.read(path, as_version=4))
        if "image/png" in output.metadata
    )
    assert [caption for caption, times in said.items() if times > 1] == []


def lab(color: str, seen_by: str) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as somebody sees it."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (np.array(SEEN_BY[seen_by]) @ linear).clip(0, 1)
    xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    white = xyz.sum(axis=1)
    f = np.cbrt(xyz @ linear / white)
    low = xyz @ linear / white <= 0.008856
    f = np.where(low, (903.3 * (xyz @ linear / white) + 16) / 116, f)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# The first of each family.
FAMILIES = ("GEEX", "AISE-DIRECT", "RISE", "Gradient", "IG", "PertMap", "random")


@pytest.mark.parametrize("seen_by", SEEN_BY)
@pytest.mark.parametrize(
    "colors",
    [COLORS, [LOOKS[name].color for name in FAMILIES]],
    ids=["style", "methods"],
)
def test_colours_differ_for_the_colour_blind(colors, seen_by) -> None:
    seen = [lab(color, seen_by) for color in colors]
    for one, two in combinations(range(len(colors)), 2):
        apart = np.linalg.norm(seen[one] - seen[two])
        assert apart > 10, f"{colors[one]} and {colors[two]}"


def test_the_simulation_keeps_grey() -> None:
    for level, seen_by in product(("0.2", "0.8"), SEEN_BY):
        assert np.abs(lab(level, seen_by)[1:]).max() < 0.5


def test_methods_differ_in_grey() -> None:
    assert len({(look.marker, look.ls) for look in LOOKS.values()}) == len(LOOKS)
    # Chapter 10 shows all that ask as points.
    assert len({LOOKS[name].marker for name in ASKING}) == len(ASKING)
