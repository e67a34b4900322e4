"""Properties of the way a method treats models: asked as promised, left as found."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib.checks.properties.case import (
    Case,
    NotApplicable,
    Violation,
    classes,
    network,
    numbers,
    only_for,
    prop,
)
from xai_lib.core.blackbox import BlackBox, BudgetExceeded

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@prop("inputs, target and model stay as they are")
def _untouched(case: Case) -> None:
    x, target = case.inputs(), classes(3, 0, 1)
    model = network(case.scores(x), x)
    attributes = [set(vars(module)) for module in model.modules()]
    kept = [p.clone() for p in model.parameters()]
    kept_x, kept_target = x.clone(), target.clone()
    maps = case.maps(x, target, model)
    if not torch.equal(x, kept_x):
        raise Violation("the inputs have changed")
    if not torch.equal(target, kept_target):
        raise Violation("the target has changed")
    if maps.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
        raise Violation("the maps share memory with the inputs")
    for p, before in zip(model.parameters(), kept, strict=True):
        if not torch.equal(p, before) or p.grad is not None or not p.requires_grad:
            raise Violation("a parameter of the model, or its .grad, has changed")
    for module, names in zip(model.modules(), attributes, strict=True):
        if module.training or any(getattr(module, hooks) for hooks in HOOKS):
            raise Violation(f"hooks or training mode are left on {module}")
        if set(vars(module)) != names:
            raise Violation(f"attributes have come or gone on {module}")


class Keeping(nn.Linear):
    """A layer that makes a tensor at its first call, as detectors make anchors."""

    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.ones_like(x[:1])
        return super().forward(x * self.kept)


@prop("what a model keeps from its first call can be used for training")
def _keeping(case: Case) -> None:
    x = case.inputs()
    model = network(case.scores(x), x, Keeping)
    plain = network(case.scores(x), x)
    case.expect_equal(case.maps(x, None, model), case.maps(x, None, plain), "Keeping")
    model(x.clone().requires_grad_()).sum().backward()


@prop("a model in training mode is refused, behind a function too")
def _training_mode(case: Case) -> None:
    x = case.inputs()
    norm = nn.BatchNorm1d(4, affine=False, dtype=x.dtype, device=x.device)
    for layer in (norm, nn.Dropout()):
        model = nn.Sequential(network(case.scores(x), x), layer).train()
        before = [b.clone() for b in model.buffers()]
        _refused(case, "forward_func", model, x)
        if case.facts.needs != "layers":
            _refused(case, "forward_func", lambda z, model=model: model(z), x)
        explainer = case.explainer(model.eval())
        model.train()
        _refused(case, "forward_func", model, x, explainer)
        if not all(map(torch.equal, model.buffers(), before)):
            raise Violation("statistics of the model have changed")


@prop("a model that gives no gradient is refused")
def _no_gradient(case: Case) -> None:
    only_for(case, "gradients", "layers")
    x = case.inputs()
    plain = network(case.scores(x), x)
    for cut in (torch.no_grad(), None):

        class Frozen(nn.Module):
            """Its first layers give the others no gradient."""

            def __init__(self) -> None:
                super().__init__()
                self.body, self.head = plain[:3], plain[3:]

            def forward(self, x: Tensor, cut: Any = cut) -> Tensor:
                if cut is None:
                    return self.head(self.body(x).detach())
                with cut:
                    seen = self.body(x)
                return self.head(seen)

        try:
            maps = case.maps(x, model=Frozen().eval())
        except ValueError as error:
            if not any(word in str(error) for word in ("gradient", "detach")):
                raise Violation(f"the error names no gradient: {error}") from error
        else:  # rules for layers need none
            case.expect_equal(maps, case.maps(x, model=plain), "without a gradient")


@prop("any callable is a model, as one on NumPy arrays; else it is refused by name")
def _arrays(case: Case) -> None:
    x = case.inputs()
    scores = case.scores(x)

    def on_arrays(images: Any) -> np.ndarray:
        if not isinstance(images, np.ndarray):
            raise TypeError("this model takes NumPy arrays only")
        return scores(torch.from_numpy(images)).numpy()

    if case.facts.needs == "queries":
        case.expect_equal(case.maps(x, model=on_arrays), case.maps(x), "on arrays")
    else:
        _refused(case, "forward_func", on_arrays, x)


@prop("an answer that is not finite is refused, but for other classes at -inf")
def _not_finite(case: Case) -> None:
    x = case.inputs()
    scores = case.scores(x)
    for value in (float("nan"), float("inf")):
        broken = scores._replace(bias=numbers(0, value, 0, 0))
        try:
            case.maps(x, 1, case.model(x, broken))
        except ValueError:
            continue
        raise Violation(f"a model that answers {value} was explained")
    # As a class that nothing makes likely: methods that compare classes see it, too.
    maps, low = (
        case.maps(x, 1, case.model(x, scores._replace(bias=numbers(0, 0, 0, bias))))
        for bias in (-float("inf"), -1e4)
    )
    case.expect_equal(maps, low, "another class at -inf")


def _named(scores: Tensor) -> dict[str, Tensor]:
    return {"logits": scores}


def _object(scores: Tensor) -> types.SimpleNamespace:
    return types.SimpleNamespace(loss=None, logits=scores)


def _alone(scores: Tensor) -> tuple[Tensor]:
    return (scores,)


def _convolved(scores: Tensor) -> Tensor:
    return scores[:, :, None, None]


@prop("scores in a dictionary, an object, a tuple or [N, K, 1, 1] are read, or refused")
def _outputs(case: Case) -> None:
    x = case.inputs()
    expected = case.maps(x, 1)
    for form in (_named, _object, _alone, _convolved):
        try:
            maps = case.maps(x, 1, case.after(form, x))
        except (TypeError, ValueError):
            continue
        case.expect_equal(maps, expected, f"scores as {form.__name__.strip('_')}")


UNREADABLE: dict[str, Callable[[Tensor], Any]] = {
    "no scores, [N, 0]": lambda scores: scores[:, :0],
    "class numbers": lambda scores: scores.argmax(dim=1),
    "None": lambda scores: None,
    "a sum over the batch": lambda scores: scores.sum(),
    "scores of two places, [N, K, 2]": lambda scores: torch.stack([scores] * 2, dim=2),
}


@prop("answers that are no scores are refused by name")
def _unreadable(case: Case) -> None:
    x = case.inputs()
    for what, change in UNREADABLE.items():
        _refused(case, "forward_func", case.after(change, x), x, what=what)


@prop("an explanation costs exactly the queries that it promises")
def _cost_exact(case: Case) -> None:
    promised = _promised(case, n=3)
    x = case.inputs()
    for target, extra in ((classes(3, 0, 1), 0), (None, 3)):
        model = case.model(x)
        case.maps(x, target, model)
        # None costs at most one more query per image.
        if not promised <= model.asked <= promised + extra:
            more = f" to {promised + extra}" if extra else ""
            raise Violation(f"{model.asked} queries, promised {promised}{more}")


@prop("a budget that is one query short stops it")
def _budget(case: Case) -> None:
    promised = _promised(case, n=3)
    x = case.inputs()
    case.maps(x, 1, BlackBox(case.model(x), budget=promised))
    try:
        case.maps(x, 1, BlackBox(case.model(x), budget=promised - 1))
    except BudgetExceeded:
        return
    raise Violation("BudgetExceeded was not raised")


def _promised(case: Case, n: int) -> int:
    only_for(case, "queries")
    if case.facts.queries is None:
        raise NotApplicable("no number of queries is promised")
    return n * case.facts.queries(*case.size)


def _refused(
    case: Case,
    name: str,
    model: Any,
    inputs: Tensor,
    explainer: Any = None,
    what: str = "the model",
) -> None:
    """A TypeError or ValueError that names `name`, when made or when called."""
    try:
        explainer = case.explainer(model) if explainer is None else explainer
        case.explain(explainer, inputs, 1)
    except (TypeError, ValueError) as error:
        if name not in str(error):
            raise Violation(f"the error does not name {name}: {error}") from error
    else:
        raise Violation(f"{what}: was explained")
