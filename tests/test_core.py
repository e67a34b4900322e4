"""The library alone: what it needs, what it imports, and what it offers by name."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import xai_lib
from sync_environment import pyproject

ROOT = Path(__file__).parents[1]
CORE = ("numpy", "pillow", "scipy", "torch", "tqdm")
OPTIONAL = (
    *("captum", "dlib", "efficientnet_lite_pytorch", "ipywidgets", "IPython"),
    *("joblib", "matplotlib", "openvino", "safetensors", "skimage", "sklearn"),
    *("torchvision", "zennit", "foolbox", "distributed", "cycler"),
)
# What each asks for is in this extra alone.
MISSING = [
    ("book", "baselines.IntegratedGradients(f).attribute(x, 0)"),
    ("book", "baselines.DeepLift(net).attribute(x, 0)"),
    ("book", "baselines.GuidedBackprop(net).attribute(x, 0)"),
    ("book", "baselines.LRP(net).attribute(x, 0)"),
    ("book", "baselines.KernelSHAP(f).attribute(x, 0)"),
    ("book", "baselines.LIME(f).attribute(x, 0)"),
    ("detect", "AISE(f, sampler='lipo')"),
    ("openvino", "BlackBox(net, backend='openvino')(x)"),
    ("book", "importlib.import_module('xai_lib.zoo.models')"),
    ("book", "zoo.models"),
    ("book", "zoo.scenes"),
    ("book", "zoo.list()"),
    ("book", "photos.class_name(3)"),
    ("book", "photos.load('chelsea')"),
    ("book", "importlib.import_module('xai_lib.viz')"),
]
WORKS = """
import importlib, json, sys, tempfile, xai_lib
import numpy as np, torch
from PIL import Image
from torch import nn
from xai_lib import aise, baselines, geex, metrics, pertmap, zoo
from xai_lib.aise import AISE
from xai_lib.baselines import RISE
from xai_lib.core.blackbox import BlackBox
from xai_lib.checks import check_explainer
from xai_lib.zoo import photos

net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
net = net.eval().requires_grad_(False)
f = nn.Sequential(net, nn.Softmax(1)).eval()
x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
"""
METHODS = """
for explainer in (
    RISE(f, n_samples=20), AISE(f, n_kernels=5), geex.GEEX(f, 20), geex.IGEEX(f, 20),
    geex.GERS(f, 20, mask_size=4), pertmap.StochasticPertMap(f, n_iterations=3),
    pertmap.LinearPertMap(f), baselines.Gradient(f), baselines.SmoothGrad(f, 3),
    baselines.ExtremalPerturbation(f, n_iterations=2),
):
    maps = explainer.attribute(x)
    assert maps.shape[0] == 2 and maps.isfinite().all(), explainer
metrics.deletion(f, x, maps[:, :1], n_steps=3).auc
metrics.flipping(f, x, maps[:, :1])
metrics.max_sensitivity(RISE(f, n_samples=5).attribute, x, 0)
metrics.pointing_hits(maps[:, :1], torch.ones(2, 8, 8).bool())

def detector(images):
    one = aise.Detection(
        torch.tensor([[1.0, 1, 5, 5]]), torch.tensor([0.9]), torch.tensor([0])
    )
    return [one] * len(images)

for explainer in (aise.AISEDetection(detector, n_kernels=4), baselines.DRISE(detector)):
    assert explainer.attribute(x[:1], ([1, 1, 6, 6], 0)).shape == (1, 1, 8, 8)
with tempfile.TemporaryDirectory() as folder:
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folder + "/a.png")
    assert photos.read(folder + "/a.png").shape == (1, 3, 224, 224)
"""
ASK_EACH = """
found = []
for code in json.loads(sys.argv[1]):
    try:
        eval(code)
        found.append([code, [], ""])
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        found.append([code, kinds, str(error)])
print(json.dumps(found))
"""


def run(python: str, code: str, *arguments: str) -> str:
    """Standard output of a process that sees this copy of the library."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-c", code, *arguments],
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def closure(names: tuple[str, ...]) -> set[str]:
    """These packages and all that they require, of what is installed here."""
    found: set[str] = set()
    waiting, seen = [Requirement(name) for name in names], set()
    while waiting:
        wanted = waiting.pop()
        try:
            requires = distribution(wanted.name).requires or []
        except PackageNotFoundError:
            continue  # for another system
        found.add(wanted.name)
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        extras = [{"extra": extra} for extra in ("", *wanted.extras)]
        for one in map(Requirement, requires):
            if not one.marker or any(one.marker.evaluate(extra) for extra in extras):
                waiting.append(one)
    return found


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment with the core's requirements, linked from here."""
    root = tmp_path_factory.mktemp("core")
    command = [sys.executable, "-m", "venv", "--without-pip", str(root / "venv")]
    subprocess.run(command, check=True)
    packages = root / "packages"
    packages.mkdir()
    for name in closure(CORE):
        package = distribution(name)
        for top in {file.parts[0] for file in package.files or ()} - {"..", "bin"}:
            there = Path(str(package.locate_file(top))).resolve()
            if there.exists() and not (packages / top).exists():
                (packages / top).symlink_to(there)
    (site,) = (root / "venv").glob("lib/python*/site-packages")
    (site / "core.pth").write_text(f"{packages}\n")
    return str(root / "venv" / "bin" / "python")


def test_the_core_requires_five_packages() -> None:
    lines = pyproject()["project"]["dependencies"]
    assert sorted(Requirement(line).name for line in lines) == sorted(CORE)


@pytest.mark.skipif(sys.platform == "win32", reason="links packages")
def test_the_core_works_alone(core: str) -> None:
    listed = f"[n for n in {OPTIONAL!r} if importlib.util.find_spec(n)]"
    assert run(core, f"import importlib.util; print({listed})").strip() == "[]"
    run(core, WORKS + METHODS)


@pytest.mark.skipif(sys.platform == "win32", reason="links packages")
def test_what_is_missing_says_where_it_is(core: str) -> None:
    codes = json.dumps([code for _, code in MISSING])
    answers = json.loads(run(core, WORKS + ASK_EACH, codes))
    expected = {"ModuleNotFoundError", "FileNotFoundError", "NotConvertible"}
    for (extra, code), (_, kinds, said) in zip(MISSING, answers, strict=True):
        assert expected & set(kinds), code
        assert any(package in said.lower() for package in OPTIONAL), code
        assert f"pip install 'xai-lib[{extra}]'" in said, code


def test_explainers_import_nothing_but_the_core() -> None:
    code = "import sys, xai_lib.baselines; print(*sys.modules)"
    loaded = set(run(sys.executable, code).split())
    assert "xai_lib.baselines.layerwise" in loaded
    assert loaded.isdisjoint(OPTIONAL)
    assert loaded.isdisjoint({"openvino_telemetry.main", "pandas"})


def test_the_package_itself_imports_no_torch() -> None:
    loaded = run(sys.executable, "import sys, xai_lib; print(*sys.modules)").split()
    assert "xai_lib" in loaded
    assert "torch" not in loaded


def test_foolbox_is_never_required() -> None:
    project = pyproject()["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    assert not [line for line in lines if "foolbox" in line]


# The names at the top


@pytest.mark.parametrize("name", xai_lib.__all__)
def test_each_name_has_an_example_that_runs(name: str) -> None:
    found = getattr(xai_lib, name)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    (example,) = finder.find(found, name, globs={})
    assert len(example.examples) >= 3
    output: list[str] = []
    assert runner.run(example, out=output.append).failed == 0, "".join(output)


def test_names_are_listed_before_they_are_loaded() -> None:
    code = "import sys, xai_lib; print(*dir(xai_lib)); print(*sys.modules)"
    listed, loaded = (line.split() for line in run(sys.executable, code).splitlines())
    names = {"AISE", "GEEX", "PertMap", "RISE", "BlackBox", "recommend"}
    assert names == set(xai_lib.__all__) <= set(listed)
    assert "xai_lib.core.blackbox" not in loaded


def test_names_are_the_classes_themselves() -> None:
    from xai_lib import aise, baselines, blackbox, geex, pertmap

    assert xai_lib.AISE is aise.AISE
    assert xai_lib.GEEX is geex.GEEX
    assert xai_lib.RISE is baselines.RISE
    assert xai_lib.BlackBox is blackbox.BlackBox
    assert xai_lib.PertMap is pertmap.StochasticPertMap
    code = "from xai_lib import *; print(AISE.__name__, PertMap.__name__)"
    assert run(sys.executable, code).split() == ["AISE", "StochasticPertMap"]


def test_completion() -> None:
    from IPython.core.completer import provisionalcompleter
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.user_ns["xai_lib"] = xai_lib
    with provisionalcompleter():
        offered = {
            c.text.lstrip(".") for c in shell.Completer.completions("xai_lib.", 8)
        }
    assert set(xai_lib.__all__) <= offered


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="'xai_lib' has no attribute 'RIZE'"):
        _ = xai_lib.RIZE


def test_types_are_declared() -> None:
    assert (ROOT / "xai_lib" / "py.typed").is_file()
