"""Where studies run, and a black box whose answers depend on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from xai_lib.core.blackbox import BlackBox
from xai_lib.core.detection import Detection
from xai_lib.zoo import detectors, models


def device() -> torch.device:
    """The first GPU that this process sees, or else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model(name: str) -> models.Classifier:
    """A classifier of the zoo on `device`."""
    return models.load(name).to(device())


def detector(name: str) -> Callable[[Tensor], list[Detection]]:
    """A detector of the zoo on `device`, for images on the CPU."""
    known = detectors.load(name)
    if isinstance(known, nn.Module):
        known.to(device())

    return lambda images: known(images.to(device()))


def blackbox(scorer: nn.Module, batch_size: int | Literal["auto"] = "auto") -> BlackBox:
    """A black box that has the same backend from its first query on.

    "auto" changes to OpenVINO after some queries, so that the last digits of a row
    would depend on what the process had measured before.
    """
    found = BlackBox(scorer, batch_size=batch_size)
    if found.device is None or found.device.type == "cpu":
        found.backend = "openvino"  # or torch, where that cannot be had
    return found
