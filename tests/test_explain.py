"""`python -m xai_lib`: a photograph, a model and methods to a picture and maps."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from xai_lib.__main__ import ASKING, METHODS, main
from xai_lib.core.extras import openvino
from xai_lib.zoo import model_files, models, photos

SIDE = 32


class Tiny(nn.Module):
    """How red, green and blue the left half is, in logits."""

    def __init__(self, probabilities: bool = False) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 3, 1, bias=False)
        self.colours.weight.data = 4 * torch.eye(3)[:, :, None, None]
        self.probabilities = probabilities

    def forward(self, images: Tensor) -> Tensor:
        logits = self.colours(images)[..., : SIDE // 2].mean(dim=(2, 3))
        return logits.softmax(dim=1) if self.probabilities else logits


IMAGES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def torchscript(path: Path, module: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module.eval(), IMAGES).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, but for a red photo."""
    monkeypatch.chdir(tmp_path)
    plt.close("all")
    Image.new("RGB", (40, 50), (200, 60, 30)).save("red.png")
    return tmp_path


@pytest.fixture(params=["tiny.pt", "tiny.xml", "one.xml", "tiny.onnx"])
def own(request: pytest.FixtureRequest, folder: Path) -> Path:
    """A model of one's own, in each kind of file; "one" takes one image at a time."""
    path, module = folder / request.param, Tiny().eval()
    if path.suffix == ".pt":
        return torchscript(path, module)
    if path.suffix == ".onnx":
        pytest.importorskip("onnx")
        torch.onnx.export(module, (IMAGES[:1],), path)
        return path
    ov = openvino()
    images = IMAGES[:1] if path.stem == "one" else IMAGES
    given = {"input": [1, 3, SIDE, SIDE]} if path.stem == "one" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ov.save_model(ov.convert_model(module, example_input=images, **given), path)
    return path


def test_a_model_in_a_file_answers_as_the_module_does(own: Path) -> None:
    found = model_files.read(own, SIDE, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    shift = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    scale = torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(
        found(IMAGES), Tiny()((IMAGES - shift) / scale).detach(), rtol=5e-3, atol=5e-3
    )
    assert (found.name, found.input_size) == (own.stem, SIDE)
    assert not found.training


def test_files_of_ones_own_are_explained(
    own: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", str(own), "--size", str(SIDE), "--queries", "90"]
    assert main(["explain", "red.png", "--method", "aise,rise", *given]) == 0
    told = capsys.readouterr().out
    assert "class 0, score" in told
    assert "aise: 90 queries" in told
    assert "rise: 90 queries" in told
    for name in ("aise", "rise"):
        heat = np.load(folder / f"map-{name}.npy")
        assert heat.shape == (1, SIDE, SIDE)
        assert heat[..., : SIDE // 2].mean() > heat[..., SIDE // 2 :].mean()
    assert Image.open(folder / "map.png").size[0] > 600


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_a_named_model(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # For digits of 28 pixels: cheap. Where there is no `--queries`, short anyway.
    if name in ("extremalperturbation", "pertmap"):
        pytest.skip("minutes, by default")
    given = ["--model", "cnn_mnist", "--target", "3", "--out", "it.pdf"]
    assert (
        main(["explain", "red.png", "--method", name, "--queries", "200", *given]) == 0
    )
    told = capsys.readouterr().out
    assert "explained: class 3 '3', score 0." in told
    spent = 200 - 200 % 6 if name == "aise" else 197 if name == "occlusion" else 200
    assert f"{name}: " + (f"{spent} queries" if name in ASKING else "gradients") in told
    assert np.load(folder / "it.npy").shape == (1, 28, 28)
    assert (folder / "it.pdf").read_bytes().startswith(b"%PDF")


def test_a_photo_of_the_zoo_and_a_class_by_name(folder: Path) -> None:
    command = ["explain", "chelsea", "--target", "Tiger_cat", "--queries", "60"]
    ran = subprocess.run(
        [sys.executable, "-m", "xai_lib", *command, "--out", "cat.png"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "by efficientnet_lite0: class 282 'tiger cat', score 0.379" in ran.stdout
    assert "aise: 60 queries" in ran.stdout
    assert "AISE" in ran.stderr  # the progress bar
    assert np.load("cat.npy").shape == (1, 224, 224)
    assert Image.open("cat.png").size[0] > 600


def test_probabilities_and_single_scores_are_explained_as_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torchscript(folder / "sure.pt", Tiny(probabilities=True))
    given = ["--size", str(SIDE), "--queries", "60"]
    assert main(["explain", "red.png", "--model", "sure.pt", *given]) == 0
    image = photos.read("red.png", SIDE)
    expected = Tiny(probabilities=True)(image)[0, 0].item()
    assert f"class 0, score {expected:.3f}" in capsys.readouterr().out


def test_the_list_shows_models_data_and_methods(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    for name in ("efficientnet_lite0", "chelsea", "scenes", *METHODS):
        assert any(line.startswith(f"{name} ") for line in told.splitlines()), name


WRONG = {
    "--method aize": "--method for efficientnet_lite0 must be one of aise,",
    "--queries 5": "--queries: aise needs 6 or more, got 5",
    "--queries some": "argument --queries: invalid int value: 'some'",
    "--method occlusion --queries 4": "--queries: occlusion needs 5 or more, got 4",
    "--method kernelshap --queries 3": "--method kernelshap: n_samples must be",
    "--method geex --queries 31": "use 30 or 32 (--queries decides n_samples)",
    "--target tabbi": "target 'tabbi' is no class of efficientnet_lite0; give a number "
    "from 0 to 999, or one of ['tabby'",
    "--target 1000": "give a number from 0 to 999",
    "--model vgg17": "unknown model 'vgg17' (did you mean 'vgg16'?)",
    "--size 64": "--size: only for a file; efficientnet_lite0 has its own",
    "--out map.npy": "--out: map.npy must end in .png",
    "--out no/map.png": "--out: folder no is missing",
    "--model none.onnx": "model none.onnx does not exist",
    "--model red.png": "model red.png must end in one of .pt, .pth, .ts, .onnx, .xml",
    "--model state.pt": "write one: torch.jit.trace(model.eval(), images).save(path)",
    "--model text.pt": "model text.pt is no TorchScript",
    "--model text.xml": "OpenVINO cannot read model text.xml, or its .bin is missing",
    "--model sure.pt --mean 0,0": "mean and std must have a number for each channel",
    "--model sure.pt --mean 0 --std 1": "does not answer images [N, 1, 224, 224]",
    "--model sure.pt --std 0,1,1": "std must be finite and at least",
    "--model sure.pt --mean x": "argument --mean: invalid numbers value: 'x'",
    "--model sure.pt --method gradcam": "--method for sure must be one of aise,",
    "--model sure.pt --target red": "give a number from 0 to 2",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_what_is_wrong_is_named_with_the_way_out(
    arguments: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(Tiny().state_dict(), "state.pt")
    torchscript(folder / "sure.pt", Tiny(probabilities=True))
    for name in ("text.pt", "text.xml"):
        Path(name).write_text("hello")
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "red.png", *arguments.split()])
    told = capsys.readouterr().err
    assert WRONG[arguments] in told
    assert "Traceback" not in told
    assert not Path("map.png").exists()


@pytest.mark.parametrize(
    ("photo", "told"),
    [("none.jpg", "image none.jpg does not exist"), ("text", "cannot read text as")],
)
def test_files_that_are_no_photos(
    photo: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text").write_text("hello")
    with pytest.raises(SystemExit, match="2"):
        main(["explain", photo])
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "name"), [("matplotlib", "book"), ("openvino", "openvino")]
)
def test_a_missing_extra_is_named(
    package: str,
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("my.xml").write_text("<net/>")
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    for module in [m for m in sys.modules if m.startswith("xai_lib.viz")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "red.png", "--model", "my.xml"])
    assert f"pip install 'xai-lib[{name}]'" in capsys.readouterr().err


def test_classes_by_name_and_number() -> None:
    model = models.load("cnn_fashion_mnist")
    assert model.class_number("ankle BOOT", 10) == 9
    assert model.class_number("T-shirt/top", 10) == 0
    assert model.class_number("4", 10) == 4
    model.categories = ("crane", "gull", "Crane")
    with pytest.raises(ValueError, match=r"several classes .*, or one of \[0, 2\]"):
        model.class_number("crane", 3)
    with pytest.raises(ValueError, match="give a number from 0 to 2"):
        model.class_number("-1", 3)


def test_precision(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["explain", "red.png", "--model", "cnn_mnist", "--target", "3"]
    with pytest.raises(SystemExit):
        main([*given, "--method", "gradient", "--precision", "bfloat16"])
    assert "--precision: gradient takes gradients" in capsys.readouterr().err
    able = openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    asked = [*given, "--method", "rise", "--queries", "60", "--precision", "bfloat16"]
    if "BF16" not in able:
        with pytest.raises(SystemExit):
            main(asked)
        assert "no instructions for bfloat16" in capsys.readouterr().err
        return
    main([*asked[:-1], "float32"])
    exact = np.load(folder / "map.npy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        main(asked)
    rounded = np.load(folder / "map.npy")
    assert 0 < abs(rounded - exact).max() < 0.05 * abs(exact).max()
