"""Take the versions in constraints/colab.txt again from Colab's published list.

    python tools/refresh_colab.py                    over the network
    python tools/refresh_colab.py --source A_CLONE   from a clone of its repository

The names stay; a new one needs only its own line, without a version.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from sync_notebooks import ROOT

SOURCE = "https://github.com/googlecolab/backend-info"
_HEADER = re.compile(r"^# Python .*$", re.MULTILINE)


def versions(freeze: str) -> dict[str, str]:
    """Version by canonical name, from the lines of `pip freeze`.

    A wheel's address counts too, without its local part: torch's names the device.
    """
    found: dict[str, str] = {}
    for line in freeze.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        wanted = Requirement(line)
        if wanted.url is None:
            (exact,) = wanted.specifier
            found[canonicalize_name(wanted.name)] = Version(exact.version).public
        elif wanted.url.partition("#")[0].endswith(".whl"):
            file = wanted.url.partition("#")[0].rpartition("/")[2].replace("%2B", "+")
            name, version, *_ = parse_wheel_filename(file)
            found[name] = version.public
    return found


def refreshed(pins: str, freeze: str, system: str, date: str) -> str:
    """The text of the pins with the versions, Python and date of Colab's lists.

    Args:
        pins: constraints/colab.txt as it is.
        freeze: Colab's pip-freeze.txt.
        system: Colab's os-info.txt, with a line "Python 3.13.15".
        date: of both, as "2026-08-19".

    Raises:
        ValueError: a pinned package that Colab no longer has, or no line for Python.
    """
    known = versions(freeze)
    python = re.search(r"^Python [\d.]+$", system, re.MULTILINE)
    if python is None:
        raise ValueError("os-info.txt has no line with Python's version; look at it")
    lines = []
    for line in _HEADER.sub(f"# {python[0]}, {date}", pins).splitlines():
        if line and not line.startswith("#"):
            name = Requirement(line).name
            if canonicalize_name(name) not in known:
                raise ValueError(f"Colab has no {name!r} any more: remove its line")
            line = f"{name}=={known[canonicalize_name(name)]}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default=SOURCE, help="a clone, or its address")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:

        def git(*command: str) -> str:
            done = subprocess.run(
                ["git", *command], check=True, stdout=subprocess.PIPE, text=True
            )
            return done.stdout

        git("clone", "-q", "--bare", "--filter=blob:none", options.source, folder)
        freeze, system = (
            git("-C", folder, "show", f"HEAD:{name}")
            for name in ("pip-freeze.txt", "os-info.txt")
        )
        date = git("-C", folder, "log", "-1", "--format=%cs").strip()
    pins = root / "constraints" / "colab.txt"
    try:
        text = refreshed(pins.read_text(encoding="utf-8"), freeze, system, date)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    pins.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
