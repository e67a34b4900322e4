"""Named models and named data, each with its source, licence and offline default.

`models.load("efficientnet_lite0")`, `photos.load("chelsea")`, `digits.mnist()`,
`scenes.make(100)`; `zoo.list()` prints all names.
"""

from __future__ import annotations

from xai_lib.zoo import digits, models, photos, scenes
from xai_lib.zoo.catalogue import table

__all__ = ["digits", "list", "models", "photos", "scenes"]


def list() -> None:
    """Print every model and dataset: name, role, source, size, licence, supply."""
    print(table(models.rows() + photos.rows() + digits.rows()))
