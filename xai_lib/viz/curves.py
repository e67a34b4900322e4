"""Curves, bars and dots over images, with the confidence interval of their mean."""

from __future__ import annotations

from collections.abc import Mapping
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

    Call it when the limits of the axes are set: names that would lie on each other move
    apart.
    """
    fig = ax.figure.canvas.figure
    fig.draw_without_rendering()  # only now the axes have their height
    points = 72 / fig.dpi
    lines = [line for line in ax.get_lines() if str(line.get_label())[0] != "_"]
    last = [np.asarray(line.get_xydata())[-1] for line in lines]
    ends = [float(ax.transData.transform(end)[1]) * points for end in last]
    order = sorted(range(len(lines)), key=lambda k: ends[k])
    bounds = ax.get_window_extent().intervaly * points
    gap = 1.15 * rcParams["font.size"]
    places = _apart([ends[k] for k in order], gap, *bounds)
    for k, place in zip(order, places, strict=True):
        ax.annotate(
            str(lines[k].get_label()),
            (float(last[k][0]), float(last[k][1])),
            xytext=(6, place - ends[k]),
            textcoords="offset points",
            color=lines[k].get_color(),
            va="center",
            annotation_clip=False,
        )
    if legend := ax.get_legend():
        legend.remove()


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
