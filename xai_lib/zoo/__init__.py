"""Named models and named data, each with its source, licence and offline default.

`models.load("efficientnet_lite0")`, `detectors.load("dlib_faces")`,
`photos.load("chelsea")`, `digits.mnist()`, `scenes.make(100)`, `voc.load()`;
`zoo.list()` prints all names.
"""

from __future__ import annotations

from xai_lib.zoo import coco, detectors, digits, models, photos, scenes, voc
from xai_lib.zoo.catalogue import table

__all__ = ["coco", "detectors", "digits", "list", "models", "photos", "scenes", "voc"]

_PARTS = (models, detectors, photos, digits, scenes, voc, coco)


def list() -> None:
    """Print every model and dataset: name, role, source, size, licence, supply."""
    print(table(row for part in _PARTS for row in part.rows()))
