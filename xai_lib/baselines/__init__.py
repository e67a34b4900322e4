"""Well-known explanation methods, to compare the papers' methods with."""

from xai_lib.baselines.blackbox import Occlusion
from xai_lib.baselines.whitebox import Gradient, IntegratedGradients, SmoothGrad

__all__ = ["Gradient", "IntegratedGradients", "Occlusion", "SmoothGrad"]
