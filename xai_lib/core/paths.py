"""Where the book's own files are."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


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
    """The folder for downloaded datasets; it need not exist yet.

    Raises:
        RuntimeError: there is no home folder; names the variable to set.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "xai_lib"
    except RuntimeError as error:
        raise RuntimeError(
            f"no folder for downloads ({error}): set XDG_CACHE_HOME to one"
        ) from error


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Where a folder cannot be written to, say which variables choose another.

    Raises:
        PermissionError: for any way in which the system refuses to write.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PermissionError(
            error.errno,
            f"{folder} cannot be written to: set XDG_CACHE_HOME (data) or TORCH_HOME "
            "(weights) to a folder of yours",
        ) from error
