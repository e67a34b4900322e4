"""Rewrite a model so that explanation tools find the layers they have rules for.

Captum and zennit attach their rules to modules, and silently skip an activation that
is a function call, run a module that is used twice only once, and know no ReLU6. The
passes here work on a torch.fx copy of the model that computes the same function; the
copy shares its parameters with the model, which stays exactly as it was.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from zennit.layer import Sum

ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")


class ReLU6(nn.ReLU):
    """min(max(x, 0), 6), as the subclass of ReLU that tools look for."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu6(input)


class MaxOverWindows(nn.Module):
    """Maximum over the last axis: windows `[N, C, H, W, kernel]` -> `[N, C, H, W]`."""

    def forward(self, windows: Tensor) -> Tensor:
        return windows.amax(dim=-1)


class WindowedMaxPool(nn.Module):
    """A `MaxPool2d` in two steps: copy every window, then take the maximum of each.

    Windows that overlap share no copy, so that a rule for the maximum can say which
    input won each window; `F.max_unpool2d`, which Captum uses, keeps only one answer
    per input.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.maximum = MaxOverWindows()
        self.ceil_mode = pool.ceil_mode
        settings = pool.kernel_size, pool.stride, pool.padding, pool.dilation
        self.axes = list(zip(*(s if isinstance(s, tuple) else (s, s) for s in settings)))

    def forward(self, input: Tensor) -> Tensor:
        lowest = torch.finfo(input.dtype).min  # padding that never wins
        for axis, (kernel, stride, padding, dilation) in enumerate(self.axes, start=2):
            span = dilation * (kernel - 1) + 1
            rest = input.shape[axis] + 2 * padding - span
            after = padding + (-rest % stride if self.ceil_mode else 0)
            # A window that would lie in the padding behind the input is left out.
            if after - padding and rest + after - padding >= input.shape[axis] + padding:
                after = padding
            sides = [padding, after, 0, 0] if axis == 3 else [0, 0, padding, after]
            input = F.pad(input, sides, value=lowest)
        windows = input
        for axis, (kernel, stride, _, dilation) in enumerate(self.axes, start=2):
            span = dilation * (kernel - 1) + 1
            windows = windows.unfold(axis, span, stride)[..., ::dilation]
        return self.maximum(windows.flatten(4))
