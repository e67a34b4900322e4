"""One look for the whole book: maps, curves and widgets."""

from xai_lib.core.extras import extra

with extra("book"):
    from xai_lib.viz.curves import bars, curves, dots, end_labels, name_points
    from xai_lib.viz.heatmaps import colour_bar, grid, heatmap, show_image
    from xai_lib.viz.picture import show
    from xai_lib.viz.style import use_style
    from xai_lib.viz.widgets import explore

__all__ = [
    "bars",
    "colour_bar",
    "curves",
    "dots",
    "end_labels",
    "explore",
    "grid",
    "heatmap",
    "name_points",
    "show",
    "show_image",
    "use_style",
]
