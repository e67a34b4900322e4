"""Archives of data sets: checked as a whole before anything of them is written."""

import errno
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path

from xai_lib.core.files import replacing
from xai_lib.core.paths import writable
from xai_lib.zoo.download import CorruptDownload

LARGEST = 32 * 2**30
"""Bytes that an archive may unpack to: five times the largest that the book uses."""

# What the modules of the standard library raise for archives that are none.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)


def unpack(
    archive: str | Path, folder: str | Path | None = None, at_most: int = LARGEST
) -> Path:
    """Unpack a zip or (compressed) tar file into a folder of its own.

    The folder appears when everything is in it, so that one that is there is whole,
    and is returned as it is. All names are checked before anything is written.

    Args:
        folder: None is beside the archive, by its name without the ending.
        at_most: bytes that it may unpack to.

    Raises:
        FileNotFoundError: no such archive.
        CorruptDownload: not a zip or tar file, damaged, larger than `at_most`, or with
            a member that is no plain file or folder or would lie outside `folder`.
        OSError: no space, or a folder that cannot be written to.
    """
    archive = Path(archive)
    folder = _beside(archive) if folder is None else Path(folder)
    if folder.is_dir():
        return folder
    if not archive.is_file():
        raise FileNotFoundError(f"archive {archive} does not exist")
    with writable(folder.parent), replacing(folder) as part:
        part.mkdir()
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as zipped:
                    members = [
                        (m.filename, m.file_size, stat.S_IFMT(m.external_attr >> 16))
                        for m in zipped.filelist
                    ]
                    _check(archive, part, at_most, members)
                    zipped.extractall(part)
            else:
                with tarfile.open(archive) as tarred:
                    members = [
                        (m.name, m.size, 0 if m.isfile() or m.isdir() else stat.S_IFLNK)
                        for m in tarred
                    ]
                    _check(archive, part, at_most, members)
                    tarred.extractall(part, filter="data")
        except (*_DAMAGE, RuntimeError, NotImplementedError) as error:
            raise CorruptDownload(f"cannot unpack {archive}: {error}") from error
    return folder


def _beside(archive: Path) -> Path:
    """Where an archive unpacks to: "a/voc.tar.gz" to "a/voc"."""
    name = re.sub(r"(\.tar)?\.\w+$", "", archive.name, flags=re.ASCII)
    return archive.with_name(name if name != archive.name else f"{name}_unpacked")


def _check(
    archive: Path, folder: Path, at_most: int, members: list[tuple[str, int, int]]
) -> None:
    """Before anything is written: names, sizes and Unix's kinds of files, of which 0
    is unknown and plain."""
    for name, _, kind in members:
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise CorruptDownload(f"{archive}: member {name!r} is a link or device")
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise CorruptDownload(f"{archive}: member {name!r} lies outside the folder")
    size, free = sum(s for _, s, _ in members), shutil.disk_usage(folder).free
    if size > at_most:
        raise CorruptDownload(
            f"{archive} unpacks to {size:,} bytes, more than the {at_most:,} allowed"
        )
    if size > free:
        raise OSError(errno.ENOSPC, f"{size:,} bytes needed, {free:,} free", folder)
