"""Run the tests and all chapters with other versions, and as on other processors.

    python tools/matrix.py               all of it: some two hours on two cores
    python tools/matrix.py floors        only with the oldest versions promised
    python tools/matrix.py --tests-only  without the chapters

floors: the lowest versions that pyproject.toml allows (constraints/floors.txt).
colab: the versions that Colab has (constraints/colab.txt).
newest: the newest of everything on the day it runs.
processors: the versions at hand, with the arithmetic of other processors.

Environments are made in _build/matrix/ with the Python that runs this, and kept. What
was tried when is written down in docs/installing.md, by hand, from the closing table.
"""

import argparse
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from processors import PROCESSORS
from sync_notebooks import ROOT

VERSIONS = ("floors", "colab", "newest")
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


def passes(python: str | Path, call: tuple[str, ...], settings: dict[str, str]) -> str:
    """Run Python with these environment variables; "passed" or "FAILED"."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
    done = subprocess.run([python, *call], cwd=ROOT, env=env)
    return "FAILED" if done.returncode else "passed"


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
    today = datetime.now(timezone.utc).date().isoformat()
    for name in wanted:
        python = environment(name) if name in VERSIONS else Path(sys.executable)
        # Environment variables by the name of each case.
        cases: dict[str, dict[str, str]]
        cases = {name: {}} if name in VERSIONS else PROCESSORS
        for case, settings in cases.items():
            found = [
                f"{what} {passes(python, call, settings)}"
                for what, call in calls.items()
            ]
            lines.append(f"{today}  {case:12}  {', '.join(found)}")
            print(lines[-1], flush=True)
    print("\n".join(lines))
    return 1 if any("FAILED" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
