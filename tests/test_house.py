"""The house stands as DESIGN.md draws it: imports, names and sizes of its files."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("xai_lib", "xai_book")

# What each part of the library may import of the others. The doors (`__init__.py`,
# `__main__.py` and `blackbox.py` beside the parts) may import all; the zoo is for
# them and for the book alone.
FLOORS = {
    "core": set(),
    "aise": {"core", "kernels"},
    "geex": {"core", "kernels"},
    "pertmap": {"core", "kernels"},
    "baselines": {"core", "kernels"},
    "metrics": {"core", "kernels"},
    "zoo": {"core"},
    "checks": {"core"},
    "kernels": {"core"},
    "viz": {"core", "metrics"},
}
# The most lines that each may have, without the kernels' for the library. The goal is
# 9,500 and 5,500: lower these numbers when code goes. They were raised for
# `BlackBox(precision=…)`, RISE's estimators with their study, and `viz.show`; by 64 for
# what torch's guards do not see and for inputs that meet under a budget; by 41 for
# superpixels by quick shift, by 25 for a faster Grad-CAM, and by 86 for random numbers
# that are not torch's, what a model keeps from call to call, watches of several
# threads, and layers of users in LRP; in xai_book by 67 for Figure 1 in twelve cells
# on photographs, four of which are explained together, and for their signal and noise.
LINES = {"xai_lib": 13_374, "xai_lib/kernels": 700, "xai_book": 9_511}
LONGEST = 500
# Files that may share a name: a door and what is behind it, the task of a method with
# what that task is about, and a kernel with its plain form.
ONE_THING = (
    {"xai_lib/blackbox.py", "xai_lib/core/blackbox.py"},
    {"xai_lib/aise/detection.py", "xai_lib/core/detection.py"},
    *(
        {f"xai_lib/kernels/{name}.py", f"xai_lib/kernels/triton/{name}.py"}
        for name in ("masks", "philox", "search")
    ),
)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_of(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of the two packages that a module imports, also within functions."""
    return frozenset(_imported(FILES[module])) - {module}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import, which is not followed"
            both = [f"{node.module}.{alias.name}" for alias in node.names]
            # Of `from package import name`, the module of that name, if there is one.
            names = [name if name in FILES else str(node.module) for name in both]
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            names = [a.value for a in node.args if isinstance(a, ast.Constant)]
        else:
            continue
        yield from (n for n in names if str(n).split(".")[0] in PACKAGES)


def part(module: str) -> str:
    """The part of the library that a module belongs to; "" for its doors."""
    inner = module.split(".")[1:2]
    return inner[0] if inner and (ROOT / "xai_lib" / inner[0]).is_dir() else ""


def lines(folder: str) -> int:
    return sum(
        len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")
    )


def test_the_library_knows_nothing_of_the_book() -> None:
    library = [m for m in FILES if m.split(".")[0] == "xai_lib"]
    assert len(library) > 50
    found = {m: i for m in library for i in imports(m) if i.startswith("xai_book")}
    assert not found


def test_every_part_of_the_library_has_its_floor() -> None:
    parts = {p.parent.name for p in (ROOT / "xai_lib").glob("*/__init__.py")}
    assert parts <= set(FLOORS)


@pytest.mark.parametrize("name", FLOORS)
def test_imports_go_down(name: str) -> None:
    up = {
        f"{module} imports {other}"
        for module in FILES
        if module.startswith("xai_lib.") and part(module) == name
        for other in imports(module)
        # A part's door, `xai_lib` itself, imports them all.
        if part(other) != name and part(other) not in FLOORS[name]
    }
    assert not up


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circles(package: str) -> None:
    """Also none that only a lazy import closes."""
    graph = {m: imports(m) for m in FILES if m.split(".")[0] == package}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_one_name_is_one_thing() -> None:
    homes = defaultdict(set)
    for path in FILES.values():
        if not path.name.startswith("__"):
            homes[path.name].add(path.relative_to(ROOT).as_posix())
    shared = [paths for paths in homes.values() if len(paths) > 1]
    assert [paths for paths in shared if paths not in ONE_THING] == []


def test_no_file_of_the_library_is_long() -> None:
    long = {
        module: n
        for module, path in FILES.items()
        if module.startswith("xai_lib")
        and (n := len(path.read_text().splitlines())) > LONGEST
    }
    assert not long


@pytest.mark.parametrize("folder", LINES)
def test_the_house_is_thin(folder: str) -> None:
    apart = lines("xai_lib/kernels") if folder == "xai_lib" else 0
    assert lines(folder) - apart <= LINES[folder]
