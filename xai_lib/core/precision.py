"""What numbers of two bytes or one do to a model's answers: measured, never assumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from xai_lib.core.answers import as_scores

PRECISIONS = ("float32", "bfloat16", "int8")
REPEATS = 3  # of each, in turns; the shortest counts


def backend_for(
    precision: str, backend: str, forward_func: Any, device: torch.device | None
) -> str:
    """Who computes in bfloat16 or int8: OpenVINO on a CPU, else torch's autocast.

    Raises:
        TypeError, ValueError: nobody does.
    """
    if backend == "auto":
        if not isinstance(forward_func, nn.Module):
            raise TypeError(
                f"precision {precision!r} needs forward_func to be an nn.Module; or "
                "name the backend: 'torch' runs bfloat16 by autocast"
            )
        on_cpu = device is None or device.type == "cpu"
        backend = "openvino" if on_cpu else "torch"
    if backend == "openvino" or (precision, backend) == ("bfloat16", "torch"):
        return backend
    raise ValueError(
        f"precision {precision!r} does not go with backend {backend!r}: on a CPU "
        "OpenVINO runs bfloat16 and int8, and torch runs bfloat16 on every device"
    )


class Agreement(NamedTuple):
    """Answers in reduced precision beside those in float32, on the same few inputs."""

    precision: str
    inputs: int
    gap: float
    """The largest difference of two scores, as a share of the largest score."""
    same_class: int
    """How many of the inputs keep their best class."""
    time: float
    """Of reduced precision, as a share of float32's: at 1 nothing is gained."""

    def __str__(self) -> str:
        return (
            f"{self.precision} beside float32, on {self.inputs} inputs: scores differ "
            f"by up to {self.gap:.2g} of the largest, {self.same_class} keep their "
            f"class, and it takes {self.time:.2f} of the time"
        )


def measured(
    precision: str,
    reduced: Callable[[Tensor], Any],
    exact: Callable[[Tensor], Any],
    probe: Tensor,
) -> Agreement:
    """Ask both the same inputs `[N, ...]`, a few times."""
    seconds = [float("inf")] * 2
    answers = [torch.empty(0)] * 2
    for _ in range(REPEATS):
        for i, ask in enumerate((reduced, exact)):
            began = time.perf_counter()
            answers[i] = as_scores(ask(probe)).cpu()  # which waits for an accelerator
            seconds[i] = min(seconds[i], time.perf_counter() - began)
    given, expected = answers
    gap = (given - expected).abs().max() / expected.abs().max().clamp_min(1e-30)
    same = int((given.argmax(dim=1) == expected.argmax(dim=1)).sum())
    faster = seconds[0] / seconds[1]
    return Agreement(precision, len(probe), float(gap), same, faster)
