"""Controls beside a figure, for JupyterLab, Colab and tests alike."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def explore(
    draw: Callable[..., Figure], **controls: ipywidgets.Widget
) -> ipywidgets.Widget:
    """Redraw a figure whenever a control changes.

    The picture is an `Image` widget, not captured cell output, so that it changes in
    every front end and can be tested without one.

    Args:
        draw: called with the controls' values by name; returns a figure, which is
            closed after it was drawn.
        controls: ipywidgets with a `value`; one without a description gets its name.

    Returns:
        A box; its first child holds the controls, its last one the picture.
    """
    picture = ipywidgets.Image(format="png")

    def redraw(_: Any = None) -> None:
        fig = draw(**{name: control.value for name, control in controls.items()})
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png")
        plt.close(fig)
        picture.value = buffer.getvalue()

    for name, control in controls.items():
        control.description = control.description or name.replace("_", " ")
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([ipywidgets.HBox(list(controls.values())), picture])
