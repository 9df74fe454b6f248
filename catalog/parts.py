"""Parts: Parquet files in a table's folder that no commit names yet."""

import io
import json
import time
import uuid
from datetime import datetime
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from pinakes.catalog.storage import Storage


class Action(TypedDict):
    """One part as the commit log names it."""

    table: str
    path: str
    size: int
    rows: int
    stats: str


def write_part(storage: Storage, table: str, rows: pa.Table, n: int) -> Action:
    """Write rows as one Parquet part below `table` and say what a commit must know of it. Raises StorageError."""
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd")
    path = f"n{n:010d}-{uuid.uuid4().hex}.parquet"
    storage.write(f"{table}/{path}", buffer.getvalue())
    return Action(table=table, path=path, size=buffer.tell(), rows=rows.num_rows, stats=_statistics(rows))


def add_action(action: Action) -> AddAction:
    """The Delta action that makes the part a file of its table."""
    return AddAction(
        path=action["path"],
        size=action["size"],
        partition_values={},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=action["stats"],
    )


def counted_columns(schema: pa.Schema) -> list[str]:
    """The columns that statistics are kept of: whole numbers and dates.

    Never text, which would outlive its deletion; nor what a model measured: of a part with one face that would be its
    very age.
    """
    return [field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)]


def _statistics(rows: pa.Table) -> str:
    """Delta's statistics of a part, so that engines skip files: see the Delta protocol, "Per-file Statistics"."""
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in counted_columns(rows.schema):
        nulls[name] = rows[name].null_count
        bounds = pc.min_max(rows[name]).as_py()
        low_high = [_plain(bounds["min"]), _plain(bounds["max"])]
        if all(value is not None for value in low_high):
            low[name], high[name] = low_high
    return json.dumps({"numRecords": rows.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls})


def _plain(value: Any) -> Any:
    # isoformat pads the year; strftime does not.
    return f"{value.replace(tzinfo=None).isoformat(timespec='microseconds')}Z" if isinstance(value, datetime) else value
