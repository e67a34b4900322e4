"""Maps that take long to compute, in files beside a study's rows, for its figures.

A map is stored in steps of 1/127 of its largest absolute value, with the settings that
made it and where it was made.
"""

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_book.studies.results import provenance
from xai_lib.core.files import replacing

# What NumPy and the standard library raise for a file that is no archive of arrays.
_DAMAGE = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def map_path(folder: Path, name: str, key: str) -> Path:
    """The file of a map: a name for people, and a digest of all its settings."""
    return folder / f"{name}_{hashlib.sha256(key.encode()).hexdigest()[:8]}.npz"


def in_steps(values: Tensor) -> dict[str, Any]:
    """What `write` stores of a map `[H, W]` or `[C, H, W]`."""
    largest = values.abs().max()
    steps = (values / largest.clamp_min(1e-30) * 127).round().to(torch.int8)
    return {"steps": steps.numpy(), "largest": float(largest)}


def write(path: Path, key: str, contents: dict[str, Any]) -> None:
    """Store arrays with the key of their settings: the whole file, or nothing.

    Raises:
        ValueError: a number that is NaN or infinite.
    """
    for name, values in contents.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} must be finite, got NaN or infinity")
    with replacing(path) as part, part.open("wb") as file:
        record = json.dumps(provenance())
        np.savez_compressed(file, **contents, key=key, provenance=record)


def read(path: Path) -> Tensor:
    """The map `[C, H, W]` that was stored as `in_steps`, with C = 1 if it had no C.

    Raises:
        ValueError: a damaged file, by its path.
    """
    try:
        with np.load(path) as stored:
            steps, largest = stored["steps"], stored["largest"]
    except _DAMAGE as error:
        raise ValueError(
            f"{path} is no stored map ({error!r}); remove it, and it is made again"
        ) from error
    values = torch.from_numpy(steps).float() / 127 * float(largest)
    return values.view(-1, *values.shape[-2:])
