"""Controls beside a figure, for JupyterLab, Colab and tests alike."""

import io
import time
from collections.abc import Callable
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def explore(
    draw: Callable[..., Figure], **controls: ipywidgets.Widget
) -> ipywidgets.Widget:
    """Redraw a figure whenever a control changes.

    The picture is an `Image` widget, which every front end shows. A line above it says
    that the model is being asked, and then how long that took, or what went wrong.

    Args:
        draw: called with the controls' values by name; returns a figure, which is
            closed after it was drawn.
        controls: ipywidgets with a `value`; one without a description gets its name.

    Returns:
        A box; its first child holds the controls, its last one the picture.

    Raises:
        TypeError: draw is no function that returns a figure, or a control has no value.
    """
    if not callable(draw):
        raise TypeError(f"draw must be a function, got {type(draw).__name__}")
    for name, control in controls.items():
        if not isinstance(control, ipywidgets.Widget) or not hasattr(control, "value"):
            raise TypeError(
                f"control {name!r} must be a widget with a value, such as "
                f"ipywidgets.IntSlider(3, 1, 9), got {control!r}"
            )
    # At its own size: a box would stretch it over the whole page.
    own_size = ipywidgets.Layout(align_self="flex-start", max_width="100%")
    picture = ipywidgets.Image(format="png", layout=own_size)
    busy = ipywidgets.Label()
    busy.add_class("xai-busy")

    def redraw(_: Any = None) -> None:
        # Sent at once, while the picture waits for the model.
        busy.value, began = "computing …", time.perf_counter()
        try:
            fig = draw(**{name: control.value for name, control in controls.items()})
            if not isinstance(fig, Figure):
                raise TypeError(
                    f"draw must return a figure, got {type(fig).__name__}; end it with "
                    "return fig"
                )
        except Exception as error:
            busy.value = f"{type(error).__name__}: {error}"
            raise
        buffer = io.BytesIO()
        fig.savefig(buffer, format="png", dpi="figure")
        plt.close(fig)
        picture.value = buffer.getvalue()
        busy.value = f"{time.perf_counter() - began:.1f} s"

    for name, control in controls.items():
        control.description = control.description or name.replace("_", " ")
        control.observe(redraw, names="value")
    redraw()
    wrap = ipywidgets.Layout(flex_flow="row wrap")
    row = ipywidgets.HBox([*controls.values()], layout=wrap)
    return ipywidgets.VBox([row, busy, picture])
