"""All studies of the book by name.

`python -m xai_book run NAME` measures what a store lacks. Names are those of the
stores, `data/results/<name>.parquet`. To add a study, add its module to MODULES.
"""

from collections.abc import Mapping

from xai_book.studies import (
    aise,
    aise_detection,
    fewer_queries,
    geex,
    pertmap,
    showdown,
    trials,
)
from xai_book.studies.engine import Runner, Study

MODULES = (pertmap, geex, aise, aise_detection, showdown, fewer_queries)
"""Each has STUDIES."""

STUDIES: Mapping[str, Study] = {
    **{name: study for module in MODULES for name, study in module.STUDIES.items()},
    "trials": Study(
        "statements that no study decides, tried on instances; reproduce/",
        trials.units,
        Runner(trials.measure),
    ),
}
