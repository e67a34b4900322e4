"""What all properties of the battery use: inputs, models, and words for a failure.

A property is a function of a `Case` and of its inputs, registered by `prop`. It raises
`Violation` where it does not hold, `NotApplicable` where it says nothing about the
method.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# The largest difference of two maps that are to be equal, as a share of the largest
# value in them. Rounding in float32 is far below, a wrong map is far above.
TOLERANCE = 1e-4


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
    first: Tensor  # [h, d]
    last: Tensor  # [K, h]
    bias: Tensor  # [K]

    def __call__(self, x: Tensor) -> Tensor:
        seen = (x.flatten(1) + self.shift).relu()
        hidden = (seen[:, None] * self.first.to(x)).sum(dim=2).relu()
        return (hidden[:, None] * self.last.to(x)).sum(dim=2) + self.bias.to(x)


class Model:
    """`Scores` as a black box: no gradient, and every input is counted."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.asked = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        with torch.no_grad():
            return self.scores(x).detach()


class Then(nn.Module):
    """A module, and a function of its answer."""

    def __init__(self, first: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.change = first, change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.first(x))


@dataclass
class Case:
    """What `check_explainer` was told, see there, and what this asks for.

    Attributes:
        seeded: whether `make` takes a seed.
        calls: of `attribute`, so far.
        call: the last one, in words.
    """

    make: Callable[..., Any]
    seeded: bool
    needs: str
    queries: int | Callable[[int, int], int] | None
    per_channel: bool
    rows: bool
    smallest: int
    device: torch.device
    calls: int = 0
    call: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of most images; no square."""
        height = max(5, self.smallest)
        return height, height + 3

    def inputs(self, *shape: int, seed: int = 0) -> Tensor:
        """Float64, uniform in [0, 1]; three RGB images unless a shape is given."""
        rng = np.random.default_rng([len(shape), seed])
        values = rng.random(shape or (3, 3, *self.size))
        return torch.from_numpy(values).to(self.device)

    def scores(self, inputs: Tensor) -> Scores:
        """A model with kinks, in which pixels act together: four classes."""
        d, rng = inputs[0].numel(), np.random.default_rng(1)
        first = torch.from_numpy(rng.normal(size=(6, d)) / d**0.5)
        last = torch.from_numpy(rng.normal(size=(4, 6)))
        return Scores(-0.3, first, last, numbers(0, 0, 0, 0))

    def network(
        self,
        inputs: Tensor,
        last_layer: type[nn.Linear] = nn.Linear,
        scores: Scores | None = None,
    ) -> nn.Sequential:
        """`scores`, or else those above, as layers, for inputs of one shape."""
        shift, first, last, bias = self.scores(inputs) if scores is None else scores
        channels, (k, hidden) = inputs.shape[1], last.shape
        make = nn.utils.skip_init  # draws nothing
        if inputs.ndim == 4:
            shifted = make(nn.Conv2d, channels, channels, kernel_size=1)
        else:
            shifted = make(nn.Linear, channels, channels)
        within = make(nn.Linear, first.shape[1], hidden)
        layers = (shifted, nn.ReLU(), nn.Flatten(), within, nn.ReLU())
        model = nn.Sequential(*layers, make(last_layer, hidden, k)).to(inputs).eval()
        identity = first.new_zeros(channels, channels).fill_diagonal_(1)
        shifts, zeros = first.new_full((channels,), shift), first.new_zeros(hidden)
        values = (identity.view_as(shifted.weight), shifts, first, zeros, last, bias)
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), values, strict=True):
                parameter.copy_(value)
        return model

    def model(self, inputs: Tensor, scores: Scores | None = None) -> Any:
        """`scores`, or else those above, as what the method needs."""
        if self.needs == "layers":
            return self.network(inputs, scores=scores)
        found = self.scores(inputs) if scores is None else scores
        return Model(found) if self.needs == "queries" else lambda x: found(x)

    def after(self, change: Callable[[Tensor], Any], inputs: Tensor) -> Any:
        """The model above with `change` applied to its scores."""
        model = self.model(inputs)
        if self.needs == "layers":
            return Then(model, change)
        return lambda x: change(model(x))

    def explainer(self, model: Callable, seed: int = 0) -> Any:
        return self.make(model, seed=seed) if self.seeded else self.make(model)

    def explain(self, explainer: Any, inputs: Any, target: Any = 1) -> Any:
        self.call = f"attribute({describe(inputs)}, target={describe(target)})"
        self.calls += 1
        return explainer.attribute(inputs, target=target)

    def maps(
        self, inputs: Tensor, target: Any = 1, model: Any = None, seed: int = 0
    ) -> Tensor:
        """The maps of a new explainer, bound to `model` or to the one above."""
        model = self.model(inputs) if model is None else model
        return self.explain(self.explainer(model, seed), inputs, target)

    def expect_maps(self, maps: Any, inputs: Tensor) -> None:
        """Finite, and of the right type and shape."""
        if not isinstance(maps, Tensor):
            raise Violation(f"a map must be a tensor, got {type(maps).__name__}")
        shape = list(inputs.shape)
        if not self.per_channel and inputs.ndim == 4:
            shape[1] = 1
        found = list(maps.shape)
        require(found == shape, f"maps have shape {found}, expected {shape}")
        require(maps.isfinite().all(), "maps are not finite")

    def expect_equal(self, maps: Tensor, others: Tensor, what: str) -> None:
        gap = difference(maps, others)
        words = f"{what}: maps differ by {gap:.2g} of their largest value"
        require(gap <= TOLERANCE, words)

    def expect_refused(
        self,
        name: str,
        model: Any,
        inputs: Any,
        target: Any = 1,
        what: str = "",
        explainer: Any = None,
    ) -> None:
        """A TypeError or ValueError that names the argument, when the explainer is made
        or called; and of wrong inputs before any query."""
        asked = getattr(model, "asked", 0)

        def explain() -> None:
            bound = self.explainer(model) if explainer is None else explainer
            self.explain(bound, inputs, target)

        refused(name, what or f"wrong {name} were explained", explain)
        if name == "inputs" and getattr(model, "asked", 0) != asked:
            raise Violation("the model was asked before the inputs were refused")


Check = Callable[[Case, Tensor], None]
CHECKS: dict[str, Check] = {}
"""All properties by name, in the order in which they are tried."""


def prop(name: str, *needs: str) -> Callable[[Check], Check]:
    """Register a property, of methods with these needs or of all."""

    def add(check: Check) -> Check:
        def tried(case: Case, x: Tensor) -> None:
            if needs and case.needs not in needs:
                raise NotApplicable(f"the method needs the model's {case.needs}")
            check(case, x)

        CHECKS[name] = tried
        return check

    return add


def require(holds: Any, words: str) -> None:
    """Raise `Violation` unless it holds."""
    if not holds:
        raise Violation(words)


def refused(name: str, words: str, call: Callable[[], Any]) -> None:
    """Raise `Violation` unless the call gives a TypeError or ValueError with a name."""
    try:
        call()
    except (TypeError, ValueError) as error:
        require(name in str(error), f"the error does not name {name}: {error}")
    else:
        raise Violation(words)


def numbers(*values: float) -> Tensor:
    """Float64, on the CPU."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def classes(*values: int) -> Tensor:
    """Int64, on the CPU."""
    return torch.tensor(values, dtype=torch.int64, device="cpu")


def difference(maps: Tensor, others: Tensor) -> float:
    """The largest difference, as a share of the largest value in both; 0 of zeros."""
    shapes = list(maps.shape), list(others.shape)
    require(shapes[0] == shapes[1], f"maps have the shapes {shapes[0]} and {shapes[1]}")
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
