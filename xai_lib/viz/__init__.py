"""One look for the whole book: maps, curves and widgets."""

from xai_lib.core.extras import extra

with extra("book"):
    from xai_lib.viz.curves import bars, curves
    from xai_lib.viz.heatmaps import grid, heatmap, show_image
    from xai_lib.viz.style import use_style
    from xai_lib.viz.widgets import explore

__all__ = ["bars", "curves", "explore", "grid", "heatmap", "show_image", "use_style"]
