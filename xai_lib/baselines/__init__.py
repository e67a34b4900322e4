"""Well-known explanation methods, to compare the papers' methods with."""

from xai_lib.baselines.deeplift import DeepLift
from xai_lib.baselines.drise import DRISE
from xai_lib.baselines.extremal import ExtremalPerturbation
from xai_lib.baselines.gradcam import GradCAM
from xai_lib.baselines.guided_backprop import GuidedBackprop
from xai_lib.baselines.kernelshap import KernelSHAP
from xai_lib.baselines.lime import LIME
from xai_lib.baselines.lrp import LRP
from xai_lib.baselines.occlusion import Occlusion
from xai_lib.baselines.rise import RISE
from xai_lib.baselines.whitebox import Gradient, IntegratedGradients, SmoothGrad

__all__ = [
    "DRISE",
    "LIME",
    "LRP",
    "RISE",
    "DeepLift",
    "ExtremalPerturbation",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "IntegratedGradients",
    "KernelSHAP",
    "Occlusion",
    "SmoothGrad",
]
