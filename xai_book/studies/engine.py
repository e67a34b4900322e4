"""One engine for all studies: cases on beds, measured into rows and read back.

- A *bed* (`beds`) is a kind of images with the model that is explained on them.
- A *case* is a method (`xai_book.methods`) with all of its settings.
- A *measure* is a pure function from a `Unit`, a case on an image of a bed, to what a
  row holds of it; a `Runner` measures many.

A study has a module: its cases by label, `settings` of a row, `units`, the measure,
and `read`, which gives rows back as tensors; and `STUDIES`, what of it has a name on
the command line. `catalogue` lists the modules.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from xai_book.studies import map_files
from xai_book.studies.results import Case, Results, Unit
from xai_lib.core.arguments import check_count
from xai_lib.core.paths import data_path

Cases = Mapping[Any, Case]
"""By label; labels are not stored."""


@dataclass(frozen=True)
class Runner:
    """The `run` of a study: measures and stores units.

    Attributes:
        work, size: the measure, see `Results.run`; importable by its name, as it
            travels to workers.
        keep: from the store's folder, a unit and its measurements to the row; it saves
            what is no row, such as a map.
    """

    work: Callable[[Any], Any]
    size: int | None = None
    keep: Callable[[Path, Unit, dict[str, Any]], dict[str, Any]] | None = None

    def __call__(self, units: Iterable[Unit], results: Results, **how: Any) -> int:
        """Measure and store units, and fold the store; rows that are there are not
        repeated.

        Args:
            units: from the study's `units`.
            results: the store.
            how: `show_progress` and `spread`, see `Results.run`.

        Returns:
            How many rows were measured now.
        """
        keep = partial(self.keep, results.path.parent) if self.keep else None
        count = results.run(units, self.work, self.size, keep=keep, **how)
        results.fold()
        return count


@dataclass(frozen=True)
class Study:
    """A study that can be run by name.

    Attributes:
        reproduces: what the rows are for: paper, figures or tables, chapter.
        units: all that the complete store holds.
        needs: what is downloaded first, or "".
    """

    reproduces: str
    units: Callable[[], Sequence[Unit]]
    run: Runner
    needs: str = ""


def units_of(
    settings: Iterable[dict[str, Any]], images: Iterable[int], *, together: bool = False
) -> list[Unit]:
    """All cases of an image before the next image, so that a part is of use; with
    `together`, all images of a case, which are measured in one go."""
    every, numbers = list(settings), list(images)
    if together:
        return [Unit(one, i) for one in every for i in numbers]
    return [Unit(one, i) for i in numbers for one in every]


def below(limit: int, images: Iterable[int]) -> list[int]:
    """The numbers of images, which must be in [0, limit)."""
    numbers = [check_count("images", i, at_least=0) for i in images]
    for number in numbers:
        if number >= limit:
            raise ValueError(f"images must be below {limit}, got {number}")
    return numbers


def kept_maps(
    units: Mapping[Any, Unit],
    make: Callable[[Unit], Tensor],
    name: Callable[[Unit], str],
    folder: str | Path | None,
    default: str,
) -> dict[Hashable, Tensor]:
    """The map `[1, C, H, W]` of each unit, for figures: kept in a file, from which it
    is read the next time.

    Args:
        units: by label.
        make: computes a map that is not there.
        name: of a unit's file, for people.
        folder: where maps are kept; None is `default` in the book's `data/results`.
    """
    folder = data_path("results") / default if folder is None else Path(folder)
    found = {}
    for label, unit in units.items():
        path = map_files.map_path(folder, name(unit), unit.key)
        if not path.exists():
            map_files.write(path, unit.key, map_files.in_steps(make(unit)[0]))
        found[label] = map_files.read(path)[None]
    return found
