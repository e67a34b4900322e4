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
            packed.write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
            resources.append((packed.name, None))
        monkeypatch.setattr(dataset, "resources", resources)
    monkeypatch.setattr(dataset, "mirrors", ["http://127.0.0.1:1/"])
    found = load(11, full=True, root=tmp_path)
    expected = torch.from_numpy(images[:11] / 255).float()
    torch.testing.assert_close(found.images[:, 0], expected)
    assert found.labels.tolist() == labels[:11].tolist()


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
