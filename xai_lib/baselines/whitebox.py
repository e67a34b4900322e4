"""White-box baselines from gradients alone: Gradient, SmoothGrad, IntegratedGradients.

Thin adapters over autograd and Captum; what they add is said at each. All maps are
signed and unscaled, and have the shape of the inputs.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from xai_lib.arguments import check_count, check_number, expand_baselines, pick
from xai_lib.attribution import Attribution, chunks, generator, progress
from xai_lib.blackbox import BlackBox, NonFiniteOutput
from xai_lib.extras import extra

# Numbers per forward and backward pass: 6 photographs at 224² on a CPU, where larger
# batches are slower per image (page faults), and 27 on an accelerator.
BATCH_NUMBERS = {"cpu": 2**20, "accelerator": 2**22}


class WhiteBoxAttribution(Attribution):
    """Base of the methods that need gradients: `forward_func` works in torch.

    A method implements `_explain` for a batch that fits in memory. It may be called
    under `torch.no_grad()`, on inputs of any device; the model runs on its own one.
    Inputs, parameters, their `.grad` and the model's hooks are left as they were.

    Raises (when constructed):
        TypeError: `forward_func` is a `BlackBox`, which gives no gradients.
        ValueError: a module in training mode.
    """

    input_dims: tuple[int, ...] = (2, 4)

    def __init__(self, forward_func: Callable) -> None:
        if isinstance(forward_func, BlackBox):
            raise TypeError(
                f"forward_func is a BlackBox, which gives no gradients; "
                f"{type(self).__name__} needs the model itself (.forward_func)"
            )
        super().__init__(forward_func)
        self._queried = BlackBox(forward_func, backend="torch")

    def _scores(self, inputs: Tensor) -> Tensor:
        return self._queried(inputs)

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        batches = self._batches(inputs, target)
        bar = progress(batches, show_progress, len(batches), type(self).__name__)
        with gradients_enabled():
            # Clones: tensors made in inference mode cannot be differentiated.
            maps = [self._explain(x.clone(), classes.clone()) for x, classes in bar]
        return torch.cat(maps).to(inputs.device)

    @abstractmethod
    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        """The maps of one batch; both arguments lie on the model's device."""

    def _batches(self, inputs: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor]]:
        device = self._queried.device or inputs.device
        rows = batch_rows(inputs, device)
        split = zip(inputs.split(rows), target.split(rows), strict=True)
        return [(x.to(device), classes.to(device)) for x, classes in split]


class Gradient(WhiteBoxAttribution):
    """The derivative of the target's score by each input: ∂f_t(x) / ∂x.

    Signed, where Simonyan et al. draw its absolute value. It says how the score reacts
    to infinitely small changes, not which pixels the score is made of: where a score
    saturates it is near zero, and between images a pixel apart it varies wildly.

    Source: Simonyan, Vedaldi, Zisserman, "Deep inside convolutional networks" (2014),
    section 3, https://arxiv.org/abs/1312.6034.
    """

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        return target_gradient(self.forward_func, inputs, target)


class SmoothGrad(WhiteBoxAttribution):
    """The mean gradient at noisy copies: (1/n) Σ ∂f_t(x + ε)/∂x, ε ~ N(0, stdev²).

    Captum's NoiseTunnel does this with global random state. Here the noise comes from
    the seed alone and is shared by all inputs, so that a map depends neither on the
    batch it is computed in nor on the images beside it.

    Args:
        forward_func: model that maps inputs to scores `[N, K]`, in torch.
        n_samples: noisy copies of each input, each one forward and backward pass.
        stdev: of the noise, in input units: 0.15 is 15 % of a range [0, 1], where
            Smilkov et al. recommend 10 to 20 %.
        seed: of the noise.

    Source: Smilkov et al., "SmoothGrad: removing noise by adding noise" (2017),
    https://arxiv.org/abs/1706.03825.
    """

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 50,
        stdev: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.n_samples = check_count("n_samples", n_samples)
        self.stdev = check_number("stdev", stdev, 0)
        self.seed = seed

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        source = generator(self.seed)
        copies = max(1, batch_rows(inputs, inputs.device) // len(inputs))
        total = torch.zeros_like(inputs)
        counts = list(chunks(self.n_samples, copies))
        for count in progress(counts, show_progress, len(counts), "SmoothGrad"):
            # One draw per copy: the same numbers however many go into one pass.
            draws = [
                torch.randn(inputs.shape[1:], generator=source) for _ in range(count)
            ]
            noise = self.stdev * torch.stack(draws).to(inputs)
            noisy = (inputs + noise[:, None]).flatten(0, 1)
            maps = super()._attribute(noisy, target.repeat(count), False)
            total += maps.view(count, *inputs.shape).sum(dim=0)
        return total / self.n_samples

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        return target_gradient(self.forward_func, inputs, target)


class IntegratedGradients(WhiteBoxAttribution):
    """(x − x') ∫₀¹ ∂f_t(x' + α(x − x'))/∂x dα, by Gauss-Legendre quadrature (Captum).

    Complete: a map sums to f_t(x) − f_t(x'), up to the error of the quadrature, which
    is exact for polynomials of degree below 2 n_steps and visible for deep ReLU
    networks. Pixels that equal the baseline get zero, whatever they mean.

    Args:
        forward_func: model that maps inputs to scores `[N, K]`, in torch.
        baselines: x', a number, or a tensor of the shape of one input.
        n_steps: points on the path, each one forward and backward pass.

    Source: Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks" (2017),
    equation 1, https://arxiv.org/abs/1703.01365.
    """

    def __init__(
        self, forward_func: Callable, baselines: float | Tensor = 0, n_steps: int = 50
    ) -> None:
        super().__init__(forward_func)
        self.baselines = baselines
        self.n_steps = check_count("n_steps", n_steps)

    def _explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        with extra("book"):
            from captum.attr import IntegratedGradients

        def score(points: Tensor, classes: Tensor) -> Tensor:
            return target_scores(self.forward_func, points, classes)

        return IntegratedGradients(score).attribute(
            inputs,
            expand_baselines(self.baselines, inputs),
            additional_forward_args=target,
            n_steps=self.n_steps,
            internal_batch_size=batch_rows(inputs, inputs.device),
        )


def target_scores(forward_func: Callable, inputs: Tensor, target: Tensor) -> Tensor:
    """f_t for each input, with its graph: inputs `[N, …]`, target `[N]` -> `[N]`."""
    return pick(checked_scores(forward_func, inputs), target)


def checked_scores(forward_func: Callable, inputs: Tensor) -> Tensor:
    """The scores `[N, K]`, with their graph; a model's `[N]` is read as `[N, 1]`.

    Raises:
        TypeError: the model does not return a tensor.
        ValueError: its scores are not `[N, K]` or `[N]`.
        NonFiniteOutput: the model answered NaN or infinity.
    """
    scores = forward_func(inputs)
    if not isinstance(scores, Tensor):
        raise TypeError(
            "forward_func must return a torch.Tensor of scores, got "
            f"{type(scores).__name__}; wrap it, e.g. lambda x: model(x).logits"
        )
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim != 2 or len(scores) != len(inputs):
        raise ValueError(
            f"forward_func must return {len(inputs)} rows of scores for {len(inputs)} "
            f"inputs, got shape {list(scores.shape)}"
        )
    if not bool(scores.isfinite().all()):
        raise NonFiniteOutput("forward_func answered NaN or infinity")
    return scores


def target_gradient(forward_func: Callable, inputs: Tensor, target: Tensor) -> Tensor:
    """∂f_t/∂x for each input `[N, …]`; zero where f does not depend on x.

    Raises:
        ValueError: the scores carry no gradient at all.
    """
    inputs = inputs.detach().requires_grad_()
    scores = target_scores(forward_func, inputs, target)
    if not scores.requires_grad:
        raise ValueError(
            "forward_func gives no gradients: its scores do not depend on the inputs "
            "through torch operations. Remove .detach(), .numpy() or torch.no_grad() "
            "from it, or use a method that only queries, such as RISE or Occlusion"
        )
    return torch.autograd.grad(scores.sum(), inputs, materialize_grads=True)[0]


def batch_rows(inputs: Tensor, device: torch.device) -> int:
    """How many inputs of this size go through the model and back at once."""
    kind = "cpu" if device.type == "cpu" else "accelerator"
    return max(1, BATCH_NUMBERS[kind] // inputs[0].numel())


@contextmanager
def gradients_enabled() -> Iterator[None]:
    """Gradients even under no_grad, where Captum's metrics call explainers.

    Captum warns that it sets hooks, which here happens on a copy of the model.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", module="captum")
        yield
