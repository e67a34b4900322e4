"""GEEX, GERS and iGEEX: gradient-like explanations from queries alone.

Cai and Wunder, "On gradient-like explanation under a black-box setting: when black-box
explanations become as good as white-box", first arXiv version, section 3.

    GEEX     g = (1/nσ) Σ_i f(x + σε_i) ε_i            equation 1, ε from `noise`
    GERS     the same, with ε upsampled from small masks
    iGEEX    (x − x') ⊙ (1/k) Σ_j g(x' + α_j (x − x'))   α_j = (j + ½) / k, j < k

f is the loss: a score of the target, so that a positive value means "more of this
raises the score", or the cross-entropy to a uniform target (`divergence_from_uniform`).
No query is clipped to the range of images: that would bend the noise, and with it the
estimate.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from xai_lib.core.arguments import (
    Target,
    check_baselines,
    check_choice,
    check_count,
    check_number,
    expand_baselines,
)
from xai_lib.core.attribution import BlackBoxAttribution, accumulator, as_maps, progress
from xai_lib.core.blackbox import keeping
from xai_lib.core.blocks import of_target
from xai_lib.geex.estimator import Estimate, ScoreFunctionMean
from xai_lib.geex.noise import Chunk, SearchNoise, check_search

LOSSES = ("score", "non-informative")

Make = Callable[[slice, slice], Tensor]
"""Queries `[n', m', ...]` for a slice of the images and one of the noise."""
Loss = Callable[[slice, Tensor], Tensor]
"""From scores `[n', m', K]` of a slice of the images to what is explained."""


class EstimatedGradient(BlackBoxAttribution):
    """Base of the three: the loop of propose, query, aggregate."""

    input_dims: tuple[int, ...] = (2, 4)
    n_steps: int | None = None

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
            raise ValueError("stdevs must be above 0, got 0: all queries would be x")
        self.loss = check_choice("loss", loss, LOSSES)
        self.n_samples, self.noise, self.seed = n_samples, noise, seed
        self.mask_size = mask_size

    def estimate(
        self, inputs: Tensor, target: Target = None, *, show_progress: bool = False
    ) -> Estimate:
        """The map with its standard error; arguments and errors as in `attribute`."""
        inputs, classes = self._checked(inputs, target)
        mean = self._mean(inputs, self._loss(classes), True, show_progress)
        error = self._factor(inputs).abs() * mean.standard_error(self.stdevs)[:, 0]
        return Estimate(
            as_maps(self._map(mean, inputs), inputs), error.to(inputs.dtype)
        )

    def attribute_all(self, inputs: Tensor, *, show_progress: bool = False) -> Tensor:
        """The maps of all K scores, `[N, K, ...]`, from the queries of one.

        Raises:
            ValueError: loss "non-informative", which belongs to no class.
        """
        if self.loss != "score":
            raise ValueError(
                f"loss must be 'score' for attribute_all, got {self.loss!r}, which is "
                "the same for all classes"
            )

        def maps(x: Tensor) -> Tensor:
            mean = self._mean(x, of_target(None), False, show_progress)
            return self._factor(x)[:, None] * mean.gradient(self.stdevs)

        return self._of_all_classes(inputs, maps)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        mean = self._mean(inputs, self._loss(target), False, show_progress)
        return self._map(mean, inputs)

    def _loss(self, target: Tensor) -> Loss:
        """The loss, from scores `[n, m, K]` to `[n, m, 1]`."""
        if self.loss == "non-informative":
            return lambda _, scores: divergence_from_uniform(scores)
        return of_target(target)

    def _mean(
        self, inputs: Tensor, loss: Loss, with_error: bool, show_progress: bool
    ) -> ScoreFunctionMean:
        """Propose noise, query the model, aggregate the answers."""
        shape = tuple(inputs.shape[1:])
        search = SearchNoise(
            self.noise, shape, self.n_samples, self.seed, self.mask_size
        )
        mean = ScoreFunctionMean(search, with_error)
        root, memory = self._root(inputs), [inputs.new_empty(0)]
        groups = search.groups(inputs.new_empty(0, dtype=accumulator(inputs)))
        bar = progress(groups, show_progress, len(search), type(self).__name__)
        with keeping(lambda: self._map(mean, inputs) if mean.done else None):
            for group in bar:
                answers = []
                for chunk in group:
                    make = self._queries(inputs, chunk, root, memory)
                    versions = chunk.count * (2 if search.mirrored else 1)
                    scores = self.blackbox.versions(len(inputs), versions, make, loss)
                    mean.see(scores)
                    answers.append(scores)
                    if len(group) > 1:
                        chunk.forget()
                for scores, chunk in zip(answers, group, strict=True):
                    mean.accumulate(scores, chunk)
                    chunk.forget()
        return mean

    def _map(self, mean: ScoreFunctionMean, inputs: Tensor) -> Tensor:
        return self._factor(inputs) * mean.gradient(self.stdevs)[:, 0]

    def _queries(
        self, inputs: Tensor, chunk: Chunk, root: Tensor | None, memory: list[Tensor]
    ) -> Make:
        """x + σ ε; on a path x' + α (x − x') + σ ε, with the α of each direction."""
        path = None if root is None else (chunk.alpha(self.n_steps), root)
        return lambda i, j: chunk.queries(inputs[i], self.stdevs, j, path, memory)

    def _root(self, inputs: Tensor) -> Tensor | None:
        """x', where the path begins, shaped like one input; None without a path."""
        return None

    def _factor(self, inputs: Tensor) -> Tensor:
        """What the estimate is multiplied by, to broadcast with the inputs."""
        return inputs.new_ones([1] * inputs.ndim)


class GEEX(EstimatedGradient):
    """The gradient of the smoothed score, E ∇f(x + σε), from queries at x + σε.

    The expectation of SmoothGrad with the same standard deviation, without a gradient:
    for any model that answers, trees and remote services too. Maps have the shape and
    sign of a gradient. How many queries a good map needs grows with the number of
    pixels; GERS and mirrored noise that is orthogonal need fewer.

    Args:
        forward_func: callable from inputs to scores `[N, K]`, or a `BlackBox`.
        n_samples: queries per image, of the same noise for all images of a call; and
            one more if `target` is None.
        stdevs: σ, the standard deviation of the noise in each input number, in input
            units. The authors' code has half of 1.0 (MNIST) or 0.3 (ImageNet), in
            units of the images' standard deviation.
        noise: "independent"; "mirrored", the paper's; or "orthogonal".
        loss: "score", the target's entry of what `forward_func` returns, logit or
            probability; or "non-informative", the cross-entropy of a classifier that
            returns logits to the uniform target, for which `target` plays no part.
        seed: of the noise.

    Example: the slopes of a linear model, from answers alone.

        >>> import torch, xai_lib
        >>> weights = torch.tensor([3.0, -1.0, 2.0, 0.0])
        >>> explainer = xai_lib.GEEX(lambda x: x @ weights, n_samples=1000)
        >>> slopes = explainer.attribute(torch.rand(1, 4), target=0)[0]
        >>> bool(torch.cosine_similarity(slopes, weights, dim=0) > 0.99)
        True
    """

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


class GERS(EstimatedGradient):
    """GEEX with noise of few numbers, upsampled: a gradient with less detail and noise.

    With resized masks a map is the local mean of the gradient over about a cell, with
    `noise="low-frequency"` the gradient's part in s × s frequencies per channel (see
    `noise`), each of the score smoothed by this noise. What is finer cannot be seen; a
    pixel that the model ignores gets part of its neighbours' values.

    Args:
        forward_func, n_samples, loss, seed: as for GEEX.
        stdevs: σ, of the cells of a mask before upsampling, or along each frequency.
        mask_size: s, cells or frequencies per axis; s = 14 of 28 pixels, or 28 of 224.
        noise: of the cells "independent", "mirrored" (the paper's) or "orthogonal"; or
            "low-frequency", orthogonal and mirrored in a basis of cosines.
    """

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
        check_count("mask_size", mask_size)
        super().__init__(forward_func, n_samples, stdevs, noise, mask_size, loss, seed)


class IGEEX(EstimatedGradient):
    """(x − x') ⊙ the estimated gradient, averaged on the straight way from x' to x.

    The integrated gradient of the smoothed score f_σ, so a map sums to f_σ(x) − f_σ(x')
    in expectation, not to f(x) − f(x'). With masks it is that of what GERS sees.

    Args:
        forward_func, n_samples, stdevs, noise, loss, seed: as for GEEX, or for GERS.
        mask_size: as for GERS; None is noise on single pixels, as for GEEX.
        baselines: x', a number, or a tensor of the shape of one input; 0 in the paper.
        n_steps: points on the way, each with n_samples / n_steps queries. None is the
            most there can be: a new point for each query, or for each mirrored pair.
            The standard error then takes the gradient's change on the way for noise.
    """

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 5000,
        stdevs: float = 0.5,
        noise: str = "mirrored",
        mask_size: int | None = None,
        baselines: float | Tensor = 0.0,
        n_steps: int | None = None,
        loss: str = "score",
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func, n_samples, stdevs, noise, mask_size, loss, seed)
        self.baselines = check_baselines(baselines)
        self.n_steps = n_steps
        if n_steps is not None:
            each = check_count("n_steps", n_steps) * (2 - (noise == "independent"))
            if n_samples % each:
                raise ValueError(
                    f"n_samples must be a multiple of {each}, so that each of "
                    f"{n_steps} steps has as many; got {n_samples}"
                )

    def _root(self, inputs: Tensor) -> Tensor:
        return expand_baselines(self.baselines, inputs)[0].contiguous()

    def _factor(self, inputs: Tensor) -> Tensor:
        return inputs - expand_baselines(self.baselines, inputs)


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
