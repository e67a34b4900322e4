"""Explaining image models by perturbing their inputs.

The library behind the book: every method proposes perturbations, queries the model
and aggregates the answers. Start with `xai_lib.blackbox.BlackBox`, the only door to
a model, and `xai_lib.attribution.Attribution`, the shape that all methods share.
"""

__version__ = "0.1.0"
