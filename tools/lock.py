"""Write the versions that the book is run with, and the oldest that it promises.

    python tools/lock.py           writes constraints/book.txt and floors.txt
    python tools/lock.py --check   fails if a requirement is not met there

book.txt holds the newest versions on the day it is made, for every Python and system
that the project supports: `make book` and `make test` install these. floors.txt holds
the lowest ones that pyproject.toml allows, on the oldest Python: `make matrix` shows
that they are enough. Needs the network; `--check` does not.
"""

import argparse
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from packaging.requirements import Requirement

from sync_notebooks import ROOT, pyproject

OLDEST = "3.10"
UV = (sys.executable, "-m", "uv")
LOCKS = {
    "book": (
        *("--universal", "--python-version", OLDEST, "--extra", "dev"),
        *("--constraint", "constraints/ceilings.txt"),
    ),
    "floors": (
        *("--resolution", "lowest-direct", "--python-version", OLDEST),
        *("--extra", "book"),
    ),
}


def compiled(options: tuple[str, ...], root: Path) -> str:
    """The versions that uv finds for pyproject.toml, a line each."""
    quiet = ("--quiet", "--no-annotate", "--no-header")
    found = subprocess.run(
        [*UV, "pip", "compile", *quiet, *options, "pyproject.toml"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise RuntimeError(f"uv found no versions: {found.stderr.strip()}")
    return found.stdout


def unmet(lock: str, requirements: list[str]) -> list[str]:
    """The requirements that no line of the lock meets, for the Python that asks."""
    pins: dict[str, str] = {}
    for line in re.findall(r"^[\w.-]+==[^#\n]+", lock, re.MULTILINE):
        pin = Requirement(line)
        if not pin.marker or pin.marker.evaluate():
            pins[pin.name.lower()] = next(iter(pin.specifier)).version
    wanted = [Requirement(line) for line in requirements]
    return [
        str(one)
        for one in wanted
        if (not one.marker or one.marker.evaluate())
        and not one.specifier.contains(pins.get(one.name.lower(), "0"))
    ]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only report")
    options = parser.parse_args(arguments)
    if options.check:
        project = pyproject(root)["project"]
        requirements = [
            *project["dependencies"],
            *project["optional-dependencies"]["book"],
        ]
        own = project["name"]
        requirements = [r for r in requirements if not r.startswith(own)]
        status = 0
        for name in LOCKS:
            text = (root / "constraints" / f"{name}.txt").read_text(encoding="utf-8")
            for one in unmet(text, requirements):
                print(f"constraints/{name}.txt does not meet {one}: run `make lock`")
                status = 1
        return status
    today = datetime.now(timezone.utc).date().isoformat()
    for name, settings in LOCKS.items():
        head = f"# Written by tools/lock.py (`make lock`) on {today}: do not edit.\n"
        path = root / "constraints" / f"{name}.txt"
        path.write_text(head + compiled(settings, root), encoding="utf-8")
        print(f"wrote {path.relative_to(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
