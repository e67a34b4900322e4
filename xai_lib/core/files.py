"""Files and folders that are whole, or not there at all."""

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT_OVER = 24 * 3600
"""Seconds after which what nobody has written to is left over by a killed process."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, a file or a folder, that becomes `path` when all is written.

    Its name is its own, in the same folder: a reader never meets half a file, two
    processes never write into one, and the move at the end is atomic. Where the block
    raises, nothing of it stays, and what was at `path` before does. A folder that is
    there already stays too: another process was faster.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f"{path.name}.*.part"):
        with suppress(FileNotFoundError):  # another process removes it, too
            if time.time() - old.stat().st_mtime > LEFT_OVER:
                _remove(old)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        try:
            part.replace(path)
        except OSError:
            if not (part.is_dir() and path.is_dir()):
                raise
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
