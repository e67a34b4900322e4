"""One battery for all explainers, those of the library and a reader's own.

    report = check_explainer(lambda f, seed: Method(f, n_samples=64, seed=seed))

An explainer is bound to its model, and the battery brings models of its own, so it is
given a function that makes the explainer, and what cannot be seen from outside: what
the method asks of a model, and what it promises. Each property is one short function
below. All are tried, on tiny inputs, before a failure is raised.

After scikit-learn's `check_estimator`.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib.arguments import check_choice, check_count
from xai_lib.blackbox import BlackBox, BudgetExceeded

NEEDS = ("queries", "gradients", "layers")
# The largest difference of two maps that are to be equal, as a share of the largest
# value in them. Rounding in float32 is far below, a wrong map is far above.
TOLERANCE = 1e-4


@dataclass
class Report:
    """What came out, by property.

    Attributes:
        explainer: the name of its class.
        passed: the properties that hold.
        not_applicable: those that were not tried, and why.
        exceptions: those that were said not to hold and do not, and why.
        failed: the others that do not hold: what happened, and for which call.
        calls: how many times `attribute` was called.
    """

    explainer: str
    passed: list[str] = field(default_factory=list)
    not_applicable: dict[str, str] = field(default_factory=dict)
    exceptions: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    calls: int = 0

    def __str__(self) -> str:
        tried = len(self.passed) + len(self.failed) + len(self.exceptions)
        lines = [f"{self.explainer}: {len(self.passed)} of {tried} properties hold"]
        lines += [f"  FAILED  {name}: {why}" for name, why in self.failed.items()]
        lines += [f"  except  {name}: {why}" for name, why in self.exceptions.items()]
        lines += [f"  ok      {name}" for name in self.passed]
        lines += [f"  -       {name}: {w}" for name, w in self.not_applicable.items()]
        return "\n".join(lines)


class ExplainerFailed(AssertionError):
    """At least one property does not hold; the message is the report.

    Attributes:
        report: the `Report`.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def check_explainer(
    make: Callable[..., Any],
    *,
    needs: str = "queries",
    queries: int | Callable[[int, int], int] | None = None,
    per_channel: bool = False,
    rows: bool = False,
    smallest: int = 1,
    exceptions: Mapping[str, str] | None = None,
    device: torch.device | str = "cpu",
) -> Report:
    """Try every property that an explainer of this book has.

    Args:
        make: `make(forward_func)` returns the explainer, an object with
            `attribute(inputs, target=None)`. A parameter named `seed` says that the
            method draws random numbers, and is passed by that name; without one the
            method has to be deterministic. Few samples will do: images are tiny.
        needs: what the method asks of a model: "queries", any callable, whose answers
            have no gradient; "gradients", a function in torch; "layers", an `nn.Module`
            (of a convolution, a ReLU and a dense layer).
        queries: how many an explanation of one image costs for a given target: a
            number, or a function of the image's height and width. None promises none.
        per_channel: maps have the shape of the inputs; else they are `[N, 1, H, W]`.
        rows: the method takes inputs `[N, d]`, too.
        smallest: the side, in pixels, of the smallest square image that it takes.
        exceptions: properties, by name, that do not hold for this method, and why. They
            are tried all the same: one that does hold is no exception, and fails.
        device: where models and images lie.

    Returns:
        The report; print it to see what was tried.

    Raises:
        ExplainerFailed: a property does not hold. The message says which, and for
            which call.
        TypeError, ValueError: a wrong argument, by name.
    """
    if hasattr(make, "attribute") and not inspect.isclass(make):
        name = type(make).__name__
        raise TypeError(
            f"make must be a function that makes an explainer, got a {name}, which is "
            f"bound to its model; write lambda f: {name}(f, ...)"
        )
    if not callable(make):
        raise TypeError(
            "make must be a function from forward_func to an explainer, got "
            f"{type(make).__name__}"
        )
    exceptions = dict(exceptions or {})
    for name in exceptions:
        if name not in CHECKS:
            raise ValueError(
                f"exceptions must name properties, got {name!r}; they are: "
                f"{'; '.join(CHECKS)}"
            )
    facts = Facts(
        make=make,
        seeded="seed" in inspect.signature(make).parameters,
        needs=check_choice("needs", needs, NEEDS),
        queries=queries if callable(queries) or queries is None else _cost(queries),
        per_channel=per_channel,
        rows=rows,
        smallest=check_count("smallest", smallest),
        device=torch.device(device),
    )
    case = Case(facts)
    report = Report(type(case.explainer(case.model(case.inputs()))).__name__)
    for name, check in CHECKS.items():
        case.call = ""
        try:
            check(case)
        except NotApplicable as reason:
            report.not_applicable[name] = str(reason)
        except Exception as error:
            what = str(error)
            if not isinstance(error, Violation):
                what = f"{type(error).__name__}: {error}"
            if name in exceptions:
                report.exceptions[name] = exceptions[name]
            else:
                report.failed[name] = f"{what}, in {case.call}"
        else:
            if name in exceptions:
                report.failed[name] = "it holds, and was said to be an exception"
            else:
                report.passed.append(name)
    report.calls = case.calls
    if report.failed:
        raise ExplainerFailed(report)
    return report


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
        return Scores(-0.3, first, last, torch.zeros(4))

    def model(self, inputs: Tensor, scores: Scores | None = None) -> Any:
        """`scores`, or else the model above, as what the method needs."""
        scores = self.scores(inputs) if scores is None else scores
        if self.facts.needs == "queries":
            return Model(scores)
        if self.facts.needs == "gradients":
            return lambda x: scores(x)
        return network(scores, inputs)

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
        explainer = self.explainer(model)
        asked = getattr(model, "asked", 0)
        try:
            self.explain(explainer, inputs, target)
        except (TypeError, ValueError) as error:
            if name not in str(error):
                raise Violation(f"the error does not name {name}: {error}") from error
        else:
            raise Violation(f"wrong {name} were explained")
        if getattr(model, "asked", 0) != asked and name == "inputs":
            raise Violation("the model was asked before the inputs were refused")


Check = Callable[[Case], None]
CHECKS: dict[str, Check] = {}


def _property(name: str) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return add


# Shapes, types and places


@_property("a finite map for each image, of the promised shape")
def _shape(case: Case) -> None:
    for n, channels in ((1, 1), (3, 3), (2, 4)):
        x = case.inputs(n, channels, *case.size)
        case.expect_maps(case.maps(x), x)


@_property("maps have the dtype of the inputs")
def _dtype(case: Case) -> None:
    for dtype in (torch.float32, torch.float64):
        x = case.inputs(dtype=dtype)
        if (got := case.maps(x).dtype) != dtype:
            raise Violation(f"maps are {got}, inputs {dtype}")


@_property("maps lie on the device of the inputs")
def _device(case: Case) -> None:
    x = case.inputs()
    if (got := case.maps(x).device) != x.device:
        raise Violation(f"maps are on {got}, inputs on {x.device}")


@_property("one explainer takes images of several sizes")
def _sizes(case: Case) -> None:
    height, width = case.size
    short = case.facts.smallest

    def model(x: Tensor) -> Tensor:
        return case.scores(x)(x)

    first = case.inputs()
    if case.facts.needs == "layers":
        # A network with dense layers has one size of images; so a new one for each.
        for size in ((width, height), (short, width), (width, short)):
            x = case.inputs(2, 3, *size)
            case.expect_maps(case.maps(x), x)
        return
    explainer = case.explainer(model)
    before = case.explain(explainer, first, 1)
    for size in ((width, height), (short, width), (width, short)):
        x = case.inputs(2, 3, *size)
        case.expect_maps(case.explain(explainer, x, 1), x)
    after = case.explain(explainer, first, 1)
    case.expect_equal(after, before, "after images of other sizes")


@_property("the smallest image is explained, and smaller ones are refused")
def _smallest(case: Case) -> None:
    side = case.facts.smallest
    x = case.inputs(2, 3, side, side)
    case.expect_maps(case.maps(x), x)
    for smaller in sorted({1, side - 1} - {0, side}):
        x = case.inputs(2, 3, smaller, smaller)
        try:
            case.maps(x)
        except ValueError:
            continue
        raise Violation(f"smallest is {side}, but smaller images are explained")


@_property("rows [N, d] are explained, or refused")
def _rows(case: Case) -> None:
    x = case.inputs(3, 7)
    if case.facts.rows:
        case.expect_maps(case.maps(x), x)
    else:
        case.expect_refused("inputs", case.model(x), x, 0)


@_property("inputs outside [0, 1] are welcome")
def _range(case: Case) -> None:
    x = 6 * case.inputs() - 3
    case.expect_maps(case.maps(x), x)


@_property("the layout of the inputs in memory does not matter")
def _layout(case: Case) -> None:
    x = case.inputs()
    expected = case.maps(x)
    turned = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    case.expect_equal(case.maps(turned), expected, "channels last in memory")
    repeated = x[:1].expand(3, -1, -1, -1)
    for image in case.maps(repeated):
        case.expect_equal(image, expected[0], "three images that share their memory")


# Same settings, same map


@_property("same settings, same map")
def _repeatable(case: Case) -> None:
    x = case.inputs()
    explainer = case.explainer(case.model(x))
    first = case.explain(explainer, x, 1)
    case.expect_equal(case.explain(explainer, x, 1), first, "called again")
    case.expect_equal(case.maps(x), first, "a new explainer")


@_property("another seed, another map")
def _seed(case: Case) -> None:
    if not case.facts.seeded:
        raise NotApplicable("make has no parameter named seed")
    x = case.inputs()
    if difference(case.maps(x, seed=0), case.maps(x, seed=1)) <= TOLERANCE:
        raise Violation("seeds 0 and 1 give the same map")


@_property("global random state is neither changed nor used")
def _random_state(case: Case) -> None:
    x = case.inputs()
    with _restored_random_state(case.facts.device):
        maps = []
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            before = _random_states(case.facts.device)
            maps.append(case.maps(x))
            after = _random_states(case.facts.device)
            for name, state in before.items():
                if state != after[name]:
                    raise Violation(f"the state of {name} has changed")
        case.expect_equal(maps[1], maps[0], "under another global seed")


@_property("an image gets the map that it gets alone")
def _alone(case: Case) -> None:
    x, target = case.inputs(17, 3, *case.size), torch.arange(17) % 4
    together = case.maps(x, target)
    case.expect_maps(together, x)
    for i in (0, 11, 16):
        alone = case.maps(x[i : i + 1], target[i : i + 1])
        case.expect_equal(alone[0], together[i], f"image {i} of 17")
    turned = case.maps(x.flip(0), target.flip(0)).flip(0)
    case.expect_equal(turned, together, "17 images the other way round")


@_property("the black box's batch size does not matter")
def _batch_size(case: Case) -> None:
    _only_queries(case)
    x = case.inputs()
    expected = case.maps(x)
    for size in (1, 7):
        maps = case.maps(x, model=BlackBox(case.model(x), batch_size=size))
        case.expect_equal(maps, expected, f"BlackBox(f, batch_size={size})")


# Targets


@_property("a target is an int, a tensor, or None for the predicted class")
def _targets(case: Case) -> None:
    x = case.inputs()
    for same in (torch.full((3,), 2), torch.tensor([2, 2, 2], dtype=torch.int32)):
        case.expect_equal(case.maps(x, same), case.maps(x, 2), "a tensor of one class")
    mixed = case.maps(x, torch.tensor([3, 0, 1]))
    for i, t in enumerate((3, 0, 1)):
        case.expect_equal(mixed[i], case.maps(x, t)[i], f"class {t} of image {i}")
    predicted = case.scores(x)(x).argmax(dim=1)
    case.expect_equal(case.maps(x, None), case.maps(x, predicted), "target=None")


@_property("another target, another map")
def _other_target(case: Case) -> None:
    x = case.inputs()
    order = case.scores(x)(x).argsort(dim=1)
    best, worst = case.maps(x, order[:, -1]), case.maps(x, order[:, 0])
    for i in range(3):
        if difference(best[i], worst[i]) <= TOLERANCE:
            raise Violation(f"image {i} has one map for two classes")


@_property("wrong targets are refused by name")
def _wrong_targets(case: Case) -> None:
    x = case.inputs()
    wrong = (4, -1, 0.5, "cat", torch.tensor([0.0, 1, 2]), torch.tensor([0, 1]))
    for target in wrong:
        case.expect_refused("target", case.model(x), x, target)


# Clean hands


@_property("inputs, target and model stay as they are")
def _untouched(case: Case) -> None:
    x, target = case.inputs(), torch.tensor([3, 0, 1])
    model = case.model(x)
    weights = [p.clone() for p in parameters(model)]
    kept, kept_target = x.clone(), target.clone()
    maps = case.maps(x, target, model)
    if not torch.equal(x, kept):
        raise Violation("the inputs have changed")
    if not torch.equal(target, kept_target):
        raise Violation("the target has changed")
    if maps.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
        raise Violation("the maps share memory with the inputs")
    for p, w in zip(parameters(model), weights, strict=True):
        if not torch.equal(p, w) or p.grad is not None:
            raise Violation("a parameter of the model, or its .grad, has changed")
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if module._forward_hooks or module._forward_pre_hooks or module.training:
            raise Violation(f"hooks or training mode are left on {module}")


@_property("gradients need not be on, and none are left behind")
def _grad_mode(case: Case) -> None:
    x = case.inputs()
    expected = case.maps(x.clone())
    if expected.requires_grad:
        raise Violation("the maps require a gradient")
    leaf = x.clone().requires_grad_()
    case.expect_equal(case.maps(leaf).detach(), expected, "inputs that require grad")
    if leaf.grad is not None or not leaf.requires_grad:
        raise Violation(".grad or .requires_grad of the inputs has changed")
    with torch.no_grad():
        case.expect_equal(case.maps(x), expected, "under torch.no_grad()")
        if torch.is_grad_enabled():
            raise Violation("gradients are switched on, where they were off")
    with torch.inference_mode():
        made = x.clone()
    case.expect_equal(case.maps(made), expected, "inputs made in inference mode")
    if not torch.is_grad_enabled():
        raise Violation("gradients are switched off, where they were on")


@_property("nothing is printed")
def _silent(case: Case) -> None:
    x, out, err = case.inputs(), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        case.maps(x)
    if printed := out.getvalue() + err.getvalue():
        raise Violation(f"printed {printed[:60]!r}")


# Queries


@_property("any callable is a model, as one on NumPy arrays")
def _numpy(case: Case) -> None:
    _only_queries(case)
    x = case.inputs()
    scores = case.scores(x)

    def on_arrays(images: Any) -> np.ndarray:
        if not isinstance(images, np.ndarray):
            raise TypeError("this model takes NumPy arrays only")
        return scores(torch.from_numpy(images)).numpy()

    case.expect_equal(case.maps(x, model=on_arrays), case.maps(x), "a NumPy function")


@_property("an explanation costs exactly the queries that it promises")
def _cost_exact(case: Case) -> None:
    promised = _promised(case, n=3)
    x = case.inputs()
    for target, extra in ((torch.tensor([3, 0, 1]), 0), (None, 3)):
        model = case.model(x)
        case.maps(x, target, model)
        # None costs at most one more query per image.
        if not promised <= model.asked <= promised + extra:
            more = f" to {promised + extra}" if extra else ""
            raise Violation(f"{model.asked} queries, promised {promised}{more}")


@_property("a budget that is one query short stops it")
def _budget(case: Case) -> None:
    promised = _promised(case, n=3)
    x = case.inputs()
    case.maps(x, 1, BlackBox(case.model(x), budget=promised))
    try:
        case.maps(x, 1, BlackBox(case.model(x), budget=promised - 1))
    except BudgetExceeded:
        return
    raise Violation("BudgetExceeded was not raised")


@_property("an answer that is not finite is refused")
def _not_finite(case: Case) -> None:
    x = case.inputs()
    scores = case.scores(x)
    for value in (float("nan"), float("inf")):
        broken = scores._replace(bias=torch.tensor([0.0, value, 0.0, 0.0]))
        try:
            case.maps(x, 1, case.model(x, broken))
        except ValueError:
            continue
        raise Violation(f"a model that answers {value} was explained")


@_property("wrong inputs are refused by name, before any query")
def _wrong_inputs(case: Case) -> None:
    x = case.inputs()
    one_nan, infinite = x.clone(), x.clone()
    one_nan[2, 0, 1, 1], infinite[0, 2, 0, 3] = float("nan"), float("inf")
    wrong = (x.cpu().numpy(), x.tolist(), None, (255 * x).byte(), x[0], x[None], x[:0])
    for inputs in (*wrong, one_nan, infinite):
        case.expect_refused("inputs", case.model(x), inputs, 1)


# Models whose explanation is known


@_property("a constant model has a flat map")
def _constant(case: Case) -> None:
    x = case.inputs()
    scores = case.scores(x)
    bias = torch.tensor([0.2, 0.5, 0.3, 0.1])
    constant = scores._replace(last=torch.zeros(4, 6), bias=bias)
    for image in case.maps(x, 1, case.model(x, constant)):
        spread = float(image.max() - image.min())
        # Where it is zero, rounding has the scale of the score.
        if not spread <= TOLERANCE * max(0.5, float(image.abs().max())):
            raise Violation(
                f"the score is 0.5 everywhere, the map goes from {image.min():.3g} to "
                f"{image.max():.3g}"
            )


@_property("of a linear model, the part that it reads stands out")
def _linear(case: Case) -> None:
    height, width = case.size
    where = torch.zeros(3, 1, height, width)
    where[0, :, : height // 2, width - width // 2 :] = 1  # read by class 0
    where[1, :, height - height // 2 :, : width // 2] = 1  # read by class 1
    means = where.expand(-1, 3, -1, -1).flatten(1)
    means = means / means.sum(dim=1, keepdim=True).clamp_min(1)
    # Linear wherever no number is below -1: the shift is taken back by the bias.
    scores = Scores(1.0, means, torch.eye(3), torch.tensor([-1.0, -1.0, 0.9]))
    # Image 0 is bright where class 0 looks, image 1 where class 1 does: it scores 1,
    # a bit more than class 2 always gets.
    x = (0.1 + 0.9 * where[:2].expand(-1, 3, -1, -1)).to(case.inputs())
    maps = case.maps(x, torch.tensor([0, 1]), case.model(x, scores)).sum(dim=1)
    for image, region in zip(maps.cpu(), where[:2, 0].bool(), strict=True):
        inside, outside = float(image[region].mean()), float(image[~region].mean())
        if not inside > outside + TOLERANCE * float(image.abs().max()):
            raise Violation(f"mean {inside:.3g} there, {outside:.3g} elsewhere")


# Helpers


def network(scores: Scores, inputs: Tensor) -> nn.Module:
    """`Scores` as a network of layers, for inputs of one shape."""
    make, channels = nn.utils.skip_init, inputs.shape[1]
    if inputs.ndim == 4:
        shift = make(nn.Conv2d, channels, channels, kernel_size=1)
        identity = torch.eye(channels)[:, :, None, None]
    else:
        shift, identity = make(nn.Linear, channels, channels), torch.eye(channels)
    classes, hidden = scores.last.shape
    first = make(nn.Linear, scores.first.shape[1], hidden)
    last = make(nn.Linear, hidden, classes)
    layers = (shift, nn.ReLU(), nn.Flatten(), first, nn.ReLU(), last)
    model = nn.Sequential(*layers).to(inputs).eval()
    shifts, zeros = torch.full((channels,), scores.shift), torch.zeros(hidden)
    values = (identity, shifts, scores.first, zeros, scores.last, scores.bias)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)
    return model


def parameters(model: Any) -> list[Tensor]:
    """Of a module; none of anything else."""
    return list(model.parameters()) if isinstance(model, nn.Module) else []


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


def _cost(queries: int) -> Callable[[int, int], int]:
    check_count("queries", queries)
    return lambda height, width: queries


def _only_queries(case: Case) -> None:
    if case.facts.needs != "queries":
        raise NotApplicable(f"the method needs the model's {case.facts.needs}")


def _promised(case: Case, n: int) -> int:
    _only_queries(case)
    if case.facts.queries is None:
        raise NotApplicable("no number of queries is promised")
    return n * case.facts.queries(*case.size)


def _random_states(device: torch.device) -> dict[str, Any]:
    """Global random states, as values to be compared."""
    states = {
        "random": random.getstate(),
        "numpy.random": str(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
    }
    if device.type == "cuda":
        states["torch.cuda"] = torch.cuda.get_rng_state(device).tolist()
    return states


@contextlib.contextmanager
def _restored_random_state(device: torch.device) -> Iterator[None]:
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
