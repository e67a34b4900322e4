"""PertMap: the largest perturbation that leaves the model's decision alone."""

from xai_lib.pertmap.box import (
    Box,
    ViolationRates,
    WorstPoint,
    violation_rates,
    worst_point,
)
from xai_lib.pertmap.linear import LinearPertMap, LinearSolution
from xai_lib.pertmap.stochastic import StochasticPertMap, StochasticSolution

__all__ = [
    "Box",
    "LinearPertMap",
    "LinearSolution",
    "StochasticPertMap",
    "StochasticSolution",
    "ViolationRates",
    "WorstPoint",
    "violation_rates",
    "worst_point",
]
