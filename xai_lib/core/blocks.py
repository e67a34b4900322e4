"""What keeps memory from growing with queries, images and classes.

A method gets its images in groups, asks the black box for blocks of perturbed versions
(`BlackBox.versions`), keeps of the answers what it needs, and adds up as it goes. Each
of these parts has at most `blackbox.BLOCK` numbers, or a single image, so that what is
held at once beyond the maps is a few times that, however large a call is.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from xai_lib.core import blackbox
from xai_lib.core.arguments import check_reach, entries


def at_once(size: int) -> int:
    """How many things of `size` numbers are held at once: a block of them, or one."""
    return max(1, blackbox.BLOCK // size)


def groups(images: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split `[N, ...]` tensors alike, in parts of at most a block of `images`."""
    n = at_once(images[0].numel())
    return zip(*(part.split(n) for part in (images, *others)), strict=True)


def joined(n: int, parts: Iterable[Tensor]) -> Tensor:
    """The concatenation of parts with n rows in all, none of which is held twice."""
    whole, start = None, 0
    for part in parts:
        if len(part) == n:
            return part
        if whole is None:
            whole = part.new_empty(n, *part.shape[1:])
        whole[start : start + len(part)] = part
        start += len(part)
    assert whole is not None
    return whole


def of_target(target: Tensor | None) -> Callable[[slice, Tensor], Tensor]:
    """What `BlackBox.versions` is to keep: from scores `[n, m, K]` those of target
    classes `[N]`, as `[n, m, 1]`; of all classes, for None."""
    if target is None:
        return lambda images, scores: scores
    there: dict[torch.device, Tensor] = {}  # uploaded once, not with each chunk

    def keep(images: slice, scores: Tensor) -> Tensor:
        check_reach(target[images], scores.shape[-1])
        if scores.device not in there:
            there[scores.device] = target.to(scores.device, non_blocking=True)
        classes = there[scores.device][images].repeat_interleave(scores.shape[1])
        return entries(scores.flatten(0, 1), classes).view(*scores.shape[:2], 1)

    return keep
