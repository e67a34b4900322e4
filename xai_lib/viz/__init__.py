"""One look for the whole book: maps, curves and widgets."""

from xai_lib.core.extras import extra

with extra("book"):
    from xai_lib.viz.curves import bars, curves, dots, end_labels
    from xai_lib.viz.heatmaps import grid, heatmap, show_image
    from xai_lib.viz.picture import show
    from xai_lib.viz.style import use_style
    from xai_lib.viz.widgets import explore

__all__ = [
    "bars",
    "curves",
    "dots",
    "end_labels",
    "explore",
    "grid",
    "heatmap",
    "show",
    "show_image",
    "use_style",
]
