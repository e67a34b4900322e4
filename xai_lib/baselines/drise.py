"""D-RISE: RISE for one detection of an object detector.

Petsiuk et al., "Black-box explanation of object detectors via saliency maps" (2021),
https://arxiv.org/abs/2006.03204. Masks and map are RISE's; what takes the place of a
class's probability is how well a detection, with box b and label l, is found again in
the masked image: the best similarity of any detection there to it.

    S(pixel) = Σ_i s_i m_i / Σ_i m_i,   s_i = max_j IoU(b, b_j) · score_j · 1[l_j = l]

So it is RISE with s for a score, and is written like that. Different from the paper:
its similarity is the product of IoU, the cosine of the two vectors of all class
probabilities, and the objectness. The cosine needs these vectors, which few detectors
give away; the product of IoU and class score is that of AISE. And the sum is divided by
Σ m_i, pixel by pixel (see `rise`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xai_lib.baselines.rise import RISE
from xai_lib.core.arguments import check_inputs
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.boxes import as_box
from xai_lib.core.detection import (
    Detection,
    Detector,
    ask,
    check_detections,
    detection_score,
    home,
)


class DRISE:
    """D-RISE (Petsiuk et al., 2021), with AISE's similarity.

    Args:
        detector: any callable from images `[N, C, H, W]` to N `Detection`s.
        n_samples: masks, and so queries, per image.
        mask_size: cells per side of the small random grid.
        p: the probability that a cell is visible.
        seed: of the masks; the same seed gives the same map.

    Attributes:
        queries: how many images the detector has answered so far.
    """

    def __init__(
        self,
        detector: Detector,
        n_samples: int = 5000,
        mask_size: int = 16,
        p: float = 0.5,
        seed: int = 0,
    ) -> None:
        if not callable(detector):
            raise TypeError(f"detector must be callable, got {type(detector).__name__}")
        self.detector = detector
        self.settings: dict[str, Any] = {
            "n_samples": n_samples,
            "mask_size": mask_size,
            "p": p,
            "seed": seed,
        }
        RISE(detector, **self.settings)  # wrong settings are noticed here
        self.queries = 0

    def attribute(
        self, inputs: Tensor, target: Any, *, show_progress: bool = False
    ) -> Tensor:
        """The maps `[N, 1, H, W]` of one detection in each image, in [0, 1].

        Args:
            inputs: float `[N, C, H, W]`.
            target: (box, label), or a list of N such pairs; a box is x0, y0, x1, y1
                in pixels.
            show_progress: draw a progress bar that vanishes when it is full.

        Raises:
            TypeError, ValueError: a wrong argument, by name, with the fix.
        """
        check_inputs(inputs)
        maps = []
        pairs = check_detections(target, inputs)
        for image, (box, label) in zip(inputs.split(1), pairs, strict=True):
            labels = torch.tensor([label], device="cpu")
            wanted = Detection(box[None], box.new_ones(1), labels)
            maps.append(self.attribute_all(image, wanted, show_progress=show_progress))
        return torch.cat(maps)

    def attribute_all(
        self, inputs: Tensor, detections: Detection, *, show_progress: bool = False
    ) -> Tensor:
        """The maps `[1, k, H, W]` of k detections, from one set of queries.

        Args:
            inputs: float `[1, C, H, W]`.
            detections: what to explain, such as the detector's answer to `inputs`.
            show_progress: draw a progress bar that vanishes when it is full.

        Raises:
            TypeError, ValueError: a wrong argument, by name, with the fix.
        """
        check_inputs(inputs)
        if len(inputs) != 1:
            raise ValueError(
                f"inputs must be one image [1, C, H, W], got {len(inputs)}"
            )
        if not isinstance(detections, Detection):
            raise TypeError(
                f"detections must be a Detection, got {type(detections).__name__}; to "
                "explain all that is found use detector(inputs)[0]"
            )
        if not len(detections.boxes):
            raise ValueError("detections must hold at least one, got none")
        boxes = [as_box(box, *inputs.shape[2:]) for box in detections.boxes]
        pairs = list(zip(boxes, detections.labels.tolist(), strict=True))

        def scores(images: Tensor) -> Tensor:
            found = ask(self.detector, images)
            return torch.stack([detection_score(found, *pair) for pair in pairs], dim=1)

        blackbox = BlackBox(scores, device=home(self.detector), backend="torch")
        explainer = RISE(blackbox, **self.settings)
        try:
            return explainer.attribute_all(inputs, show_progress=show_progress)
        finally:
            self.queries += blackbox.queries
