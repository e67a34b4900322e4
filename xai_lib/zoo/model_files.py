"""Classifiers out of files: TorchScript, ONNX and OpenVINO."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.core.arguments import check_count, check_numbers
from xai_lib.core.extras import openvino
from xai_lib.zoo.models import Classifier, normalization

TORCHSCRIPT = (".pt", ".pth", ".ts")
SUFFIXES = (*TORCHSCRIPT, ".onnx", ".xml")


def read(
    path: str | Path,
    size: int = 224,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
) -> Classifier:
    """A classifier of one's own, in eval mode on the CPU; its categories are unknown.

    Args:
        path: TorchScript (.pt, .pth, .ts), which has gradients; ONNX (.onnx) or
            OpenVINO (.xml, its .bin beside it), which only answer.
        size: height and width, in pixels, of the images it takes.
        mean, std: of each channel of images in [0, 1], for `normalization`. By default
            the network takes three channels and normalises inside, or not at all.

    Raises:
        FileNotFoundError: no such file.
        TypeError, ValueError: a wrong argument; a file that is no such network, or one
            that does not answer images `[N, C, size, size]`.
        ModuleNotFoundError: ONNX or OpenVINO without the extra [openvino].
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"model {path} does not exist")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"model {path} must end in one of {', '.join(SUFFIXES)}")
    check_numbers("mean", mean, float("-inf"))
    check_numbers("std", std, 1e-9)
    if len(mean) != len(std):
        raise ValueError(
            "mean and std must have a number for each channel, got "
            f"{len(mean)} and {len(std)}"
        )
    shape = (len(mean), check_count("size", size), size)
    torchscript = path.suffix.lower() in TORCHSCRIPT
    try:
        network = _scripted(path) if torchscript else _Compiled(path, shape)
        found = Classifier(path.stem, network, normalization(mean, std), (), size)
        found.eval().requires_grad_(False)
        found(torch.full((2, *shape), 0.5, dtype=torch.float32, device="cpu"))
    except RuntimeError as error:
        *_, reason = str(error).strip().splitlines()
        raise ValueError(
            f"model {path} does not answer images [N, {len(mean)}, {size}, {size}]; "
            f"give its own size, and a mean and std for each channel ({reason.strip()})"
        ) from error
    return found


def _scripted(path: Path) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the format has a successor
            return torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise ValueError(
            f"model {path} is no TorchScript, as weights alone or a pickled module are "
            f"none; write one: torch.jit.trace(model.eval(), images).save(path)"
        ) from error


class _Compiled(nn.Module):
    """A network that OpenVINO runs on the CPU, in single precision; no gradients."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        super().__init__()
        core = openvino().Core()

        def compiled(rows: int) -> Any:
            network = core.read_model(path)
            network.reshape([rows, *shape])
            return core.compile_model(
                network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
            )

        try:
            core.read_model(path)
        except RuntimeError as error:
            beside = ", or its .bin is missing" if path.suffix.lower() == ".xml" else ""
            raise ValueError(f"OpenVINO cannot read model {path}{beside}") from error
        try:
            self.rows, self.run = 2**31, compiled(-1)
            self(torch.zeros(2, *shape, dtype=torch.float32, device="cpu"))
        except RuntimeError:  # perhaps it is for one image at a time
            self.rows, self.run = 1, compiled(1)

    def forward(self, images: Tensor) -> Tensor:
        parts = images.float().cpu().split(self.rows)
        answers = [torch.from_numpy(self.run(x.numpy())[0].copy()) for x in parts]
        return torch.cat(answers)
