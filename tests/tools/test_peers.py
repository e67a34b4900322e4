"""The comparison with peers, without a network: what is there, fetched, or missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from sync_notebooks import ROOT

# In place of the authors' repository, which git is sent to for their address. With our
# noise the estimate must be ours.
ESTIMATOR = """
import math
import torch
from xai_lib.kernels import philox

class GE:
    def __init__(self, n, sigma, shape):
        noise = philox.normals(0, 0, n // 2, math.prod(shape))
        self.noise, self.step = noise.view(-1, *shape), sigma / 2

    def explain(self, model, image, target_class):
        scores = [model(image + s * self.step * self.noise) for s in (1, -1)]
        drops = (scores[0] - scores[1])[:, target_class]
        return torch.einsum("n,nchw->hw", drops, self.noise)
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `peers.py --peers --quick` prints where only git finds what it asks for."""
    root, authors = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("authors")
    shutil.copytree(ROOT / "benchmarks", root / "benchmarks")
    shutil.rmtree(root / "benchmarks" / "results")
    theirs = authors / "GEEX"
    theirs.mkdir()
    (theirs / "geex.py").write_text(ESTIMATOR)
    git = ["git", "-C", str(theirs), "-c", "user.name=a", "-c", "user.email=b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "theirs"]):
        subprocess.run([*git, *command], check=True)
    env = os.environ | {
        **{"UV_OFFLINE": "1", "UV_NO_CACHE": "1", "UV_NO_CONFIG": "1"},
        **{"GIT_CONFIG_COUNT": "1", "GIT_ALLOW_PROTOCOL": "file"},
        "GIT_CONFIG_KEY_0": f"url.{authors.as_uri()}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/caiy0220/",
    }
    script = root / "benchmarks" / "peers.py"
    command = [sys.executable, str(script), "--peers", "--quick"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (root / "benchmarks" / "results").exists()
    return done.stdout


def row(out: str, name: str) -> list[float]:
    """Our seconds, theirs, their ratio and r, of the one line of the table with a
    name."""
    (line,) = re.findall(rf"^{re.escape(name)} +(\S+ +\S+ +\S+ +\S+)  ", out, re.M)
    return [float(number) for number in line.split()]


@pytest.mark.parametrize(
    "name",
    [
        "DIRECT, 50 points / SciPy",
        "IG, 2 photographs, 4 steps / Captum, all at once",
        "IG, 2 photographs, 4 steps / Captum, 2 at once",
        "Grad-CAM, photograph / Captum",
    ],
)
def test_what_is_installed_is_compared_and_computes_the_same(
    out: str, name: str
) -> None:
    ours, theirs, ratio, r = row(out, name)
    assert ours > 0
    assert theirs > 0
    assert ratio > 0
    assert r == 1


@pytest.mark.parametrize("place", ["on our copy", "on torch"])
def test_what_can_be_fetched_is_compared(out: str, place: str) -> None:
    *_, r = row(out, f"GEEX-16, digit / the authors', {place}")
    assert r == 1


@pytest.mark.parametrize(
    ("peer", "pin"),
    [
        ("OpenVINO XAI", "openvino-xai"),
        ("TorchRay", "torchray"),
        ("Quantus", "quantus"),
    ],
)
def test_what_cannot_be_fetched_is_named_with_the_way_to_it(
    out: str, peer: str, pin: str
) -> None:
    if f" / {peer}" in out:
        pytest.skip(f"{peer} is installed here")
    (line,) = re.findall(rf"^{peer} is left out \((.*)\); get it by: (.*)$", out, re.M)
    why, way = line
    assert "No module named" in why
    assert re.search(rf"pip install .* {pin}==[\d.]+", way)
