"""Files out of a wheel: by pip, from a folder that stands for the package index."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from xai_lib.zoo import download, photos
from xai_lib.zoo.download import CorruptDownload, OfflineError, fetch_wheel

NAME = "tiny-1.0-py3-none-any.whl"
PARTS = {
    "tiny/photo.jpg": "not really",
    "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
    "Requires-Dist: nobody-has-this-package\n",
    "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
    "Tag: py3-none-any\n",
    "tiny-1.0.dist-info/RECORD": "",
}


@pytest.fixture
def sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hash of the one wheel that pip can find."""
    wheel = tmp_path / "index" / NAME
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in PARTS.items():
            archive.writestr(name, text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_wheel_is_fetched_once(sha256: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    path = fetch_wheel("tiny==1.0", sha256, folder)
    assert path == folder / NAME
    assert zipfile.ZipFile(path).read("tiny/photo.jpg") == b"not really"
    assert [file.name for file in folder.iterdir()] == [NAME]
    (tmp_path / "index" / NAME).unlink()
    assert fetch_wheel("tiny==1.0", sha256, folder) == path


def test_a_damaged_wheel_is_fetched_again(sha256: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"half")
    path = fetch_wheel("tiny==1.0", sha256, tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def test_another_wheel_is_not_kept(sha256: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(CorruptDownload, match=rf"SHA-256 {sha256}, expected 0000"):
        fetch_wheel("tiny==1.0", "0" * 64, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("sha256")
def test_no_such_wheel(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(OfflineError, match="pip cannot download tiny==2") as error:
        fetch_wheel("tiny==2", "0" * 64, folder)
    assert "`pip download --no-deps tiny==2`" in str(error.value)
    assert str(folder) in str(error.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("uv", [True, False], ids=["within", "without"])
def test_uv_where_there_is_no_pip(uv, tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(
        download, "find_spec", lambda name: (name == "uv" and uv) or None
    )

    def fails(command: list[str], **_: object) -> None:
        asked.extend(command)
        raise OSError("no network")

    monkeypatch.setattr(download.subprocess, "run", fails)
    with pytest.raises(OfflineError, match="no network"):
        fetch_wheel("tiny==1", "0" * 64, tmp_path)
    before = [sys.executable, "-m"] if uv else []
    assert asked[: len(before) + 4] == [*before, "uv", "tool", "run", "pip"]


def test_neither_pip_nor_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OfflineError, match="pip cannot download tiny==1"):
        fetch_wheel("tiny==1", "0" * 64, tmp_path)


def test_photographs_come_out_of_the_wheel_alone(monkeypatch, tmp_path) -> None:
    """The package that brings them is neither installed nor imported."""
    asked = []

    def fetch(requirement: str, sha256: str, folder: Path) -> Path:
        asked.append((requirement, len(sha256), folder))
        wheel = tmp_path / "w.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for file in photos._FILES.values():
                if file.package == "foolbox":
                    archive.write(chelsea, f"foolbox/{file.path}")
        return wheel

    chelsea = photos.package_file("skimage", "data/chelsea.png")
    monkeypatch.setattr(photos, "fetch_wheel", fetch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert photos.load("goose").image.equal(photos.load("chelsea").image)
    assert asked == [("foolbox==3.3.4", 64, tmp_path / "xai_lib" / "wheels")]
    assert "foolbox" not in sys.modules
