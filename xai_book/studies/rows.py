"""The stored rows of all studies, as claims and figures read them."""

from collections.abc import Hashable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from xai_book.studies import aise, aise_detection, geex, pertmap, trials
from xai_book.studies.beds import BEDS
from xai_book.studies.results import NotMeasured, Results

TITLES = {name: bed.name for name, bed in BEDS.items()} | {
    "unsure": "scenes, below 0.5",
    "small": "small articles",
    "large": "large articles",
    "grids 2x2": "grids of photographs",
}
Found = Mapping[Any, Any]
"""What was measured, by the label of a method or setting."""


class Rows:
    """What the claims read: the stores in a folder, each at most once.

    A reader takes a bed and the labels that are compared on it, and returns for each
    label what was measured on the images that all of them have. It raises NotMeasured
    where rows are lacking.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._store = lru_cache(partial(self._open, folder))
        self.damaged: dict[str, str] = {}
        """What is wrong with the stores that could not be read, by name."""

    def _open(self, folder: str | Path | None, name: str) -> Results:
        try:
            return Results(name, folder)
        except OSError as error:
            self.damaged[name] = str(error)
            raise NotMeasured(str(error)) from error

    def read(self, study: str, bed: str, *labels: Hashable) -> Found:
        """By the name of a reader, as `claims.csv` has it."""
        return getattr(self, study)(bed, *labels)

    def table1(self, data: str, *methods: Any) -> Found:
        """Cai and Wunder's Table 1, at the authors' σ."""
        stdevs = geex.authors_stdev(data)
        every = geex.table1(BEDS[data].model, stdevs)
        chosen = {m: every[m] for m in methods}
        return self._geex(chosen, data, f"table1_{data}", stdevs=stdevs)

    def samples(self, data: str, *labels: Any) -> Found:
        """Figure S4: GEEX by its number of samples, with its bounds."""
        counts = [label for label in labels if not isinstance(label, str)]
        return self._geex(geex.samples(BEDS[data].model, counts), data)

    def stdevs(self, data: str, *values: Any) -> Found:
        """Figure S4: GEEX by its search range, with its bounds."""
        return self._geex(geex.stdevs(BEDS[data].model, values), data)

    def mask_sizes(self, data: str, *_: Any) -> Found:
        """Figure S5: GERS by the size of its masks, all of them, with its bounds."""
        return self._geex(geex.mask_sizes(BEDS[data].model), data)

    def samplers(self, data: str, *labels: Any) -> Found:
        """Kinds of search noise, labelled (noise, queries)."""
        every = geex.samplers(BEDS[data].model)
        store = "geex_photos" if data == "photos" else "geex_mnist_samplers"
        return self._geex({label: every[label] for label in labels}, data, store)

    def losses(self, data: str, *labels: Any) -> Found:
        """The family with its two losses, labelled (method, loss)."""
        cases = {
            (method, loss): geex.case(
                method, BEDS[data].model, **({} if loss == "logit" else {"loss": loss})
            )
            for method, loss in labels
        }
        return self._geex(cases, data, "geex_choices", explains="logit")

    def _geex(
        self, cases: Mapping[Any, Any], data: str, store: str = "", **how: Any
    ) -> Found:
        rows = self._store(store or f"geex_{data}_effects")
        return geex.read(dict(cases), BEDS[data].model, data, rows, **how)

    def figure1(self, data: str, *methods: Any) -> Found:
        """Ikeno and Hara's Figure 1 with logits, signs and ties by position, and the
        violations of boxes; on photographs with the smaller budget."""
        store = self._store(f"pertmap_figure1_{data}")
        if not store.rows():  # before a model is loaded to ask for its rows
            raise NotMeasured(f"{store.path.name} has no rows")
        settings = pertmap.REDUCED if data == "photos" else None
        return pertmap.curves(store, BEDS[data].model, data, methods, settings)

    def figure1_as_published(self, data: str, *methods: Any) -> Found:
        """Figure 1 in the cell nearest to the authors', `pertmap.PAPER`, at a budget
        that has converged; on COCO-animals as `figure1`."""
        if data == "coco_animals":
            return self.figure1(data, *methods)
        store, cell = self._store(f"figure1_{data}"), pertmap.PAPER
        return pertmap.cells(store, data, methods, [cell])[cell]

    def pointing(self, data: str, *labels: Any) -> Found:
        """The pointing game's table."""
        every, store = aise.rows_of(data)
        cases = {label: every[label] for label in labels}
        return aise.read(cases, data, self._store(store))

    def variants(self, data: str, *_: Any) -> Found:
        """AISE-DIRECT-300 against one change each, all of them."""
        return aise.read(aise.variants(), data, self._store("aise_scenes"))

    def convergence(self, data: str, *_: Any) -> Found:
        """All kinds of samplers, labelled (sampler, widths, queries)."""
        return aise.read_convergence(data, self._store("aise_convergence"))

    def detection(self, data: str, *labels: Any) -> Found:
        """Right detections of scenes."""
        every = aise_detection.cases()
        cases = {label: every[label] for label in labels}
        return aise_detection.read(cases, self._store("aise_detection"))

    def trials(self, kind: str, *names: Any) -> Found:
        """The margins of trials on this kind of instance."""
        found = {name: trials.read(name, self._store("trials")) for name in names}
        if any(kind not in margins for margins in found.values()):
            raise NotMeasured(f"no row of {', '.join(names)} has {kind}")
        return {name: margins[kind] for name, margins in found.items()}
