"""The commit log: one order of truth over all tables and all runs.

Row n of the Delta table `commits` (n from 1) names the parts that one batch of finished looks adds to every table. It
is appended with the Delta transaction ("pinakes", n) on the very snapshot that was read, so two drivers cannot both
write row n. Then every table takes the commits in order, each with ("pinakes", n), the ledger last; anyone may do
that, and whoever writes does it first for what another left.

What happens when a process dies, in order of time:

1. before its parts are written          the looks since its last commit are lost, and done again by the next run
2. between its parts                     as 1; the parts are orphans: no table names them, no reader sees them
3. after its parts, before row n         as 2
4. while row n is written                either the row is there (then 5) or not (then 3): Delta's append is atomic
5. after row n, before the tables        nothing is lost: the next command that writes adds the parts to the tables
6. between two tables                    as 5; the tables that have n skip it. The `latest_*` views go through the
                                         ledger, which comes last, and see all of the commit or nothing of it
7. after the ledger                      done

Two drivers that looked at the same item: who writes its row first keeps it; the other reads that row before its own
commit and drops what is in it. delta-rs takes a second commit with a transaction number that is already there, unless
it comes from a snapshot older than the first; so the number is read and written on one and the same snapshot.

What was forgotten (forgetting.py) is dropped from a commit as well: suppressions are read after that snapshot. Who
forgets first writes them, then a row n that adds nothing (`fence`): a driver that read its snapshot before that row is
refused by it and reads them anew, however long it was asleep.
"""

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from pinakes.catalog import metering
from pinakes.catalog.errors import CorruptCatalogError
from pinakes.catalog.parts import Action, add_action, counted_columns, write_part
from pinakes.catalog.schema import COMMITS, LOOK, LOOK_SCHEMA
from pinakes.catalog.storage import Storage
from pinakes.catalog.suppressions import Suppressions

APPLICATION = "pinakes"
#: Another process was first: read the table anew, and decide again.
retry_conflicts = retry(
    retry=retry_if_exception_type(CommitFailedError),
    wait=wait_random(0, 0.3),
    stop=stop_after_attempt(50),
    reraise=True,
)
LEDGER = "ledger"
LOG = "commits"
#: How long the log of a table keeps what it knows.
LOG_KEEPS = dict.fromkeys(("delta.deletedFileRetentionDuration", "delta.logRetentionDuration"), "interval 365 days")


def open_table(storage: Storage, table: str, schema: pa.Schema | None = None) -> DeltaTable:
    """The Delta table; created with `schema` when it is not there and one is given.

    Raises CorruptCatalogError (it is not there, or cannot be read) and StorageError.
    """
    uri, options = storage.table_uri(table), storage.delta_options
    with storage.reporting(f"opening table {table}"):
        try:
            return DeltaTable(uri, storage_options=options)
        except TableNotFoundError as error:
            if schema is None:
                raise CorruptCatalogError(f"{storage.url}: there is no table {table}") from error
        except FileNotFoundError as error:
            raise CorruptCatalogError(f"{storage.url}: table {table} lacks a file: {error}") from error
        configuration = {
            "delta.checkpointInterval": "20",
            # Of a file that was replaced the log must know for as long as a vacuum may find it (optimizing.py), and of
            # what a table was for as long as one may look back (lookback.py); by itself it forgets after a month.
            **LOG_KEEPS,
            # What delta-rs would otherwise keep minima and maxima of when it compacts.
            "delta.dataSkippingStatsColumns": ",".join(counted_columns(schema)),
        }
        try:
            return DeltaTable.create(uri, schema, mode="ignore", configuration=configuration, storage_options=options)
        except (CommitFailedError, DeltaError):
            # Another process created it in the meantime; if not, this raises what is wrong.
            return DeltaTable(uri, storage_options=options)


def as_in(table: DeltaTable, rows: pa.Table) -> pa.Table:
    """The rows with what the table says of its columns: delta-rs adds none that describe them in other words."""
    there = pa.schema(table.schema().to_arrow())
    return rows.cast(pa.schema([field.with_metadata(there.field(field.name).metadata) for field in rows.schema]))


def applied(table: DeltaTable) -> int:
    """The last commit that a table has; 0 when none."""
    return table.transaction_version(APPLICATION) or 0


class CommitLog:
    """Commits finished looks for one run. Not for two threads at once.

    `since` is the last commit that the run's plan took into account: what others have committed after it is dropped
    from what this run commits.
    """

    def __init__(
        self,
        storage: Storage,
        run_id: str,
        schemas: Mapping[str, pa.Schema],
        since: int = 0,
        fingerprints: Iterable[str] | None = None,
        job: str = "",
    ) -> None:
        """`schemas` are the full schemas of the tables that will be written, the ledger's among them.

        `fingerprints` are those of this run: of what others do, no more is remembered.
        """
        self._fingerprints = None if fingerprints is None else pa.array(fingerprints, pa.string())
        self.storage = storage
        self.run_id = run_id
        self.job = job
        #: What the run has taken so far, as metering.MEASURES, and of it what no commit has yet.
        self.measures = self.carried = metering.MEASURES.empty_table()
        self.schemas = {**schemas, metering.TABLE: metering.USAGE}
        self._read_to = since
        self._suppressions: Suppressions | None = None
        #: The looks that others have committed since then, as far as this log has read.
        self.done_by_others = LOOK_SCHEMA.empty_table()
        #: Looks at whole items that others had committed first.
        self.dropped = 0

    def commit(self, rows: Mapping[str, pa.Table]) -> int | None:
        """Commit the rows of every table, the ledger's among them, each without its columns `run_id` and `n`.

        The ledger may have the columns of metering.METER as well, and there may be a table metering.SPENT: of these the
        rows of `usage` are made. Returns the number of the commit; None when others had committed all of it. Raises
        StorageError (nothing of it is then in any table, or all of it will be) and CorruptCatalogError.
        """
        looks = rows[LEDGER]
        self.carried = metering.total([self.carried, rows.get(metering.SPENT, self.carried.slice(0, 0))])
        rows = {table: part for table, part in rows.items() if table != metering.SPENT}
        while True:
            log = open_table(self.storage, LOG, COMMITS)
            last = applied(log)
            rows = self._without_done(log, last, rows)
            dropped = without(looks, rows[LEDGER]) if rows[LEDGER].num_rows < looks.num_rows else looks.slice(0, 0)
            lost = metering.as_lost(metering.of_looks(dropped))
            if not rows[LEDGER].num_rows:
                self.carried = metering.total([self.carried, lost])
                return None
            self._suppressions = Suppressions.read(self.storage, self._suppressions)
            rows = self._suppressions.without(rows)
            measures = metering.total([metering.of_looks(rows[LEDGER]), self.carried, lost])
            if (n := self._write(log, last + 1, rows, measures)) is not None:
                return n

    def carry(self, spent: pa.Table) -> None:
        """Take in MEASURES of what belongs to no look, for the next commit."""
        self.carried = metering.total([self.carried, spent])

    def commit_rest(self) -> None:
        """Commit what was spent and found no place in a commit: on looks that others had committed first, say.

        Raises as `commit` does.
        """
        while self.carried.num_rows:
            log = open_table(self.storage, LOG, COMMITS)
            self._write(log, applied(log) + 1, {}, self.carried)

    def _write(self, log: DeltaTable, n: int, rows: Mapping[str, pa.Table], measures: pa.Table) -> int | None:
        """Commit those rows as number n, on that snapshot. Returns n; None when another driver was first."""
        commit_id = uuid.uuid4().hex
        used = metering.usage(measures, self.run_id, self.job, n)
        of_run = {"n": n, "run_id": self.run_id}
        parts = {table: _with(part, of_run, self.schemas[table]) for table, part in rows.items()}
        parts[metering.TABLE] = used
        actions = [write_part(self.storage, table, part, n) for table, part in parts.items() if part.num_rows]
        if self._append(log, n, commit_id, actions):
            self.measures = metering.total([self.measures, measures])
            self.carried = self.carried.slice(0, 0)
            apply_open_commits(self.storage)
            return n
        for action in actions:
            self.storage.remove(f"{action['table']}/{action['path']}")
        return None

    def fence(self) -> int:
        """Commit nothing. Returns the number n of that commit.

        What others commit with a higher number, they have decided on after this was called. Raises as `commit` does.
        """
        commit_id = uuid.uuid4().hex
        while True:
            log = open_table(self.storage, LOG, COMMITS)
            n = applied(log) + 1
            if self._append(log, n, commit_id, []):
                apply_open_commits(self.storage)
                return n

    def _append(self, log: DeltaTable, n: int, commit_id: str, actions: list[Action]) -> bool:
        """Write row n on that snapshot. False when another driver was first."""
        row = pa.Table.from_pylist(
            [
                {
                    "n": n,
                    "run_id": self.run_id,
                    "commit_id": commit_id,
                    "committed_at": datetime.now(UTC),
                    "actions": actions,
                }
            ],
            schema=COMMITS,
        )
        action = write_part(self.storage, LOG, row, n)
        try:
            with self.storage.reporting(f"writing commit {n}"):
                _add(log, [action], COMMITS, n)
            return True
        except CommitFailedError:
            # Also raised when the answer was lost on the way: the row itself says whose it is.
            if any(found["commit_id"] == commit_id for found in read_commits(self.storage, n - 1).to_pylist()):
                return True
            self.storage.remove(f"{LOG}/{action['path']}")
            return False

    def _without_done(self, log: DeltaTable, last: int, rows: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
        """Drop the looks that other runs have committed since the plan was made."""
        if last > self._read_to:
            for commit in read_commits(self.storage, self._read_to, log).to_pylist():
                if commit["run_id"] == self.run_id:
                    continue
                for action in commit["actions"]:
                    if action["table"] == LEDGER:
                        part = read_part(self.storage, LEDGER, action["path"], LOOK).cast(LOOK_SCHEMA)
                        if self._fingerprints is not None:
                            part = part.filter(pc.is_in(part["fingerprint"], self._fingerprints))
                        self.done_by_others = pa.concat_tables([self.done_by_others, part]).combine_chunks()
            self._read_to = last
        done = self.done_by_others
        if not done.num_rows:
            return dict(rows)
        kept = {table: without(part, done) for table, part in rows.items()}
        self.dropped += _whole(rows[LEDGER]) - _whole(kept[LEDGER])
        return kept


def apply_open_commits(storage: Storage) -> int:
    """Bring every table up to the last commit, the ledger last. Returns the number of that commit.

    Anyone may call it at any time, several at once. Raises StorageError, CorruptCatalogError.
    """
    log = open_table(storage, LOG)
    last, done = applied(log), applied(open_table(storage, LEDGER))
    if done < last:
        for commit in read_commits(storage, done, log).sort_by("n").to_pylist():
            by_table: dict[str, list[Action]] = {LEDGER: []}
            for action in commit["actions"]:
                by_table.setdefault(action["table"], []).append(action)
            for table in sorted(by_table, key=lambda name: (name == LEDGER, name)):
                _apply(storage, table, by_table[table], commit["n"])
    return last


@retry_conflicts
def _apply(storage: Storage, name: str, actions: list[Action], n: int) -> None:
    """Add a commit's parts to a table unless it has them. A failed try reads the table anew, and then decides."""
    table = open_table(storage, name)
    if applied(table) < n:
        with storage.reporting(f"adding commit {n} to {name}"):
            _add(table, actions, table.schema(), n)


def _add(table: DeltaTable, actions: Iterable[Action], schema: pa.Schema, n: int) -> None:
    table.create_write_transaction(
        [add_action(action) for action in actions],
        mode="append",
        schema=schema,
        commit_properties=CommitProperties(app_transactions=[Transaction(APPLICATION, n)], max_commit_retries=5),
    )


def read_commits(storage: Storage, after: int, log: DeltaTable | None = None) -> pa.Table:
    """The rows of the commit log with n > `after`; of the parts, only those that hold such rows are read."""
    log = log or open_table(storage, LOG)
    parts = pa.table(log.get_add_actions(flatten=True))
    if not parts.num_rows:
        return COMMITS.empty_table()
    newer = parts.filter(pc.greater(parts["max.n"], after))
    tables = [read_part(storage, LOG, path) for path in newer["path"].to_pylist()]
    if not tables:
        return COMMITS.empty_table()
    rows = pa.concat_tables([table.cast(COMMITS) for table in tables])
    return rows.filter(pc.greater(rows["n"], after))


def read_part(storage: Storage, table: str, path: str, columns: list[str] | None = None) -> pa.Table:
    """One part. Raises CorruptCatalogError when it is gone or broken."""
    try:
        return pq.read_table(pa.BufferReader(storage.read(f"{table}/{path}")), columns=columns)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise CorruptCatalogError(
            f"{storage.url}: {table}/{path}, which a commit names, cannot be read: {error}"
        ) from error


def without(rows: pa.Table, done: pa.Table) -> pa.Table:
    """The rows whose look is not among `done`; their order stays."""
    if not rows.num_rows or not done.num_rows:
        return rows
    looks = _comparable(rows).append_column("position", pa.array(np.arange(rows.num_rows)))
    kept = looks.join(_comparable(done), keys=LOOK, join_type="left anti")
    return rows.take(kept["position"].sort())


def _whole(ledger: pa.Table) -> int:
    """Looks at whole items."""
    count: int = ledger["window_start_ms"].null_count
    return count


def _comparable(rows: pa.Table) -> pa.Table:
    """The columns that name a look; in a join no null equals another."""
    looks = rows.select(LOOK)
    whole = pc.fill_null(looks["window_start_ms"], -1)
    return looks.set_column(LOOK.index("window_start_ms"), "window_start_ms", whole)


def _with(rows: pa.Table, values: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """The rows with columns of one value each, in the schema's order and types, and no others."""
    for name, value in values.items():
        rows = rows.append_column(name, pa.repeat(pa.scalar(value), rows.num_rows))
    return rows.select(schema.names).cast(schema)
