"""Stochastic PertMap: the largest invariant box by stochastic gradient ascent.

Ikeno and Hara, "Maximizing invariant data perturbation with stochastic optimization"
(2018), https://arxiv.org/abs/1807.05077. Equation numbers are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from xai_lib.core.arguments import Target, check_count, check_number, check_seed
from xai_lib.core.attribution import DRAWN, accumulator, default_device, progress
from xai_lib.core.blackbox import NonFiniteOutput
from xai_lib.core.gradients import batch_rows, gradient, gradients_enabled, graph_scores
from xai_lib.pertmap.box import Box, PertMap, check_positive, draws

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class StochasticSolution(Box):
    """The box R(ŵ), and how it was reached.

    Attributes:
        target: the class c that was to be kept, `[N]`, on the CPU.
        objective: the sample (3.3) before each step, `[n_iterations, N]`, on the CPU.
        hinge: its Σ_{j≠c} (1/M) Σ_m h_jc, without the penalty, likewise.
        size: its Σ_i w_i, likewise.
    """

    target: Tensor
    objective: Tensor
    hinge: Tensor
    size: Tensor


class StochasticPertMap(PertMap):
    """argmax_w Σ_i w_i - λ Σ_{j≠c} E_t[max(0, f_j - f_c)(x + t ⊙ w)]: (3.2), Alg. 1.

    The map is -ŵ. λ is in units of w per unit of score, so it belongs to the outputs
    of `forward_func`. The authors use softmax probabilities: their hinges sum to at
    most 1, so that λ = 0.1 d never makes the best box more than a tenth smaller than
    the full one, and for a small input the map can be constant. Logits have larger
    differences, and the same λ then gives smaller boxes.

    The same seed gives the same map on every device, however many images are explained
    together: all share the draws of t, which are made where the model is.

    Args:
        forward_func: model that maps inputs to scores `[N, K]`, in torch.
        optimizer: "adam", "rmsprop", "sgd", or any torch optimiser class (or a
            `functools.partial` of one) that is built from (parameters, lr) and steps
            without a closure.
        lr: the learning rate, in input units for Adam.
        n_iterations: steps, each one forward and backward pass of M points.
        n_perturbations: M, the draws of t in (3.3).
        penalty: λ; None is 0.1 d, with d the numbers in one input (section 4.1).
        bound: C, the largest w_i, in input units.
        seed: of the draws.

    Example: two features, of which the first alone decides.

        >>> import torch, xai_lib
        >>> scores = lambda x: torch.stack([x[:, 0], -x[:, 0]], dim=1)
        >>> explainer = xai_lib.PertMap(scores, n_iterations=50, penalty=5.0)
        >>> decisive, idle = explainer.attribute(torch.full((1, 2), 0.3))[0]
        >>> bool(decisive > idle)
        True
    """

    def __init__(
        self,
        forward_func: Callable,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adam",
        lr: float = 0.01,
        n_iterations: int = 500,
        n_perturbations: int = 32,
        penalty: float | None = None,
        bound: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.lr = check_positive("lr", lr)
        self.n_iterations = check_count("n_iterations", n_iterations)
        self.n_perturbations = check_count("n_perturbations", n_perturbations)
        self.penalty = None if penalty is None else check_number("penalty", penalty, 0)
        self.bound = check_positive("bound", bound)
        self.seed = check_seed(seed)
        self.optimizer = _optimizer(optimizer, self.lr)

    def solve(
        self, inputs: Tensor, target: Target = None, *, show_progress: bool = False
    ) -> StochasticSolution:
        """ŵ for each image, with the history; arguments as in `attribute`."""
        return self._solve(*self._checked(inputs, target), show_progress)

    def _solve(
        self, inputs: Tensor, target: Tensor, show_progress: bool
    ) -> StochasticSolution:
        self._check_model(inputs, target)
        device = self._queried.device or inputs.device
        images = max(1, batch_rows(inputs, device) // self.n_perturbations)
        sides, histories = [], []
        for start in range(0, len(inputs), images):
            part = slice(start, start + images)
            last = min(start + images, len(inputs))
            bar = progress(
                range(self.n_iterations),
                show_progress,
                self.n_iterations,
                f"StochasticPertMap, images {start + 1} to {last} of {len(inputs)}",
            )
            with gradients_enabled():
                # Clones: tensors made in inference mode cannot be differentiated.
                x, c = inputs[part].clone().to(device), target[part].clone().to(device)
                w, history = self._ascend(x, c, bar)
            sides.append(w.to(inputs.device))
            histories.append(history.cpu())
        w, history = torch.cat(sides), torch.cat(histories, dim=2)
        if not bool(history.isfinite().all()):
            raise NonFiniteOutput(
                "forward_func answered NaN or infinity inside the box; the first time "
                f"in iteration {int((~history.isfinite()).any(2).any(0).nonzero()[0])}"
            )
        return StochasticSolution(w, w, target, *history)

    def _ascend(
        self, inputs: Tensor, target: Tensor, iterations: Iterable[int]
    ) -> tuple[Tensor, Tensor]:
        """Algorithm 1 for a few images: ŵ, and objective, hinge and size `[3, T, N]`.

        Nothing here waits for the device: numbers are looked at by the caller.
        """
        model, asked = self.forward_func, inputs.dtype
        if accumulator(inputs) != asked:  # half precision would lose the steps

            def model(points: Tensor) -> Tensor:
                return self.forward_func(points.to(asked))

            inputs = inputs.to(accumulator(inputs))
        penalty = 0.1 * inputs[0].numel() if self.penalty is None else self.penalty
        w = torch.zeros_like(inputs)
        # A parameter per image: one image's step never depends on another's.
        optimizer = self.optimizer(each := list(w.unbind()), lr=self.lr)
        history = inputs.new_empty(3, self.n_iterations, len(inputs))
        for k in iterations:
            hinge, slope = self._penalty(model, inputs, target, w, k)
            size = w.flatten(1).sum(dim=1)
            history[:, k] = torch.stack([size - penalty * hinge, hinge, size])
            # Optimisers minimise: they get the gradient of minus (3.3).
            downhill = slope.mul_(penalty).sub_(1)
            for parameter, part in zip(each, downhill, strict=True):
                parameter.grad = part
            with default_device("cpu"):  # where Adam counts its steps
                optimizer.step()
            optimizer.zero_grad()
            w.clamp_(0, self.bound)
        return w, history

    def _penalty(
        self,
        model: Callable[[Tensor], Tensor],
        inputs: Tensor,
        target: Tensor,
        w: Tensor,
        step: int,
    ) -> tuple[Tensor, Tensor]:
        """The sample of the penalty in (3.3), `[N]`, and its gradient by w."""
        passes = -(-self.n_perturbations // batch_rows(inputs, inputs.device))
        per_pass = -(-self.n_perturbations // passes)
        hinge, slope = inputs.new_zeros(len(inputs)), torch.zeros_like(w)
        for start in range(0, self.n_perturbations, per_pass):
            count = min(per_pass, self.n_perturbations - start)
            t = draws(inputs, self.seed, step * self.n_perturbations + start, count)
            v = w.detach().requires_grad_()
            share = count / self.n_perturbations
            loss = share * mean_hinge(model, inputs, target, v, t)
            hinge += loss.detach()
            # No point leaves its class: no slope. To ask a GPU would be to wait for it.
            if inputs.device.type != "cpu" or loss.any():
                slope += gradient(loss, v)
        return hinge, slope


def mean_hinge(
    forward_func: Callable, inputs: Tensor, target: Tensor, w: Tensor, t: Tensor
) -> Tensor:
    """Σ_{j≠c} (1/M) Σ_m max(0, f_j - f_c)(x + t_m ⊙ w), the penalty in (3.3): `[N]`.

    Args:
        forward_func: model that maps inputs to scores `[N, K]`, in torch.
        inputs, w: x and w, both `[N, ...]`; differentiable in w.
        target: c, `[N]`, on the device of the inputs.
        t: `[M, ...]`, in [-1, 1], shared by all inputs.
    """
    points = torch.addcmul(inputs[:, None], t, w[:, None])
    scores = graph_scores(forward_func, points.flatten(0, 1))
    scores = scores.unflatten(0, points.shape[:2])
    own = scores.gather(2, target[:, None, None].expand(-1, len(t), 1))
    # j = c adds max(0, 0), with gradient zero.
    return (scores - own).relu().sum(dim=2).mean(dim=1)


def _optimizer(
    optimizer: str | Callable[..., torch.optim.Optimizer], lr: float
) -> Callable[..., torch.optim.Optimizer]:
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)} or a torch "
                f"optimiser class, got {optimizer!r}"
            )
        return OPTIMIZERS[optimizer]
    if not callable(optimizer):
        raise TypeError(
            f"optimizer must be a name or a torch optimiser class, got {optimizer!r}; "
            "for settings of your own, use functools.partial(torch.optim.SGD, ...)"
        )
    # One step on one number tells now what would else fail in the first iteration.
    trial = torch.zeros(1, **DRAWN)
    trial.grad = torch.ones_like(trial)
    try:
        with default_device("cpu"):
            built = optimizer([trial], lr=lr)
            built.step()
    except Exception as error:
        raise TypeError(
            f"optimizer must be built from (parameters, lr) and step without a "
            f"closure; {optimizer!r} failed: {error}"
        ) from error
    return optimizer
