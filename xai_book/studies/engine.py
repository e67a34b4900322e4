"""One engine for all studies: cases on beds, measured into rows and read back.

- A *bed* (`beds`) is a kind of images with the model that is explained on them.
- A *case* is a method (`xai_book.methods`) with all of its settings.
- A *measure* is a pure function from a `Unit`, a case on an image of a bed, to what a
  row holds of it; a `Runner` measures many.

A study has a module: its cases by label, `settings` of a row, `units`, the measure,
and `read`, which gives rows back as tensors; and `STUDIES`, what of it has a name on
the command line. `catalogue` lists the modules.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from xai_book.studies import map_files
from xai_book.studies.results import Case, Results, Spread, Unit
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

    def __call__(
        self,
        units: Iterable[Unit],
        results: Results,
        *,
        show_progress: bool = False,
        spread: Spread = map,
    ) -> int:
        """Measure and store units; rows that are there are not repeated.

        Args:
            units: from the study's `units`.
            results: the store.
            show_progress: draw a bar.
            spread: who measures, see `Results.run`.

        Returns:
            How many rows were measured now.
        """
        keep = partial(self.keep, results.path.parent) if self.keep else None
        count = results.run(
            *(units, self.work, self.size),
            show_progress=show_progress,
            spread=spread,
            keep=keep,
        )
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


def kept_maps(
    units: Mapping[Hashable, Unit],
    make: Callable[[Unit], Tensor],
    name: Callable[[Unit], str],
    folder: str | Path | None,
    default: str,
) -> dict[Hashable, Tensor]:
    """The map `[1, 1, H, W]` of each unit, for figures: kept in a file, from which it
    is read the next time.

    Args:
        units: by label.
        make: computes a map that is not there.
        name: of a unit's file, for people.
        folder: where maps are kept; None is `default` in the book's `data/results`.
    """
    folder = data_path("results") / default if folder is None else Path(folder)
    return {
        label: map_files.kept(
            {map_files.map_path(folder, name(unit), unit.key): unit.key},
            partial(make, unit),
        )
        for label, unit in units.items()
    }
