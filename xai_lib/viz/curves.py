"""Curves, bars and dots over images, with the confidence interval of their mean."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from torch import Tensor

from xai_lib.metrics.intervals import bootstrap_mean, image_mean
from xai_lib.viz.style import COLORS


def curves(
    ax: Axes,
    x: Tensor,
    series: Mapping[str, Tensor],
    xlabel: str,
    ylabel: str,
    title: str,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Draw the mean curve of each method with its 95 % bootstrap band over images.

    Args:
        ax: where to draw.
        x: `[T]`.
        series: name to `[N, T]`, one row per image.
        xlabel, ylabel, title: what the axes mean, with units.
        looks: the names' settings of `Axes.plot`; names without follow the style.

    Raises:
        ValueError: a series that is not `[N, T]`, or not finite.
    """
    at = x.cpu().numpy()
    for name, values in series.items():
        if values.ndim != 2 or values.shape[1] != len(x):
            raise ValueError(
                f"series[{name!r}] must be [N, {len(x)}], a value for each x, got "
                f"{list(values.shape)}"
            )
        mean = image_mean(values).numpy()
        low, high = (end.numpy() for end in bootstrap_mean(values))
        look: dict[str, Any] = {"label": name, "markevery": max(1, len(x) // 8)}
        (line,) = ax.plot(at, mean, **look | dict((looks or {}).get(name, {})))
        ax.fill_between(at, low, high, color=line.get_color(), alpha=0.2, lw=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend(title="mean, 95 % band")


def end_labels(ax: Axes) -> None:
    """Write each line's name at its right end, in its colour, and drop the legend.

    Call it when the limits of the axes are set.
    """
    lines = [line for line in ax.get_lines() if str(line.get_label())[0] != "_"]
    last = [np.asarray(line.get_xydata())[-1] for line in lines]
    names = [str(line.get_label()) for line in lines]
    name_points(ax, names, last, [line.get_color() for line in lines])
    if legend := ax.get_legend():
        legend.remove()


def name_points(
    ax: Axes,
    names: Sequence[str],
    points: Sequence[Any],
    colors: Sequence[Any] | None = None,
    left: bool = False,
) -> None:
    """Write names beside points; those that would lie on each other move apart.

    Args:
        ax: where, with its limits set.
        names, points: what stands at which (x, y).
        colors: of the names; None is black.
        left: whether they stand on the left.
    """
    fig = ax.figure.canvas.figure
    fig.draw_without_rendering()  # only now the axes have their height
    to_points = 72 / fig.dpi
    at = [float(ax.transData.transform(point)[1]) * to_points for point in points]
    order = sorted(range(len(names)), key=lambda k: at[k])
    bounds = ax.get_window_extent().intervaly * to_points
    gap = 1.15 * rcParams["font.size"]
    places = _apart([at[k] for k in order], gap, *bounds)
    for k, place in zip(order, places, strict=True):
        ax.annotate(
            names[k],
            (float(points[k][0]), float(points[k][1])),
            xytext=(-6 if left else 6, place - at[k]),
            textcoords="offset points",
            color=colors[k] if colors else "black",
            ha="right" if left else "left",
            va="center",
            annotation_clip=False,
        )


def _apart(ends: list[float], gap: float, low: float, high: float) -> list[float]:
    """Rising places at least `gap` apart, near `ends` and, if they fit, in bounds."""
    places = list(ends)
    for _ in range(200):
        for i in range(1, len(places)):
            short = gap - (places[i] - places[i - 1])
            if short > 0:
                places[i - 1] -= short / 2
                places[i] += short / 2
        places[0] = max(places[0], low)
        places[-1] = min(places[-1], high)
    return places


def bars(
    ax: Axes,
    values: Mapping[str, Tensor],
    xlabel: str,
    title: str,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """One bar per method, from 0: the mean over images `[N]` and its 95 % interval.

    Args:
        ax: where to draw.
        values: name to `[N]`, a value for each image.
        xlabel, title: what is measured, with its unit.
        looks: the names' settings of `Axes.plot`, whose colour is taken.

    Raises:
        ValueError: values that are not `[N]`, or not finite.
    """
    means, errors = _means(values)
    colors = [(looks or {}).get(name, {}).get("color", COLORS[6]) for name in values]
    ink = rcParams["axes.edgecolor"]  # seen on the ground of whatever style is set
    ax.barh([*values], means, xerr=errors, color=colors, ecolor=ink, capsize=3)
    _name_rows(ax, xlabel, title)


def dots(
    ax: Axes,
    values: Mapping[str, Tensor],
    xlabel: str,
    title: str,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """As `bars`, where the axis does not begin at 0."""
    means, errors = _means(values)
    for row, name in enumerate(values):
        ends = [[errors[0][row]], [errors[1][row]]]
        color = (looks or {}).get(name, {}).get("color", COLORS[0])
        ax.errorbar(means[row], row, xerr=ends, fmt="o", color=color, capsize=3)
    ax.set_yticks(range(len(means)), [*values])
    ax.set_ylim(-0.5, len(means) - 0.5)
    _name_rows(ax, xlabel, title)


def _means(values: Mapping[str, Tensor]) -> tuple[list[float], list[list[float]]]:
    """The mean of each and the distances to the ends of its 95 % interval."""
    for name, rated in values.items():
        if rated.ndim != 1:
            raise ValueError(f"values[{name!r}] must be [N], got {list(rated.shape)}")
    means = [float(image_mean(v)) for v in values.values()]
    ends = [[float(end) for end in bootstrap_mean(v)] for v in values.values()]
    return means, [
        [max(0.0, m - low) for m, (low, _) in zip(means, ends, strict=True)],
        [max(0.0, high - m) for m, (_, high) in zip(means, ends, strict=True)],
    ]


def _name_rows(ax: Axes, xlabel: str, title: str) -> None:
    ax.yaxis.set_inverted(True)
    ax.set(xlabel=f"{xlabel} (mean, 95 % interval)", title=title)
