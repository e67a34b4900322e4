"""The base of white-box methods: scores and their gradients, or a clear error."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from xai_lib.core.answers import as_scores, out_of_memory
from xai_lib.core.arguments import NonFiniteOutput, Target, pick
from xai_lib.core.attribution import DRAWN, Attribution, generator, progress
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.conduct import (
    Watch,
    in_training_mode,
    modules_behind,
    random_state,
    refuse_random,
    refuse_training_mode,
)

# Numbers per forward and backward pass: 6 photographs at 224² on a CPU, where larger
# batches are slower per image (page faults), and 27 on an accelerator.
BATCH_NUMBERS = {"cpu": 2**20, "accelerator": 2**22}

NO_GRADIENTS = (
    "forward_func gives no gradients: somewhere between what is asked about and its "
    "scores, torch's graph ends. NumPy, .detach(), torch.no_grad(), argmax, rounding, "
    "casts to integers and quantised layers end it; remove them, or use a method that "
    "only queries, such as RISE or Occlusion"
)
STEPWISE = ("round", "round_", "floor", "floor_", "ceil", "ceil_", "sign", "sign_")
# What takes a tensor out of its graph.
_DATA: Any = Tensor.data
DETACHING = (Tensor.detach, Tensor.detach_, torch.detach, _DATA.__get__)
# What has the slope 0 everywhere.
STEPS = {getattr(of, name, None) for of in (torch, Tensor) for name in STEPWISE}
met = WeakIdKeyDictionary()  # what was watched once


class WhiteBoxAttribution(Attribution):
    """Base of the methods that need gradients: `forward_func` works in torch.

    It may be called under `torch.no_grad()`, on inputs of any device; the model runs on
    its own one.
    Inputs, parameters, their `.grad` and the model's hooks are left as they were.
    Maps have the dtype of the inputs.

    Raises (when constructed):
        TypeError: `forward_func` is a `BlackBox`, which gives no gradients.
        ValueError: a module in training mode.
    Raises (when called):
        ValueError: no gradient of the scores reaches the inputs (a map of zeros is
            one that did); a module in training mode by now; a model that answers an
            input differently beside others, of which two are asked once.
    """

    input_dims: tuple[int, ...] = (2, 4)
    side_by_side = False
    """Whether one input is asked about in several versions, in batches."""

    def __init__(self, forward_func: Callable) -> None:
        if isinstance(forward_func, BlackBox):
            raise TypeError(
                f"forward_func is a BlackBox, which gives no gradients; "
                f"{type(self).__name__} needs the model itself (.forward_func)"
            )
        super().__init__(forward_func)
        self._queried = BlackBox(forward_func, backend="torch")

    def _scores(self, inputs: Tensor) -> Tensor:
        with differentiable_only(self.forward_func, inputs):
            return self._queried(inputs)

    def _checked(self, inputs: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        inputs, classes = super()._checked(inputs, target)
        pair = inputs[:2]
        if len(inputs) == 1 and self.side_by_side:
            pair = torch.cat([inputs, inputs / 2])
        if len(pair) > 1 and not self._queried.watched:
            self._scores(pair)  # raises if the inputs of a batch meet
        return inputs, classes


class BatchwiseAttribution(WhiteBoxAttribution):
    """Base of the methods that explain the images of a batch side by side.

    A method implements `_explain` for a batch that fits in memory.
    """

    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        device = self._queried.device or inputs.device
        rows = batch_rows(inputs, device)
        batches = list(zip(inputs.split(rows), target.split(rows), strict=True))
        bar = progress(batches, show_progress, len(batches), type(self).__name__)
        with gradients_enabled():
            made = self._prepare(inputs)
            # Clones: tensors made in inference mode cannot be differentiated.
            maps = [
                self._explain(x.clone().to(device), c.clone().to(device), made)
                for x, c in bar
            ]
        return torch.cat(maps).to(inputs)

    def _prepare(self, inputs: Tensor) -> Any:
        """What `_explain` works on: made for each call, as explainers keep no state."""
        return self.forward_func

    @abstractmethod
    def _explain(self, inputs: Tensor, target: Tensor, prepared: Any) -> Tensor:
        """The maps of one batch; both tensors lie on the model's device."""


def target_scores(forward_func: Callable, inputs: Tensor, target: Tensor) -> Tensor:
    """f_t for each input, with its graph: inputs `[N, …]`, target `[N]` -> `[N]`.

    Raises:
        NonFiniteOutput: f_t is infinite.
        TypeError, ValueError: as `checked_scores`.
    """
    return pick(checked_scores(forward_func, inputs), target)


def checked_scores(forward_func: Callable, inputs: Tensor) -> Tensor:
    """The `graph_scores`, looked at, which waits for the device.

    Raises:
        NonFiniteOutput: the model answered NaN or infinity. −∞ is the logarithm of a
            probability of 0, and may be the score of another class than the target.
        TypeError, ValueError: as `graph_scores`.
    """
    scores = graph_scores(forward_func, inputs)
    if bool((scores.isnan() | (scores == torch.inf)).any()):
        raise NonFiniteOutput("forward_func answered NaN or infinity")
    return scores


def graph_scores(forward_func: Callable, inputs: Tensor) -> Tensor:
    """The scores `[N, K]` of inputs `[N, …]`, with their graph if there is one.

    The only call of a model that is to be differentiated. It gets a copy of the inputs,
    which it may change in place, as preprocessing does.

    Raises:
        TypeError: the model returns no scores that could be read.
        ValueError: they are not `[N, K]`; a module in training mode; a model that
            works without gradients only.
    """
    with differentiable_only(forward_func, inputs):
        scores = _answer(forward_func, inputs)
    if scores.ndim != 2 or len(scores) != len(inputs):
        raise ValueError(
            f"forward_func must return {len(inputs)} rows of scores for {len(inputs)} "
            f"inputs, got shape {list(scores.shape)}"
        )
    return scores


def target_gradient(forward_func: Callable, inputs: Tensor, target: Tensor) -> Tensor:
    """∂f_t/∂x for each input `[N, …]`.

    Raises:
        ValueError: no gradient reaches the inputs, or only that of a part of the model.
    """
    inputs = inputs.detach().requires_grad_()
    with _CutWatch() as watch:
        scores = target_scores(forward_func, inputs, target)
    slopes = gradient(scores, inputs)
    if watch.cut:
        last = slice(len(inputs) - 1, None)  # of a path, the image and not a black one
        _check_slope(forward_func, inputs[last].detach(), target[last], slopes[last])
    return slopes


class _CutWatch(TorchFunctionMode):
    """Notes in `cut` whether a model detaches a tensor, makes whole numbers of it, or
    switches gradients off.

    Many do where it does no harm: for what does not depend on the input, or where a
    detached number cancels. So it is a reason to look, and no reason to refuse.
    """

    cut = False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        self.cut |= func in DETACHING or not torch.is_grad_enabled()
        if isinstance(answer, Tensor) and args and isinstance(args[0], Tensor):
            whole = not (answer.is_floating_point() or answer.dtype is torch.bool)
            self.cut |= whole and args[0].is_floating_point()
            self.cut |= func in STEPS and args[0].requires_grad
        return answer


def _check_slope(
    forward_func: Callable, image: Tensor, target: Tensor, slope: Tensor
) -> None:
    """Refuse a gradient `[1, …]` that is far from the slope of the score.

    Central differences along random signs, nearer and nearer, tell the slope once they
    have settled. Photographs need steps of 10⁻⁴; until the differences come near the
    gradient, or settle, or drown in rounding, nothing is known. Nor is it at a kink,
    where the slopes to both sides differ: black pixels tie in max-pooling.

    Raises:
        ValueError: they settle far from it: a good part of the model is cut off.
    """
    draws = torch.rand(8, *image.shape[1:], generator=generator(0), **DRAWN).to(image)
    signs = torch.where(draws < 0.5, -1.0, 1.0).to(image)
    expected = (signs * slope).flatten(1).sum(dim=1)
    size = max(float(image.abs().max()), 1e-6)
    before = torch.full_like(expected, torch.inf)
    with torch.no_grad():
        here = target_scores(forward_func, image, target)
    for step in (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5):
        with torch.no_grad():
            points = torch.cat([image + step * size * s for s in (signs, -signs)])
            scores = target_scores(forward_func, points, target.expand(len(points)))
        rise, fall = scores.chunk(2)
        change = (rise - fall) / (2 * step * size)
        bend = (rise + fall - 2 * here) / (step * size)
        rounding = torch.finfo(image.dtype).eps * rise.abs().max() / (step * size)
        if (
            change.norm() < 80 * rounding
            or (change - expected).norm() < 0.3 * change.norm()
        ):
            return
        settled = (change - before).norm() < 0.1 * change.norm()
        if (settled and bend.norm() < 0.1 * change.norm()) or not bool(slope.any()):
            raise ValueError(
                f"{NO_GRADIENTS}. Here a part of the model is still in the graph, and "
                "its gradient is not that of the whole"
            )
        before = change


def gradient(
    outputs: Tensor, inputs: Tensor, weights: Tensor | None = None, again: bool = False
) -> Tensor:
    """∂(Σ weights · outputs) / ∂inputs: outputs and weights of one shape, ones if None.

    A zero counts, where a unit saturates; a graph that does not lead to the inputs is
    an error.

    Args:
        outputs, inputs: computed one from the other.
        weights: as `outputs`.
        again: keep the graph for another call.

    Raises:
        ValueError: no gradient reaches the inputs, or torch cannot compute it.
    """
    found = None
    if outputs.requires_grad:
        weights = torch.ones_like(outputs) if weights is None else weights
        with no_raw_errors():
            (found,) = torch.autograd.grad(
                outputs, inputs, weights, retain_graph=again, allow_unused=True
            )
    if found is None:
        raise ValueError(NO_GRADIENTS)
    return found


def _answer(forward_func: Callable, inputs: Tensor) -> Tensor:
    """The scores that the model returns, if it is not in training mode."""
    if isinstance(forward_func, nn.Module):
        refuse_training_mode(forward_func)
    modules, drawn = modules_behind(forward_func), None
    known = forward_func in met
    if modules and known and not any(in_training_mode(m) for m in modules):
        before = random_state(inputs.device)
        scores = as_scores(forward_func(inputs.clone()))
        if not torch.equal(before, random_state(inputs.device)):
            drawn = "draws random numbers"
    else:
        with Watch(keeper=None if known else forward_func) as watch:
            scores = as_scores(forward_func(inputs.clone()))
        drawn = watch.random
    if drawn is not None:
        # With gradients, which the hooks of other tools on a model may need.
        ask = torch.enable_grad()(lambda: forward_func(inputs.clone()))
        refuse_random(drawn, scores, ask)
        scores = as_scores(ask())  # a hook may have noted what came last
    with suppress(TypeError):  # there may be no weak references to it
        met[forward_func] = True
    return scores


@contextmanager
def no_raw_errors() -> Iterator[None]:
    """torch's errors about gradients as ours.

    Raises:
        ValueError: as said.
    """
    try:
        yield
    except RuntimeError as error:
        words = ("grad", "backward", "derivative", "differentiated")
        if not any(word in str(error) for word in words):
            raise
        raise ValueError(f"{NO_GRADIENTS} ({error})") from error


@contextmanager
def differentiable_only(forward_func: Callable, inputs: Tensor) -> Iterator[None]:
    """Say so if a model that fails in the block answers plain tensors, or arrays.

    Raises:
        ValueError: as said.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) or out_of_memory(error):
            raise
        ways: list[Callable] = [torch.clone]
        if not isinstance(forward_func, nn.Module):
            ways.append(lambda plain: plain.cpu().numpy())
        for given in ways:
            with suppress(Exception), torch.no_grad():
                as_scores(forward_func(given(inputs.detach())))
                cause = f"{type(error).__name__}: {error}"
                break
        else:
            raise
        raise ValueError(f"{NO_GRADIENTS} ({cause})") from error


def batch_rows(inputs: Tensor, device: torch.device) -> int:
    """How many inputs of this size go through the model and back at once."""
    kind = "cpu" if device.type == "cpu" else "accelerator"
    return max(1, BATCH_NUMBERS[kind] // inputs[0].numel())


@contextmanager
def gradients_enabled() -> Iterator[None]:
    """Gradients even under no_grad, where Captum's metrics call explainers."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
