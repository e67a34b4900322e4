"""1,000 queries of EfficientNet-Lite0: BlackBox, its bare backend, and plain torch.

BlackBox is new each time and so pays for its probe and for its search for a batch
size; the conversion for OpenVINO happens once per process, before the clock starts.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any
from unittest import mock

import torch
from timing import compare, ratio, report, seconds
from torch import Tensor, nn

from xai_lib.aise import AISE
from xai_lib.core import openvino_backend
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.openvino_backend import compiled
from xai_lib.zoo import models

BLOCKS, BLOCK, REPEATS = 5, 200, 3  # and a first repeat that warms up
REQUESTS = 50


class Watched(BlackBox):
    """Remembers the batches it sends to the model."""

    sizes: list[int]

    def _ask(self, batch: Tensor) -> Tensor:
        self.sizes.append(len(batch))
        return super()._ask(batch)


def main() -> None:
    model = models.load("efficientnet_lite0")
    bare = compiled(model, torch.rand(1, 3, 224, 224))
    times: dict[str, list[float]] = {"BlackBox": [], "bare": [], "torch": []}
    for repeat in range(REPEATS + 1):
        source = torch.Generator().manual_seed(repeat)
        blackbox = Watched(model)
        total = dict.fromkeys(times, 0.0)
        for block in range(BLOCKS):
            images = torch.rand(BLOCK, 3, 224, 224, generator=source)
            blackbox.sizes = []
            total["BlackBox"] += seconds(blackbox, images)
            same = images.split(blackbox.sizes)
            total["bare"] += seconds(lambda batches: [*map(bare, batches)], same)
            if block == 0:
                # Plain torch is slow: one block, and its time is multiplied.
                with torch.inference_mode():
                    once = seconds(lambda x: [*map(model, x.split(64))], images)
                total["torch"] = once * BLOCKS
        assert (blackbox.backend, blackbox.queries) == ("openvino", BLOCKS * BLOCK)
        # OpenVINO prepares itself for each batch size when it first sees it.
        for name, values in times.items() if repeat else ():
            values.append(total[name])
    print(f"{BLOCKS * BLOCK} queries; batch size found: {blackbox.batch_size}")
    report(times)
    ratio("BlackBox / bare OpenVINO", times["BlackBox"], times["bare"], "<= 1.05")
    ratio("torch at batch 64 / BlackBox", times["torch"], times["BlackBox"], ">= 2.5")
    # Each request asks first whether the copy is still the model, see openvino_backend.
    for size in (1, 8):
        request = images[:size]
        runs = {"BlackBox": partial(blackbox, request), "bare": partial(bare, request)}
        one = compare(runs, REQUESTS)
        name = f"BlackBox / bare OpenVINO, requests of {size}"
        ratio(name, one["BlackBox"], one["bare"])
    explanation(model, images[:1])


def explanation(model: nn.Module, image: Tensor) -> None:
    """AISE asks in small requests, one after the other: what the checks cost it."""
    blackbox, checking = BlackBox(model), [0.0]
    blackbox(image.expand(64, -1, -1, -1))  # converts

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return compiled(*arguments)
        finally:
            checking[0] += time.perf_counter() - began

    with mock.patch.object(openvino_backend, "compiled", timed):
        whole = seconds(AISE(blackbox).attribute, image, 0)
    ratio("AISE / AISE without checks", [whole], [whole - checking[0]], "<= 1.03")


if __name__ == "__main__":
    main()
