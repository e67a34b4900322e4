"""How long `import xai_lib.baselines` takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from timing import compare, ratio, report

REPEATS = 5


def start(code: str) -> None:
    """A new process that runs `code`."""
    subprocess.run([sys.executable, "-c", code], check=True)


def main() -> None:
    runs = ("import torch", "import xai_lib.baselines")
    times = compare({code: partial(start, code) for code in runs}, REPEATS)
    report(times)
    torch, baselines = (times[code] for code in runs)
    ratio("import xai_lib.baselines / import torch", baselines, torch, "<= 1.5")


if __name__ == "__main__":
    main()
