"""GEEX: gradients estimated from queries alone."""

from xai_lib.geex.estimator import Estimate
from xai_lib.geex.explainers import GEEX, GERS, IGEEX
from xai_lib.geex.noise import NOISES, SearchNoise, search_noise

__all__ = ["GEEX", "GERS", "IGEEX", "NOISES", "Estimate", "SearchNoise", "search_noise"]
