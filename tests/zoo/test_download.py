from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from xai_lib.zoo.download import CorruptDownload, OfflineError, fetch, unpack

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(NamedTuple):
    url: str
    requests: list[str]


@pytest.fixture
def server() -> Iterator[Server]:
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            if self.path == "/missing.bin":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            half = self.path == "/truncated.bin"
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if half else CONTENT)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield Server(f"http://127.0.0.1:{http.server_port}", requests)
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


def test_corrupt_file_in_the_cache_is_removed_when_offline(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"half of it")
    with pytest.raises(OfflineError):
        fetch("http://127.0.0.1:1/a.bin", SHA256, tmp_path)
    assert list(tmp_path.iterdir()) == []


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


def make_tar(path: Path, name: str, *, link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo(name)
        if link:
            member.type, member.linkname = tarfile.SYMTYPE, link
        member.size = 0 if link else 5
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


def test_unpack_refuses_a_link_to_the_outside(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", "inside", link="/etc/passwd")
    with pytest.raises(ValueError, match="inside"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unpack_bad_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        unpack(tmp_path / "none.zip", tmp_path)
    damaged = tmp_path / "damaged.tar.gz"
    damaged.write_bytes(b"no archive at all")
    with pytest.raises(ValueError, match="cannot unpack"):
        unpack(damaged, tmp_path)
    whole = make_tar(tmp_path / "whole.tar.gz", "x.txt").read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot unpack"):
        unpack(damaged, tmp_path)
