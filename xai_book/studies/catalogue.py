"""All studies of the book, each named once: its store, its units, and who measures.

`python -m xai_book run NAME` measures what a store lacks. Names are those of the
stores, `data/results/<name>.jsonl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xai_book.studies import (
    aise,
    aise_detection,
    geex,
    pertmap,
    showdown,
    trials,
)
from xai_book.studies.results import Results, Spread, Unit, Work, one_by_one

LITE = "efficientnet_lite0"
PHOTOS = 26
"""Photographs with an ImageNet class that the packages bring."""


@dataclass(frozen=True)
class Study:
    """A study that can be run by name.

    Attributes:
        reproduces: what the rows are for: paper, figures or tables, chapter.
        units: all that the complete store holds.
        work: a pure function of a group of units, importable by its name, as it
            travels to workers.
        together: units per group at most.
        keep: from the folder of maps, a unit and its measurements to the row;
            see `Results.run`.
        needs: what is downloaded first, or "".
    """

    reproduces: str
    units: Callable[[], Sequence[Unit]]
    work: Work
    together: int = 1
    keep: Callable[[Path, Unit, dict[str, Any]], dict[str, Any]] | None = None
    needs: str = ""

    def run(
        self, results: Results, *, spread: Spread = map, show_progress: bool = False
    ) -> int:
        """Measure what the store lacks, and return how many rows that was."""
        folder = results.path.parent / geex.MAPS
        return results.run(
            self.units(),
            self.work,
            self.together,
            show_progress=show_progress,
            spread=spread,
            keep=partial(self.keep, folder) if self.keep else None,
        )


def _pertmap(
    reproduces: str, model: str, data: str, n: int, needs: str = "", **changes: Any
) -> Study:
    return Study(
        f"Ikeno & Hara: {reproduces}; chapter 03",
        lambda: pertmap.units(model, data, n, **changes),
        partial(one_by_one, pertmap.measure),
        needs=needs,
    )


def _geex(reproduces: str, units: Callable[[], Sequence[Unit]], together: int) -> Study:
    return Study(
        f"Cai & Wunder: {reproduces}", units, geex.measure, together, geex.keep
    )


def _table1(data: str, explains: str) -> list[Unit]:
    model = f"cnn_{data}"
    cases = geex.table1(model)
    return geex.units(cases, model, data, range(200), explains=explains)


def _effects(model: str, data: str, n: int) -> list[Unit]:
    every = (geex.mask_sizes(model), geex.samples(model), geex.stdevs(model))
    return [
        unit for cases in every for unit in geex.units(cases, model, data, range(n))
    ]


def _photos() -> list[Unit]:
    """Cheap cases first, for all photographs; then the dear ones, one by one."""
    table = geex.table1(LITE)
    dear: geex.Cases = {
        name: table.pop(name) for name in ("RISE", "GEEX", "iGEEX", "LIME")
    }
    cheap = {**table, **geex.samplers(LITE), **geex.floors(LITE)}
    return [
        unit
        for cases in (cheap, dear)
        for unit in geex.units(cases, LITE, "photos", range(PHOTOS))
    ]


def _choices() -> list[Unit]:
    """On images that no other study uses."""
    found: list[Unit] = []
    for data in ("mnist", "fashion_mnist"):
        model = f"cnn_{data}"
        where = (model, data, range(800, 860))
        for explains in geex.SCORES:
            found += geex.units(geex.table1(model), *where, explains=explains)
        for change in ({"loss": "non-informative"}, {"stdevs": 0.15}):
            cases: geex.Cases = {m: geex.case(m, model, **change) for m in geex.FAMILY}
            found += geex.units(cases, *where, explains="logit")
    for stdev in (0.15, 0.3):
        few = {"n_samples": 1000, "mask_size": 28, "stdevs": stdev}
        cases = {"GERS": geex.case("GERS", LITE, **few)}
        found += geex.units(cases, LITE, "unlabelled_photos", range(2))
    return found


def _aise(reproduces: str, units: Callable[[], Sequence[Unit]]) -> Study:
    work = partial(one_by_one, aise.measure)
    return Study(f"Tsykunov et al.: {reproduces}; chapter 08", units, work)


def _aise_scenes() -> list[Unit]:
    floors = ("random point", "centre")
    table = aise.table()
    ours = {label: table[label] for label in ("AISE-DIRECT-300", "random point")}
    felt = {label: one for label, one in table.items() if label not in floors}
    return [
        *aise.units(table, "scenes", range(325)),
        *aise.units(aise.variants(), "scenes", range(100)),
        *aise.units(ours, "unsure", range(325)),
        *aise.units(felt, "scenes", range(24), "sensitivity"),
    ]


def _aise_convergence() -> list[Unit]:
    places = ("scenes", "small", "large")
    cases = aise.convergence()
    return [unit for data in places for unit in aise.units(cases, data, range(40))]


def _aise_grids() -> list[Unit]:
    cases = aise.grid_table()
    return [
        *aise.units(cases, "grids 2x2", range(20)),
        *aise.units(aise.grid_samplers(), "grids 2x2", range(20)),
        *aise.units(cases, "grids 3x3", range(5)),
    ]


def _detection() -> list[Unit]:
    return aise_detection.units(aise_detection.cases(), range(100))


def _showdown(data: str) -> list[Unit]:
    n = showdown.DATA[data].n_images
    return showdown.units(showdown.bench(data), data, range(n))


_FIGURE1 = "Figure 1, footnote 6, violations"
STUDIES: Mapping[str, Study] = {
    **{
        f"pertmap_figure1_{data}": _pertmap(_FIGURE1, f"cnn_{data}", data, 200)
        for data in ("mnist", "fashion_mnist")
    },
    "pertmap_figure1_photos": _pertmap(
        _FIGURE1,
        LITE,
        "photos",
        PHOTOS,
        settings=pertmap.REDUCED,
        n_points=100,
    ),
    "pertmap_figure1_coco_animals": _pertmap(
        f"{_FIGURE1}, as published",
        "vgg16",
        "coco_animals",
        200,
        needs="VGG16 (528 MB) and COCO-animals",
    ),
    **{
        f"geex_{data}": _geex(
            "Table 1, Figure 3, curves of Figures 2, S1 and S2; chapter 06",
            partial(_table1, data, "logit"),
            geex.TOGETHER,
        )
        for data in ("mnist", "fashion_mnist")
    },
    **{
        f"geex_{data}_probability": _geex(
            "Table 1, the probability explained; chapter 06",
            partial(_table1, data, "probability"),
            geex.TOGETHER,
        )
        for data in ("mnist", "fashion_mnist")
    },
    **{
        f"geex_{data}_effects": _geex(
            "Figures S4 and S5; chapter 05",
            partial(_effects, f"cnn_{data}", data, 60),
            geex.TOGETHER,
        )
        for data in ("mnist", "fashion_mnist")
    },
    "geex_mnist_samplers": _geex(
        "section 3, mirrored noise, fewer queries; chapters 04 and 05",
        lambda: geex.units(geex.samplers("cnn_mnist"), "cnn_mnist", "mnist", range(60)),
        geex.TOGETHER,
    ),
    "geex_photos": _geex(
        "Table 1, Figures 3, 4 and S3, fewer queries; chapters 05 and 06", _photos, 1
    ),
    "geex_photos_effects": _geex(
        "Figures S4 and S5 on photographs",
        partial(_effects, LITE, "photos", PHOTOS),
        1,
    ),
    "geex_choices": _geex(
        "no figure: how settings were chosen", _choices, geex.TOGETHER
    ),
    "aise_scenes": _aise(
        "the table, section 9's choices, predictions below 0.5, max-sensitivity",
        _aise_scenes,
    ),
    "aise_convergence": _aise("adaptive against random samples", _aise_convergence),
    "aise_grids": _aise("the table, on grids of photographs", _aise_grids),
    "aise_detection": Study(
        "Tsykunov et al.: Figures 10 and 11, in numbers; chapter 09",
        _detection,
        partial(one_by_one, aise_detection.measure),
    ),
    **{
        f"showdown_{data}": Study(
            "all explainers on one bench; chapter 10",
            partial(_showdown, data),
            partial(one_by_one, showdown.measure),
        )
        for data in showdown.DATA
    },
    "trials": Study(
        "statements that no study decides, tried on instances; chapters 02 to 07",
        trials.units,
        partial(one_by_one, trials.measure),
    ),
}
