"""`viz.show`: what cannot be read is refused, and what can says what it measured."""

import base64
import io
import re
from html import unescape
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from xai_lib import viz
from xai_lib.viz import picture

mpl.use("Agg")
SAID = "The line rises from left to right, as a line does."


@pytest.fixture(autouse=True)
def _style():
    plt.close("all")  # what tests elsewhere have left open
    with mpl.rc_context():
        viz.use_style()
        yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(picture, "display", lambda one, raw=False: outputs.append(one))
    return outputs


def test_a_picture_says_its_size_type_and_caption(shown):
    _, ax = plt.subplots(figsize=(4, 2))
    ax.plot([0, 1])
    ax.text(0, 0, "large", fontsize=20)
    viz.show(SAID)
    assert plt.get_fignums() == []
    data, metadata = shown[0]._repr_mimebundle_()
    png = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert png.mode == "P"
    assert png.info["dpi"] == pytest.approx((180, 180), abs=0.1)
    assert png.info["smallest type"] == "8 pt"
    assert png.width == pytest.approx(4 * 180, rel=0.05)
    of_png = metadata["image/png"]
    assert of_png["width"] == pytest.approx(4 * 90, rel=0.05)
    assert of_png["alt"] == data["text/plain"] == repr(shown[0]) == SAID
    assert shown[1:] == [{"text/markdown": f"*{SAID}*"}]


def test_a_caption_below_a_picture_reads_as_it_was_written(shown):
    """As CommonMark has it, which Jupyter and Colab read."""
    said = "|w_i| < λ*d, `x` and [1] cost 2*3 and $5, or 2_000 \\ _more_."
    plt.subplots(figsize=(3, 2))
    viz.show(said)
    reader = pytest.importorskip("markdown_it").MarkdownIt()
    html = reader.render(shown[1]["text/markdown"])
    assert unescape(html) == f"<p><em>{said}</em></p>\n"


def test_the_palette_keeps_the_colours(shown):
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.imshow(np.linspace(0, 1, 900).reshape(30, 30), cmap="cividis")
    ax.plot([1, 28], [1, 28], color="#D55E00", marker="", lw=1)
    buffer = io.BytesIO()
    fig.savefig(buffer, dpi=180)
    viz.show(SAID)
    before = np.asarray(Image.open(buffer).convert("RGB")).astype(float)
    png = Image.open(io.BytesIO(shown[0].png)).convert("RGB")
    assert np.abs(np.asarray(png) - before).max(axis=2).mean() < 4


def test_the_palette_keeps_rare_colours(shown):
    """A small coloured map beside a grey photograph, which has most of the pixels."""
    grey = np.random.default_rng(0).random((200, 200, 1))
    both = np.tile(grey, 3)
    both[:, 190:] = plt.get_cmap("cividis")(np.linspace(0, 1, 200))[:, None, :3]
    _, ax = plt.subplots(figsize=(4, 4))
    ax.imshow(both)
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, dpi=180)
    viz.show(SAID)
    before = np.asarray(Image.open(buffer).convert("RGB")).astype(float)
    after = np.asarray(Image.open(io.BytesIO(shown[0].png)).convert("RGB"))
    coloured = np.ptp(before, axis=2) > 20
    assert coloured.mean() < 0.05
    assert np.abs(after - before).max(axis=2)[coloured].max() < 10


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda ax: ax.set_title("tiny", fontsize=7), "'tiny' is set in 7 points"),
        (lambda ax: ax.figure.set_size_inches(9, 2), r"in wide, at most 7.4"),
        (
            lambda ax: [
                ax.plot([0, k], color=f"C{k}", marker="o", ls="-", label=f"no. {k}")
                for k in range(2)
            ],
            "'no. 0' and 'no. 1' differ in colour only",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(shown, draw, message):
    _, ax = plt.subplots()
    draw(ax)
    with pytest.raises(ValueError, match=message):
        viz.show(SAID)
    assert shown == []
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    "caption", ["Figure", "no capital at its beginning.", "No full stop at the end", ""]
)
def test_a_caption_is_one_sentence(caption):
    plt.subplots()
    with pytest.raises(ValueError, match="caption must be one sentence"):
        viz.show(caption)
    with pytest.raises(ValueError, match="caption must be one sentence"):
        viz.show("These are two sentences. They say too much at once.")


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="no figure is open"):
        viz.show(SAID)


def test_names_at_the_ends_of_lines_lie_apart():
    fig, ax = plt.subplots(figsize=(4, 2))
    for k in range(6):
        ax.plot([0, 1], [0, 1 - 0.001 * k], label=f"method {k}")
    ax.legend()
    viz.end_labels(ax)
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == [
        f"method {k}" for k in range(5, -1, -1)
    ]
    bottoms = sorted((box.y0, box.y1) for box in boxes)
    for (_, top), (bottom, _) in pairwise(bottoms):
        assert bottom > top - 3  # of pixels: the boxes have air in them
    assert ax.get_legend() is None


def test_curves_take_the_looks_of_a_table():
    _, ax = plt.subplots()
    series = {"m": torch.rand(3, 2), "n": torch.rand(3, 2)}
    looks = {"m": {"color": "#123456", "ls": ":"}}
    viz.curves(ax, torch.tensor([0.0, 1.0]), series, "x", "y", "title", looks)
    of_m, of_n = ax.get_lines()
    assert (of_m.get_color(), of_m.get_linestyle()) == ("#123456", ":")
    assert re.match("#", of_n.get_color())


@pytest.mark.parametrize("draw", ["barh", "bar"])
def test_bars_that_do_not_begin_at_zero_are_refused(shown, draw):
    _, ax = plt.subplots()
    getattr(ax, draw)([0, 1], [0.8, 0.9])
    (ax.set_xlim if draw == "barh" else ax.set_ylim)(0.7, 1)
    with pytest.raises(ValueError, match=r"cut at 0\.7; begin at 0, or use viz.dots"):
        viz.show(SAID)
    _, ax = plt.subplots()
    viz.dots(ax, {"m": torch.rand(9)}, "x", "title")
    ax.set_xlim(0.2, 1)
    viz.show(SAID)
    assert len(shown) == 2


def test_dots_show_the_mean_and_its_interval():
    _, ax = plt.subplots()
    viz.dots(ax, {"a": torch.tensor([0.0, 1.0]), "b": torch.ones(3)}, "AOPC", "t")
    assert [float(line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata())][
        ::3
    ] == [0.5, 1.0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_xlabel() == "AOPC (mean, 95 % interval)"


def test_a_limit_makes_maps_comparable():
    images, strong = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    maps = {"strong": strong, "weak": 0.001 * strong}
    fig = viz.grid(images, maps, overlay=["weak"], limit=1.0)
    weak = fig.axes[2].get_images()[-1]
    assert weak.norm.vmax == 1
    assert float(np.max(weak.get_alpha())) < 0.05
    assert fig.axes[-1].get_ylabel() == "map"
