"""Rows as a Parquet file: a column for each setting and measurement, and back.

Columns are named by the way to them, such as "settings.method" or "result.aopc"; a list
stays a list. What a row does not have is null. What Parquet has no type for, such as
numbers in some rows and lists in others, is JSON in text; `read` finds it in the
column's metadata.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xai_lib.core.extras import extra
from xai_lib.core.files import replacing

_AS_JSON = {b"json": b"1"}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows, nested dicts of numbers, text and lists: the whole file, or nothing.

    A value that all rows share takes a few bytes once: columns are coded by their
    distinct values.

    Raises:
        ValueError: rows that would come back otherwise, such as with a None.
    """
    with extra("book"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    flat = [dict(_leaves(row)) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    fields, columns = [], []
    for name in names:
        values = [row.get(name) for row in flat]
        try:
            column = pa.array(values)
            alike = json.dumps(column.to_pylist()) == json.dumps(values)
            exact = alike and not pa.types.is_struct(column.type)
        except pa.ArrowException:
            exact = False
        if not exact:
            column = pa.array([v if v is None else json.dumps(v) for v in values])
        fields.append(pa.field(name, column.type, metadata=None if exact else _AS_JSON))
        columns.append(column)
    with replacing(path) as part:
        table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
        pq.write_table(table, part, compression="zstd", compression_level=19)
        if read(part) != rows:
            raise ValueError(f"{path}: a table would change these rows")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that were written.

    Raises:
        OSError: a damaged file, by its path.
    """
    with extra("book"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise OSError(f"{path} is no table of rows: {error}; restore it") from error
    rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
    columns = zip(table.schema, table.columns, strict=True)
    # Names in a dict are in order, as in the lines of a store.
    for field, column in sorted(columns, key=lambda one: one[0].name.split(".")):
        *way, last = field.name.split(".")
        as_json = field.metadata == _AS_JSON
        for row, value in zip(rows, column.to_pylist(), strict=True):
            if value is None:
                continue
            for name in way:
                row = row.setdefault(name, {})
            row[last] = json.loads(value) if as_json else value
    return rows


def _leaves(row: dict[str, Any], way: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{way}{name}.")
        else:
            yield way + name, value
