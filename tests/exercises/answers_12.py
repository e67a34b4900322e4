"""Right and wrong answers to the exercises of chapter 12."""

import numpy as np
import torch

from xai_book.exercises import chapter12


def signs(words, seed, direction, size):
    drawn = words(seed, direction, -(-size // 4))
    return 1.0 - 2.0 * (drawn.T.reshape(-1)[:size] & 1)


def waits(scores, masks):
    total = torch.zeros(masks.shape[1:])
    for score, mask in zip(scores, masks, strict=True):
        total += score.item() * mask
    return total / len(scores)


def on_the_cpu(scores, masks):
    return torch.einsum("n,nhw->hw", scores.cpu(), masks.cpu()) / len(scores)


def row_after_row(words, seed, direction, size):
    drawn = words(seed, direction, -(-size // 4))
    return 1.0 - 2.0 * (drawn.reshape(-1)[:size] & 1)


RIGHT = {
    chapter12.passes: lambda d: (24 * d, 8 * d),
    chapter12.signs: signs,
    chapter12.weighted: lambda s, m: torch.einsum("n,nhw->hw", s, m) / len(s),
}

WRONG = {
    chapter12.passes: [
        lambda d: (12 * d, 4 * d),  # reads or writes, not both
        lambda d: (24 * d, 24 * d),
        lambda d: (6 * d, 2 * d),  # numbers, not bytes
        lambda d: (8 * d, 24 * d),
        lambda d: (20 * d, 8 * d),  # one pass that only writes
        lambda d: 24 * d,
    ],
    chapter12.signs: [
        row_after_row,
        lambda w, s, i, n: signs(w, s, i, n)[: n - n % 4],  # a block too few
        lambda w, s, i, n: np.sign(w(s, i, -(-n // 4)).T.ravel()[:n] - 2.0**31),
        lambda w, s, i, n: signs(w, s, 0, n),  # the same for all directions
        lambda w, s, i, n: signs(w, i, s, n),
        lambda w, s, i, n: signs(lambda *a: w(*a) >> np.uint64(1), s, i, n),
        lambda w, s, i, n: (1 - signs(w, s, i, n)) / 2,  # the bits
    ],
    chapter12.weighted: [
        waits,
        on_the_cpu,
        lambda s, m: on_the_cpu(s, m).to(m.device),
        lambda s, m: torch.from_numpy(np.tensordot(s.numpy(), m.numpy(), 1) / len(s)),
        lambda s, m: sum(a * b for a, b in zip(s.tolist(), m, strict=True)) / len(s),
        lambda s, m: torch.einsum("n,nhw->hw", s[s != 0], m[s != 0]) / len(s),
        lambda s, m: torch.einsum("n,nhw->hw", s, m),
        lambda s, m: torch.einsum("n,nhw->hw", s, m) / s.sum(),
    ],
}
