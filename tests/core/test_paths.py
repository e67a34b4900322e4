from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from xai_lib.core.paths import cache_path, data_path

REPOSITORY = Path(__file__).parents[2]

# Runs where only the unpacked wheel can provide xai_lib's own files.
PROBE = """
import sys
sys.path.insert(0, sys.argv[1])
from xai_lib.core.paths import data_path
from xai_lib.zoo import digits, models
model = models.load("cnn_mnist")
images, labels = digits.mnist(100)[:2]
print(data_path("digits"))
print(int((model(images).argmax(1) == labels).sum()))
"""


def test_checkout() -> None:
    assert data_path("README.md") == REPOSITORY / "data" / "README.md"


def test_missing() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz.*does not exist"):
        data_path("digits/nothing.npz")


def test_cache_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_path() == tmp_path / "xai_lib"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_path() == Path.home() / ".cache" / "xai_lib"


def test_wheel_holds_and_finds_the_data(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    pip += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(REPOSITORY)]
    subprocess.run(pip, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)

    data = REPOSITORY / "data"
    files = [f.relative_to(data) for f in data.rglob("*") if f.is_file()]
    files = [f for f in files if f.parts[0] != "cache"]
    assert len(files) >= 7
    for file in files:
        packed = site / "xai_lib" / "data" / file
        assert packed.read_bytes() == (data / file).read_bytes()

    probe = subprocess.run(
        [sys.executable, "-c", PROBE, str(site)],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    folder, right = probe.stdout.split()
    assert Path(folder) == site / "xai_lib" / "data" / "digits"
    assert int(right) >= 90
