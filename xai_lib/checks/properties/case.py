"""What all properties of the battery use: inputs, models, and words for a failure.

A property is a function of a `Case`, registered by `prop`. It raises `Violation` where
it does not hold, `NotApplicable` where it says nothing about the method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# The largest difference of two maps that are to be equal, as a share of the largest
# value in them. Rounding in float32 is far below, a wrong map is far above.
TOLERANCE = 1e-4


class Facts(NamedTuple):
    """What `check_explainer` was told, see there."""

    make: Callable[..., Any]
    seeded: bool
    needs: str
    queries: Callable[[int, int], int] | None
    per_channel: bool
    rows: bool
    smallest: int
    device: torch.device


class Violation(AssertionError):
    """The property does not hold; the message says how."""


class NotApplicable(Exception):
    """The property says nothing about this method; the message says why."""


class Scores(NamedTuple):
    """The battery's models, f(x) = last · relu(first · relu(x + shift)) + bias.

    The answer to an input does not depend on its batch, to the last bit, as every
    number is a sum of its own.
    """

    shift: float
    first: Tensor
    """`[h, d]`."""
    last: Tensor
    """`[K, h]`."""
    bias: Tensor
    """`[K]`."""

    def __call__(self, x: Tensor) -> Tensor:
        seen = (x.flatten(1) + self.shift).relu()
        hidden = (seen[:, None] * self.first.to(x)).sum(dim=2).relu()
        return (hidden[:, None] * self.last.to(x)).sum(dim=2) + self.bias.to(x)


class Then(nn.Module):
    """A module, and a function of its answer."""

    def __init__(self, first: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.change = first, change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.first(x))


class Model:
    """`Scores` as a black box: no gradient, and every input is counted."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.asked = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        with torch.no_grad():
            return self.scores(x).detach()


class Case:
    """An explainer's facts, and the inputs and models that they ask for.

    Attributes:
        size: height and width of most images; no square.
        calls: of `attribute`, so far.
        call: the last one, in words.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        height = max(5, facts.smallest)
        self.size = (height, height + 3)
        self.calls = 0
        self.call = ""

    def explainer(self, model: Callable, seed: int = 0) -> Any:
        make = self.facts.make
        return make(model, seed=seed) if self.facts.seeded else make(model)

    def inputs(
        self, *shape: int, dtype: torch.dtype = torch.float64, seed: int = 0
    ) -> Tensor:
        """Uniform in [0, 1]; three RGB images unless a shape is given."""
        rng = np.random.default_rng([len(shape), seed])
        values = rng.random(shape or (3, 3, *self.size))
        return torch.from_numpy(values).to(self.facts.device, dtype)

    def scores(self, inputs: Tensor) -> Scores:
        """A model with kinks, in which pixels act together: four classes."""
        d, rng = inputs[0].numel(), np.random.default_rng(1)
        first = torch.from_numpy(rng.normal(size=(6, d)) / d**0.5)
        last = torch.from_numpy(rng.normal(size=(4, 6)))
        return Scores(-0.3, first, last, numbers(0, 0, 0, 0))

    def model(self, inputs: Tensor, scores: Scores | None = None) -> Any:
        """`scores`, or else the model above, as what the method needs."""
        scores = self.scores(inputs) if scores is None else scores
        if self.facts.needs == "queries":
            return Model(scores)
        if self.facts.needs == "gradients":
            return lambda x: scores(x)
        return network(scores, inputs)

    def after(self, change: Callable[[Tensor], Any], inputs: Tensor) -> Any:
        """The model above with `change` applied to its scores."""
        if self.facts.needs == "layers":
            return Then(network(self.scores(inputs), inputs), change)
        model = self.model(inputs)
        return lambda x: change(model(x))

    def explain(self, explainer: Any, inputs: Any, target: Any) -> Any:
        self.call = f"attribute({describe(inputs)}, target={describe(target)})"
        self.calls += 1
        return explainer.attribute(inputs, target=target)

    def maps(
        self,
        inputs: Tensor,
        target: Any = 1,
        model: Any = None,
        seed: int = 0,
    ) -> Tensor:
        """The maps of a new explainer, bound to `model` or to the one above."""
        model = self.model(inputs) if model is None else model
        return self.explain(self.explainer(model, seed), inputs, target)

    def expect_maps(self, maps: Any, inputs: Tensor) -> None:
        """Finite, and of the right type and shape."""
        if not isinstance(maps, Tensor):
            raise Violation(f"a map must be a tensor, got {type(maps).__name__}")
        shape = list(inputs.shape)
        if not self.facts.per_channel and inputs.ndim == 4:
            shape[1] = 1
        if list(maps.shape) != shape:
            raise Violation(f"maps have shape {list(maps.shape)}, expected {shape}")
        if not bool(maps.isfinite().all()):
            raise Violation("maps are not finite")

    def expect_equal(self, maps: Tensor, others: Tensor, what: str) -> None:
        gap = difference(maps, others)
        if not gap <= TOLERANCE:
            raise Violation(f"{what}: maps differ by {gap:.2g} of their largest value")

    def expect_refused(self, name: str, model: Any, inputs: Any, target: Any) -> None:
        """A TypeError or ValueError that names the argument, before any query."""
        asked = getattr(model, "asked", 0)
        try:
            self.explain(self.explainer(model), inputs, target)
        except (TypeError, ValueError) as error:
            if name not in str(error):
                raise Violation(f"the error does not name {name}: {error}") from error
        else:
            raise Violation(f"wrong {name} were explained")
        if getattr(model, "asked", 0) != asked and name == "inputs":
            raise Violation("the model was asked before the inputs were refused")


Check = Callable[[Case], None]
CHECKS: dict[str, Check] = {}
"""All properties by name, in the order in which they are tried."""


def prop(name: str) -> Callable[[Check], Check]:
    """Register a property."""

    def add(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return add


def numbers(*values: float) -> Tensor:
    """Float64, on the CPU."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def classes(*values: int) -> Tensor:
    """Int64, on the CPU."""
    return torch.tensor(values, dtype=torch.int64, device="cpu")


def network(
    scores: Scores, inputs: Tensor, last_layer: type[nn.Linear] = nn.Linear
) -> nn.Sequential:
    """`Scores` as a network of layers, for inputs of one shape."""
    make, channels = nn.utils.skip_init, inputs.shape[1]
    if inputs.ndim == 4:
        shift = make(nn.Conv2d, channels, channels, kernel_size=1)
    else:
        shift = make(nn.Linear, channels, channels)
    classes, hidden = scores.last.shape
    first = make(nn.Linear, scores.first.shape[1], hidden)
    last = make(last_layer, hidden, classes)
    layers = (shift, nn.ReLU(), nn.Flatten(), first, nn.ReLU(), last)
    model = nn.Sequential(*layers).to(inputs).eval()
    identity = scores.first.new_zeros(channels, channels).fill_diagonal_(1)
    identity = identity.view_as(shift.weight)
    shifts = identity.new_full((channels,), scores.shift)
    zeros = identity.new_zeros(hidden)
    values = (identity, shifts, scores.first, zeros, scores.last, scores.bias)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)
    return model


def difference(maps: Tensor, others: Tensor) -> float:
    """The largest difference, as a share of the largest value in both; 0 of zeros."""
    if maps.shape != others.shape:
        raise Violation(
            f"maps have the shapes {list(maps.shape)} and {list(others.shape)}"
        )
    gap = float((maps - others).abs().max())
    return gap / (float(torch.maximum(maps.abs(), others.abs()).max()) or 1.0)


def describe(value: Any) -> str:
    """An argument in a few words."""
    if isinstance(value, Tensor):
        if value.ndim < 2 and value.numel() < 8:
            return f"tensor {value.tolist()}"
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, np.ndarray | list | tuple):
        return type(value).__name__
    return repr(value)


def only_for(case: Case, *needs: str) -> None:
    """Leave a property out for methods that need something else of a model."""
    if case.facts.needs not in needs:
        raise NotApplicable(f"the method needs the model's {case.facts.needs}")
