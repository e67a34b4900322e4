"""What the data of the site's live figures are made of.

What a browser adds up itself, it makes from the same numbers as here: noise comes from
Philox, which both have.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from xai_lib import viz

Found = dict[str, Any]
"""The data of a figure, as JSON has them."""


def picture(image: Tensor) -> str:
    """An image `[3, H, W]` as an address that holds it, WebP."""
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def packed(values: Any, kind: type) -> str:
    """Numbers, little-endian, in base64."""
    array = np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(array.tobytes()).decode()


def unpacked(text: str, kind: type) -> np.ndarray:
    """The numbers of `packed`."""
    return np.frombuffer(base64.b64decode(text), np.dtype(kind).newbyteorder("<"))


def grey_levels(x: Tensor) -> str:
    """The pixels of a digit as bytes."""
    return packed((x.flatten() * 255).round().byte().numpy(), np.uint8)


def highest(values: np.ndarray, share: float) -> np.ndarray:
    """Which are among the highest `share`: bool, of the same shape; of equals the
    first, as the browser decides."""
    order = np.argsort(-values.ravel().astype(np.int64), kind="stable")
    kept = np.zeros(values.size, dtype=bool)
    kept[order[: int(share * values.size + 0.5)]] = True
    return kept.reshape(values.shape)


def opened(address: str) -> np.ndarray:
    content = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) / 255


def signed_digits(axes: Sequence[Any], maps: Mapping[str, np.ndarray]) -> None:
    """Maps of a digit's 784 pixels, each symmetric about zero, with their names."""
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        limit = np.abs(values).max()
        shown = values.reshape(28, 28)
        ax.imshow(shown, cmap=viz.style.SIGNED, vmin=-limit, vmax=limit)
        ax.set_title(title)


def bare(axes: Any) -> None:
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)


# Noise that a browser makes too


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox 4x32-10 (Salmon et al., 2011): words `[n, 4]` from counters `[n, 4]`."""
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = counter.astype(np.uint64).T
    k0, k1 = (np.uint64(k) for k in key)
    for _ in range(10):
        left, right = c2 * np.uint64(0xCD9E8D57), c0 * np.uint64(0xD2511F53)
        c0, c2 = (left >> 32) ^ c1 ^ k0, (right >> 32) ^ c3 ^ k1
        c1, c3 = left & low, right & low
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([c0, c1, c2, c3], axis=1)


def uniform(seed: int, draw: int, count: int) -> np.ndarray:
    """`Philox.uniform` of philox.js: `[count]` in [0, 1)."""
    blocks = -(-count // 4)
    counter = np.zeros((blocks, 4))
    counter[:, 0], counter[:, 1] = np.arange(blocks), draw
    return philox(counter, (seed, 0)).ravel()[:count] / 2.0**32


def normal(seed: int, draw: int, count: int) -> np.ndarray:
    """`Philox.normal` of philox.js: `[count]`, by Box and Muller."""
    pairs = uniform(seed, draw, count + count % 2).reshape(-1, 2)
    length = np.sqrt(-2 * np.log(pairs[:, 0] + 2.0**-33))
    angle = 2 * np.pi * pairs[:, 1]
    both = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)
    return both.ravel()[:count]
