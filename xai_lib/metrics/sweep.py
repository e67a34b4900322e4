"""Change images feature by feature, in the order of a map, and ask after each step."""

from collections.abc import Callable

import torch
from torch import Tensor

from xai_lib.core.arguments import check_inputs
from xai_lib.core.blackbox import BlackBox


def ranks(attributions: Tensor, descending: bool) -> Tensor:
    """The place of each feature in the order of its image's scores, from 0, the largest
    first if `descending`: `[N, ...]` to int64 of the same shape.

    Ties keep the order of the features (row by row), so that a map full of equal
    values gives the same curve on every machine.
    """
    order = attributions.flatten(1).argsort(dim=1, descending=descending, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(attributions)


def sweep(
    blackbox: BlackBox,
    start: Tensor,
    end: Tensor,
    rank: Tensor,
    counts: Tensor,
    keep: Callable[[slice, Tensor], Tensor] = lambda _, scores: scores,
) -> Tensor:
    """Ask the model after the first `counts[t]` features went from start to end: what
    is kept of its answers, `[N, T, ...]`.

    Args:
        blackbox: the model; it is asked N x T times.
        start, end: images `[N, C, H, W]`.
        rank: `[N, C, H, W]` or, to change whole pixels, `[N, 1, H, W]`.
        counts: int64 `[T]`, or `[N, T]` for each image its own.
        keep: what of the scores, as in `BlackBox.versions`.
    """
    counts = counts.to(rank.device).expand(len(rank), counts.shape[-1])

    def changed(i: slice, j: slice) -> Tensor:
        gone = rank[i, None] < counts[i, j, None, None, None]
        return torch.where(gone, end[i, None], start[i, None])

    return blackbox.versions(len(rank), counts.shape[1], changed, keep)


def check_maps(attributions: Tensor, inputs: Tensor) -> None:
    """Refuse maps that do not belong to the images `[N, C, H, W]`, by their names."""
    check_inputs(inputs)
    check_inputs(attributions, "attributions")
    whole, one = list(inputs.shape), list(inputs[:, :1].shape)
    if list(attributions.shape) not in (whole, one):
        raise ValueError(
            f"attributions must have the shape {whole} or {one}, got "
            f"{list(attributions.shape)}"
        )
