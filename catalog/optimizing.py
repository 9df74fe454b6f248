"""Keeping a catalogue small and quick: superseded rows dropped, small parts put together, replaced files removed.

It may be done while runs are at work: a table takes their commits while others of its parts are written anew, and who
is refused reads the table again and decides again. In order, where each step may be killed, and the next does the rest:

1. the superseded looks are found (superseded.py), and a file in `_pinakes/optimizing` says with which commits they came
2. the looks leave the ledger: from now on no view counts their rows, and a plan knows nothing of them
3. their rows leave the other tables, found by look and commit; small parts are put together on the way
4. the file goes; who finds one of a killed process looks in those commits for rows without a look in the ledger
5. files that were replaced longer ago than history is kept are removed

Parts are written anew in ranges of commits, so that the numbers of parts stay apart, and so does what a run adds. Which
commit a row came with stays as it is, and so does the number of the last commit that a table has. Of files only those
are removed that the table's log says were replaced; what a run has written and not committed is in no log.
"""

import json
import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake

from pinakes.catalog.commits import LEDGER, LOG_KEEPS, applied, retry_conflicts
from pinakes.catalog.erasing import files
from pinakes.catalog.errors import BusyCatalogError
from pinakes.catalog.live import OPTIMIZES, alone, at_work, live
from pinakes.catalog.superseded import KEYS, Superseded, result_tables, superseded

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

STATE = "_pinakes/optimizing"
#: Parts of fewer bytes are put together, up to so many.
PART_BYTES = 64 * 2**20
#: Rows that are held in memory while they are read, and in a row group: of vectors 16 MB and 26 MB.
ROWS, ROW_GROUP = 32_768, 50_000
#: History is not removed from under a run that may be reading it.
SAFE_DAYS = 1.0
HISTORY_DAYS = 7.0


@dataclass
class TableResult:
    """What became of a table. Of a dry run what would."""

    table: str
    parts_before: int
    parts: int
    rows_dropped: int = 0
    bytes_before: int = 0  # of its parts
    bytes: int = 0  # the same afterwards; those that were replaced stay on disk until history ends
    freed_bytes: int = 0  # of files that were removed


@dataclass
class Optimized:
    """What an optimizing did, or of a dry run would do."""

    dry_run: bool
    tables: list[TableResult] = field(default_factory=list)
    #: Looks that were dropped, by why: attempt, version, settings; `left` by a killed process.
    looks: dict[str, int] = field(default_factory=dict)
    #: Looks with other settings or models than those that count, which stay.
    kept_looks: int = 0
    remarks: list[str] = field(default_factory=list)


class Watching(Protocol):
    """Is told what is being done."""

    def begin(self, what: str, size: int) -> None:
        """From now on `what`, over so many bytes."""

    def advance(self, size: int) -> None:
        """So many bytes more are done."""


class _Unwatched:
    def begin(self, what: str, size: int) -> None: ...

    def advance(self, size: int) -> None: ...


def optimize(
    catalog: "Catalog",
    *,
    drop_superseded: bool = False,
    keep_days: float = HISTORY_DAYS,
    dry_run: bool = False,
    watching: Watching | None = None,
) -> Optimized:
    """Drop superseded rows, put small parts together, and remove files that were replaced `keep_days` ago or earlier.

    With `drop_superseded` looks with other settings or models than those that count go as well: a run that asks for
    these again will look again. A dry run changes nothing. Raises BusyCatalogError (something is being forgotten, or
    another process optimizes), StorageError, CorruptCatalogError.
    """
    watching = watching or _Unwatched()
    if dry_run:
        return _optimize(catalog, Optimized(True), f"{OPTIMIZES}-", drop_superseded, keep_days, watching)
    name = f"{OPTIMIZES}-{uuid.uuid4().hex}"
    with live(catalog.storage, name):
        for other in at_work(catalog.storage):
            if other.optimizes and other.name != name:
                raise BusyCatalogError(
                    f"{catalog.url}: another `pinakes optimize` is at work (on {other.host}, process {other.pid}): "
                    "wait until it has ended. Nothing was touched"
                )
        catalog.finish()
        return _optimize(catalog, Optimized(False), name, drop_superseded, keep_days, watching)


def _optimize(
    catalog: "Catalog", done: Optimized, name: str, drop_superseded: bool, keep_days: float, watching: Watching
) -> Optimized:
    last = applied(catalog.table(LEDGER))
    earlier = _states(catalog)
    left = sorted({n for numbers in earlier.values() for n in numbers})
    with ExitStack() as stack:
        # Else a run that begins meanwhile with other settings may count on looks that are about to go.
        begins = stack.enter_context(ExitStack())
        if drop_superseded and not done.dry_run:
            begins.enter_context(alone(catalog.storage, name))
        looks = stack.enter_context(superseded(catalog, last, left))
        why = ["attempt", "version", "left", *(["settings"] if drop_superseded else [])]
        looks.only(*why)
        done.looks = {reason: count for reason, count in looks.counts.items() if reason in why}
        done.kept_looks = 0 if drop_superseded else looks.counts.get("settings", 0)
        state = f"{STATE}/{name}.json"
        if not done.dry_run and len(looks.numbers):
            catalog.storage.write(state, json.dumps({"numbers": looks.numbers.tolist()}).encode())
        of_looks = [LEDGER, *result_tables(catalog)]
        for table in of_looks:
            done.tables.append(_write_anew(catalog, table, looks, done.dry_run, watching))
            begins.close()  # after the ledger, which is the first
        if not done.dry_run:
            for one in (*(f"{STATE}/{file}" for file in earlier), state):
                catalog.storage.remove(one)
    for table in catalog.tables():
        if table not in of_looks:
            done.tables.append(_put_together(catalog, table, done.dry_run, watching))
    done.tables.sort(key=lambda one: one.table)
    _remove_history(catalog, done, name, keep_days, watching)
    return done


def _states(catalog: "Catalog") -> dict[str, list[int]]:
    """What killed processes have begun: numbers of commits, by file."""
    names = [name for name in catalog.storage.entries(STATE) if name.endswith(".json")]
    return {name: json.loads(catalog.storage.read(f"{STATE}/{name}"))["numbers"] for name in names}


# --- by ranges of commits


@dataclass(frozen=True)
class _Range:
    """Neighbouring parts: the commits that their rows came with, how many parts, how many bytes."""

    low: int
    high: int
    parts: int
    size: int


def _write_anew(
    catalog: "Catalog", name: str, looks: Superseded | None, dry_run: bool, watching: Watching
) -> TableResult:
    """Drop the rows of those looks from a table, and put small parts together."""
    table = catalog.table(name)
    before = _parts(table)
    numbers = np.zeros(0, np.int64) if looks is None else looks.numbers
    ranges = _ranges(before, numbers)
    result = TableResult(name, before.num_rows, before.num_rows)
    result.bytes = result.bytes_before = pc.sum(before["size_bytes"]).as_py() or 0
    watching.begin(name, sum(one.size for one in ranges))
    if ranges and not dry_run:
        _keep_tombstones(catalog, name)
    for one in ranges:
        if dry_run:
            result.rows_dropped += _count(catalog, table, one, looks)
            result.parts -= one.parts - 1
        else:
            result.rows_dropped += _rewrite(catalog, name, one.low, one.high, looks)
        watching.advance(one.size)
    if ranges and not dry_run:
        _measure(catalog, result)
    return result


def _measure(catalog: "Catalog", result: TableResult) -> None:
    after = _parts(catalog.table(result.table))
    result.parts, result.bytes = after.num_rows, pc.sum(after["size_bytes"]).as_py() or 0


def _parts(table: DeltaTable) -> pa.Table:
    return pa.table(table.get_add_actions(flatten=True))


def _ranges(parts: pa.Table, numbers: np.ndarray) -> list[_Range]:
    """What is to be written anew: neighbours that are small, and what has rows of those commits."""
    found: list[_Range] = []
    together: list[_Range] = []

    def close() -> None:
        whole = _joined(together)
        if whole.parts > 1 or _has(whole, numbers):
            found.append(whole)
        together.clear()

    for one in _apart(parts):
        if one.parts == 1 and one.size >= PART_BYTES / 2 and not _has(one, numbers):
            if together:
                close()
            continue
        together.append(one)
        if sum(each.size for each in together) >= PART_BYTES:
            close()
    if together:
        close()
    return found


def _apart(parts: pa.Table) -> Iterator[_Range]:
    """The parts by their commits, those that share some as one."""
    if not parts.num_rows:
        return
    rows = parts.filter(pc.is_valid(parts["min.n"])).sort_by("min.n").select(["min.n", "max.n", "size_bytes"])
    held: _Range | None = None
    for row in rows.to_pylist():
        one = _Range(row["min.n"], row["max.n"], 1, row["size_bytes"])
        if held is not None and one.low > held.high:
            yield held
            held = one
        else:
            held = one if held is None else _joined([held, one])
    if held is not None:
        yield held


def _joined(ranges: Sequence[_Range]) -> _Range:
    return _Range(
        min(one.low for one in ranges),
        max(one.high for one in ranges),
        sum(one.parts for one in ranges),
        sum(one.size for one in ranges),
    )


def _has(one: _Range, numbers: np.ndarray) -> bool:
    """Whether some of those commits are in the range."""
    return bool(np.searchsorted(numbers, one.low) < np.searchsorted(numbers, one.high, side="right"))


@retry_conflicts
def _rewrite(catalog: "Catalog", name: str, low: int, high: int, looks: Superseded | None) -> int:
    """Write the rows of those commits anew, without those of the looks. Returns how many were dropped."""
    table = catalog.table(name)
    # delta-rs would write the rest of a part itself, in types that other engines cannot filter by: see erasing.py.
    for one in _apart(_parts(table)):
        if one.low <= high and one.high >= low:
            low, high = min(low, one.low), max(high, one.high)
    rows = table.to_pyarrow_dataset()
    dropped = 0

    def kept() -> Iterator[pa.RecordBatch]:
        nonlocal dropped
        within = (pc.field("n") >= low) & (pc.field("n") <= high)
        for batch in rows.to_batches(filter=within, batch_size=ROWS, batch_readahead=2, fragment_readahead=2):
            if looks is not None:
                hits = looks.hits(batch)
                dropped += int(hits.sum())
                batch = batch.filter(pa.array(~hits))
            if batch.num_rows:
                yield batch

    with catalog.storage.reporting(f"writing {name} anew"):
        write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(rows.schema, kept()),
            mode="overwrite",
            predicate=f"n >= {low} AND n <= {high}",
            target_file_size=4 * PART_BYTES,
            writer_properties=_WRITER,
            # What runs add meanwhile has other numbers: delta-rs sees that, and refuses everything else.
            commit_properties=CommitProperties(max_commit_retries=20),
        )
    return dropped


_WRITER = WriterProperties(compression="ZSTD", max_row_group_size=ROW_GROUP)


def _count(catalog: "Catalog", table: DeltaTable, one: _Range, looks: Superseded | None) -> int:
    """How many rows of those commits are of the looks."""
    if looks is None or not _has(one, looks.numbers):
        return 0
    within = (pc.field("n") >= one.low) & (pc.field("n") <= one.high)
    with catalog.storage.reporting("reading"):
        batches = table.to_pyarrow_dataset().to_batches(columns=KEYS, filter=within, batch_size=ROWS)
        return sum(int(looks.hits(batch).sum()) for batch in batches)


# --- the other tables


def _put_together(catalog: "Catalog", name: str, dry_run: bool, watching: Watching) -> TableResult:
    """Put the small parts of a table together whose rows all stay."""
    table = catalog.table(name)
    if any(field.name == "n" and name != "collections" for field in table.schema().fields):
        return _write_anew(catalog, name, None, dry_run, watching)
    parts = _parts(table)
    small = pc.less(parts["size_bytes"], PART_BYTES // 2) if parts.num_rows else pa.array([], pa.bool_())
    count, size = (pc.sum(one).as_py() or 0 for one in (small, parts["size_bytes"] if parts.num_rows else small))
    result = TableResult(name, parts.num_rows, parts.num_rows, 0, size, size)
    if count > 1:
        watching.begin(name, size)
        result.parts -= count - 1
        if not dry_run:
            _keep_tombstones(catalog, name)
            _compact(catalog, name)
            _measure(catalog, result)
        watching.advance(size)
    return result


@retry_conflicts
def _compact(catalog: "Catalog", name: str) -> None:
    table = catalog.table(name)
    with catalog.storage.reporting(f"putting parts of {name} together"):
        table.optimize.compact(
            target_size=PART_BYTES,
            max_concurrent_tasks=1,
            writer_properties=_WRITER,
            commit_properties=CommitProperties(max_commit_retries=20),
        )


# --- history


def _remove_history(catalog: "Catalog", done: Optimized, name: str, keep_days: float, watching: Watching) -> None:
    """Remove the files that were replaced so long ago."""
    if done.dry_run or keep_days >= SAFE_DAYS:
        for one in done.tables:
            one.freed_bytes = _vacuum(catalog, one.table, keep_days, done.dry_run)
        return
    with alone(catalog.storage, name) as is_alone:
        if not is_alone:
            done.remarks.append(
                f"another process is at work, which may be reading what was replaced in the last {SAFE_DAYS:.0f} day: "
                "no file was removed; do it again when that has ended"
            )
            return
        for one in done.tables:
            one.freed_bytes = _vacuum(catalog, one.table, keep_days, dry_run=False)


def _vacuum(catalog: "Catalog", name: str, keep_days: float, dry_run: bool) -> int:
    """Remove a table's files that its log says were replaced so long ago. Returns their bytes."""
    table = catalog.table(name)
    hours = math.ceil(keep_days * 24)
    with catalog.storage.reporting(f"removing replaced files of {name}"):
        replaced = table.vacuum(hours, dry_run=True, enforce_retention_duration=False)
    # The log speaks of those that are gone as well.
    there = files(catalog.storage, name) if replaced else {}
    size = sum(there.get(file, 0) for file in set(replaced))
    if size and not dry_run:
        _vacuum_now(catalog, name, hours)
    return size


@retry_conflicts
def _vacuum_now(catalog: "Catalog", name: str, hours: int) -> None:
    with catalog.storage.reporting(f"removing replaced files of {name}"):
        # Never `full`: that removes what runs have written and not committed yet.
        catalog.table(name).vacuum(hours, dry_run=False, enforce_retention_duration=False, full=False)


@retry_conflicts
def _keep_tombstones(catalog: "Catalog", name: str) -> None:
    """Let the log of a table remember what was replaced until an optimizing comes: one that was made without that."""
    table = catalog.table(name)
    if not LOG_KEEPS.keys() <= table.metadata().configuration.keys():
        with catalog.storage.reporting(f"setting up {name}"):
            table.alter.set_table_properties(LOG_KEEPS)
