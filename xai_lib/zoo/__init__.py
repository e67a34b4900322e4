"""Named models and named data, each with its source, licence and offline default.

`models.load("efficientnet_lite0")`, `detectors.load("dlib_faces")`,
`photos.load("chelsea")`, `digits.mnist()`, `scenes.make(100)`; `zoo.list()` prints all
names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xai_lib.zoo.listing import table

if TYPE_CHECKING:
    from xai_lib.zoo import detectors, digits, models, photos, scenes

__all__ = ["detectors", "digits", "list", "models", "photos", "scenes"]

_PARTS = ("models", "detectors", "photos", "digits", "scenes")


def __getattr__(name: str) -> Any:
    """A part when it is first asked for: photographs need no torchvision."""
    if name not in _PARTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def list() -> None:
    """Print every model and dataset: name, role, source, size, licence, supply."""
    print(table(row for part in _PARTS for row in __getattr__(part).rows()))
