"""AISE: a saliency map as a density of kernels that an optimiser has placed."""

from xai_lib.aise.classification import AISE, Samples
from xai_lib.aise.density import saliency
from xai_lib.aise.detection import AISEDetection
from xai_lib.aise.kernels import gaussian_masks
from xai_lib.aise.samplers import (
    DirectSampler,
    LatticeSampler,
    LipoSampler,
    RandomSampler,
)
from xai_lib.core.detection import Detection, detection_score

__all__ = [
    "AISE",
    "AISEDetection",
    "Detection",
    "DirectSampler",
    "LatticeSampler",
    "LipoSampler",
    "RandomSampler",
    "Samples",
    "detection_score",
    "gaussian_masks",
    "saliency",
]
