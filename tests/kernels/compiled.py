"""Compile every kernel to a GPU's machine code, on any machine; see test_kernels."""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from xai_lib.kernels.triton import masks, philox, search

SEARCH = dict.fromkeys(
    ("out", "inputs", "alpha", "root", "weights", "quantiles"), "*fp32"
) | {"seed": "u64", "stream": "i32", "start": "i64", "stdevs": "fp32"}
CASES: list[tuple[Any, dict[str, str], dict[str, Any]]] = [
    (philox._words, {"out": "*i64"} | SEARCH | {"out": "*i64"}, {"BLOCK": 64}),
    (search._queries, SEARCH, {"MIRRORED": True, "ON_PATH": True, "BLOCK": 64}),
    (
        search._queries,
        SEARCH | {"out": "*bf16", "inputs": "*bf16", "seed": "i32", "start": "i32"},
        {"MIRRORED": False, "ON_PATH": False, "BLOCK": 64},
    ),
    (
        search._weighted_noise,
        SEARCH,
        {"SQUARED": True, "ROWS": 8, "SPLIT": 16, "BLOCK": 16},
    ),
    (
        masks._shown,
        {"out": "*fp32", "inputs": "*fp32", "cells": "*fp32", "shifts": "*i64"},
        {"BLOCK": 1024},
    ),
]

for capability in (80, 90):
    for kernel, types, constants in CASES:
        signature = {name: types.get(name, "i32") for name in kernel.arg_names}
        signature |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert made.asm["cubin"]
    print(capability)
