"""Explainers under random sizes, dtypes, seeds, targets and wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from xai_lib.aise import AISE
from xai_lib.baselines import (
    RISE,
    Gradient,
    IntegratedGradients,
    KernelSHAP,
    Occlusion,
    SmoothGrad,
)
from xai_lib.geex import GEEX, GERS, IGEEX

CLASSES = 3
# With a seed, or without one; and whether maps have a channel for each of the image.
EXPLAINERS: dict[str, tuple[Callable[..., Any], bool, bool]] = {
    "RISE": (lambda f, seed: RISE(f, 5, mask_size=2, seed=seed), True, False),
    "GEEX": (lambda f, seed: GEEX(f, 4, seed=seed), True, True),
    "GERS": (lambda f, seed: GERS(f, 4, mask_size=2, seed=seed), True, True),
    "IGEEX": (lambda f, seed: IGEEX(f, 4, seed=seed), True, True),
    "AISE": (lambda f, seed: AISE(f, "random", n_kernels=2, seed=seed), True, False),
    "SmoothGrad": (lambda f, seed: SmoothGrad(f, 2, seed=seed), True, True),
    "Occlusion": (lambda f, seed: Occlusion(f, window=2), False, False),
    "Gradient": (lambda f, seed: Gradient(f), False, True),
    "IntegratedGradients": (
        lambda f, s: IntegratedGradients(f, n_steps=2),
        False,
        True,
    ),
}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
FORMS: dict[str, Callable[[list[int]], Any]] = {
    "a list": list,
    "a tuple": tuple,
    "an array": np.array,
    "a tensor": torch.tensor,
    "small integers": lambda c: torch.tensor(c, dtype=torch.uint8),
}
SEEDS = st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))


def scores(x: Tensor) -> Tensor:
    """Smooth, and of the mean colour and its slopes; in the dtype of x."""
    place = torch.linspace(0, 1, x.shape[3], dtype=x.dtype, device=x.device)
    parts = (x.mean(dim=(1, 2, 3)), (x * place).mean(dim=(1, 2, 3)), x[:, 0, 0, 0])
    return torch.stack(parts, dim=1).sin()


def images(
    n: int, channels: int, height: int, width: int, dtype: torch.dtype
) -> Tensor:
    values = np.random.default_rng(n).random((n, channels, height, width))
    return torch.from_numpy(values).to(dtype)


@pytest.mark.parametrize("name", EXPLAINERS)
@given(
    n=st.integers(1, 3),
    channels=st.integers(1, 4),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    dtype=st.sampled_from(DTYPES),
    seed=SEEDS,
    form=st.sampled_from(list(FORMS)),
    data=st.data(),
)
def test_a_map_is_finite_and_of_its_image_alone(
    name: str,
    n: int,
    channels: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    seed: int,
    form: str,
    data: st.DataObject,
) -> None:
    make, _, per_channel = EXPLAINERS[name]
    x = images(n, channels, height, width, dtype)
    target = data.draw(st.lists(st.integers(0, CLASSES - 1), min_size=n, max_size=n))
    explainer = make(scores, seed)
    maps = explainer.attribute(x, FORMS[form](target))
    assert maps.shape == (n, channels if per_channel else 1, height, width)
    assert maps.dtype == dtype
    assert bool(maps.isfinite().all())
    i = n - 1
    alone = explainer.attribute(x[i:], target[i])[0].double()
    largest = max(float(alone.abs().max()), 1e-6)
    assert float((alone - maps[i].double()).abs().max()) <= 0.05 * largest


WRONG: dict[str, st.SearchStrategy[Any]] = {
    "inputs": st.sampled_from(
        [
            None,
            "cat",
            np.ones((1, 3, 4, 4)),
            torch.ones(3, 4, 4),
            torch.ones(0, 3, 4, 4),
            torch.ones(1, 1, 3, 4, 4),
            torch.ones(1, 3, 4, 4).byte(),
            torch.full((1, 3, 4, 4), torch.nan),
            torch.full((1, 3, 4, 4), torch.inf),
        ]
    ),
    "target": st.one_of(
        st.integers(CLASSES, 2**80),
        st.integers(-(2**80), -1),
        st.floats(),
        st.booleans(),
        st.text(max_size=3),
        st.lists(st.integers(0, CLASSES - 1), max_size=5).filter(lambda c: len(c) != 2),
        st.lists(st.floats(), min_size=2, max_size=2),
    ),
    "seed": st.one_of(
        st.integers(max_value=-1), st.integers(2**64), st.floats(), st.none()
    ),
    "show_progress": st.one_of(st.text(max_size=5), st.integers(), st.none()),
}


@pytest.mark.parametrize("argument", WRONG)
@given(name=st.sampled_from(list(EXPLAINERS)), data=st.data())
def test_a_wrong_argument_is_refused_by_name(
    argument: str, name: str, data: st.DataObject
) -> None:
    make, seeded, _ = EXPLAINERS[name]
    value = data.draw(WRONG[argument])
    given: dict[str, Any] = {"inputs": images(2, 3, 4, 4, torch.float32), "target": 1}
    if argument == "seed":
        make = make if seeded else EXPLAINERS["RISE"][0]
        with pytest.raises((TypeError, ValueError), match="seed must be"):
            make(scores, value)
        return
    explainer = make(scores, 0)
    with pytest.raises((TypeError, ValueError), match=argument):
        explainer.attribute(**(given | {argument: value}))


@given(
    kind=st.sampled_from([AISE, GEEX, GERS, IGEEX, KernelSHAP, Occlusion, RISE]),
    value=st.one_of(
        st.none(),
        st.text(max_size=4),
        st.integers(max_value=0),
        st.floats(allow_nan=True),
        st.just(True),
        st.just(()),
    ),
)
def test_a_number_of_samples_is_a_whole_number(kind: Any, value: Any) -> None:
    name = "window" if kind is Occlusion else "n_samples"
    with pytest.raises((TypeError, ValueError), match=name):
        kind(scores, **{name: value})
