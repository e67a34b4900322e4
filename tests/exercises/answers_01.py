"""Right and wrong answers to the exercises of chapter 01."""

import torch

from xai_book.exercises import chapter01


def integrate(gradient, x, baseline, n_steps):
    steps = (torch.arange(n_steps) + 0.5) / n_steps
    path = [gradient(baseline + t * (x - baseline)) for t in steps.double()]
    return torch.stack(path).mean(0) * (x - baseline)


def delete_top(image, attribution, k):
    order = attribution.flatten().argsort(descending=True, stable=True)
    flat = image.flatten().clone()
    flat[order[:k]] = 0
    return flat.view_as(image)


RIGHT = {
    chapter01.integrated_gradients: integrate,
    chapter01.aopc: lambda scores: (1 - scores[1:] / scores[0]).mean(),
    chapter01.delete_top: delete_top,
    chapter01.blind_spot: lambda x: 1 - torch.relu(1 - x.sum()),
}

WRONG = {
    chapter01.integrated_gradients: [
        lambda g, x, b, n: g(x) * (x - b),
        lambda g, x, b, n: integrate(g, x, b, n) / (x - b),
        lambda g, x, b, n: integrate(g, x, 0 * b, n),  # from zero, not the baseline
        lambda g, x, b, n: integrate(g, x, b, n).flip(0),
        # n + 1 points of which the sum is divided by n
        lambda g, x, b, n: (
            sum(g(b + k / n * (x - b)) for k in range(n + 1)) / n * (x - b)
        ),
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
    ],
    chapter01.blind_spot: [
        lambda x: x.sum(),  # the gradient sees it
        lambda x: x.sum() * 0,  # nothing to see
        lambda x: 1 - torch.relu(1 - x[0]),  # one feature does not matter
        lambda x: 1.0,  # not a tensor
    ],
}
