from __future__ import annotations

import gzip
import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from xai_lib.zoo import digits
from xai_lib.zoo.download import OfflineError

SETS = [(digits.mnist, datasets.MNIST), (digits.fashion_mnist, datasets.FashionMNIST)]
both = pytest.mark.parametrize(("load", "dataset"), SETS)


@both
def test_packaged(load, dataset) -> None:  # type: ignore[no-untyped-def]
    found = load()
    assert found.images.shape == (1000, 1, 28, 28)
    assert found.images.dtype == torch.float32
    assert found.images.min() == 0
    assert found.images.max() == 1
    assert found.labels.dtype == torch.int64
    assert torch.equal(found.labels, torch.arange(1000) % 10)
    assert len(found.images.unique(dim=0)) == 1000
    assert len(found.categories) == 10
    assert found.licence
    few = load(7)
    assert torch.equal(few.images, found.images[:7])
    assert torch.equal(few.labels, found.labels[:7])


@both
@pytest.mark.parametrize("n", [0, -3, 1001])
def test_bad_n(load, dataset, n: int) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"n must be at .*got {n}"):
        load(n)
    with pytest.raises(TypeError, match="n must be an integer"):
        load(1.5)


def test_root_without_full(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="root is used only with full=True"):
        digits.mnist(root=tmp_path)


@both
@pytest.mark.parametrize("compressed", [False, True])
def test_full_from_files_in_place(  # type: ignore[no-untyped-def]
    load, dataset, compressed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    raw = tmp_path / dataset.__name__ / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = struct.pack(">4I", 0x803, *images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">2I", 0x801, len(labels))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    if compressed:  # what one downloads by hand; torchvision knows it by its MD5
        resources = []
        for file in sorted(raw.iterdir()):
            packed = raw / f"{file.name}.gz"
            packed.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
            file.unlink()
            resources.append((packed.name, None))
        monkeypatch.setattr(dataset, "resources", resources)
    monkeypatch.setattr(dataset, "mirrors", ["http://127.0.0.1:1/"])
    found = load(11, full=True, root=tmp_path)
    expected = torch.from_numpy(images[:11] / 255).float()
    torch.testing.assert_close(found.images[:, 0], expected)
    assert found.labels.tolist() == labels[:11].tolist()


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


def idx(values: np.ndarray) -> bytes:
    """As LeCun's page describes the format."""
    head = struct.pack(f">{values.ndim + 1}I", 0x800 + values.ndim, *values.shape)
    return head + values.tobytes()


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of MNIST's files, empty, and no network."""

    def urlopen(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    return tmp_path / "MNIST" / "raw"


@pytest.mark.parametrize("names", ["t10k-{}-idx{}-ubyte", "t10k-{}.idx{}-ubyte"])
@pytest.mark.parametrize("compressed", [False, True])
def test_names_in_use(raw: Path, names: str, compressed: bool) -> None:
    """With a dot too, as some archives have it; the test files are enough, and packed
    by whomever."""
    for part, values in (("images", IMAGES), ("labels", LABELS)):
        content = idx(values)
        name = names.format(part, values.ndim)
        if compressed:
            content, name = gzip.compress(content, 1, mtime=0), f"{name}.gz"
        (raw / name).write_bytes(content)
    found = digits.mnist(full=True, root=raw.parents[1])
    assert np.array_equal((found.images * 255).round().byte()[:, 0].numpy(), IMAGES)
    assert found.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            idx(IMAGES),
            idx(LABELS[:5]),
            r"labels-idx1-ubyte must hold \[12\].*got \[5\]",
        ),
        (
            idx(IMAGES),
            idx(LABELS + 100),
            "labels-idx1-ubyte must hold labels.* got 109",
        ),
        (idx(np.zeros((12, 32, 32), np.uint8)), idx(LABELS), r"got \[12, 32, 32\]"),
        (idx(LABELS), idx(IMAGES), r"images-idx3-ubyte must hold images.* got \[12\]"),
        (idx(IMAGES), idx(IMAGES), r"labels-idx1-ubyte must hold \[12\]"),
        (
            idx(IMAGES)[:-1],
            idx(LABELS),
            r"images-.* \(12, 28, 28\) and holds 9407 byte",
        ),
        (
            idx(IMAGES) + b"0",
            idx(LABELS),
            "images-idx3-ubyte tells .* holds 9409 bytes",
        ),
        (idx(IMAGES), idx(LABELS)[:6], "labels-idx1-ubyte is no IDX file of bytes"),
        (
            b"\0\0\x0d" + idx(IMAGES)[3:],
            idx(LABELS),
            "images-idx3-ubyte is no IDX file",
        ),
        (b"<html>", idx(LABELS), "images-idx3-ubyte is no IDX file .* begins b'<htm'"),
        (b"", idx(LABELS), "images-idx3-ubyte is no IDX file of bytes"),
        (
            idx(IMAGES[:0]),
            idx(LABELS[:0]),
            "images-idx3-ubyte tells .* and holds 0 bytes",
        ),
        (
            gzip.compress(idx(IMAGES), mtime=0)[:99],
            idx(LABELS),
            "cannot unpack .*images-idx3",
        ),
        (
            gzip.compress(idx(IMAGES), mtime=0)[:-3],
            idx(LABELS),
            "cannot unpack .*images-idx3",
        ),
        (b"\x1f\x8b" + bytes(50), idx(LABELS), "cannot unpack .*images-idx3"),
    ],
)
def test_files_that_do_not_belong(
    raw: Path, images: bytes, labels: bytes, message: str
) -> None:
    (raw / "t10k-images-idx3-ubyte").write_bytes(images)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(ValueError, match=message):
        digits.mnist(full=True, root=raw.parents[1])


@both
def test_offline(  # type: ignore[no-untyped-def]
    load, dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def urlopen(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(OfflineError) as caught:
        load(full=True, root=tmp_path)
    raw = tmp_path / dataset.__name__ / "raw"
    for part in (str(raw), "leave out full=True"):
        assert part in str(caught.value)
