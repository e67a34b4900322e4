"""Write environment.yml (conda) from the requirements in pyproject.toml.

python tools/sync_environment.py           writes it
python tools/sync_environment.py --check   fails if it is out of date
"""

import argparse
import re
import sys
from pathlib import Path

from sync_notebooks import ROOT, pyproject

# conda takes the newest Python there is; OpenVINO has no wheel for this one yet.
BELOW = "3.15"


def required(extras: dict[str, list[str]], name: str) -> list[str]:
    """What an extra requires, with what the extras that it names require, each once."""
    found: list[str] = []
    for line in extras[name]:
        inner = re.fullmatch(r"xai-lib\[(.+)\]", line)
        names = inner[1].split(",") if inner else []
        found += [x for each in names for x in required(extras, each)] or [line]
    return list(dict.fromkeys(found))


def environment(root: Path = ROOT) -> str:
    """The text of environment.yml: core, book extra, nbval, and the library itself."""
    project = pyproject(root)["project"]
    extras = project["optional-dependencies"]
    nbval = [line for line in extras["dev"] if line.startswith("nbval")]
    book = required(extras, "book")
    requirements = [*project["dependencies"], *book, *nbval, "-e ."]
    return "\n".join(
        [
            "# Written by tools/sync_environment.py from pyproject.toml: do not edit.",
            "# conda env create -f environment.yml && conda activate xai-book",
            "name: xai-book",
            "channels:",
            "  - conda-forge",
            "dependencies:",
            f"  - python{project['requires-python']},<{BELOW}",
            "  - pip",
            "  - pip:",
            *(f"      - {line}" for line in requirements),
            "",
        ]
    )


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only report")
    options = parser.parse_args(arguments)
    path = root / "environment.yml"
    wanted = environment(root)
    if options.check:
        if path.exists() and path.read_text(encoding="utf-8") == wanted:
            return 0
        print("environment.yml is stale: run `python tools/sync_environment.py`")
        return 1
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
