"""Show a figure as the book does: sharp, small, readable as shown, and said in words.

A figure that cannot be read raises an error, and what was measured of one that can
stands in its PNG, so that a test can read it without drawing again.
"""

import base64
import io
import re
from itertools import combinations
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image
from PIL.PngImagePlugin import PngInfo

DPI = 180
"""Dots per inch of every picture."""
WIDEST = 7.4
"""Inches as shown, the width of the site's column."""
SMALLEST = 8.0
"""Points as shown; exponents and indices of formulas may be smaller."""
PIXELS = 90
"""Of the screen, for an inch as shown."""


class Picture:
    """A drawn figure, as notebooks store it."""

    def __init__(self, png: bytes, caption: str) -> None:
        self.png, self.caption = png, caption

    def __repr__(self) -> str:
        return self.caption

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        wide, high = Image.open(io.BytesIO(self.png)).size
        size = {"width": wide * PIXELS // DPI, "height": high * PIXELS // DPI}
        coded = base64.b64encode(self.png).decode()
        data = {"image/png": coded, "text/plain": self.caption}
        return data, {"image/png": {"alt": self.caption, **size}}


def show(caption: str) -> None:
    """Show the current figure above its caption and close it, in place of `plt.show()`.

    Args:
        caption: one sentence that says what to see; the alternative text, too.

    Raises:
        ValueError: no figure is open, it is over 7.4 in wide, type in it is under
            8 points, two lines of a legend differ in colour only, bars do not begin at
            0, or the caption is no sentence.
    """
    if not re.fullmatch(r"[A-Z0-9“|].{19,}[^.]\.", caption) or re.search(
        r"[.?!] [A-Z]", caption
    ):
        raise ValueError(
            f"caption must be one sentence that says what to see, got {caption!r}"
        )
    if not plt.get_fignums():
        raise ValueError("no figure is open: draw one before viz.show")
    fig = plt.gcf()
    try:
        display(Picture(_png(fig), caption))
        said = re.sub(r"([\\`*_\[<|$])", r"\\\1", caption)
        # Without "text/plain": where there are no pictures, theirs says it already.
        display({"text/markdown": f"*{said}*"}, raw=True)
    finally:
        plt.close(fig)


def _png(fig: Figure) -> bytes:
    """A palette PNG of `DPI`, with the points of its smallest type in its text."""
    for ax in fig.axes:
        _check_lines(ax)
        _check_bars(ax)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI)
    smallest = _check_type(fig)
    picture = Image.open(buffer).convert("RGB")
    if picture.width > WIDEST * DPI:
        raise ValueError(
            f"the figure is {picture.width / DPI:.2f} in wide, at most {WIDEST} can be "
            "shown; make figsize or what stands beside the axes narrower"
        )
    said = PngInfo()
    said.add_text("smallest type", f"{smallest:g} pt")
    buffer = io.BytesIO()
    # Rare colours count as much as frequent ones: a cut at the median of all pixels
    # gives its palette to a photograph's greys, and a map over it turns pink.
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1).save(
        buffer, format="png", optimize=True, dpi=(DPI, DPI), pnginfo=said
    )
    return buffer.getvalue()


def _check_type(fig: Figure) -> float:
    """The points of the smallest type."""
    sizes = {
        text.get_text().strip(): float(text.get_fontsize())
        for text in fig.findobj(Text)
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip()
    }
    said, smallest = min(sizes.items(), key=lambda one: one[1], default=("", SMALLEST))
    if smallest < SMALLEST:
        raise ValueError(
            f"{said!r} is set in {smallest:g} points, below {SMALLEST:g}; shorten what "
            "stands beside it instead"
        )
    return smallest


def _check_lines(ax: Axes) -> None:
    """Lines with a name can be told apart in grey, too."""
    named = [line for line in ax.get_lines() if str(line.get_label())[0] != "_"]
    for one, two in combinations(named, 2):
        if _dash(one) == _dash(two):
            raise ValueError(
                f"the lines {one.get_label()!r} and {two.get_label()!r} differ in "
                "colour only; give one another dash or marker"
            )


def _dash(line: Line2D) -> tuple[Any, ...]:
    # `get_linestyle` calls every tuple of dashes "--".
    pattern = getattr(line, "_unscaled_dash_pattern", line.get_linestyle())
    return line.get_linestyle(), pattern, line.get_marker(), line.get_linewidth()


def _check_bars(ax: Axes) -> None:
    """Bars are as long as their values, which needs the 0."""
    for drawn in ax.containers:
        if isinstance(drawn, BarContainer):
            across = drawn.orientation == "horizontal"
            low, high = sorted(ax.get_xlim() if across else ax.get_ylim())
            if not low <= 0 <= high:
                raise ValueError(
                    f"bars of {ax.get_title()!r} are cut at {low:g}; begin at 0, or "
                    "use viz.dots"
                )
