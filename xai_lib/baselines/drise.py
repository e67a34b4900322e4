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

from typing import Any

from torch import Tensor

from xai_lib.baselines.rise import RISE
from xai_lib.core.boxes import as_box
from xai_lib.core.detection import Detection, Detector, DetectorAttribution, one_image


class DRISE(DetectorAttribution):
    """D-RISE (Petsiuk et al., 2021), with AISE's similarity.

    Args:
        detector: any callable from images `[N, C, H, W]` to N `Detection`s.
        n_samples: masks, and so queries, per image.
        mask_size: cells per side of the small random grid.
        p: the probability that a cell is visible.
        seed: of the masks; the same seed gives the same map.
    """

    def __init__(
        self,
        detector: Detector,
        n_samples: int = 5000,
        mask_size: int = 16,
        p: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(detector)
        self.settings: dict[str, Any] = dict(
            n_samples=n_samples, mask_size=mask_size, p=p, seed=seed
        )
        RISE(detector, **self.settings)  # wrong settings are noticed here

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
        one_image(inputs)
        if not isinstance(detections, Detection):
            raise TypeError(
                f"detections must be a Detection, got {type(detections).__name__}; to "
                "explain all that is found use detector(inputs)[0]"
            )
        if not len(detections.boxes):
            raise ValueError("detections must hold at least one, got none")
        boxes = [as_box(box, *inputs.shape[2:]) for box in detections.boxes]
        pairs = list(zip(boxes, detections.labels.tolist(), strict=True))

        return self._maps(inputs, pairs, show_progress)

    def _explain(
        self, image: Tensor, box: Tensor, label: int, show_progress: bool
    ) -> Tensor:
        return self._maps(image, [(box, label)], show_progress)

    def _maps(
        self, image: Tensor, pairs: list[tuple[Tensor, int]], show_progress: bool
    ) -> Tensor:
        with self._scores(pairs) as blackbox:
            explainer = RISE(blackbox, **self.settings)
            return explainer.attribute_all(image, show_progress=show_progress)
