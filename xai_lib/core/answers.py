"""How a model's answer, or its error, is to be read."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_scores(answer: Any) -> Tensor:
    """The scores `[N, K]` in what a model returned, with their graph.

    Read are: a tensor or array `[N, K]`; `[N]`, one score per input; `[N, K, 1, 1]`, a
    convolution over the whole image; and the logits of an object, dictionary or tuple
    (of `transformers`, timm, torchvision) where it has but one thing to read.

    Raises:
        TypeError: no floating-point scores, or several things that could be.
        ValueError: no class at all.
    """
    answer = _logits(answer)
    if isinstance(answer, np.ndarray):
        # A copy: torch takes no negative strides, as in predict_proba(x)[:, ::-1].
        answer = torch.from_numpy(np.array(answer, order="C"))
    if not answer.is_floating_point():
        raise TypeError(
            f"forward_func must return floating-point scores, got {answer.dtype}; use "
            "a function that returns scores, such as predict_proba, not class numbers"
        )
    if answer.dtype in (torch.float16, torch.bfloat16):
        answer = answer.float()
    if answer.ndim == 4 and answer.shape[2:] == (1, 1):
        answer = answer.flatten(1)
    if answer.ndim == 2 and answer.shape[1] == 0:
        raise ValueError(
            f"forward_func must return at least one score, got {list(answer.shape)}"
        )
    return answer[:, None] if answer.ndim == 1 else answer


def _logits(answer: Any) -> Tensor | np.ndarray:
    """The one tensor or array of scores in a model's output."""
    if isinstance(answer, (Tensor, np.ndarray)):
        return answer
    named = getattr(answer, "logits", None)
    if isinstance(answer, Mapping):
        parts = {f"model(x)[{key!r}]": value for key, value in answer.items()}
        named = answer.get("logits")
    elif isinstance(answer, (tuple, list)):
        parts = {f"model(x)[{i}]": value for i, value in enumerate(answer)}
    else:
        held = getattr(answer, "__dict__", {})
        parts = {f"model(x).{key}": value for key, value in held.items()}
    if isinstance(named, (Tensor, np.ndarray)):
        return named
    found = {
        code: value
        for code, value in parts.items()
        if isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0
    }
    if len(found) == 1:
        return next(iter(found.values()))
    what = "; ".join(f"{code} is {list(v.shape)}" for code, v in found.items())
    raise TypeError(
        "forward_func must return a tensor or an array of scores, got "
        f"{type(answer).__name__}"
        + (f"; wrap it, e.g. lambda x: {next(iter(found))}. {what}" if found else "")
    )


def wants_arrays(error: Exception) -> bool:
    """Whether an error on a tensor is that of a function on NumPy arrays."""
    says = r"\b(nd)?arrays?\b|numpy|__array"
    # What torch says to calls in NumPy's way: `x.astype(float)`, `x.sum(keepdims=1)`,
    # `x[..., ::-1]`.
    if isinstance(error, (TypeError, AttributeError)):
        says += "|tensor|invalid combination of arguments|unexpected keyword"
        says += "|positional argument"
    else:
        says += "|step must be greater than zero"
    return re.search(says, str(error), re.IGNORECASE) is not None


def out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may do."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    # torch's CPU allocator, cuDNN and cuBLAS raise a plain RuntimeError.
    signs = "out of memory|defaultcpuallocator|alloc_failed"
    found = re.search(signs, str(error), re.IGNORECASE)
    return isinstance(error, RuntimeError) and found is not None
