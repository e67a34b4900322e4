"""Figures: colours that survive printing, panels that say what they show."""

import io
import re

import ipywidgets
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from xai_lib import viz
from xai_lib.viz.style import COLORS, DASHES, MARKERS, POSITIVE, SIGNED

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    plt.close("all")  # what tests elsewhere have left open
    yield
    plt.close("all")


def lightness(cmap: str) -> np.ndarray:
    """CIE L* of a colour map's entries, from sRGB by the standard formulas."""
    rgb = mpl.colormaps[cmap](np.linspace(0, 1, 256))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


@pytest.mark.parametrize("cmap", [SIGNED, POSITIVE])
def test_maps_read_the_same_in_grey(cmap):
    steps = np.diff(lightness(cmap))
    assert (steps > -0.05).all()
    assert lightness(cmap)[-1] - lightness(cmap)[0] > 60


def test_the_middle_of_the_signed_colours_is_grey():
    middle = mpl.colormaps[SIGNED](0.5)[:3]
    assert max(middle) - min(middle) < 0.05


def test_lines_differ_without_colour():
    assert len(set(COLORS)) == len(set(DASHES)) == len(set(MARKERS)) == 7


def test_style_sets_every_line_apart():
    with mpl.rc_context():
        viz.use_style()
        _, ax = plt.subplots()
        lines = [ax.plot([0, 1])[0] for _ in range(7)]
    assert len({line.get_marker() for line in lines}) == 7


def test_a_dark_style_of_the_readers_changes_no_figure():
    """Drawn in black, as the chapters do."""

    def picture() -> np.ndarray:
        viz.use_style()
        fig, ax = plt.subplots(figsize=(2, 1))
        ax.plot([0, 1], color="black", label="here")
        ax.set(title="there", xlabel="everywhere")
        ax.legend()
        fig.canvas.draw()
        return np.asarray(fig.canvas.buffer_rgba())

    with mpl.rc_context():
        plain = picture()
    with mpl.rc_context():
        plt.style.use("dark_background")
        plt.rcParams.update({"font.size": 20, "axes.titlecolor": "white"})
        dark = picture()
    assert np.array_equal(plain, dark)
    assert plain.min() == 0
    assert plain.max() == 255


def test_bars_show_their_intervals_in_a_dark_style():
    with mpl.rc_context():
        plt.style.use("dark_background")
        _, ax = plt.subplots()
        viz.bars(ax, {"m": torch.rand(9)}, "x", "title")
        _, bars = ax.containers[::-1]
        (intervals,) = bars.lines[2]
        assert intervals.get_color()[0].tolist() == [1, 1, 1, 1]
        assert ax.get_facecolor()[:3] == (0, 0, 0)


def test_signed_map_is_centred_at_zero():
    _, ax = plt.subplots()
    drawn = viz.heatmap(ax, torch.tensor([[[-1.0, 0.0, 3.0]]]))
    assert drawn.norm.vmin == -drawn.norm.vmax
    assert drawn.get_cmap().name == SIGNED


def test_positive_map_starts_at_zero_and_channels_add_up():
    _, ax = plt.subplots()
    drawn = viz.heatmap(ax, torch.ones(3, 2, 2))
    assert drawn.norm.vmin == 0
    assert drawn.norm.vmax == pytest.approx(3)
    assert drawn.get_cmap().name == POSITIVE


def test_an_empty_map_can_be_drawn_over_its_image():
    fig, ax = plt.subplots()
    viz.heatmap(ax, torch.zeros(1, 4, 4), image=torch.rand(3, 4, 4))
    fig.savefig(io.BytesIO())


def test_grid_names_methods_states_scales_and_has_one_bar():
    images = torch.rand(2, 1, 8, 8)
    maps = {"a": torch.ones(2, 1, 8, 8), "b": -2 * torch.ones(2, 1, 8, 8)}
    fig = viz.grid(images, maps, rows=["one", "two"], overlay=["b"], title="both")
    panels, bar = fig.axes[:-1], fig.axes[-1]
    assert [ax.get_title() for ax in panels[:3]] == ["input", "a", "b"]
    assert [panels[0].get_ylabel(), panels[3].get_ylabel()] == ["one", "two"]
    assert panels[2].get_xlabel() == "max 2"
    assert "its 99.5 %\nquantile" in bar.get_ylabel()
    # One signed map makes all panels signed, so that one bar serves them all.
    assert panels[1].get_images()[-1].get_cmap().name == SIGNED
    fig.savefig(io.BytesIO())


def test_grid_refuses_maps_of_other_images():
    with pytest.raises(ValueError, match=r"maps\['a'\] has 1 maps for 2 images"):
        viz.grid(torch.rand(2, 1, 8, 8), {"a": torch.ones(1, 1, 8, 8)})


def test_bad_images_are_refused():
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"image must be \[1 or 3, H, W\], got \[2, 4"):
        viz.show_image(ax, torch.rand(2, 4, 4))
    with pytest.raises(ValueError, match=r"image must lie in \[0, 1\]"):
        viz.show_image(ax, torch.full((1, 4, 4), 1.5))
    with pytest.raises(ValueError, match=r"attribution must be \[C, H, W\]"):
        viz.heatmap(ax, torch.ones(4, 4))


def test_a_map_covers_its_image():
    _, ax = plt.subplots()
    hot = torch.zeros(1, 7, 5)
    hot[0, 6, 4] = 1
    viz.heatmap(ax, hot, torch.rand(3, 7, 5))
    assert len({tuple(layer.get_extent()) for layer in ax.get_images()}) == 1
    assert sorted(ax.get_xlim()) == [-0.5, 4.5]
    assert sorted(ax.get_ylim()) == [-0.5, 6.5]


@pytest.mark.parametrize("size", [(224, 224), (7, 6), (6, 7), (14, 14)])
def test_a_map_of_another_size_than_its_image_is_refused(size):
    _, ax = plt.subplots()
    message = rf"attribution .* got 7 x 7 pixels for {size[0]} x {size[1]}; .*interpol"
    with pytest.raises(ValueError, match=message):
        viz.heatmap(ax, torch.rand(1, 7, 7), torch.rand(3, *size))
    with pytest.raises(ValueError, match=message):
        viz.grid(torch.rand(2, 3, *size), {"a": torch.rand(2, 1, 7, 7)}, None, ["a"])
    assert not ax.get_images()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"attribution": np.ones((1, 4, 4))}, TypeError, "attribution .* got ndarray"),
        ({"attribution": torch.rand(1, 1, 4, 4)}, ValueError, "attribution must be"),
        ({"attribution": torch.full((1, 4, 4), np.nan)}, ValueError, "be finite"),
        ({"image": np.ones((3, 4, 4))}, TypeError, "image .* got ndarray"),
        ({"image": torch.ones(4, 4)}, ValueError, r"image must be \[C, H, W\]"),
        ({"image": 255 * torch.ones(3, 4, 4)}, ValueError, r"image must lie in \[0, 1"),
        ({"image": torch.full((3, 4, 4), np.nan)}, ValueError, "image must be finite"),
        ({"signed": "no"}, TypeError, "signed must be True or False, got 'no'"),
        ({"signed": 0}, TypeError, "signed must be True or False, got 0"),
    ],
)
def test_wrong_arguments_of_a_heatmap(wrong, error, message):
    given = {"attribution": torch.rand(1, 4, 4), "image": torch.rand(3, 4, 4)} | wrong
    with pytest.raises(error, match=message):
        viz.heatmap(plt.subplots()[1], **given)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": ["one"]}, "rows must be 2 names"),
        ({"rows": "ab"}, "rows must be 2 names"),
        ({"overlay": ["c"]}, r"overlay must be .* in maps, \['a'\], got \['c'\]"),
        ({"overlay": "a"}, "overlay must be a sequence of names"),
    ],
)
def test_wrong_arguments_of_a_grid(wrong, message):
    with pytest.raises(ValueError, match=message):
        viz.grid(torch.rand(2, 1, 8, 8), {"a": torch.ones(2, 1, 8, 8)}, **wrong)


def test_wrong_series_are_refused_by_name():
    _, ax = plt.subplots()
    x = torch.tensor([0.0, 1.0])
    for values in (torch.ones(2, 3), torch.ones(2), torch.full((2, 2), np.inf)):
        with pytest.raises(ValueError, match=r"series\['m'\]|values must be finite"):
            viz.curves(ax, x, {"m": values}, "x", "y", "title")
    for values in (torch.ones(2, 3), torch.ones(()), torch.full((2,), np.nan)):
        with pytest.raises(ValueError, match=r"values\['m'\]|values must be finite"):
            viz.bars(ax, {"m": values}, "x", "title")


def test_curves_draw_the_mean_and_its_band():
    _, ax = plt.subplots()
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    viz.curves(ax, torch.tensor([0.0, 1.0]), {"m": values}, "x", "y", "title")
    assert ax.get_lines()[0].get_ydata().tolist() == [2.0, 3.0]
    low, high = ax.collections[0].get_paths()[0].vertices[:, 1].min(), 4
    assert low == pytest.approx(1.0)
    assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(high)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("x", "y", "title")


def test_bars_have_an_interval_each():
    _, ax = plt.subplots()
    viz.bars(ax, {"a": torch.tensor([0.0, 1.0]), "b": torch.ones(3)}, "AOPC", "t")
    assert [p.get_width() for p in ax.patches] == [0.5, 1.0]
    assert ax.get_xlabel() == "AOPC (mean, 95 % interval)"


def test_a_control_redraws_the_picture_and_closes_the_figure():
    seen = []

    def draw(n):
        seen.append(n)
        fig, ax = plt.subplots(figsize=(2, 2))
        ax.plot(range(n))
        return fig

    box = viz.explore(draw, n=ipywidgets.IntSlider(value=2, min=1, max=9))
    slider, picture = box.children[0].children[0], box.children[-1]
    before = picture.value
    slider.value = 7
    assert seen == [2, 7]
    assert slider.description == "n"
    assert picture.value != before
    assert bytes(picture.value).startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_a_widget_says_that_it_computes_and_then_how_long():
    said = []

    def draw(n):
        said.append(label.value if label else None)
        return plt.figure()

    label = None
    box = viz.explore(draw, n=ipywidgets.IntSlider(value=2, min=1, max=9))
    label = box.children[1]
    assert re.fullmatch(r"\d+\.\d s", label.value)
    box.children[0].children[0].value = 7
    assert said == [None, "computing …"]
    assert re.fullmatch(r"\d+\.\d s", label.value)


def test_a_widget_shows_what_went_wrong():
    def draw(n):
        if n == 7:
            raise ValueError("n must not be 7")
        return plt.figure()

    box = viz.explore(draw, n=ipywidgets.IntSlider(value=2, min=1, max=9))
    with pytest.raises(ValueError, match="must not be 7"):
        box.children[0].children[0].value = 7
    assert box.children[1].value == "ValueError: n must not be 7"


@pytest.mark.parametrize(
    ("draw", "control", "message"),
    [
        (None, ipywidgets.IntSlider(), "draw must be a function, got NoneType"),
        (lambda n: None, ipywidgets.IntSlider(), "draw must return a figure"),
        (lambda n: plt.figure(), 3, "control 'n' must be a widget .* got 3"),
        (lambda n: plt.figure(), ipywidgets.HBox(), "control 'n' must be a widget"),
    ],
)
def test_wrong_arguments_of_a_widget(draw, control, message):
    with pytest.raises(TypeError, match=message):
        viz.explore(draw, n=control)
