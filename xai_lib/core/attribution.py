"""The shape that all explainers of the book share.

    explainer = Method(forward_func, ...settings)
    maps = explainer.attribute(inputs, target=None)

Settings belong to the explainer, so that a study can hold a dictionary of explainers
and call them all alike. The class below has the attributes of Captum's `Attribution`,
so that Captum's metrics and its `NoiseTunnel` accept our methods as their own, and
needs no Captum.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from xai_lib.core.arguments import (
    Target,
    check_flag,
    check_inputs,
    check_seed,
    resolve_target,
)
from xai_lib.core.blackbox import BlackBox, as_blackbox
from xai_lib.core.blocks import groups, joined
from xai_lib.core.image_range import check_range

T = TypeVar("T")
P = ParamSpec("P")

DRAWN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
"""How random numbers are drawn: ``torch.rand(n, generator=generator(0), **DRAWN)``.
With torch's defaults, which a user may change, a seed would mean other numbers."""


def _wrapped(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, with itself as `__wrapped__`, which `NoiseTunnel` calls."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    return call


class Attribution(ABC):
    """Base of every explainer: checks, targets, and Captum's call shape.

    A method implements `_scores` (what the model says about images) and `_attribute`
    (its algorithm, for checked inputs and resolved targets), and nothing else.
    """

    input_dims: tuple[int, ...] = (4,)
    """Accepted numbers of dimensions: 4 for `[N, C, H, W]`, 2 for `[N, d]`."""

    multiplies_by_inputs = False
    """For Captum: whether a map is already a product with the inputs."""

    def __init__(self, forward_func: Callable) -> None:
        if not callable(forward_func):
            raise TypeError(
                "forward_func must be callable (images to scores), got "
                f"{type(forward_func).__name__}"
            )
        self.forward_func: Any = forward_func

    def has_convergence_delta(self) -> bool:
        """For Captum: an explainer returns its map alone."""
        return False

    @_wrapped
    def attribute(
        self, inputs: Tensor, target: Target = None, *, show_progress: bool = False
    ) -> Tensor:
        """Explain the score of `target` for each image.

        Args:
            inputs: float `[N, C, H, W]` (or `[N, d]` where the method allows it).
            target: an int, integers `[N]`, or None for the class predicted at inputs.
            show_progress: draw a progress bar that vanishes when it is full.

        Returns:
            The maps, on the device of `inputs` and in their dtype: the shape of
            `inputs` for gradient methods, `[N, 1, H, W]` for methods that mask whole
            pixels.

        Raises:
            TypeError, ValueError: a wrong argument, by name, with the fix; a map that
                is not finite.
        """
        if isinstance(inputs, tuple) and len(inputs) == 1:
            # Captum's sensitivity_max wraps its input, and takes the map alike.
            maps = self.attribute(inputs[0], target, show_progress=show_progress)
            return (maps,)
        check_flag("show_progress", show_progress)
        checked = self._checked(inputs, target)
        return _grouped(lambda x, c: self._attribute(x, c, show_progress), *checked)

    def _checked(self, inputs: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Checked inputs, without a graph, and their target classes `[N]`."""
        check_inputs(inputs, dims=self.input_dims)
        check_range(self.forward_func, inputs)
        inputs = inputs.detach()
        return inputs, resolve_target(self._scores, inputs, target)

    def _of_all_classes(
        self, inputs: Tensor, maps: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """`maps`, from images to `[n, K, ...]`, of all images."""
        check_inputs(inputs, dims=self.input_dims)
        check_range(self.forward_func, inputs)
        return _grouped(maps, inputs.detach())

    @abstractmethod
    def _scores(self, inputs: Tensor) -> Tensor:
        """The model's scores `[N, K]`, without a gradient."""

    @abstractmethod
    def _attribute(self, inputs: Tensor, target: Tensor, show_progress: bool) -> Tensor:
        """The method itself: checked inputs, target classes `[N]` on the CPU.

        More images than a block holds come in several calls, see `blocks`.
        """


class BlackBoxAttribution(Attribution):
    """Base of the methods that only query: `self.blackbox` answers and counts.

    `forward_func` may be any callable, or a `BlackBox` with a budget of its own.
    """

    @cached_property
    def blackbox(self) -> BlackBox:
        # Threads that come here together share it: since Python 3.12 each would get one
        # of its own, and queries would be lost.
        return vars(self).setdefault("blackbox", as_blackbox(self.forward_func))

    def _scores(self, inputs: Tensor) -> Tensor:
        return self.blackbox(inputs)


def _grouped(maps: Callable[..., Tensor], inputs: Tensor, *others: Tensor) -> Tensor:
    """`maps` of all images, made of one group of them after the other."""
    parts = (as_maps(maps(*group), group[0]) for group in groups(inputs, *others))
    with torch.autocast(inputs.device.type, enabled=False):  # as in a BlackBox
        return joined(len(inputs), parts)


@contextmanager
def default_device(device: torch.device | str) -> Iterator[None]:
    """Where tensors are made that name no device, as other libraries make them.

    Theirs belong on the CPU, those of a user's model on the user's default device.
    """
    if torch.get_default_device() == torch.device(device):
        yield  # a context would slow down every call of torch
    else:
        with torch.device(device):
            yield


def accumulator(inputs: Tensor) -> torch.dtype:
    """The dtype to add up in: that of the inputs, and of half precision float32.

    A sum in bfloat16 stops growing at 256 times its terms, one in float16 at 65,504.
    """
    return torch.promote_types(inputs.dtype, torch.float32)


def as_maps(values: Tensor, inputs: Tensor) -> Tensor:
    """What a method has computed, `[N, ...]`, as contiguous maps in the inputs' dtype.

    Raises:
        ValueError: a value that is not finite.
    """
    maps = values.detach().to(inputs.dtype, memory_format=torch.contiguous_format)
    finite = maps.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        i = int((~finite).nonzero()[0])
        raise ValueError(
            f"the map of image {i} holds {maps[i][~maps[i].isfinite()][0]}: numbers "
            f"leave the range of {inputs.dtype}. Give inputs in float32 or float64, or "
            "a model with smaller scores"
        )
    return maps


def generator(seed: int) -> torch.Generator:
    """A source of randomness of our own: global random state is never touched.

    It lives on the CPU, and is for what is drawn once, such as the weights of a small
    model. The noise of explainers is made where it is used, see `kernels.philox`.
    """
    return torch.Generator("cpu").manual_seed(check_seed(seed))


def progress(
    items: Iterable[T], show: bool, total: int | None, name: str
) -> Iterable[T]:
    """Iterate with the book's one progress bar, or silently if `show` is False, or if
    TQDM_DISABLE=1 is set, which tqdm's bar in notebooks does not heed by itself."""
    check_flag("show_progress", show)
    hidden = not show or os.environ.get("TQDM_DISABLE", "0") != "0"
    return tqdm(items, total=total, desc=name, leave=False, disable=hidden)
