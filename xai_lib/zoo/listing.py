"""One row for each model and dataset of the zoo, and the lookup of a name."""

import difflib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Row(NamedTuple):
    """What `zoo.list()` says about one name."""

    name: str
    role: str
    source: str
    size: int
    """Bytes on disk, or to download."""
    licence: str
    supply: str
    """"offline" (it came with the installation) or "download" (at first use)."""


def table(rows: Iterable[Row]) -> str:
    """The rows as text, in columns."""
    cells = [tuple(field.upper() for field in Row._fields)]
    cells += [
        tuple(_readable(v) if isinstance(v, int) else v for v in row) for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _readable(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"


def lookup(known: Mapping[str, T], name: str, kind: str) -> T:
    """`known[name]`.

    Raises:
        ValueError: an unknown name, with the closest one and all others.
    """
    if name in known:
        return known[name]
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"unknown {kind} {name!r}{hint}; known: {', '.join(known)}")


def package_file(package: str, relative: str) -> Path:
    """A data file of an installed package, found without importing the package.

    Raises:
        FileNotFoundError: with the package to install.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{relative} is in the Python package {package!r}, which is not installed; "
            "it is in the extra [book] of xai-lib: pip install 'xai-lib[book]'"
        )
    path = Path(spec.submodule_search_locations[0]) / relative
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing from the Python package {package!r}"
        )
    return path
