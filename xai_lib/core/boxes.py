"""Boxes in an image: the edges x0, y0, x1, y1 in pixels, and the pixels they hold.

The centre of the first pixel is (0.5, 0.5): a box around the pixel columns 3 and 4 has
x0 = 3 and x1 = 5.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.core.arguments import check_count


def as_numbers(name: str, values: Any) -> Tensor:
    """A tensor, an array or a list (of tensors too) as a tensor on the CPU, detached.

    Raises:
        ValueError: it holds anything but numbers, or rows of different lengths.
    """
    try:
        if isinstance(values, (list, tuple)) and any(
            isinstance(value, Tensor) for value in values
        ):
            values = torch.stack([as_numbers(name, value) for value in values])
        if not isinstance(values, Tensor):
            # A copy: torch takes no negative strides.
            values = torch.from_numpy(np.array(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} must be a tensor, an array or a list of numbers, got {values!r}"
        ) from error
    return values.detach().cpu()


def as_boxes(values: Any, name: str = "boxes") -> Tensor:
    """Boxes as a float tensor `[k, 4]` on the CPU; for k = 0 of shape `[0]` too.

    Raises:
        ValueError: another shape; a box that is not finite, or reversed, as most boxes
            given by corner and sides are; boxes in units of the image's sides.
    """
    boxes = as_numbers(name, values)
    if boxes.numel() == 0 and (boxes.ndim == 1 or len(boxes) == 0):
        boxes = boxes.new_zeros(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        hint = f"; for one box use {name}[None]" if boxes.shape == (4,) else ""
        raise ValueError(
            f"{name} must be [k, 4], x0, y0, x1, y1 in pixels, got shape "
            f"{list(boxes.shape)}{hint}"
        )
    if boxes.dtype not in (torch.float32, torch.float64):
        boxes = boxes.float()
    wrong = (~boxes.isfinite()).any(dim=1)
    if bool(wrong.any()):
        raise ValueError(f"{name} must be finite, got {boxes[wrong][0].tolist()}")
    wrong = (boxes[:, 2:] < boxes[:, :2]).any(dim=1)
    if bool(wrong.any()):
        raise ValueError(
            f"{name} must be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1, got "
            f"{boxes[wrong][0].tolist()}; convert x, y, width, height, or the centre "
            "and the sides, with torchvision.ops.box_convert"
        )
    # Nobody means parts of the first pixel, but the pixel itself may be meant.
    in_first_pixel = bool(((boxes >= 0) & (boxes <= 1)).all())
    if in_first_pixel and not torch.equal(boxes, boxes.round()):
        raise ValueError(
            f"{name} must be in pixels, but all lie in [0, 1], such as "
            f"{boxes[0].tolist()}; multiply x by the image's width, y by its height"
        )
    return boxes


def as_box(
    values: Any, height: float = math.inf, width: float = math.inf, name: str = "box"
) -> Tensor:
    """One box with an area, as a float tensor `[4]` on the CPU.

    Args:
        values: x0, y0, x1, y1 in pixels.
        height, width: of the image that it must overlap, where that is known.
        name: of the argument, for the error.

    Raises:
        ValueError: not 4 numbers, without an area, outside of the image, or refused by
            `as_boxes`.
    """
    box = as_numbers(name, values)
    if box.shape != (4,):
        raise ValueError(
            f"{name} must be [4], x0, y0, x1, y1 in pixels, got {list(box.shape)}"
        )
    box = as_boxes(box[None], name)[0]
    x0, y0, x1, y1 = box.tolist()
    if x0 == x1 or y0 == y1:
        raise ValueError(f"{name} must have x0 < x1 and y0 < y1, got {box.tolist()}")
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise ValueError(
            f"{name} must overlap the image of {width} x {height} pixels, got "
            f"{box.tolist()}"
        )
    return box


def box_masks(boxes: Tensor, height: int, width: int) -> Tensor:
    """The pixels whose centres lie in each box: bool `[k, height, width]`.

    A box so thin that it holds no centre gets the pixels in which its middle lies.

    Args:
        boxes: `[k, 4]`, which may stick out of the image.
        height, width: of the image.

    Raises:
        ValueError: refused by `as_boxes`, or a box outside of the image.
    """
    boxes = as_boxes(boxes)
    columns = _cells(boxes, 0, check_count("width", width))
    rows = _cells(boxes, 1, check_count("height", height))
    return rows[:, :, None] & columns[:, None, :]


def _cells(boxes: Tensor, axis: int, n: int) -> Tensor:
    """Which of n columns (axis 0) or rows (axis 1) each box holds: bool `[k, n]`."""
    low, high = boxes[:, axis], boxes[:, axis + 2]
    overlap = high.clamp(max=n) - low.clamp(min=0)
    outside = (overlap < 0) | ((overlap == 0) & (low < high))
    if bool(outside.any()):
        raise ValueError(
            f"boxes must overlap the image, whose {('width', 'height')[axis]} is {n} "
            f"pixels, got {boxes[outside][0].tolist()}"
        )
    centres = torch.arange(n, device="cpu") + 0.5
    cells = (low[:, None] <= centres) & (centres < high[:, None])
    thin = ~cells.any(dim=1)
    middle = ((low + high) / 2).floor().long().clamp(0, n - 1)
    cells[thin, middle[thin]] = True
    return cells
