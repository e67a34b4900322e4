"""One battery for all explainers, those of the library and a reader's own.

    report = check_explainer(lambda f, seed: Method(f, n_samples=64, seed=seed))

An explainer is bound to its model, and the battery brings models of its own, so it is
given a function that makes the explainer, and what cannot be seen from outside: what
the method asks of a model, and what it promises. Each property is one short function
in `properties`, by kind. All are tried, on tiny inputs, before a failure is raised.

After scikit-learn's `check_estimator`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from xai_lib.checks.properties import CHECKS
from xai_lib.checks.properties.case import Case, NotApplicable, Violation
from xai_lib.checks.properties.state import restored_random_state
from xai_lib.core.arguments import check_choice, check_count, check_flag

NEEDS = ("queries", "gradients", "layers")


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
    """At least one property does not hold; the message is the `report`."""

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
    bound = hasattr(make, "attribute") and not inspect.isclass(make)
    if bound or not callable(make):
        hint = ", which is bound to its model; write lambda f: ..." if bound else ""
        raise TypeError(
            "make must be a function from forward_func to an explainer, got "
            f"{type(make).__name__}{hint}"
        )
    exceptions = dict(exceptions or {})
    for name in exceptions:
        if name not in CHECKS:
            known = "; ".join(CHECKS)
            raise ValueError(
                f"exceptions must name properties, got {name!r}; they are: {known}"
            )
    if queries is not None and not callable(queries):
        check_count("queries", queries)
    case = Case(
        make=make,
        seeded="seed" in inspect.signature(make).parameters,
        needs=check_choice("needs", needs, NEEDS),
        queries=queries,
        per_channel=check_flag("per_channel", per_channel),
        rows=check_flag("rows", rows),
        smallest=check_count("smallest", smallest),
        device=torch.device(device),
    )
    report = Report(type(case.explainer(case.model(case.inputs()))).__name__)
    for name, check in CHECKS.items():
        case.call = problem = ""
        try:
            with restored_random_state(case.device):  # models in training draw, too
                check(case, case.inputs())
        except NotApplicable as reason:
            report.not_applicable[name] = str(reason)
            continue
        except Violation as error:
            problem = str(error)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem and name in exceptions:
            report.exceptions[name] = exceptions[name]
        elif problem:
            report.failed[name] = f"{problem}, in {case.call}"
        elif name in exceptions:
            report.failed[name] = "it holds, and was said to be an exception"
        else:
            report.passed.append(name)
    report.calls = case.calls
    if report.failed:
        raise ExplainerFailed(report)
    return report
