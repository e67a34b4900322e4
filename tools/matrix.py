"""Run the tests and all chapters with other versions, and as on other processors.

    python tools/matrix.py               all of it: some two hours on two cores
    python tools/matrix.py floors        only with the oldest versions promised
    python tools/matrix.py --tests-only  without the chapters

floors: the lowest versions that pyproject.toml allows (constraints/floors.txt).
colab: the versions that Colab has (constraints/colab.txt).
newest: the newest of everything on the day it runs.
processors: the versions at hand, with the arithmetic of other processors.

Environments are made in _build/matrix/ with the Python that runs this, and kept. So is
what has passed, in passed.txt there: a run that was stopped goes on behind it, as long
as no file in the repository is another. What was tried when is written down in
docs/installing.md, by hand, from the closing table.
"""

import argparse
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from processors import PROCESSORS
from sync_notebooks import ROOT

VERSIONS = ("floors", "colab", "newest")
PASSED = ROOT / "_build" / "matrix" / "passed.txt"
# As `make test` runs them: two at once, each on one thread.
TESTS = ("-m", "pytest", "-n", "2", "--dist", "worksteal")
NBVAL = (
    *("--dist", "loadscope", "--no-loadscope-reorder"),
    *("--nbval", "--nbval-current-env", "notebooks/reproduce"),
    *(f"notebooks/{path.name}" for path in sorted(ROOT.glob("notebooks/*.ipynb"))),
)


def environment(name: str, root: Path = ROOT) -> Path:
    """The Python of an environment with these versions, made where it is missing."""
    folder = root / "_build" / "matrix" / name
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    uv = (sys.executable, "-m", "uv")
    if not python.exists():
        make = [*uv, "venv", "-q", "--seed", "--python", sys.executable, str(folder)]
        subprocess.run(make, check=True)
    pins = [] if name == "newest" else ["-c", f"constraints/{name}.txt"]
    install = [*uv, "pip", "install", "-q", "--python", str(python), *pins]
    subprocess.run([*install, "-e", ".[dev]"], cwd=root, check=True)
    return python


def tree(root: Path = ROOT) -> str:
    """The hash of all files in the repository; "" where git does not know them, or some
    change is not committed."""
    git = partial(subprocess.run, cwd=root, capture_output=True, text=True)
    try:
        changes = git(["git", "status", "--porcelain"])
    except FileNotFoundError:  # no git
        return ""
    if changes.returncode or changes.stdout:
        return ""
    return git(["git", "rev-parse", "HEAD^{tree}"]).stdout.strip()


def passes(
    what: str, python: str | Path, call: tuple[str, ...], settings: dict[str, str]
) -> str:
    """Run Python with these environment variables, unless it has passed with the same
    files; "passed", "FAILED", or when it has passed."""
    known = PASSED.read_text().splitlines() if PASSED.exists() else []
    files = tree()
    key = f"{files} {what}, Python {platform.python_version()}: "
    if files and (before := [line for line in known if line.startswith(key)]):
        return before[0].replace(key, "passed on ")
    env = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
    if subprocess.run([python, *call], cwd=ROOT, env=env).returncode:
        return "FAILED"
    if files and tree() == files:
        PASSED.parent.mkdir(parents=True, exist_ok=True)
        PASSED.write_text("\n".join([*known, key + today(), ""]))
    return "passed"


def today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = (*VERSIONS, "processors")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--tests-only", action="store_true", help="not the chapters")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(names)):
        parser.error(f"no environment {unknown[0]!r}; there are: {', '.join(names)}")
    wanted = options.names or list(names)
    calls = {"tests": TESTS, "chapters": (*TESTS, *NBVAL)}
    if options.tests_only:
        del calls["chapters"]

    lines = []
    for name in wanted:
        python = environment(name) if name in VERSIONS else Path(sys.executable)
        # Environment variables by the name of each case.
        cases: dict[str, dict[str, str]]
        cases = {name: {}} if name in VERSIONS else PROCESSORS
        for case, settings in cases.items():
            found = [
                f"{what} {passes(f'{case}, {what}', python, call, settings)}"
                for what, call in calls.items()
            ]
            lines.append(f"{today()}  {case:12}  {', '.join(found)}")
            print(lines[-1], flush=True)
    print("\n".join(lines))
    return 1 if any("FAILED" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
