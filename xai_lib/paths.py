"""Where the book's own files are."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


def data_path(name: str) -> Path:
    """The file or folder `name` of the book's `data/`, such as "digits/mnist.npz".

    An installed wheel holds it as `xai_lib/data`, a checkout beside `xai_lib`.

    Raises:
        FileNotFoundError: with the path that was expected.
    """
    installed = _PACKAGE / "data"
    root = installed if installed.is_dir() else _PACKAGE.parent / "data"
    path = root / name
    if not path.exists():
        raise FileNotFoundError(f"xai_lib has no data {name!r}: {path} does not exist")
    return path


def cache_path() -> Path:
    """The folder for downloaded datasets; it need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "xai_lib"
