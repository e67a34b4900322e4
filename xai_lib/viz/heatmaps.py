"""Draw attribution maps: alone, over their image, or methods side by side."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from xai_lib.core.arguments import check_flag
from xai_lib.viz.picture import WIDEST
from xai_lib.viz.style import POSITIVE, SIGNED

QUANTILE = 0.995
"""Colours end at this quantile of |map|: a few pixels would darken all others."""


def show_image(ax: Axes, image: Tensor, title: str = "") -> AxesImage:
    """Draw an image `[C, H, W]` with C = 1 or 3 and values in [0, 1].

    Raises:
        TypeError, ValueError: no tensor, another shape, or values outside [0, 1].
    """
    _check_image(image)
    if image.shape[0] not in (1, 3):
        raise ValueError(f"image must be [1 or 3, H, W], got {list(image.shape)}")
    _bare(ax, title)
    pixels = image.detach().cpu().permute(1, 2, 0).expand(-1, -1, 3)
    return ax.imshow(pixels.numpy())


def heatmap(
    ax: Axes,
    attribution: Tensor,
    image: Tensor | None = None,
    title: str = "",
    signed: bool | None = None,
    limit: float | None = None,
) -> AxesImage:
    """Draw one map; signed maps get colours centred at zero.

    Args:
        ax: where to draw.
        attribution: `[C, H, W]`, summed over C for the eye.
        image: `[C', H, W]` in [0, 1]; if given, the map lies over it in grey, opaque
            where it is large.
        title: of the panel.
        signed: whether to centre the colours at zero; None if the map has a sign.
        limit: the |value| at which colours end, for maps to be compared; None is
            the map's own 99.5 % quantile.

    Returns:
        The drawn map, for a colour bar (in the map's own units).

    Raises:
        TypeError, ValueError: a wrong argument, by name; a map that is not finite, or
            of another size than its image.
    """
    _check_finite("attribution", attribution)
    if image is not None:
        _check_image(image)
        if attribution.shape[1:] != image.shape[1:]:
            raise ValueError(
                "attribution must be as high and wide as image, got {} x {} pixels "
                "for {} x {}; bring it to that size first, e.g. by torch.nn.functional."
                "interpolate(maps, images.shape[2:])".format(
                    *attribution.shape[1:], *image.shape[1:]
                )
            )
    flat = attribution.detach().cpu().float().sum(dim=0)
    negative = bool((flat < 0).any())
    signed = negative if signed is None else check_flag("signed", signed)
    if limit is None:
        own = flat.abs().flatten()
        limit = float(own.quantile(QUANTILE)) or float(own.max())
    colours = _colours(signed, limit)
    _bare(ax, title)
    if image is None:
        return ax.imshow(flat.numpy(), **colours)
    ax.imshow(image.detach().cpu().mean(dim=0).numpy(), cmap="gray", vmin=0, vmax=1)
    strength = (flat.abs() / limit).clamp(0, 1) if limit else flat * 0
    return ax.imshow(flat.numpy(), alpha=(0.85 * strength.sqrt()).numpy(), **colours)


def grid(
    images: Tensor,
    maps: Mapping[str, Tensor],
    rows: Sequence[str] | None = None,
    overlay: Sequence[str] = (),
    title: str = "",
    limit: float | None = None,
) -> Figure:
    """Images down, methods across; each panel states its own largest |value|.

    Args:
        images: `[N, C, H, W]` in [0, 1].
        maps: method name to `[N, C, H, W]` or `[N, 1, H, W]`.
        rows: a name for each image.
        overlay: names of the methods to lay over the image.
        title: of the figure.
        limit: the |value| at which all colours end; None is each map's own quantile.

    Raises:
        TypeError, ValueError: a wrong argument, by name.
    """
    n = len(images)
    for name, found in maps.items():
        if len(found) != n:
            raise ValueError(f"maps[{name!r}] has {len(found)} maps for {n} images")
    if rows is not None and (isinstance(rows, str) or len(rows) != n):
        raise ValueError(f"rows must be {n} names, one for each image, got {rows!r}")
    if isinstance(overlay, str) or not set(overlay) <= set(maps):
        raise ValueError(
            f"overlay must be a sequence of names in maps, {list(maps)}, got "
            f"{overlay!r}"
        )
    # Inches per panel; the colour bar takes the rest of the width.
    side = min(2.2 if n == 1 else 1.55, (WIDEST - 1.2) / (len(maps) + 1))
    wrap = int(12 * side) + 1
    above = {name: fill(name, wrap, break_long_words=False) for name in maps}
    lines = 1 + max(name.count("\n") for name in above.values())
    size = side * (len(maps) + 1) + 1.15, (side + 0.15) * n + 0.33 + 0.2 * lines
    fig, axes = plt.subplots(n, len(maps) + 1, figsize=size, squeeze=False)
    # One colour bar must serve all panels, so one signed map makes all signed.
    signed = any(bool((m.sum(dim=1) < 0).any()) for m in maps.values())
    for i in range(n):
        show_image(axes[i, 0], images[i], "input" if i == 0 else "")
        if rows is not None:
            axes[i, 0].set_ylabel(rows[i])
        for ax, (name, found) in zip(axes[i, 1:], maps.items(), strict=True):
            over = images[i] if name in overlay else None
            heatmap(ax, found[i], over, "" if i else above[name], signed, limit)
            if side < 1:
                ax.title.set_size(rcParams["font.size"])
            largest = float(found[i].sum(dim=0).abs().max())
            ax.set_xlabel(f"max {largest:.2g}")
    colour_bar(fig, axes, signed, limit)
    fig.suptitle(title)
    return fig


def colour_bar(
    fig: Figure, axes: Any, signed: bool = True, limit: float | None = None
) -> None:
    """One bar for maps that `heatmap` drew on `axes`, each to its own scale.

    Args:
        fig, axes: what it stands beside.
        signed: whether the maps are centred at zero.
        limit: that of the maps, if they have one scale; the bar is in its unit then.
    """
    bar = ScalarMappable(**_colours(signed, limit or 1))
    label = "map" if limit else f"map / its {100 * QUANTILE:g} %\nquantile of |map|"
    ends = "both" if signed else "max"
    fig.colorbar(bar, ax=axes, shrink=0.8, label=label, extend=ends, aspect=30)


def _colours(signed: bool, limit: float) -> dict[str, Any]:
    norm = Normalize(-limit if signed else 0, limit)
    return {"cmap": SIGNED if signed else POSITIVE, "norm": norm}


def _check_finite(name: str, values: Tensor) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor [C, H, W], got {type(values).__name__}; "
            "convert a NumPy array with torch.from_numpy(array.copy())"
        )
    if values.ndim != 3 or values.numel() == 0:
        raise ValueError(f"{name} must be [C, H, W], got {list(values.shape)}")
    if not bool(values.isfinite().all()):
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def _check_image(image: Tensor) -> None:
    _check_finite("image", image)
    if float(image.min()) < 0 or float(image.max()) > 1:
        raise ValueError(
            "image must lie in [0, 1], got values from "
            f"{float(image.min()):.3g} to {float(image.max()):.3g}"
        )


def _bare(ax: Axes, title: str) -> None:
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
