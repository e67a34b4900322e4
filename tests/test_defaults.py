"""torch's default dtype and device, which users may change, have no say in the library.

That explainers keep to it is tried by the battery. Here: every tensor that the library
makes names its device, and its dtype wherever torch would take the default one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xai_lib

FLOATS = {"rand", "randn", "empty", "ones", "zeros", "eye", "linspace", "logspace"}
OTHERS = {"arange", "as_tensor", "full", "randint", "randperm", "tensor"}
LIBRARY = Path(xai_lib.__file__).parent
# The book's own programs: nobody imports them into a session of their own.
BOOK = ("studies/", "checks/chapter")


def unnamed(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, function and missing argument of every call that leaves one to torch."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if not isinstance(node.func.value, ast.Name) or node.func.value.id != "torch":
            continue
        name = node.func.attr
        given = {keyword.arg for keyword in node.keywords}
        shared = any(
            keyword.arg is None and getattr(keyword.value, "id", "") == "DRAWN"
            for keyword in node.keywords
        )
        if name in FLOATS | OTHERS and not shared:
            if "device" not in given:
                yield node.lineno, name, "device"
            if name in FLOATS and "dtype" not in given:
                yield node.lineno, name, "dtype"
            holds_floats = any(
                isinstance(part, ast.Constant) and isinstance(part.value, float)
                for argument in node.args
                for part in ast.walk(argument)
            )
            if name in OTHERS and holds_floats and "dtype" not in given:
                yield node.lineno, name, "dtype"


def files() -> list[Path]:
    paths = {
        path.relative_to(LIBRARY).as_posix(): path for path in LIBRARY.rglob("*.py")
    }
    return [path for name, path in paths.items() if not name.startswith(BOOK)]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(LIBRARY)))
def test_every_tensor_names_its_device_and_dtype(path: Path) -> None:
    assert list(unnamed(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("torch.zeros(3)", ["device", "dtype"]),
        ("torch.rand(3, generator=rng, device='cpu')", ["dtype"]),
        ("torch.arange(3)", ["device"]),
        ("torch.tensor([0.5], device='cpu')", ["dtype"]),
        ("torch.rand(3, **settings)", ["device", "dtype"]),
        ("torch.rand(3, generator=rng, **DRAWN)", []),
        ("torch.tensor(labels, device='cpu')", []),
        ("x.new_zeros(3) + torch.zeros_like(x)", []),
    ],
)
def test_the_search_finds_what_it_looks_for(source: str, missing: list[str]) -> None:
    assert [what for _, _, what in unnamed(source)] == missing
