"""Run a command as other processors would: they add up sums in other orders.

    python tools/processors.py python -m pytest
    python tools/processors.py --only sse python -m pytest --nbval ... notebooks

The command runs once on each of PROCESSORS, which the libraries imitate by themselves
when environment variables say so. Whatever happens on one, the others are tried; the
exit status is 1 if the command failed on any. ARM, and processors with instructions
that this one lacks, cannot be imitated.
"""

import argparse
import os
import subprocess
import sys
from importlib import import_module


def numpy_features(*kept: str) -> str:
    """NumPy's faster variants that this processor would choose, but for `kept`. Their
    names differ between versions of NumPy."""
    umath = import_module("numpy._core._multiarray_umath")
    has = umath.__cpu_features__
    return " ".join(f for f in umath.__cpu_dispatch__ if has[f] and f not in kept)


PROCESSORS: dict[str, dict[str, str]] = {
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": numpy_features(),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": numpy_features("X86_V3", "AVX2", "FMA3"),
        "OMP_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4",  # torch asks MKL, which prefers its own variable
        "MKL_DYNAMIC": "FALSE",  # else no more threads than cores
    },
}
"""One without vector instructions beyond SSE and with one thread; one of 2013 with
four. OpenBLAS's own choice is that of a plain run."""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PROCESSORS, help="one of them; default all")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="and its arguments")
    options = parser.parse_args(arguments)
    if not options.command:
        parser.error("which command?")
    failed = []
    for name in [options.only] if options.only else PROCESSORS:
        print(f"== {name}: {' '.join(options.command)}", flush=True)
        done = subprocess.run(options.command, env={**os.environ, **PROCESSORS[name]})
        if done.returncode:
            failed.append(name)
    for name in failed:
        print(f"FAILED on {name}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
