"""Taking rows out of tables for good: out of the parts, the parts that were replaced, the Delta log, and orphans.

Each step may be killed and done again. No deletion puts a value into the Delta log but numbers of commits and loads.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, WriterProperties, write_deltalake

from pinakes.catalog.commits import retry_conflicts
from pinakes.catalog.errors import StorageError
from pinakes.catalog.storage import Storage

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: Columns that say what a row came with, so that only parts with some of these numbers are written anew.
_COUNTS = ("n", "load")
#: Parts of so many bytes are written anew together: of 400,000 faces with vectors, 200 MB, it took 1.4 GB of memory.
TOGETHER = 48 * 2**20
#: Rows that are held in memory while they are read: 4 MB of vectors.
ROWS = 8192
#: Says which rows of a batch are meant, as bools without nulls.
Hit: TypeAlias = Callable[[pa.RecordBatch], pa.Array]
#: A part that a commit names, or will, and the commit's number; see parts.py.
_PART = re.compile(r"^n(\d{10})-[0-9a-f]{32}\.parquet")


def read(catalog: "Catalog", name: str, columns: list[str], condition: ds.Expression | None = None) -> pa.Table:
    """Rows of a table, in its own columns; none when there is no such table. Raises CorruptCatalogError."""
    if name not in catalog.tables():
        return pa.table({column: pa.array([], pa.string()) for column in columns})
    with catalog.storage.reporting(f"reading table {name}"):
        rows: pa.Table = catalog.table(name).to_pyarrow_dataset().to_table(columns=columns, filter=condition)
        return rows


def erase(catalog: "Catalog", name: str, column: str, values: pa.Array, blank: Sequence[str] = ()) -> int:
    """Delete the rows whose `column` is one of `values`, or make the columns `blank` null in them. Returns how many.

    Parts without such rows stay as they are; the others are written anew, and the old ones stay until `sweep`.
    Raises StorageError, CorruptCatalogError.
    """
    if not len(values) or name not in catalog.tables():
        return 0
    condition = pc.field(column).isin(values)
    if blank:  # what is null already is done
        condition &= reduce(or_, [pc.field(one).is_valid() for one in blank])
    table = catalog.table(name)
    counted = next((one.name for one in table.schema().fields if one.name in _COUNTS), None)
    found = read(catalog, name, [counted or column], condition)
    if not found.num_rows:
        return 0
    groups: list[list[int]] | list[None] = [None]
    if counted:
        groups = _groups(pa.table(table.get_add_actions(flatten=True)), counted, pc.unique(found[counted]).to_pylist())
    for numbers in groups:
        _rewrite(catalog, name, lambda batch: pc.is_in(batch[column], values), blank, counted, numbers)
    return int(found.num_rows)


def erase_rows(catalog: "Catalog", name: str, columns: list[str], hit: Hit) -> int:
    """Delete the rows that `hit` says, by those columns. Returns how many. As `erase`, in all parts."""
    if name not in catalog.tables():
        return 0
    with catalog.storage.reporting(f"reading table {name}"):
        batches = catalog.table(name).to_pyarrow_dataset().to_batches(columns=columns, batch_size=ROWS)
        count = sum(int(pc.sum(hit(batch)).as_py() or 0) for batch in batches)
    if count:
        _rewrite(catalog, name, hit, (), None, None)
    return count


def _groups(parts: pa.Table, counted: str, numbers: list[int]) -> list[list[int]]:
    """The numbers in groups, of which each is in parts of about TOGETHER bytes; those in one part in one group."""
    left = sorted(numbers)
    groups: list[list[int]] = []
    together: list[int] = []
    size = 0
    for part in parts.sort_by(f"min.{counted}").select([f"max.{counted}", "size_bytes"]).to_pylist():
        in_it = [one for one in left if one <= part[f"max.{counted}"]]
        if not in_it:
            continue
        together, left, size = together + in_it, left[len(in_it) :], size + part["size_bytes"]
        if size >= TOGETHER:
            groups.append(together)
            together, size = [], 0
    return [one for one in (*groups, together + left) if one]


@retry_conflicts
def _rewrite(
    catalog: "Catalog",
    name: str,
    hit: Hit,
    blank: Sequence[str],
    counted: str | None,
    numbers: list[int] | None,
) -> None:
    """Delete the rows that `hit` says, or blank columns of them, in parts with some of those numbers; None: in all."""
    table = catalog.table(name)
    rows = table.to_pyarrow_dataset()
    affected, predicate = None, None
    if numbers is not None:
        affected = pc.field(counted).isin(numbers)
        predicate = f"{counted} IN ({', '.join(map(str, numbers))})"

    def kept() -> Iterator[pa.RecordBatch]:
        for batch in rows.to_batches(filter=affected, batch_size=ROWS):
            hits = hit(batch)
            if blank:
                for at in [batch.schema.get_field_index(one) for one in blank]:
                    field = batch.schema.field(at)
                    batch = batch.set_column(at, field, pc.if_else(hits, pa.scalar(None, field.type), batch[at]))
                yield batch
            else:
                yield batch.filter(pc.invert(hits))

    # Not by delta-rs's own `merge` or `delete`: they write texts in a type that pyarrow 26 cannot compare with texts,
    # so that neither it nor DuckDB could filter the table by them; and `delete` writes the values into the log.
    with catalog.storage.reporting(f"erasing from {name}"):
        write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(rows.schema, kept()),
            mode="overwrite",
            predicate=predicate,
            writer_properties=WriterProperties(compression="ZSTD"),
            commit_properties=CommitProperties(max_commit_retries=0),
        )


def trim_log(catalog: "Catalog", name: str) -> int:
    """Remove the entries of a table's log, and its checkpoints, that are older than its present state.

    They hold the least and the greatest numbers of parts that are gone, and of a part with one face they are that
    face's. Returns how many files were removed. Raises StorageError.
    """
    table = catalog.table(name)
    version = table.version()
    folder = f"{name}/_delta_log"
    old = _older(catalog.storage, folder, version)
    if not old:
        return 0
    with catalog.storage.reporting(f"shortening the log of {name}"):
        table.create_checkpoint()
    for file in old:
        catalog.storage.remove(f"{folder}/{file}")
    left = _older(catalog.storage, folder, version)
    if left:
        raise StorageError(f"{catalog.url}: {folder}/{left[0]} cannot be removed: allow it, and forget again")
    return len(old)


def _older(storage: Storage, folder: str, version: int) -> list[str]:
    """Entries and checkpoints of earlier versions, and what a killed process left half written."""
    found = []
    for file, is_folder in storage.entries(folder).items():
        number = file[:20]
        if number.isdigit() and "#" not in file:
            if int(number) < version:
                found.append(file)
        elif file != "_last_checkpoint" and not is_folder:
            found.append(file)
    return found


def sweep(catalog: "Catalog", name: str, fence: int = 0) -> int:
    """Remove a table's files that it does not name: replaced ones, and what killed processes left.

    Not those that belong to a commit after number `fence`, which may be under way; only of tables that runs write.
    Nobody else may be at work: see live.py. Returns how many were removed. Raises StorageError.
    """
    table = catalog.table(name)
    named = set(pa.table(table.get_add_actions(flatten=True))["path"].to_pylist())
    orphans = [file for file in files(catalog.storage, name) if file not in named and not _is_later(file, fence)]
    for file in orphans:
        catalog.storage.remove(f"{name}/{file}")
    left = set(orphans).intersection(files(catalog.storage, name))
    if left:
        raise StorageError(f"{catalog.url}: {name}/{min(left)} cannot be removed: allow it, and forget again")
    return len(orphans)


def files(storage: Storage, folder: str) -> Mapping[str, int]:
    """Every file of a table outside its log, or below any other folder: its path from there, and its size."""
    root = storage.path(folder).rstrip("/")
    with storage.reporting("listing"):
        storage.filesystem.invalidate_cache()
        found = storage.filesystem.find(root, detail=True)
    relative = {path[len(root) + 1 :]: int(one["size"] or 0) for path, one in found.items()}
    return {path: size for path, size in relative.items() if not path.startswith("_delta_log/")}


def _is_later(file: str, fence: int) -> bool:
    part = _PART.match(file)
    return part is not None and int(part[1]) > fence
