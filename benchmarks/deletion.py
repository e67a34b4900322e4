"""Deletion of one photograph in 224 steps, by EfficientNet-Lite0's probabilities.

As in every use of it, the model is converted for OpenVINO once, before the clock
starts. The bare inferences get their images ready made.
"""

from __future__ import annotations

import torch
from timing import compare, ratio, report
from torch import Tensor

from xai_lib.core.blackbox import BlackBox
from xai_lib.core.openvino_backend import compiled
from xai_lib.metrics import deletion
from xai_lib.zoo import models, photos

STEPS = 224


class Watched(BlackBox):
    """Remembers the batches it sends to the model."""

    batches: list[Tensor]

    def _ask(self, batch: Tensor) -> Tensor:
        self.batches.append(batch.clone())
        return super()._ask(batch)


def main() -> None:
    model = models.probabilities(models.load("efficientnet_lite0"))
    image = photos.load("chelsea").image
    scores = torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    bare = compiled(model, image)
    watched = Watched(model)
    watched.batches = []
    expected = deletion(watched, image, scores, 285, STEPS)
    batches = watched.batches
    assert sum(map(len, batches)) == STEPS + 1
    singles = torch.cat(batches).split(1)

    def ours() -> None:
        blackbox = BlackBox(model)
        curve = deletion(blackbox, image, scores, 285, STEPS)
        assert blackbox.backend == "openvino"
        torch.testing.assert_close(curve.scores, expected.scores, rtol=1e-3, atol=1e-5)

    @torch.inference_mode()
    def torch_per_step() -> None:
        for one in singles:
            model(one)

    times = compare(
        {
            "deletion": ours,
            "bare OpenVINO, same batches": lambda: [*map(bare, batches)],
            "torch, one call per step": torch_per_step,
        }
    )
    report(times)
    whole, least, slow = times.values()
    ratio("deletion / bare OpenVINO", whole, least, "<= 1.15")
    ratio("torch, one call per step / deletion", slow, whole, ">= 2.5")


if __name__ == "__main__":
    main()
