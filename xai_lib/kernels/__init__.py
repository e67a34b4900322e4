"""Operations that a GPU does in one pass over memory, and what every device does.

A module here holds one operation: its plain form in torch, which is the reference and
what runs on a CPU, on Apple's MPS and wherever Triton is missing, and a function that
takes the kernel of the same name in `kernels.triton` on an NVIDIA GPU. Triton is not
imported before the first kernel is launched.

With TRITON_INTERPRET=1 in the environment the kernels run on a CPU, in Triton's
interpreter: slowly, which is enough to test them.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch


def kernels_run_on(device: torch.device | str) -> bool:
    """True on an NVIDIA GPU with Triton, and on a CPU under Triton's interpreter."""
    kind = torch.device(device).type
    interpreted = kind == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    return (interpreted or kind == "cuda") and _triton_is_installed()


@cache
def _triton_is_installed() -> bool:
    # A wheel for ROCm calls its devices cuda too; the kernels were never run there.
    return find_spec("triton") is not None and torch.version.hip is None
