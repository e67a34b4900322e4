"""The stored rows of all studies, as claims and figures read them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from xai_book.studies import (
    aise,
    aise_claims,
    aise_detection,
    geex,
    pertmap,
    trials,
)
from xai_book.studies.geex import FAMILY
from xai_book.studies.geex_claims import Found
from xai_book.studies.results import NotMeasured, Results

TITLES = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "photos": "photographs",
    "coco_animals": "COCO-animals",
    "scenes": "scenes",
    "unsure": "scenes, below 0.5",
    "small": "small articles",
    "large": "large articles",
    "grids 2x2": "grids of photographs",
}
MODELS = {
    "mnist": "cnn_mnist",
    "fashion_mnist": "cnn_fashion_mnist",
    "photos": "efficientnet_lite0",
    "coco_animals": "vgg16",
}


class Rows:
    """What the claims read: the stores in a folder, each at most once."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self._store = lru_cache(lambda name: Results(name, folder))

    def table1(self, data: str, *methods: str) -> Found:
        """Table 1, for the images that all of these methods have."""
        model = MODELS[data]
        every = geex.table1(model)
        cases: geex.Cases = {method: every[method] for method in methods}
        return geex.read(cases, model, data, self._store(f"geex_{data}"))

    def samples(self, data: str, *counts: int) -> Found:
        """Figure S4: GEEX by its number of samples, with its bounds."""
        return self._effect(data, geex.samples(MODELS[data], counts))

    def stdevs(self, data: str, *values: float) -> Found:
        """Figure S4: GEEX by its search range, with its bounds."""
        return self._effect(data, geex.stdevs(MODELS[data], values))

    def mask_sizes(self, data: str) -> Found:
        """Figure S5: GERS by the size of its masks, with its bounds."""
        return self._effect(data, geex.mask_sizes(MODELS[data]))

    def _effect(self, data: str, cases: geex.Cases) -> Found:
        return geex.read(cases, MODELS[data], data, self._store(f"geex_{data}_effects"))

    def samplers(self, data: str, *labels: tuple[str, int]) -> Found:
        """Kinds of search noise with their numbers of queries."""
        model, name = MODELS[data], "geex_mnist_samplers"
        every = geex.samplers(model)
        cases: dict[Hashable, geex.Case] = {label: every[label] for label in labels}
        store = self._store("geex_photos" if data == "photos" else name)
        return geex.read(cases, model, data, store)

    def losses(self, data: str) -> Found:
        """The family with its two losses, labelled (method, loss)."""
        model = MODELS[data]
        cases: dict[Hashable, geex.Case] = {
            (method, loss): geex.case(method, model, **change)
            for method in FAMILY
            for loss, change in (
                ("logit", {}),
                ("non-informative", {"loss": "non-informative"}),
            )
        }
        store = self._store("geex_choices")
        return geex.read(cases, model, data, store, explains="logit")

    def figure1(self, data: str, *methods: str) -> dict[str, pertmap.Curves]:
        """Ikeno and Hara's Figure 1; on photographs with the smaller budget."""
        store = self._store(f"pertmap_figure1_{data}")
        if not store.rows():  # before a model is loaded to ask for its rows
            raise NotMeasured(f"{store.path.name} has no rows")
        settings = pertmap.REDUCED if data == "photos" else None
        return pertmap.curves(store, MODELS[data], data, methods, settings)

    def pointing(self, data: str, *labels: str) -> aise_claims.Found:
        """The pointing game's table, for the pairs that all of these labels have."""
        every, store = aise.rows_of(data)
        cases = {label: every[label] for label in labels}
        return aise.read(cases, data, self._store(store))

    def variants(self, data: str) -> aise_claims.Found:
        """AISE-DIRECT-300 against one change each."""
        return aise.read(aise.variants(), data, self._store("aise_scenes"))

    def convergence(self, data: str) -> Mapping[tuple[str, str, int], aise_claims.Rows]:
        """Kinds of samplers by their queries."""
        return aise.read_convergence(data, self._store("aise_convergence"))

    def detection(self, *labels: str) -> Mapping[str, aise_claims.Rows]:
        """Right detections of scenes, for the scenes that all of these labels have."""
        every = aise_detection.cases()
        cases = {label: every[label] for label in labels}
        return aise_detection.read(cases, self._store("aise_detection"))

    def trial(self, name: str) -> dict[str, Tensor]:
        """The margins of a trial by the kind of instance."""
        return trials.read(name, self._store("trials"))
