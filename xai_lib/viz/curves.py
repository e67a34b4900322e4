"""Curves and bars over images, with the confidence interval of their mean."""

from __future__ import annotations

from collections.abc import Mapping

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
) -> None:
    """Draw the mean curve of each method with its 95 % bootstrap band over images.

    Args:
        ax: where to draw.
        x: `[T]`.
        series: name to `[N, T]`, one row per image.
        xlabel, ylabel, title: what the axes mean, with units.

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
        (line,) = ax.plot(at, mean, label=name, markevery=max(1, len(x) // 8))
        ax.fill_between(at, low, high, color=line.get_color(), alpha=0.2, lw=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend(title="mean, 95 % band")


def bars(ax: Axes, values: Mapping[str, Tensor], xlabel: str, title: str) -> None:
    """One bar per method: the mean over images `[N]` and its 95 % interval.

    Raises:
        ValueError: values that are not `[N]`, or not finite.
    """
    for name, rated in values.items():
        if rated.ndim != 1:
            raise ValueError(f"values[{name!r}] must be [N], got {list(rated.shape)}")
    means = [float(image_mean(v)) for v in values.values()]
    ends = [[float(end) for end in bootstrap_mean(v)] for v in values.values()]
    errors = [
        [max(0.0, m - low) for m, (low, _) in zip(means, ends, strict=True)],
        [max(0.0, high - m) for m, (_, high) in zip(means, ends, strict=True)],
    ]
    ink = rcParams["axes.edgecolor"]  # seen on the ground of whatever style is set
    ax.barh([*values], means, xerr=errors, color=COLORS[6], ecolor=ink, capsize=3)
    ax.yaxis.set_inverted(True)
    ax.set(xlabel=f"{xlabel} (mean, 95 % interval)", title=title)
