"""A piece: the rows of some items on their way through the pipeline, as one row of a Ray Data block."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pinakes.jobs.rows import Tables

#: A table of this name carries the message of a worker that cannot work.
BROKEN = "_broken"

#: Of an item that is not touched again.
CONVICTED = (
    "whole workers were killed while they looked at it, alone, twice: most likely it takes too much memory, or time"
)

_SCHEMA = pa.schema(
    [
        pa.field("chunk", pa.int64()),
        pa.field("start", pa.int64()),
        pa.field("items", pa.int64()),
        pa.field("tables", pa.list_(pa.string())),
        pa.field("rows", pa.list_(pa.large_binary())),
    ]
)


@dataclass(frozen=True)
class Piece:
    """Of a chunk, from the item `start` on, `items` items, and what was seen in them."""

    chunk: int
    start: int
    items: int
    tables: Tables

    @property
    def name(self) -> tuple[int, int]:
        return self.chunk, self.start

    def to_row(self) -> pa.Table:
        """A block of one row."""
        tables = list(self.tables.values())
        sizes = [_size(table) for table in tables]
        # Into one buffer, without a copy in between: inputs for GPUs are tens of megabytes.
        whole = pa.allocate_buffer(sum(sizes))
        sink = pa.FixedSizeBufferWriter(whole)
        for table in tables:
            _write(table, sink)
        ends = np.cumsum([0, *sizes]).astype(np.int64)
        rows = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(tables), [None, pa.py_buffer(ends), whole])
        values = [self.chunk, self.start, self.items, list(self.tables)]
        columns = [pa.array([value], kind) for value, kind in zip(values, _SCHEMA.types, strict=False)]
        return pa.table([*columns, pa.ListArray.from_arrays([0, len(tables)], rows)], _SCHEMA)

    @classmethod
    def of_rows(cls, block: pa.Table) -> "Iterator[Piece]":
        """The pieces of a block. Their tables are views of its memory."""
        for at in range(block.num_rows):
            chunk, start, items, names = (block[name][at].as_py() for name in _SCHEMA.names[:4])
            rows = block["rows"][at].values
            tables = {name: pa.ipc.open_stream(rows[place].as_buffer()).read_all() for place, name in enumerate(names)}
            yield cls(chunk, start, items, tables)


def broken(error: Exception) -> Tables:
    """In place of rows: an exception would be taken for a fault of Ray's, and tried again."""
    return {BROKEN: pa.table({"message": [str(error)]})}


def _size(rows: pa.Table) -> int:
    sink = pa.MockOutputStream()
    _write(rows, sink)
    size: int = sink.size()
    return size


def _write(rows: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
