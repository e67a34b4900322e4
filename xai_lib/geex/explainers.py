"""GEEX, GERS and iGEEX: gradient-like explanations from queries alone.

Cai and Wunder, "On gradient-like explanation under a black-box setting: when black-box
explanations become as good as white-box", first arXiv version.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xai_lib.arguments import (
    Target,
    check_choice,
    check_count,
    check_inputs,
    check_number,
    expand_baselines,
    pick,
    resolve_target,
)
from xai_lib.attribution import BlackBoxAttribution, progress
from xai_lib.geex.estimator import Estimate, ScoreFunctionMean
from xai_lib.geex.noise import SearchNoise, check_search

LOSSES = ("score", "non-informative")

Loss = Callable[[Tensor], Tensor]
"""Scores `[N, m, K]` to what is differentiated, `[N, m, 1]` or `[N, m, K]`."""


class GradientEstimate(BlackBoxAttribution):
    """Base of the three: the loop of propose, query, aggregate."""

    input_dims: tuple[int, ...] = (2, 4)

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int,
        stdevs: float,
        noise: str,
        mask_size: int | None,
        loss: str,
        seed: int,
    ) -> None:
        super().__init__(forward_func)
        check_search(noise, n_samples, seed, mask_size)
        self.stdevs = check_number("stdevs", stdevs, 0)
        if self.stdevs == 0:
            raise ValueError("stdevs must be above 0, got 0: no query would differ")
        self.loss = check_choice("loss", loss, LOSSES)
        self.n_samples, self.noise, self.seed = n_samples, noise, seed
        self.mask_size = mask_size

    def estimate(
        self, inputs: Tensor, target: Target = None, *, show_progress: bool = False
    ) -> Estimate:
        """The map with its standard error; arguments and errors as in `attribute`."""
        check_inputs(inputs, dims=self.input_dims)
        inputs = inputs.detach()
        classes = resolve_target(self._scores, inputs, target)
        found = self._estimate(inputs, self._loss(classes), True, show_progress)
        return Estimate(found.gradient[:, 0], found.standard_error[:, 0])

    def attribute_all(self, inputs: Tensor, *, show_progress: bool = False) -> Tensor:
        """The maps of all K classes, `[N, K, ...]`, from one set of queries.

        Raises:
            ValueError: for the loss "non-informative", which knows no classes.
        """
        check_inputs(inputs, dims=self.input_dims)
        if self.loss != "score":
            raise ValueError(
                f"loss must be 'score' for attribute_all, got {self.loss!r}, which is "
                "not linear in the scores and the same for all classes"
            )
        found = self._estimate(inputs.detach(), lambda s: s, False, show_progress)
        return found.gradient

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        loss = self._loss(target)
        return self._estimate(inputs, loss, False, show_progress).gradient[:, 0]

    def _loss(self, target: Tensor) -> Loss:
        if self.loss == "non-informative":
            return divergence_from_uniform

        def of_target(scores: Tensor) -> Tensor:
            classes = target.repeat_interleave(scores.shape[1])
            return pick(scores.flatten(0, 1), classes).view(*scores.shape[:2], 1)

        return of_target

    def _estimate(
        self, inputs: Tensor, loss: Loss, with_error: bool, show_progress: bool
    ) -> Estimate:
        """Propose noise, query the model, aggregate the answers: `[N, K, ...]`."""
        search = SearchNoise(
            self.noise,
            tuple(inputs.shape[1:]),
            self.n_samples,
            self.seed,
            self.mask_size,
        )
        mean = ScoreFunctionMean(search, inputs, with_error)
        name = type(self).__name__
        for noise in progress(search, show_progress, len(search), name):
            noise = noise.to(inputs)
            queries = self._queries(inputs, noise, search, mean.asked)
            scores = self.blackbox.versions(len(inputs), len(noise), queries)
            mean.add(loss(scores), noise)
        return mean.estimate(self.stdevs)

    def _queries(
        self, inputs: Tensor, noise: Tensor, search: SearchNoise, asked: int
    ) -> Callable[[slice, slice], Tensor]:
        """x + σ ε, for slices of the images and of the chunk's noise."""

        def make(i: slice, j: slice) -> Tensor:
            return torch.add(inputs[i, None], noise[None, j], alpha=self.stdevs)

        return make


class GEEX(GradientEstimate):
    """The gradient of the smoothed score, estimated by noise on pixels (equation 1)."""

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 5000,
        stdevs: float = 0.5,
        noise: str = "mirrored",
        loss: str = "score",
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func, n_samples, stdevs, noise, None, loss, seed)


class GERS(GradientEstimate):
    """GEEX with resized masks: the gradient seen through s × s cells, or cosines."""

    input_dims = (4,)

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 5000,
        stdevs: float = 0.5,
        mask_size: int = 14,
        noise: str = "mirrored",
        loss: str = "score",
        seed: int = 0,
    ) -> None:
        super().__init__(
            forward_func,
            n_samples,
            stdevs,
            noise,
            check_count("mask_size", mask_size),
            loss,
            seed,
        )


class IGEEX(GradientEstimate):
    """(x − x') times the estimated gradient, integrated from x' to x."""

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 5000,
        stdevs: float = 0.5,
        noise: str = "mirrored",
        mask_size: int | None = None,
        baselines: float | Tensor = 0,
        n_steps: int | None = None,
        loss: str = "score",
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func, n_samples, stdevs, noise, mask_size, loss, seed)
        self.baselines = baselines
        self.n_steps = n_steps
        if n_steps is not None:
            each = check_count("n_steps", n_steps) * (
                1 if noise == "independent" else 2
            )
            if n_samples % each:
                raise ValueError(
                    f"n_samples must be a multiple of {each}, so that each of the "
                    f"{n_steps} steps gets as many queries; got {n_samples}"
                )

    def _estimate(
        self, inputs: Tensor, loss: Loss, with_error: bool, show_progress: bool
    ) -> Estimate:
        found = super()._estimate(inputs, loss, with_error, show_progress)
        difference = (inputs - expand_baselines(self.baselines, inputs))[:, None]
        return Estimate(
            difference * found.gradient, difference.abs() * found.standard_error
        )

    def _queries(
        self, inputs: Tensor, noise: Tensor, search: SearchNoise, asked: int
    ) -> Callable[[slice, slice], Tensor]:
        """x' + α (x − x') + σ ε, with α = (step + 1/2) / n_steps."""
        pairs = 2 if search.mirrored else 1
        steps = self.n_steps or search.n_directions
        order = torch.arange(asked, asked + len(noise) // pairs, dtype=torch.float64)
        step = (order * steps / search.n_directions).floor()
        alpha = ((step + 0.5) / steps).repeat(pairs).to(inputs)
        alpha = alpha.view(-1, *[1] * (inputs.ndim - 1))
        root = expand_baselines(self.baselines, inputs)[:1]
        # What all images share: (1 − α) x' + σ ε.
        shared = torch.add((1 - alpha) * root, noise, alpha=self.stdevs)

        def make(i: slice, j: slice) -> Tensor:
            return torch.addcmul(shared[None, j], alpha[None, j], inputs[i, None])

        return make


def divergence_from_uniform(scores: Tensor) -> Tensor:
    """Cross-entropy to the uniform, "non-informative" target: logits to `[..., 1]`.

    −(1/K) Σ_k log p_k = log Σ_k exp(z_k) − (1/K) Σ_k z_k. It is least, log K, where the
    model has no opinion, so a positive gradient makes the model more decided.

    Raises:
        ValueError: a single class, or probabilities in place of logits.
    """
    if scores.shape[-1] < 2:
        raise ValueError("loss 'non-informative' needs at least 2 scores, got 1")
    if bool((scores >= 0).all()) and bool(((scores.sum(-1) - 1).abs() < 1e-3).all()):
        raise ValueError(
            "loss 'non-informative' needs logits, but forward_func returns "
            "probabilities; give it their logarithm"
        )
    return (scores.logsumexp(-1) - scores.mean(-1)).unsqueeze(-1)
