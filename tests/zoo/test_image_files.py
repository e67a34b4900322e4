"""Miniatures of what cameras, scanners, macOS and ImageNet leave in a folder.

What is right is worked out here, from the pixels that were put in: by NumPy, and for
colours by the matrices of the profiles.
"""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, features

from xai_book.data import imagenet_folder
from xai_lib.zoo import image_files, photos

SIDES = (36, 36)
# The colorants of two sets of primaries, adapted to D50, as XYZ columns.
SRGB = np.array(
    [
        [0.43607, 0.38515, 0.14307],
        [0.22249, 0.71687, 0.06061],
        [0.01392, 0.09708, 0.7141],
    ]
)
DISPLAY_P3 = np.array(
    [
        [0.51512, 0.29198, 0.1571],
        [0.2412, 0.69225, 0.06657],
        [-0.00105, 0.04189, 0.78407],
    ]
)
GAMMA = 2.2


@pytest.fixture
def pixels() -> np.ndarray:
    """Smooth, as JPEG keeps it."""
    y, x = np.mgrid[: SIDES[0], : SIDES[1]] / SIDES[0]
    colours = np.stack([0.2 + 0.6 * y, 0.8 - 0.5 * x, 0.3 + 0.3 * x * y], axis=2)
    return (colours * 255).astype(np.uint8)


def read(path: Path) -> np.ndarray:
    """As 8 bits, without the resizing of `photos`."""
    return np.array(image_files.as_shown(path))


def profile(space: bytes, colorants: np.ndarray | None, gamma: float) -> bytes:
    """A colour profile of version 2, for a display or a grey scale."""
    white = np.array([[0.9642, 1.0, 0.8249]]).T
    curve = struct.pack(">4s4xIH2x", b"curv", 1, round(gamma * 256))
    text = b"miniature\0"
    tags = {
        b"desc": struct.pack(">4s4xI", b"desc", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + text,
        b"wtpt": xyz(white[:, 0]),
    }
    if colorants is None:
        tags[b"kTRC"] = curve
    else:
        for name, column in zip(b"rgb", colorants.T, strict=True):
            tags[bytes([name]) + b"XYZ"] = xyz(column)
            tags[bytes([name]) + b"TRC"] = curve
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += padded
    head = struct.pack(
        ">I4xI4s4s4s", start + len(body), 0x02400000, b"mntr", space, b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + xyz(white[:, 0])[8:] + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def to_srgb(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, curved)


def closest(found: np.ndarray, expected: np.ndarray, levels: float) -> None:
    assert found.shape == expected.shape
    assert np.abs(found.astype(float) - expected).max() <= levels


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_a_profile_with_other_primaries(
    pixels: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    icc = profile(b"RGB ", DISPLAY_P3, GAMMA)
    settings = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    if suffix == "webp":
        settings = {"lossless": True}
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, icc_profile=icc, **settings)
    if suffix == "jpg":  # not quite the pixels that were put in
        pixels = np.array(Image.open(path))
    linear = (pixels / 255) ** GAMMA @ (np.linalg.inv(SRGB) @ DISPLAY_P3).T
    expected = to_srgb(linear)
    assert np.abs(expected - pixels).max() > 15
    closest(read(path), expected, 1)


def test_a_profile_of_grey_and_one_of_colours_on_grey(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    grey = pixels[:, :, 0]
    expected = np.repeat(to_srgb((grey / 255) ** 1.5)[:, :, None], 3, axis=2)
    for mode in ("L", "LA"):
        icc = profile(b"GRAY", None, 1.5)
        Image.fromarray(grey).convert(mode).save(tmp_path / "a.png", icc_profile=icc)
        closest(read(tmp_path / "a.png"), expected, 1)
    icc = profile(b"RGB ", SRGB, 1.5)
    Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=icc)
    closest(read(tmp_path / "a.png"), expected, 1)


def test_srgb_changes_nothing(pixels: np.ndarray, tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=icc)
    assert np.array_equal(read(tmp_path / "a.png"), pixels)
    Image.fromarray(pixels).quantize(64).save(tmp_path / "p.png", icc_profile=icc)
    plain = np.array(Image.open(tmp_path / "p.png").convert("RGB"))
    assert np.array_equal(read(tmp_path / "p.png"), plain)


@pytest.mark.parametrize(
    ("mode", "icc", "message"),
    [
        ("RGB", b"no profile", r"colour profile in .*a\.tif .*save it without"),
        ("RGB", profile(b"RGB ", SRGB, 2)[:300], r"colour profile in .*a\.tif"),
        ("RGB", profile(b"GRAY", None, 2), "it is for GRAY, the pixels are RGB"),
        ("CMYK", profile(b"RGB ", SRGB, 2), "it is for RGB, the pixels are CMYK"),
    ],
)
def test_a_profile_that_does_not_fit(
    pixels: np.ndarray, tmp_path: Path, mode: str, icc: bytes, message: str
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).convert(mode).save(path, icc_profile=icc)
    with pytest.raises(ValueError, match=message):
        photos.read(path)


def test_every_orientation(pixels: np.ndarray, tmp_path: Path) -> None:
    wide = pixels[:20]
    as_stored = {
        1: wide,
        2: wide[:, ::-1],
        3: wide[::-1, ::-1],
        4: wide[::-1],
        5: wide.transpose(1, 0, 2),
        6: wide.transpose(1, 0, 2)[::-1],
        7: wide.transpose(1, 0, 2)[::-1, ::-1],
        8: wide.transpose(1, 0, 2)[:, ::-1],
    }
    for orientation, array in as_stored.items():
        for suffix in ("png", "tif", "webp"):
            path = tmp_path / f"{orientation}.{suffix}"
            exif = Image.Exif()
            exif[0x0112] = orientation
            settings = {"lossless": True} if suffix == "webp" else {}
            Image.fromarray(np.ascontiguousarray(array)).save(
                path, exif=exif, **settings
            )
            assert np.array_equal(read(path), wide)


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image.convert("L"),
        lambda image: image.convert("1"),
        lambda image: image.quantize(32),
        lambda image: image.convert("LA"),
        lambda image: image.convert("RGBA"),
        lambda image: image.convert("CMYK"),
    ],
)
def test_modes_of_8_bits(convert: Callable, pixels: np.ndarray, tmp_path: Path) -> None:
    image = convert(Image.fromarray(pixels))
    path = tmp_path / "a.tif"
    try:
        image.save(path)
    except OSError:
        path = tmp_path / "a.png"
        image.save(path)
    assert np.array_equal(read(path), np.array(image.convert("RGB")))


def test_a_name_may_lie_about_the_format(pixels: np.ndarray, tmp_path: Path) -> None:
    """One of ImageNet's files is a PNG named .JPEG, some are CMYK, many are grey."""
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.JPEG")
    assert np.array_equal(read(tmp_path / "a.JPEG"), pixels)
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "c.JPEG", quality=100)
    closest(read(tmp_path / "c.JPEG"), pixels, 12)


def png(array: np.ndarray, colours: int) -> bytes:
    """A PNG of 16 bits, which Pillow cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        numbers = len(content), zlib.crc32(name + content)
        size, check = (struct.pack(">I", number) for number in numbers)
        return size + name + content + check

    height, width = array.shape[:2]
    head = struct.pack(">2I5B", width, height, 16, colours, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(array: np.ndarray, **settings: str) -> bytes:
    """A TIFF of 16 bits in RGB, which Pillow cannot write either."""
    content = io.BytesIO()
    if settings.get("planarconfig") == "separate":
        array = array.transpose(2, 0, 1)
    tifffile.imwrite(content, array, photometric="rgb", **settings)
    return content.getvalue()


def sgi(array: np.ndarray) -> bytes:
    height, width, channels = array.shape
    head = struct.pack(">HBBHHHH", 474, 0, 2, 3, width, height, channels)
    planes = array.transpose(2, 0, 1)[:, ::-1].astype(">u2").tobytes()
    return head.ljust(512, b"\0") + planes


def deep(pixels: np.ndarray) -> dict[str, bytes]:
    """Files of more than 8 bits per channel."""
    wide = pixels.astype(np.uint16) * 257 + 1
    height, width = wide.shape[:2]
    jpeg2000, grey, real = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(jpeg2000, "JPEG2000", no_jp2=True)
    head = bytearray(jpeg2000.getvalue())
    assert head[42:51:3] == bytes([7, 7, 7])
    head[42:51:3] = bytes([15, 15, 15])
    Image.fromarray(wide[:, :, 0]).save(grey, "TIFF")
    Image.fromarray(wide[:, :, 0].astype(np.float32)).save(real, "TIFF")
    return {
        "grey.png": png(wide[:, :, 0], 0),
        "rgb.png": png(wide, 2),
        "la.png": png(np.stack([wide[:, :, 0], wide[:, :, 0] * 0 + 65535], 2), 4),
        "rgba.png": png(np.concatenate([wide, wide[:, :, :1] * 0 + 65535], 2), 6),
        "rgb_little.tif": tiff(wide, byteorder="<"),
        "rgb_big.tif": tiff(wide, byteorder=">"),
        "rgb_packed.tif": tiff(wide, compression="zlib"),
        "rgb_planes.tif": tiff(wide, planarconfig="separate"),
        "grey.tif": grey.getvalue(),
        "float.tif": real.getvalue(),
        "rgb.ppm": b"P6 %d %d 65535\n" % (width, height) + wide.astype(">u2").tobytes(),
        "grey.pgm": b"P5 %d %d 4095\n" % (width, height)
        + (wide[:, :, 0] // 16).astype(">u2").tobytes(),
        "rgb.sgi": sgi(wide),
        "rgb.j2k": bytes(head),
    }


def test_what_8_bits_would_cut(pixels: np.ndarray, tmp_path: Path) -> None:
    for name, content in deep(pixels).items():
        path = tmp_path / name
        path.write_bytes(content)
        with Image.open(path) as image:  # the miniature is what its name says
            assert image.size == pixels.shape[1::-1]
        with pytest.raises(ValueError, match=rf"{name} has more than 8 bits per chann"):
            photos.read(path)


@pytest.mark.skipif(not features.check("avif"), reason="a Pillow without AVIF")
def test_the_depth_of_avif(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Image.fromarray(pixels).save(path, quality=100)
    closest(read(path), pixels, 12)
    told = b"pixi" + bytes(4) + bytes([3, 8, 8, 8])
    assert path.read_bytes().count(told) == 1
    content = bytearray(path.read_bytes().replace(told, told[:9] + bytes([10] * 3)))
    content[content.index(b"av1C") + 6] |= 0x40  # the codec's own flag, beside it
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.avif has more than 8 bits per channel"):
        photos.read(path)


def test_fewer_bits_are_no_loss(pixels: np.ndarray, tmp_path: Path) -> None:
    """Also those of 5 bits that Pillow calls "BGR;16"; and 8 bits in these formats."""
    height, width = pixels.shape[:2]
    five = pixels[::-1] >> 3
    words = (five[:, :, 0].astype("<u2") << 11) | (five[:, :, 1].astype("<u2") << 6)
    words |= five[:, :, 2]
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 16, 3, 0, 0, 0, 0, 0)
    masks = struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    size = 14 + len(head) + len(masks)
    content = b"BM" + struct.pack("<I4xI", size + words.nbytes, size) + head + masks
    (tmp_path / "a.bmp").write_bytes(content + words.tobytes())
    closest(read(tmp_path / "a.bmp"), pixels, 9)
    for name in ("a.ppm", "a.sgi", "a.tif", "a.bmp", "a.gif"):
        image = Image.fromarray(pixels)
        image.save(tmp_path / name)
        expected = np.array(Image.open(tmp_path / name).convert("RGB"))
        assert np.array_equal(read(tmp_path / name), expected)
    for planes in ("contig", "separate"):
        (tmp_path / "a.tif").write_bytes(tiff(pixels, planarconfig=planes))
        assert np.array_equal(read(tmp_path / "a.tif"), pixels)
    Image.fromarray(pixels).save(tmp_path / "a.jp2", quality_mode="dB")
    assert np.array_equal(read(tmp_path / "a.jp2"), pixels)


def frames(pixels: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(np.roll(pixels, i, axis=0)) for i in range(3)]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_several_frames(pixels: np.ndarray, tmp_path: Path, suffix: str) -> None:
    first, *others = frames(pixels)
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=others)
    with pytest.raises(ValueError, match=rf"a\.{suffix} has 3 frames or pages; save"):
        photos.read(path)
    first.save(path, save_all=True)
    assert read(path).shape == pixels.shape


def test_a_camera_keeps_a_preview_behind_its_photograph(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    first, second, _ = frames(pixels)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    closest(read(tmp_path / "a.jpg"), pixels, 12)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels(pixels: np.ndarray, tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(pixels).convert(mode)
    key = tuple(pixels[3, 3].tolist())
    settings = {"P": {"transparency": 0}, "RGB": {"transparency": key}}
    if "A" in mode:
        alpha = np.full(SIDES, 255, dtype=np.uint8)
        image.putalpha(Image.fromarray(alpha))
        image.save(tmp_path / "opaque.png")
        assert read(tmp_path / "opaque.png").shape == pixels.shape
        alpha[5, 5] = 254
        image.putalpha(Image.fromarray(alpha))
    else:
        image.putpixel((4, 4), 0 if mode == "P" else key)
    image.save(tmp_path / "a.png", **settings.get(mode, {}))
    with pytest.raises(ValueError, match=r"a\.png has transparent pixels; put it on"):
        photos.read(tmp_path / "a.png")


def test_more_pixels_than_pillow_opens(tmp_path: Path) -> None:
    # 40,000 x 5,000 of one bit: 200 megapixels in a small file.
    Image.new("1", (40_000, 5_000)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"large\.png has too many pixels .*scale it"):
        photos.read(tmp_path / "large.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "gif", "webp", "bmp"])
def test_every_truncation_is_named(
    pixels: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path)
    content, whole = path.read_bytes(), read(path)
    for share in (0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        try:
            assert np.array_equal(read(path), whole)  # only what follows it is missing
        except ValueError as error:
            assert f"cannot read {path} as an image" in str(error)  # noqa: PT017


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_garbage_within_a_file(pixels: np.ndarray, tmp_path: Path) -> None:
    """Whatever Pillow raises for it comes as a ValueError with the path."""
    rng = np.random.default_rng(0)
    refused = 0
    for suffix in ("jpg", "png", "tif", "gif", "webp", "bmp"):
        path = tmp_path / f"a.{suffix}"
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(path, exif=exif)
        content = path.read_bytes()
        for _ in range(40):
            broken = bytearray(content)
            for at in rng.integers(min(len(content), 400), size=4):
                broken[at] = rng.integers(256)
            path.write_bytes(broken)
            try:
                assert read(path).ndim == 3
            except ValueError as error:
                assert str(path) in str(error)  # noqa: PT017
                refused += 1
    assert refused > 40


def test_folder_reads_as_read_does(pixels: np.ndarray, tmp_path: Path) -> None:
    turned, coloured = tmp_path / "0" / "turned.jpg", tmp_path / "0" / "colours.png"
    for name in ("0", "7", "__MACOSX", ".ipynb_checkpoints", "0/.ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels[:20]).save(turned, exif=exif)
    icc = profile(b"RGB ", DISPLAY_P3, GAMMA)
    Image.fromarray(pixels).save(coloured, icc_profile=icc)
    for name in ("0/._plain.png", "7/._plain.png"):  # what macOS leaves beside it
        (tmp_path / name).write_bytes(b"\0\5\x16\7" + bytes(78))
    (tmp_path / "7" / "Thumbs.db").write_bytes(b"no image")
    data = imagenet_folder.load(tmp_path, size=28)
    found = [
        (Path(path).relative_to(tmp_path).as_posix(), y) for path, y in data.samples
    ]
    names = ("0/colours.png", "0/plain.png", "0/turned.jpg")
    assert found == [*((name, 0) for name in names), ("7/plain.png", 7)]
    for (path, _), (image, _) in zip(data.samples, data, strict=True):
        assert torch.equal(image[None], photos.read(path, 28))
    # No worker: a fork of a process that has run all other tests may crash.
    batches = torch.utils.data.DataLoader(pickle.loads(pickle.dumps(data)), 4)
    assert next(iter(batches))[0].shape == (4, 3, 28, 28)

    (tmp_path / "7" / "deep.png").write_bytes(deep(pixels)["rgb.png"])
    (tmp_path / "7" / "half.png").write_bytes(coloured.read_bytes()[:300])
    data = imagenet_folder.load(tmp_path, size=28)
    with pytest.raises(ValueError, match=r"7.deep\.png has more than 8 bits"):
        data[3]
    with pytest.raises(ValueError, match=r"cannot read .*7.half\.png as an image"):
        data[4]
    for name in ("0", "7"):
        (tmp_path / name).rename(tmp_path / f".{name}")
    with pytest.raises(FileNotFoundError, match="no folder for a class"):
        imagenet_folder.load(tmp_path)


def test_named_photographs_are_as_stored() -> None:
    """The rows of the studies are of these pixels."""
    import skimage.data

    rocket = torch.from_numpy(skimage.data.rocket()).permute(2, 0, 1) / 255
    found = photos.load("rocket", 374).image[0]  # 427 rows, resized to 427
    assert torch.allclose(found, rocket[:, 26:400, 133:507], atol=1e-6)
