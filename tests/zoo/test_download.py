from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from xai_book.data.archives import unpack
from xai_lib.zoo.download import CorruptDownload, OfflineError, fetch

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(NamedTuple):
    url: str
    requests: list[str]
    lengths: list[str]
    """What the next answers announce, instead of the right length."""


@pytest.fixture
def server() -> Iterator[Server]:
    requests: list[str] = []
    lengths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            if self.path == "/missing.bin":
                self.send_error(404)
                return
            self.send_response(200)
            length = lengths.pop() if lengths else str(len(CONTENT))
            self.send_header("Content-Length", length)
            self.end_headers()
            half = self.path == "/truncated.bin"
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if half else CONTENT)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield Server(f"http://127.0.0.1:{http.server_port}", requests, lengths)
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("digits", [8, 64])
def test_good_file_is_fetched_once(server: Server, tmp_path: Path, digits: int) -> None:
    url = f"{server.url}/good.bin"
    for _ in range(2):
        path = fetch(url, SHA256[:digits], tmp_path / "new" / "folder")
        assert path == tmp_path / "new" / "folder" / "good.bin"
        assert path.read_bytes() == CONTENT
    assert server.requests == ["/good.bin"]
    assert [f.name for f in path.parent.iterdir()] == ["good.bin"]


def test_upper_case_hash(server: Server, tmp_path: Path) -> None:
    assert fetch(f"{server.url}/a.bin", SHA256.upper(), tmp_path).is_file()


def test_wrong_hash_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CorruptDownload, match=f"{SHA256}, expected {'0' * 64}"):
        fetch(f"{server.url}/other.bin", "0" * 64, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_truncated_leaves_nothing(server: Server, tmp_path: Path) -> None:
    message = f"truncated: {len(CONTENT) // 2} of {len(CONTENT)} bytes"
    with pytest.raises(CorruptDownload, match=message):
        fetch(f"{server.url}/truncated.bin", SHA256, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_corrupt_file_in_the_cache_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT[:-1])
    assert fetch(f"{server.url}/a.bin", SHA256, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["/a.bin"]


def test_another_file_stays_until_the_right_one_is_whole(
    server: Server, tmp_path: Path
) -> None:
    """In torch's shared folder it may be another program's."""
    for url in ("http://127.0.0.1:1/truncated.bin", f"{server.url}/truncated.bin"):
        (tmp_path / "truncated.bin").write_bytes(b"of another program")
        with pytest.raises((OfflineError, CorruptDownload)):
            fetch(url, SHA256, tmp_path)
        (kept,) = tmp_path.iterdir()
        assert kept.read_bytes() == b"of another program"


@pytest.mark.parametrize("length", ["many", "-1", "", "1" * 30])
def test_a_length_that_is_no_number_announces_nothing(
    server: Server, tmp_path: Path, length: str
) -> None:
    server.lengths.append(length)
    assert fetch(f"{server.url}/a.bin", SHA256, tmp_path).read_bytes() == CONTENT


def test_what_a_killed_process_left_over_is_removed(
    server: Server, tmp_path: Path
) -> None:
    old, young = tmp_path / "a.bin.0123.part", tmp_path / "a.bin.4567.part"
    for part in (old, young):
        part.write_bytes(b"half of it")
    os.utime(old, (0, 0))
    fetch(f"{server.url}/a.bin", SHA256, tmp_path)
    # The young one may be another process's.
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.bin", young]


def test_a_folder_that_cannot_be_written_to(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"set XDG_CACHE_HOME .* or TORCH_HOME"):
        fetch(f"{server.url}/a.bin", SHA256, tmp_path)


def test_intact_file_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:1/a.bin", SHA256, tmp_path) == tmp_path / "a.bin"


def test_offline_says_what_to_do(tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/a.bin"
    with pytest.raises(OfflineError) as caught:
        fetch(url, SHA256, tmp_path, instead="the small model")
    for part in (url, str(tmp_path), "the small model"):
        assert part in str(caught.value)


def test_refusing_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="404"):
        fetch(f"{server.url}/missing.bin", SHA256, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sha256", ["", "abc", "z" * 64, "0" * 65])
def test_bad_hash(sha256: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sha256 must be 8 to 64"):
        fetch("http://127.0.0.1:1/a.bin", sha256, tmp_path)


def test_url_without_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="url must end in a file name"):
        fetch("http://127.0.0.1:1/", SHA256, tmp_path)


def make_tar(path: Path, name: str) -> Path:
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo(name)
        member.size = 5
        file.addfile(member, io.BytesIO(b"hello"))
    return path


def make_zip(path: Path, name: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, b"hello")
    return path


@pytest.mark.parametrize(
    ("make", "file"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")]
)
def test_unpack(make, file: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    target = tmp_path / "out"
    assert unpack(make(tmp_path / file, "deep/er/x.txt"), target) == target
    assert (target / "deep" / "er" / "x.txt").read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("make", "file"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")]
)
def test_unpack_refuses_traversal(make, file: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    archive = make(tmp_path / file, "../evil.txt")
    with pytest.raises(ValueError, match=r"evil\.txt"):
        unpack(archive, tmp_path / "out")
    assert sorted(f.name for f in tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_unpack_refuses_links_and_devices(kind: bytes, tmp_path: Path) -> None:
    """Also links that stay inside: the book's archives have none."""
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as file:
        member = tarfile.TarInfo("inside")
        member.type, member.linkname = kind, "other"
        file.addfile(member)
    with pytest.raises(CorruptDownload, match="'inside' is a link or device"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_unpack_refuses_links_in_zip_files(tmp_path: Path) -> None:
    archive, member = tmp_path / "a.zip", zipfile.ZipInfo("inside")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(member, "/etc/passwd")
    with pytest.raises(CorruptDownload, match="'inside' is a link or device"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("make", "file"), [(make_tar, "a.tar.gz"), (make_zip, "a.zip")]
)
def test_unpack_refuses_what_is_too_large(make, file: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    archive = make(tmp_path / file, "x.txt")
    with pytest.raises(CorruptDownload, match="5 bytes, more than the 4 allowed"):
        unpack(archive, tmp_path / "out", at_most=4)
    assert unpack(archive, tmp_path / "out", at_most=5).is_dir()


def test_unpack_needs_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0)
    )
    with pytest.raises(OSError, match="5 bytes needed, 0 free"):
        unpack(make_zip(tmp_path / "a.zip", "x.txt"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("a.zip", "a"),
        ("VOCtest_06-Nov-2007.tar", "VOCtest_06-Nov-2007"),
        ("a.b.tar.gz", "a.b"),
        ("archive", "archive_unpacked"),
    ],
)
def test_unpack_beside_the_archive_and_once(
    name: str, folder: str, tmp_path: Path
) -> None:
    archive = make_zip(tmp_path / name, "x.txt")
    assert unpack(archive) == tmp_path / folder
    (tmp_path / folder / "x.txt").write_text("mine")
    assert (unpack(archive) / "x.txt").read_text() == "mine"


def test_unpack_needs_an_archive(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        unpack(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_bytes(b"no archive at all")
    with pytest.raises(CorruptDownload, match="cannot unpack"):
        unpack(tmp_path / "text.zip")


def archives(folder: Path) -> list[bytes]:
    """One of each kind, with 20 files of text that compresses and 20 that does not."""
    rng = random.Random(0)
    texts = [b"text " * 200] * 20 + [rng.randbytes(1000) for _ in range(20)]
    found = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        with tarfile.open(folder / "a", mode) as tarred:
            for i, text in enumerate(texts):
                member = tarfile.TarInfo(f"{i % 3}/{i}.txt")
                member.size = len(text)
                tarred.addfile(member, io.BytesIO(text))
        found.append((folder / "a").read_bytes())
    with zipfile.ZipFile(folder / "a", "w", zipfile.ZIP_DEFLATED) as zipped:
        for i, text in enumerate(texts):
            zipped.writestr(f"{i % 3}/{i}.txt", text)
    found.append((folder / "a").read_bytes())
    (folder / "a").unlink()
    return found


def test_a_damaged_archive_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    """Cut anywhere, or with a few bytes changed: whole, or CorruptDownload."""
    rng, refused = random.Random(1), 0
    for whole in archives(tmp_path):
        for trial in range(60):
            damaged = bytearray(whole)
            if trial % 2:
                del damaged[rng.randrange(len(whole)) :]
            else:
                for _ in range(rng.randrange(1, 5)):
                    damaged[rng.randrange(len(whole))] = rng.randrange(256)
            archive, out = tmp_path / "a", tmp_path / "out"
            archive.write_bytes(damaged)
            try:
                unpack(archive, out)
            except CorruptDownload:
                refused += 1
                assert list(tmp_path.iterdir()) == [archive]
            else:
                # A plain tar file has no checksum of contents, and may end early.
                shutil.rmtree(out)
    assert refused > 200


KILLED = """
import sys, time, tarfile, zipfile
from pathlib import Path
from xai_book.data.archives import unpack
from xai_lib.zoo.download import fetch
print("ready", flush=True)
if sys.argv[1] == "fetch":
    fetch(sys.argv[2], sys.argv[3], sys.argv[4])
else:
    unpack(sys.argv[2], sys.argv[3])
"""


def test_kill_during_a_download_and_an_unpacking(
    server: Server, tmp_path: Path
) -> None:
    """At random moments: afterwards a file or folder is whole or not there."""
    rng = random.Random(2)
    archive = tmp_path / "many.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for i in range(3000):
            zipped.writestr(f"{i}.txt", b"hello")
    jobs = {
        tmp_path / "a.bin": ["fetch", f"{server.url}/a.bin", SHA256, str(tmp_path)],
        tmp_path / "out": ["unpack", str(archive), str(tmp_path / "out")],
    }
    for made, job in jobs.items():
        for _ in range(4):
            process = subprocess.Popen(
                [sys.executable, "-c", KILLED, *job], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
            process.communicate()
            if made.is_file():
                assert made.read_bytes() == CONTENT
                made.unlink()
            elif made.is_dir():
                assert len(list(made.iterdir())) == 3000
                shutil.rmtree(made)
        # The next run goes on.
        subprocess.run([sys.executable, "-c", KILLED, *job], check=True)
        assert made.exists()
