"""Packages that the core can do without: which extra brings them, what they may send.

The core needs torch, NumPy, SciPy, Pillow and tqdm. All else is imported where it is
used, so that `import xai_lib.baselines` costs little more than `import torch`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of packages that the extra `name` of pyproject.toml brings.

    Raises:
        ModuleNotFoundError: one of them is missing, with the extra that it is in.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this needs a package that is missing ({error}). It is in the extra "
            f"[{name}] of xai-lib: pip install 'xai-lib[{name}]', or in a copy of the "
            f"book pip install -e '.[{name}]'",
            name=error.name,
        ) from error


def openvino() -> ModuleType:
    """The package OpenVINO, which sends nothing home.

    `xai_lib/__init__.py` keeps its telemetry from being imported, and OpenVINO then
    uses its own stub. Here the same for a process that imported OpenVINO before.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    with extra("openvino"):
        import openvino
        from openvino.tools.ovc import telemetry_stub
    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.tools.ovc.") and "tm" in vars(module):
            vars(module)["tm"] = telemetry_stub
    return openvino
