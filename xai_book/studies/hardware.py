"""The models of the studies, each loaded once, and where they run."""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor, nn

from xai_book.data import torchray
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.detection import Detection
from xai_lib.zoo import detectors, models


def device() -> torch.device:
    """The first GPU that this process sees, or else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache
def model(name: str) -> models.Classifier:
    """A classifier of the zoo, or of TorchRay's, on `device`."""
    load = torchray.load if name in torchray.MODELS else models.load
    return load(name).to(device())


def size(name: str) -> int:
    """The side of a model's images in pixels."""
    return model(name).input_size


def channels(name: str) -> int:
    """The channels of a model's images."""
    return model(name).normalize.num_features


def is_small(name: str) -> bool:
    """Whether a model's images are digits and not photographs."""
    return size(name) < 64


@lru_cache
def scorer(name: str, explains: str = "probability") -> nn.Module:
    """What is explained of a model: "probability" or "logit" of its classes."""
    known = model(name)
    return models.probabilities(known) if explains == "probability" else known


@lru_cache
def blackbox(
    name: str,
    explains: str = "probability",
    batch_size: int | Literal["auto"] = "auto",
    backend: str | None = None,
) -> BlackBox:
    """A black box that has the same backend from its first query on.

    "auto" changes to OpenVINO after some queries, so that the last digits of a row
    would depend on what the process had measured before. A fixed batch is for small
    networks, whose timing may end at 4 on a busy machine.

    Args:
        backend: None is OpenVINO on a CPU where it is installed, and torch elsewhere.
    """
    if backend is None:
        usable = device().type == "cpu" and find_spec("openvino")
        backend = "openvino" if usable else "torch"
    return BlackBox(scorer(name, explains), batch_size=batch_size, backend=backend)


@lru_cache
def detector(name: str) -> Callable[[Tensor], list[Detection]]:
    """A detector of the zoo on `device`, for images on the CPU."""
    known = detectors.load(name)
    if isinstance(known, nn.Module):
        known.to(device())

    return lambda images: known(images.to(device()))
