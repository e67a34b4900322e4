"""GEEX on MNIST at n = 5,000: 200 images in one call, bare inference, plain torch.

    python benchmarks/geex.py [--quick]

The bare inference gets as many queries in batches of the same sizes, ready made: a few
thousand of the real ones, again and again, as all of them would not fit in memory. As
in every use, the model is converted for OpenVINO once, before the clock starts. Plain
torch is what one would write first: one image after the other, each with its own noise,
64 queries at a time. `--quick` takes 20 images.
"""

from __future__ import annotations

import argparse

import torch
from timing import compare, ratio, report
from torch import Tensor

from xai_lib.core.blackbox import BlackBox
from xai_lib.core.openvino_backend import compiled
from xai_lib.geex import GEEX, search_noise
from xai_lib.zoo import digits, models

N_SAMPLES, SIGMA, BATCH = 5000, 0.5, 64
SAMPLE = 4  # images for plain torch, whose time is multiplied


class Watched(BlackBox):
    """Remembers how large the batches were that it sent to the model."""

    sizes: list[int]

    def _ask(self, batch: Tensor) -> Tensor:
        self.sizes.append(len(batch))
        return super()._ask(batch)


@torch.inference_mode()
def plain_torch(model: torch.nn.Module, image: Tensor, target: int) -> Tensor:
    """The map of one image `[C, H, W]`: equation 1 with mirrored noise."""
    total, source = torch.zeros_like(image), torch.Generator().manual_seed(0)
    for start in range(0, N_SAMPLES // 2, BATCH // 2):
        pairs = min(BATCH // 2, N_SAMPLES // 2 - start)
        e = torch.randn(pairs, *image.shape, generator=source)
        plus, minus = model(image + SIGMA * torch.cat([e, -e]))[:, target].chunk(2)
        total += ((plus - minus)[:, None, None, None] * e).sum(dim=0)
    return total / (N_SAMPLES * SIGMA)


def main(n_images: int, repeats: int) -> None:
    model = models.load("cnn_mnist")
    images = digits.mnist(n_images).images
    target = model(images).argmax(dim=1)
    noise = next(search_noise("mirrored", tuple(images.shape[1:]), N_SAMPLES, 0))
    ready = (images[:8, None] + SIGMA * noise).flatten(0, 1)
    bare = compiled(model, images)
    sizes: list[int] = []
    found = set()  # the batch sizes that the BlackBox settled on

    def ours() -> Tensor:
        blackbox = Watched(model)
        blackbox.sizes = sizes
        sizes.clear()
        maps = GEEX(blackbox, N_SAMPLES, SIGMA).attribute(images, target)
        assert blackbox.queries == sum(sizes) == n_images * N_SAMPLES
        assert blackbox.backend == "openvino"
        found.add(str(blackbox.batch_size))
        return maps

    def inference() -> None:
        start = 0
        for size in sizes:
            start = 0 if start + size > len(ready) else start
            bare(ready[start : start + size])
            start += size

    def one_by_one() -> list[Tensor]:
        pairs = zip(images[:SAMPLE], target.tolist(), strict=False)
        return [plain_torch(model, *pair) for pair in pairs]

    # Both find the same maps, up to their noise.
    maps = torch.cosine_similarity(
        ours()[:SAMPLE].flatten(1), torch.stack(one_by_one()).flatten(1)
    )
    assert maps.min() > 0.4, maps
    name = f"GEEX, {n_images} images in one call"
    plain = f"plain torch, one by one, batch {BATCH}"
    times = compare(
        {name: ours, "bare inference": inference, plain: one_by_one}, repeats
    )
    times[plain] = [t * n_images / SAMPLE for t in times[plain]]
    print(
        f"{n_images} images, {N_SAMPLES} queries each; plain torch did {SAMPLE} of "
        f"them, times {n_images / SAMPLE:g}; batch sizes found: {', '.join(found)}"
    )
    report(times)
    ratio("GEEX / bare inference", times[name], times["bare inference"], "<= 1.25")
    ratio("plain torch / GEEX", times[plain], times[name], ">= 1.5")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    main(n_images=20 if quick else 200, repeats=5 if quick else 3)
