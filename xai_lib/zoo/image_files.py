"""Image files as they come: one opaque picture of 8 bits per channel, or an error."""

import re
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

# The modes of 8 bits per channel, with the colour spaces of a profile that fits: grey
# pixels are RGB pixels with equal channels.
_SPACES = {
    "CMYK": ("CMYK",),
    **dict.fromkeys(("1", "L", "LA"), ("GRAY", "RGB")),
    **dict.fromkeys(("RGB", "RGBA", "P", "PA", "YCbCr"), ("RGB",)),
}
# Formats whose depth Pillow does not tell: a mark in the file, the depth's distance
# from its beginning, and the number there that stands for 8 bits.
_DEPTHS = {"JPEG2000": (b"\xff\x4f\xff\x51", 42, 7), "AVIF": (b"pixi", 9, 8)}


def as_shown(path: str | Path) -> Image.Image:
    """The picture as a viewer shows it, in RGB: turned upright by its EXIF
    orientation, its colours brought from its own profile to sRGB.

    Raises:
        FileNotFoundError, ValueError: as `stored` and `in_srgb`; damaged EXIF data.
    """
    image = stored(path)
    try:
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # as in `stored`
        raise ValueError(f"cannot read the EXIF data of {path}: {error}") from error
    return in_srgb(image, path)


def stored(path: str | Path) -> Image.Image:
    """The picture as it is stored, in one of Pillow's modes of 8 bits per channel.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, damaged, too large, of several frames or pages, of a
            colour depth that 8 bits would cut, or transparent anywhere.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"image {path} does not exist")
    try:
        with Image.open(path) as image:
            unfit = _frames(image) or _depth(image, path)
            if not unfit:
                image.load()
                unfit = _transparency(image)
    except Image.DecompressionBombError as error:
        unfit = (
            f"has too many pixels ({error}); scale it down, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        )
    except Exception as error:  # for damaged files Pillow raises some ten kinds
        raise ValueError(f"cannot read {path} as an image: {error}") from error
    if unfit:
        raise ValueError(f"{path} {unfit}")
    return image


def in_srgb(image: Image.Image, path: str | Path) -> Image.Image:
    """What `stored` read from `path` in RGB, its colours brought to sRGB.

    Raises:
        ValueError: a colour profile that is damaged, or for other pixels.
    """
    content = image.info.get("icc_profile")
    if not content:
        return image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(content))
        space = profile.profile.xcolor_space.strip()
        if space not in _SPACES[image.mode]:
            raise ValueError(f"it is for {space}, the pixels are {image.mode}")
        shown = ImageCms.profileToProfile(
            image.convert("L" if space == "GRAY" else space),
            profile,
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (OSError, ValueError, ImageCms.PyCMSError) as error:
        raise ValueError(
            f"cannot use the colour profile in {path} ({error}); convert the image to "
            "sRGB, or save it without its profile"
        ) from error
    assert shown is not None  # it would be None if the image were converted in place
    return shown


# What makes an image unfit; empty if nothing.


def _frames(image: Image.Image) -> str:
    frames = getattr(image, "n_frames", 1)
    # An MPO is what many cameras call a JPEG with a preview or a depth map behind it.
    if frames == 1 or image.format == "MPO":
        return ""
    return f"has {frames} frames or pages; save the one you mean as a file of its own"


def _depth(image: Image.Image, path: Path) -> str:
    told = [image.mode]
    for decoder, _, _, arguments in getattr(image, "tile", []):
        told += [decoder, *(arguments if isinstance(arguments, tuple) else [arguments])]
    if image.format in _DEPTHS:
        mark, distance, eight = _DEPTHS[image.format]
        content = path.read_bytes()
        at = content.find(mark)
        cut = at >= 0 and content[at + distance] & 127 > eight
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        cut = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8
    elif image.format == "PPM":  # the largest value
        cut = any(isinstance(number, int) and number > 255 for number in told)
    else:  # "RGB;16B"; but "BGR;16" are 5, 6 and 5 bits
        cut = any(re.match(r"(?!BGR)\w+;16|SGI16", str(mode)) for mode in told)
    if image.mode in _SPACES and not cut:
        return ""
    return (
        f"has more than 8 bits per channel, or other colours than RGB, grey and CMYK "
        f"(Pillow's mode {image.mode!r}); scale it to 8 bits and save it again"
    )


def _transparency(image: Image.Image) -> str:
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return ""
    if image.convert("RGBA").getchannel("A").getextrema() == (255, 255):
        return ""
    # Any background would be a choice, and black or white ones change the answer.
    return (
        "has transparent pixels; put it on a background of your choice and save it "
        "without an alpha channel"
    )
