"""Right and wrong answers to the exercises of chapter 01."""

import torch

from xai_book.exercises import chapter01


def only_a_row(image):
    baseline = torch.zeros_like(image)
    baseline[:, 13] = 1
    return baseline


def delete_top(image, attribution, k):
    order = attribution.flatten().argsort(descending=True, stable=True)
    flat = image.flatten().clone()
    flat[order[:k]] = 0
    return flat.view_as(image)


def delete_in_place(image, attribution, k):
    image.copy_(delete_top(image, attribution, k))
    return image


RIGHT = {
    chapter01.telling_baseline: lambda image: torch.full_like(image, 0.5),
    chapter01.aopc: lambda scores: (1 - scores[1:] / scores[0]).mean(),
    chapter01.delete_top: delete_top,
    chapter01.blind_spot: lambda x: 1 - torch.relu(1 - x.sum()),
}

WRONG = {
    chapter01.telling_baseline: [
        torch.zeros_like,  # the baseline that made the map
        lambda image: image,  # the whole map is zero
        lambda image: torch.full_like(image, -1.0),  # no image
        lambda image: torch.full_like(image, 0.5)[0],
        only_a_row,
        lambda image: 0.5 * (image > 0),  # grey where there is ink
    ],
    chapter01.aopc: [
        lambda s: (s[0] - s[1:]).mean(),
        lambda s: (1 - s / s[0]).mean(),
        lambda s: 1 - s.mean(),
        lambda s: 1 - s[-1] / s[0],  # the last step only
    ],
    chapter01.delete_top: [
        lambda i, a, k: delete_top(i, -a, k),
        lambda i, a, k: delete_top(i, a.abs(), k),
        lambda i, a, k: delete_top(i, a, k + 1),
        lambda i, a, k: delete_top(i.flip(0), a.flip(0), k).flip(0),  # ties reversed
        lambda i, a, k: delete_top(i.T, a.T, k).T,  # ties by column
        delete_in_place,
    ],
    chapter01.blind_spot: [
        lambda x: x.sum(),  # the gradient sees it
        lambda x: x.sum() * 0,  # nothing to see
        lambda x: 1 - torch.relu(1 - x[0]),  # one feature does not matter
        lambda x: 1.0,
        lambda x: x.detach().sum(),  # its gradient is hidden, and not zero
        lambda x: -(x - 1).abs().sum(),  # a tip has no gradient
        lambda x: torch.relu(2 - x.sum()),  # nor has a kink
        lambda x: (x.sum() >= 2).double(),  # nor a jump
    ],
}
