"""Properties of the way a method treats models: asked as promised, left as found."""

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai_lib.checks.properties.case import (
    Case,
    NotApplicable,
    Violation,
    classes,
    numbers,
    prop,
    require,
)
from xai_lib.core.blackbox import BlackBox, BudgetExceeded

WAS_EXPLAINED = "the model: was explained"
HOOKS = [f"_{when}_hooks" for when in ("forward", "forward_pre", "backward")]
HOOKS.append("_backward_pre_hooks")


@prop("inputs, target and model stay as they are")
def _untouched(case: Case, x: Tensor) -> None:
    target, model = classes(3, 0, 1), case.network(x)
    attributes = [set(vars(module)) for module in model.modules()]
    kept = [p.clone() for p in model.parameters()]
    kept_x, kept_target = x.clone(), target.clone()
    maps = case.maps(x, target, model)
    require(torch.equal(x, kept_x), "the inputs have changed")
    require(torch.equal(target, kept_target), "the target has changed")
    shared = maps.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    require(not shared, "the maps share memory with the inputs")
    for p, before in zip(model.parameters(), kept, strict=True):
        same = torch.equal(p, before) and p.grad is None and p.requires_grad
        require(same, "a parameter of the model, or its .grad, has changed")
    for module, names in zip(model.modules(), attributes, strict=True):
        left = module.training or any(getattr(module, hooks) for hooks in HOOKS)
        require(not left, f"hooks or training mode are left on {module}")
        require(set(vars(module)) == names, f"attributes have come or gone on {module}")


class Keeping(nn.Linear):
    """A layer that makes a tensor at its first call, as detectors make anchors."""

    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.ones_like(x[:1])
        return super().forward(x * self.kept)


@prop("what a model keeps from its first call can be used for training")
def _keeping(case: Case, x: Tensor) -> None:
    model, plain = case.network(x, Keeping), case.network(x)
    case.expect_equal(case.maps(x, None, model), case.maps(x, None, plain), "Keeping")
    model(x.clone().requires_grad_()).sum().backward()


@prop("a model in training mode is refused, behind a function too")
def _training_mode(case: Case, x: Tensor) -> None:
    norm = nn.BatchNorm1d(4, affine=False, dtype=x.dtype, device=x.device)
    for layer in (norm, nn.Dropout()):
        model = nn.Sequential(case.network(x), layer).train()
        before = [b.clone() for b in model.buffers()]
        hidden = [] if case.needs == "layers" else [lambda z, model=model: model(z)]
        for each in (model, *hidden):
            case.expect_refused("forward_func", each, x, what=WAS_EXPLAINED)
        explainer = case.explainer(model.eval())
        case.expect_refused(
            "forward_func", model.train(), x, what=WAS_EXPLAINED, explainer=explainer
        )
        same = all(map(torch.equal, model.buffers(), before))
        require(same, "statistics of the model have changed")


class Drawing(nn.Module):
    """Dropout that no mode ends."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


class Hiding(nn.Module):
    """A layer that `eval()` does not reach."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = [layer]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x)


@prop("a model in evaluation mode that draws random numbers all the same is refused")
def _random(case: Case, x: Tensor) -> None:
    hidden = [] if case.needs == "layers" else [Hiding(nn.Dropout())]
    for layer in (Drawing(), *hidden):
        model = nn.Sequential(case.network(x), layer).eval()
        case.expect_refused("forward_func", model, x[:1], 1, what=WAS_EXPLAINED)


class Detached(nn.Sequential):
    """Layers that give those before them no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class Frozen(nn.Sequential):
    """The same, as if they were used in evaluation only."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Mixed(nn.Sequential):
    """Layers for inputs with a part of their batch's mean: added, as of what is taken
    away a ReLU may leave nothing."""

    part = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.part * x.mean(dim=0))


@prop("a model whose answer depends on an input's neighbours in the batch is refused")
def _neighbours(case: Case, x: Tensor) -> None:
    model, layers = case.model(x), case.network(x)
    hidden = [] if case.needs == "layers" else [lambda z: model(z + z.mean(dim=0))]
    fully, hardly = Mixed(*layers).eval(), Mixed(*layers).eval()
    hardly.part = 0.01
    for each in (fully, hardly, *hidden):
        case.expect_refused("forward_func", each, x, what=WAS_EXPLAINED)


@prop("a model that gives no gradient is refused", "gradients", "layers")
def _no_gradient(case: Case, x: Tensor) -> None:
    plain = case.network(x)
    for cut in (Frozen, Detached):
        try:
            maps = case.maps(x, model=nn.Sequential(cut(*plain[:3]), *plain[3:]).eval())
        except ValueError as error:
            named = any(word in str(error) for word in ("gradient", "detach"))
            require(named, f"the error names no gradient: {error}")
        else:  # rules for layers need none
            case.expect_equal(maps, case.maps(x, model=plain), "without a gradient")


@prop("any callable is a model, as one on NumPy arrays; else it is refused by name")
def _arrays(case: Case, x: Tensor) -> None:
    scores = case.scores(x)

    def on_arrays(images: Any) -> np.ndarray:
        if not isinstance(images, np.ndarray):
            raise TypeError("this model takes NumPy arrays only")
        return scores(torch.from_numpy(images)).numpy()

    if case.needs == "queries":
        case.expect_equal(case.maps(x, model=on_arrays), case.maps(x), "on arrays")
    else:
        case.expect_refused("forward_func", on_arrays, x, what=WAS_EXPLAINED)


@prop("an answer that is not finite is refused, but for other classes at -inf")
def _not_finite(case: Case, x: Tensor) -> None:
    scores = case.scores(x)

    def maps(*bias: float) -> Tensor:
        return case.maps(x, 1, case.model(x, scores._replace(bias=numbers(*bias))))

    for value in (float("nan"), float("inf")):
        try:
            maps(0, value, 0, 0)
        except ValueError:
            continue
        raise Violation(f"a model that answers {value} was explained")
    # As a class that nothing makes likely: methods that compare classes see it, too.
    at_infinity, low = maps(0, 0, 0, -float("inf")), maps(0, 0, 0, -1e4)
    case.expect_equal(at_infinity, low, "another class at -inf")


READABLE: dict[str, Callable[[Tensor], Any]] = {
    "a dictionary": lambda scores: {"logits": scores},
    "an object": lambda scores: types.SimpleNamespace(loss=None, logits=scores),
    "a tuple": lambda scores: (scores,),
    "[N, K, 1, 1]": lambda scores: scores[:, :, None, None],
}
UNREADABLE: dict[str, Callable[[Tensor], Any]] = {
    "no scores, [N, 0]": lambda scores: scores[:, :0],
    "class numbers": lambda scores: scores.argmax(dim=1),
    "None": lambda scores: None,
    "a sum over the batch": lambda scores: scores.sum(),
    "scores of two places, [N, K, 2]": lambda scores: torch.stack([scores] * 2, dim=2),
}


@prop("scores in a dictionary, an object, a tuple or [N, K, 1, 1] are read, or refused")
def _outputs(case: Case, x: Tensor) -> None:
    expected = case.maps(x)
    for what, change in READABLE.items():
        try:
            maps = case.maps(x, model=case.after(change, x))
        except (TypeError, ValueError):
            continue
        case.expect_equal(maps, expected, f"scores as {what}")


@prop("answers that are no scores are refused by name")
def _unreadable(case: Case, x: Tensor) -> None:
    for what, change in UNREADABLE.items():
        model = case.after(change, x)
        case.expect_refused("forward_func", model, x, what=f"{what}: was explained")


@prop("an explanation costs exactly the queries that it promises", "queries")
def _cost_exact(case: Case, x: Tensor) -> None:
    promised = _promised(case)
    for target, extra in ((classes(3, 0, 1), 0), (None, 3)):
        model = case.model(x)
        case.maps(x, target, model)
        # None costs at most one more query per image.
        more = f" to {promised + extra}" if extra else ""
        exact = promised <= model.asked <= promised + extra
        require(exact, f"{model.asked} queries, promised {promised}{more}")


@prop("a budget that is one query short stops it", "queries")
def _budget(case: Case, x: Tensor) -> None:
    promised = _promised(case)
    case.maps(x, model=BlackBox(case.model(x), budget=promised))
    try:
        case.maps(x, model=BlackBox(case.model(x), budget=promised - 1))
    except BudgetExceeded:
        return
    raise Violation("BudgetExceeded was not raised")


def _promised(case: Case) -> int:
    """For three images."""
    if case.queries is None:
        raise NotApplicable("no number of queries is promised")
    cost = case.queries
    return 3 * (cost(*case.size) if callable(cost) else cost)
