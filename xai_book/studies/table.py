"""The stored rows of a study as a table, for pandas.

from xai_book.studies.table import table

table("geex_mnist").groupby("settings.method")["result.aopc"].mean()
"""

from __future__ import annotations

from pathlib import Path

from xai_book.studies.results import Results
from xai_lib.core.extras import extra

with extra("book"):
    import pandas as pd


def table(name: str, results: str | Path | None = None) -> pd.DataFrame:
    """All rows of a study, in the order in which they were stored.

    Args:
        name: the study's, as `python -m xai_book list` has it.
        results: the folder of the stores; None is the book's `data/results`.

    Returns:
        One row per stored row. Dictionaries become dotted columns, such as
        "settings.method", "result.aopc" and "versions.torch", with NaN where a row
        lacks one; lists stay lists. Also "image", "seed", "device", "date" and
        "seconds". A study without rows has no columns.
    """
    return pd.json_normalize(Results(name, results).rows())
