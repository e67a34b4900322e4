from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torchvision.transforms._presets import ImageClassification

from xai_book.data import imagenet_folder
from xai_lib.zoo import photos


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size", "short"), [(224, 256), (299, 342), (64, 73)])
def test_preparation_is_torchvisions(size: int, short: int) -> None:
    preset = ImageClassification(
        crop_size=size, resize_size=short, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    expected = preset(Image.fromarray(skimage.data.chelsea()))[None]
    photo = photos.load("chelsea", size)
    assert photo.image.dtype == torch.float32
    assert type(photo.image) is torch.Tensor
    torch.testing.assert_close(photo.image, expected)


@pytest.mark.parametrize("name", photos.names())
def test_photo(name: str) -> None:
    photo = photos.load(name, size=32)
    assert photo.image.shape == (1, 3, 32, 32)
    assert float(photo.image.min()) >= 0
    assert float(photo.image.max()) <= 1
    assert float(photo.image.std()) > 0.05
    assert photo.name == name
    assert photo.source
    assert photo.licence
    licensed = photo.licence in ("CC0", "CC BY 2.0", "public domain")
    assert photo.redistributable == licensed


def test_labels() -> None:
    known = photos.labelled(size=32)
    assert len(known.names) >= 24
    assert known.images.shape == (len(known.names), 3, 32, 32)
    assert known.labels.dtype == torch.int64
    fields = (known.labels, known.sources, known.licences, known.redistributable)
    assert {len(field) for field in fields} == {len(known.names)}
    for i, name in enumerate(known.names):
        photo = photos.load(name, size=32)
        assert torch.equal(photo.image[0], known.images[i])
        assert photo.label == known.labels[i]
        if photo.source == "foolbox":  # named after its class
            assert photo.label is not None
            named = photos.class_name(photo.label).lower().replace(" ", "_")
            assert name.startswith(named)
    others = set(photos.names()) - set(known.names)
    assert others == {"astronaut", "flower"}
    assert (
        photos.class_name(int(known.labels[known.names.index("coffee")])) == "espresso"
    )


def test_grey_photo_has_equal_channels() -> None:
    image = photos.load("camera").image
    assert torch.equal(image[:, 0], image[:, 1])
    assert torch.equal(image[:, 0], image[:, 2])


def test_unknown_name() -> None:
    with pytest.raises(
        ValueError, match=r"unknown photo 'chelsae' \(did you mean 'chel"
    ):
        photos.load("chelsae")


@pytest.mark.parametrize("size", [0, -1])
def test_bad_size(size: int) -> None:
    with pytest.raises(ValueError, match="size must be at least 1"):
        photos.load("chelsea", size)
    with pytest.raises(TypeError, match="size must be an integer"):
        photos.load("chelsea", 224.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 1000])
def test_class_name_out_of_range(index: int) -> None:
    with pytest.raises(ValueError, match="index must be"):
        photos.class_name(index)


def test_read_turns_upright(colours: np.ndarray, tmp_path: Path) -> None:
    upright, stored = tmp_path / "upright.png", tmp_path / "stored.png"
    Image.fromarray(colours).save(upright)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90° clockwise to show"
    Image.fromarray(np.rot90(colours)).save(stored, exif=exif)
    assert torch.equal(photos.read(stored, 28), photos.read(upright, 28))


def test_read_alpha(colours: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(colours).save(path)
    expected = photos.read(path, 28)
    alpha = np.full((90, 60, 1), 255, dtype=np.uint8)
    Image.fromarray(np.concatenate([colours, alpha], axis=2)).save(path)
    assert torch.equal(photos.read(path, 28), expected)
    alpha[0, 0] = 254
    Image.fromarray(np.concatenate([colours, alpha], axis=2)).save(path)
    with pytest.raises(ValueError, match="transparent pixels"):
        photos.read(path, 28)


def test_read_refuses_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((40, 40), 40_000, dtype=np.uint16)).save(path)
    with pytest.raises(ValueError, match="8 bits per channel"):
        photos.read(path)


def test_read_bad_files(colours: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png does not exist"):
        photos.read(tmp_path / "none.png")
    path = tmp_path / "text.png"
    path.write_text("not an image")
    with pytest.raises(ValueError, match=r"cannot read .*text\.png"):
        photos.read(path)
    for suffix in ("png", "jpg"):
        path = tmp_path / f"half.{suffix}"
        Image.fromarray(colours).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=r"cannot read .*half\."):
            photos.read(path)


def test_folder(colours: np.ndarray, tmp_path: Path) -> None:
    # In the order of the names these would be classes 0 to 4: a classic mistake.
    expected = {"10": 10, "2": 2, "n01440764": 0, "n02123045": 281, "n15075141": 999}
    for number, name in enumerate(expected):
        (tmp_path / name).mkdir()
        Image.fromarray(np.roll(colours, number)).save(tmp_path / name / "a.png")
    data = imagenet_folder.load(tmp_path, size=28)
    assert [label for _, label in data] == list(expected.values())
    torch.testing.assert_close(
        data[1][0][None], photos.read(tmp_path / "2" / "a.png", 28)
    )
    images, _ = next(iter(torch.utils.data.DataLoader(data, batch_size=5)))
    assert images.shape == (5, 3, 28, 28)


def test_bad_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"image folder .*none does not exist"):
        imagenet_folder.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        imagenet_folder.load(tmp_path)
    (tmp_path / "cats").mkdir()
    with pytest.raises(ValueError, match="size must be at least 1"):
        imagenet_folder.load(tmp_path, size=0)
    with pytest.raises(ValueError, match=r"'cats'.*names no ImageNet class"):
        imagenet_folder.load(tmp_path)
