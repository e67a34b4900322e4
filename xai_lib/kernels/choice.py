"""Whether a Triton kernel runs, or the plain form in torch."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch


def kernels_run_on(device: torch.device | str) -> bool:
    """True on an NVIDIA GPU with Triton, and on a CPU under Triton's interpreter."""
    if torch.device(device).type == "cpu":
        return os.environ.get("TRITON_INTERPRET") == "1" and _triton_is_installed()
    return torch.device(device).type == "cuda" and _triton_is_installed()


@cache
def _triton_is_installed() -> bool:
    # A wheel for ROCm calls its devices cuda too; the kernels were never run there.
    return find_spec("triton") is not None and torch.version.hip is None
