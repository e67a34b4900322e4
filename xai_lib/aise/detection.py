"""AISE for detectors: which parts of an image does one detection rest on?

As for classifiers (`classification`), with three changes (supplement, section 9). The
score of a query is how well the detection is found again: the largest product of IoU
and class score among the detections of the label. The widths come from the box, its
shorter side divided by 7, 4 and 1. And kernels are placed only in the box and half a
box around it. Only *preserve* is used.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from xai_lib.aise.classification import AISE, Samples
from xai_lib.aise.samplers import Bounds, Sampler
from xai_lib.core.arguments import check_numbers
from xai_lib.core.attribution import as_maps
from xai_lib.core.boxes import as_box
from xai_lib.core.detection import (
    Detector,
    DetectorAttribution,
    check_detections,
    one_image,
)


class AISEDetection(DetectorAttribution):
    """AISE for detectors.

    It asks exactly n_kernels · divisors queries per image: AISE-150 is 50 · 3, and the
    paper's figures use 33 · 3 = 99.

    Args:
        detector: any callable from images `[N, C, H, W]` to N `Detection`s.
        sampler: as in `AISE`.
        n_kernels: kernels per width.
        kernel_divisors: the widths are the box's shorter side divided by these.
        seed: of the samplers that draw.
        eps: precision of the search (section 9: 0.05).
        normalise: as in `AISE`.
    """

    def __init__(
        self,
        detector: Detector,
        sampler: str | Callable[[Bounds, int, int], Sampler] = "direct",
        n_kernels: int = 50,
        kernel_divisors: Sequence[float] = (7, 4, 1),
        seed: int = 0,
        eps: float = 0.05,
        normalise: bool = False,
    ) -> None:
        super().__init__(detector)
        self.kernel_divisors = check_numbers("kernel_divisors", kernel_divisors, 0)
        if 0 in self.kernel_divisors:
            raise ValueError(f"kernel_divisors must be above 0, got {kernel_divisors}")
        self.settings: dict[str, Any] = {
            "sampler": sampler,
            "n_kernels": n_kernels,
            "seed": seed,
            "eps": eps,
            "normalise": normalise,
        }
        # Wrong settings are noticed here.
        AISE(detector, kernel_widths=self.kernel_divisors, **self.settings)

    def sample(
        self, inputs: Tensor, target: Any, *, show_progress: bool = False
    ) -> Samples:
        """The centres, scores and maps behind the map of one image; see `attribute`."""
        one_image(inputs)
        ((box, label),) = check_detections(target, inputs)
        height, width = inputs.shape[2:]
        widths, area = place(box, height, width, self.kernel_divisors)
        with self._scores([(box, label)]) as blackbox:
            explainer = AISE(
                blackbox,
                kernel_widths=widths,
                bounds=area,
                delete=False,
                **self.settings,
            )
            return explainer.sample(inputs, 0, show_progress=show_progress)

    def _explain(
        self, image: Tensor, box: Tensor, label: int, show_progress: bool
    ) -> Tensor:
        maps = self.sample(image, (box, label), show_progress=show_progress).maps
        return as_maps(maps.sum(dim=1, keepdim=True).to(image), image)


def place(
    box: Any, height: int, width: int, divisors: Sequence[float] = (7, 4, 1)
) -> tuple[list[float], Bounds]:
    """Kernel widths and search area for a box, in units of the image's sides.

    The widths are the shorter side of the box, in the unit square, over the divisors.
    The area is the box and half of its size around it, cut at the edges of the image:
    in (6) and (7) p is a pixel.

    Args:
        box: `[4]`, x0, y0, x1, y1 in pixels; it may stick out of the image.
        height, width: of the image.
        divisors: of the shorter side.

    Raises:
        ValueError: the box is not finite, has no area, or lies outside the image.
    """
    corners = as_box(box, height, width).double()
    x0, y0, x1, y1 = (corners / corners.new_tensor([width, height] * 2)).tolist()
    half_w, half_h = (x1 - x0) / 2, (y1 - y0) / 2
    lower = (max(0.0, x0 - half_w), max(0.0, y0 - half_h))
    upper = (min(1.0, x1 + half_w), min(1.0, y1 + half_h))
    return [2 * min(half_w, half_h) / d for d in divisors], (lower, upper)
