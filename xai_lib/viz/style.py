"""Colours and sizes that every figure of the book shares.

All of them survive grey printing and the common forms of colour blindness: the maps'
colours change steadily in lightness, and lines differ in dash and marker as well as
in colour (the palette of Okabe and Ito, 2008).
"""

import matplotlib as mpl
import matplotlib.style
from cycler import cycler

SIGNED = "cividis"
"""Diverging about zero: blue and dark against, grey nothing, yellow and bright for."""
POSITIVE = "magma"
"""For maps without a sign: dark is little, bright is much."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def use_style() -> None:
    """Set Matplotlib's defaults to the book's; call it once at the top of a chapter.

    A style that the reader or the editor has set is left first: the chapters draw
    black lines, which a dark one would hide.
    """
    mpl.style.use(["default", "xai_lib.viz.book"])  # book.mplstyle beside this file
    lines = cycler(color=COLORS) + cycler(linestyle=DASHES) + cycler(marker=MARKERS)
    mpl.rcParams["axes.prop_cycle"] = lines
