"""Right and wrong answers to the exercises of chapter 10."""

from __future__ import annotations

import numpy as np

from xai_book.exercises import chapter10


def paired(a, b, draws):
    return np.quantile((a[draws] - b[draws]).mean(axis=1), [0.025, 0.975])


def unpaired(a, b, draws):
    other = np.roll(draws, 1, axis=0)
    return np.quantile(a[draws].mean(axis=1) - b[other].mean(axis=1), [0.025, 0.975])


def of_images(a, b, draws):
    return np.quantile(a - b, [0.025, 0.975])


def kendall(a, b):
    i, j = np.triu_indices(len(a), 1)
    return (np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])).mean()


def spearman(a, b):
    return np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1]


def front(costs, quality):
    return [
        not any(
            c <= cost and q >= score and (c, q) != (cost, score)
            for c, q in zip(costs, quality, strict=True)
        )
        for cost, score in zip(costs, quality, strict=True)
    ]


def running_best(costs, quality):
    """Right but for equal costs, where the first one in the list goes first."""
    best, kept = -np.inf, np.zeros(len(costs), dtype=bool)
    for i in np.argsort(costs, kind="stable"):
        kept[i] = quality[i] > best
        best = max(best, quality[i])
    return kept


def columns(replies, labels):
    scores = np.zeros((len(replies), len(labels)))
    for row, reply in zip(scores, replies, strict=True):
        for entry in reply:
            row[labels.index(entry["label"])] = entry["score"]
    return scores


def in_order_of_the_reply(replies, labels):
    scores = np.zeros((len(replies), len(labels)))
    for row, reply in zip(scores, replies, strict=True):
        row[: len(reply)] = [entry["score"] for entry in reply]
    return scores


def unknown_is_nan(replies, labels):
    scores = columns(replies, labels)
    return np.where(scores == 0, np.nan, scores)


RIGHT = {
    chapter10.paired_interval: paired,
    chapter10.kendall: kendall,
    chapter10.front: front,
    chapter10.from_replies: columns,
}

WRONG = {
    chapter10.paired_interval: [
        unpaired,
        of_images,
        lambda a, b, draws: paired(b, a, draws),
        lambda a, b, draws: paired(a, b, draws).mean(),
        lambda a, b, draws: paired(a, b, draws)[::-1],
        lambda a, b, draws: paired(a, b, draws.T[:, :1]),  # the columns of draws
        lambda a, b, draws: paired(a, b, draws[:100]),
        lambda a, b, draws: np.quantile(
            (a - b)[draws].sum(axis=1) / 30, [0.025, 0.975]
        ),
        lambda a, b, draws: "wide",
    ],
    chapter10.kendall: [
        spearman,
        lambda a, b: np.corrcoef(a, b)[0, 1],
        lambda a, b: (1 + kendall(a, b)) / 2,  # the share that agrees
        lambda a, b: kendall(a, b) * (len(a) - 1) / len(a),  # pairs with oneself
        lambda a, b: kendall(a.argsort(), b.argsort()),
        lambda a, b: np.sign(np.diff(a) * np.diff(b)).mean(),  # neighbours alone
        lambda a, b: -kendall(a, b),
    ],
    chapter10.front: [
        running_best,
        lambda costs, quality: quality == quality.max(),
        lambda costs, quality: front(costs, -quality),
        lambda costs, quality: front(costs, quality - 1e-9 * costs.argsort().argsort()),
        lambda costs, quality: [not kept for kept in front(costs, quality)],
        lambda costs, quality: quality >= np.median(quality),
        lambda costs, quality: np.flatnonzero(front(costs, quality)),
    ],
    chapter10.from_replies: [
        in_order_of_the_reply,
        unknown_is_nan,
        lambda replies, labels: columns(replies, sorted(labels, reverse=True)),
        lambda replies, labels: columns(replies, sorted(labels)),
        lambda replies, labels: columns([r[:2] for r in replies], labels),
        lambda replies, labels: columns([r for r in replies if r], labels),
        lambda replies, labels: columns(replies, labels).argmax(axis=1),
        lambda replies, labels: replies,
    ],
}
