"""Right and wrong answers to the exercises of chapter 00."""

import torch

from xai_book.exercises import chapter00


def occlude(image, top, left, size):
    hidden = image.clone()
    hidden[:, top : top + size, left : left + size] = 0
    return hidden


def occlude_in_place(image, top, left, size):
    image[:, top : top + size, left : left + size] = 0
    return image


def rise_map(masks, scores):
    return torch.einsum("m,mhw->hw", scores, masks) / masks.sum(0)


def places(length, window, stride):
    return (length - window) // stride + 1


RIGHT = {
    chapter00.occlude: occlude,
    chapter00.rise_map: rise_map,
    chapter00.occlusion_queries: lambda h, w, k, s: places(h, k, s) * places(w, k, s),
}

WRONG = {
    chapter00.occlude: [
        occlude_in_place,
        lambda i, t, left, s: occlude(i, left, t, s),  # rows and columns mixed up
        lambda i, t, left, s: occlude(i[:1], t, left, s),  # one channel only
        lambda i, t, left, s: None,
    ],
    chapter00.rise_map: [
        lambda m, s: torch.einsum("m,mhw->hw", s, m) / len(m),
        lambda m, s: torch.einsum("m,mhw->hw", s, m) / (0.5 * len(m)),
        lambda m, s: m.mean(0),
        lambda m, s: rise_map(m, s) + s.mean(),
    ],
    chapter00.occlusion_queries: [
        lambda h, w, k, s: h * w,
        lambda h, w, k, s: (h // s) * (w // s),
        lambda h, w, k, s: places(h, k, s) ** 2,  # only right on squares
        lambda h, w, k, s: places(h, k, s) * places(w, k, s) + 1,  # and the image
    ],
}
