"""Right and wrong answers to the exercises of chapter 00."""

import torch

from xai_book.exercises import chapter00


def hide(hidden, corners, window):
    for copy, (row, column) in zip(hidden, corners, strict=True):
        copy[:, row : row + window, column : column + window] = 0
    return hidden


def hide_each(image, corners, window):
    return hide(torch.stack([image] * len(corners)), corners, window)


def hide_in_place(image, corners, window):
    copies = hide_each(image, corners, window)
    image.mul_(0)
    return copies


def places(length, window, stride):
    return (length - window) // stride + 1


RIGHT = {
    chapter00.flat_value: lambda score: torch.tensor(score),
    chapter00.occlusion_queries: lambda h, w, k, s: places(h, k, s) * places(w, k, s),
    chapter00.hide_each: hide_each,
}

WRONG = {
    chapter00.flat_value: [
        lambda score: score / 2,  # half of each mask is visible
        lambda score: 0.0,  # as if the mean were subtracted
        lambda score: 1.0,
        lambda score: max(score, 0.0),  # as if scores were probabilities
        lambda score: 20 * score,  # the sum, not the mean
        lambda score: None,
    ],
    chapter00.occlusion_queries: [
        lambda h, w, k, s: h * w,
        lambda h, w, k, s: (h // s) * (w // s),
        lambda h, w, k, s: places(h, k, s) ** 2,  # only right on squares
        lambda h, w, k, s: (round((h - k) / s) + 1) * (round((w - k) / s) + 1),
        lambda h, w, k, s: places(h, k, s) * places(w, k, s) + 1,  # and the image
    ],
    chapter00.hide_each: [
        lambda i, c, w: hide(i.expand(len(c), -1, -1, -1), c, w),  # with its bug
        # A copy, but one for all squares.
        lambda i, c, w: hide(i.clone().expand(len(c), -1, -1, -1), c, w),
        hide_in_place,
        lambda i, c, w: hide_each(i, [(b, a) for a, b in c], w),
        lambda i, c, w: hide(i[None].repeat(len(c), 1, 1, 1)[:, :1], c, w),
    ],
}
