"""What numbers of two bytes or one do to a model's answers: measured, never assumed."""

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai_lib.core.answers import as_scores

PRECISIONS = ("float32", "bfloat16", "int8")
CALIBRATION = 64  # inputs that decide which numbers int8 can tell apart
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
    answers: list[Tensor] = [probe] * 2  # until they are there
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


def quantised(graph: Any, some: Tensor) -> Any:
    """OpenVINO's graph in int8, calibrated on some inputs, as they are and darkened."""
    import nncf

    rows = torch.cat([some] * -(-CALIBRATION // len(some)))[:CALIBRATION]
    places = (7, 7) if some.ndim == 4 else some.shape[1:]
    source = torch.Generator("cpu").manual_seed(0)
    size = CALIBRATION, 1, *places
    draws = torch.rand(size, generator=source, dtype=torch.float32, device="cpu")
    dark = (draws < 0.5).float()
    dark = F.interpolate(dark, some.shape[2:]) if some.ndim == 4 else dark[:, 0]
    given = [x[None].numpy() for x in torch.cat([some, rows * dark])]
    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(graph, nncf.Dataset(given), subset_size=len(given))
