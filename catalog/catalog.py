"""A catalogue: a folder or bucket prefix of Delta tables, opened, described and asked."""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake
from pyarrow.dataset import Dataset

from pinakes.catalog import commits, metering, sql
from pinakes.catalog.errors import CorruptCatalogError, NewerCatalogError, NoCatalogError
from pinakes.catalog.schema import OWN_TABLES, RUNS, result_schema
from pinakes.catalog.storage import Storage

#: Rises when an older Pinakes could misread what a newer one wrote.
FORMAT = 1
ABOUT = "_pinakes/catalog.json"


@dataclass(frozen=True)
class TableStatus:
    """A table's name, rows, parts and bytes, from the Delta log alone."""

    name: str
    rows: int
    parts: int
    bytes: int


class Catalog:
    """A catalogue at `url`, any fsspec URL or local path.

    Raises NoCatalogError when there is none (unless `create`) or when the place holds something else,
    NewerCatalogError and CorruptCatalogError when it cannot be read, StorageError when the place does not answer.
    """

    def __init__(self, url: str, create: bool = False) -> None:
        self.storage = Storage(url)
        self.url = self.storage.url
        try:
            about = json.loads(self.storage.read(ABOUT))
            found = int(about["format"])
        except FileNotFoundError:
            if not create:
                raise NoCatalogError(
                    f"there is no catalogue at {self.url}: `pinakes run SOURCE --catalog ...` makes one"
                ) from None
            self._create()
            return
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptCatalogError(
                f"{self.url}/{ABOUT} is not readable ({error}); the tables beside it are untouched: "
                f'if they are sound, write {{"format": {FORMAT}}} into it'
            ) from None
        if found > FORMAT:
            raise NewerCatalogError(
                f"{self.url} has format {found}, written by pinakes {about.get('pinakes', '?')}; "
                f"this is {version('pinakes')}, which reads up to {FORMAT}: update pinakes. Nothing was touched"
            )

    def _create(self) -> None:
        others = [name for name in self.storage.entries() if name not in OWN_TABLES and name != "_pinakes"]
        if others:
            raise NoCatalogError(
                f"{self.url} is not a catalogue and not empty (it holds {', '.join(others[:3])}"
                f"{', ...' if others[3:] else ''}): name another folder; nothing was touched"
            )
        for name, schema in OWN_TABLES.items():
            commits.open_table(self.storage, name, schema)
        about = {"format": FORMAT, "pinakes": version("pinakes"), "created_at": datetime.now(UTC).isoformat()}
        self.storage.write(ABOUT, json.dumps(about).encode())

    # --- tables

    def tables(self) -> list[str]:
        """Names of the tables: its own, and every other folder that is there."""
        folders = {name for name, is_folder in self.storage.entries().items() if is_folder}
        return sorted(set(OWN_TABLES).union(name for name in folders if not name.startswith(("_", "."))))

    def table(self, name: str, schema: pa.Schema | None = None) -> DeltaTable:
        """A table as delta-rs sees it, created with `schema` if need be."""
        return commits.open_table(self.storage, name, schema)

    def table_status(self) -> list[TableStatus]:
        """Rows, parts and bytes of every table."""
        found = []
        for name in self.tables():
            parts = pa.table(self.table(name).get_add_actions(flatten=True))
            rows, size = (pc.sum(parts[column]).as_py() or 0 for column in ("num_records", "size_bytes"))
            found.append(TableStatus(name, rows, parts.num_rows, size))
        return found

    def ledger(self) -> tuple[Dataset, pa.Table, int]:
        """The ledger's rows, those of commits that no process has added yet, and the last commit's number."""
        ledger = self.table("ledger")
        done = commits.applied(ledger)
        open_commits = commits.read_commits(self.storage, done).sort_by("n").to_pylist()
        pending = [
            commits.read_part(self.storage, "ledger", action["path"])
            for commit in open_commits
            for action in commit["actions"]
            if action["table"] == "ledger"
        ]
        last = max([done, *(commit["n"] for commit in open_commits)])
        return ledger.to_pyarrow_dataset(), pa.concat_tables([OWN_TABLES["ledger"].empty_table(), *pending]), last

    # --- writing

    def finish(self) -> int:
        """Add what another process committed and did not live to add. Returns the last commit's number."""
        return commits.apply_open_commits(self.storage)

    def commit_log(
        self,
        run_id: str,
        operator_tables: Mapping[str, pa.Schema],
        since: int,
        fingerprints: Iterable[str] | None = None,
        job: str = "",
    ) -> commits.CommitLog:
        """A log to commit a run's results to; makes the tables that the operators need, and `usage`."""
        schemas = {name: result_schema(columns) for name, columns in operator_tables.items()}
        for name, schema in schemas.items():
            there, ours = (
                [f"{field.name} {field.type}" for field in one.fields]
                for one in (self.table(name, schema).schema(), Schema.from_arrow(schema))
            )
            if there != ours:
                differ = ", ".join(sorted(set(there).symmetric_difference(ours))) or "their order"
                raise CorruptCatalogError(
                    f"{self.url}: the columns of the table {name} are not those that this version writes ({differ}): "
                    "use another catalogue. Nothing was touched"
                )
        self.table(metering.TABLE, metering.USAGE)
        all_schemas = {**schemas, "ledger": OWN_TABLES["ledger"]}
        return commits.CommitLog(self.storage, run_id, all_schemas, since, fingerprints, job)

    @commits.retry_conflicts
    def record_run(self, row: Mapping[str, Any]) -> None:
        """Append the start or the end of a run; columns not given are null."""
        table = self.table("runs", RUNS)
        rows = pa.Table.from_pylist([{"recorded_at": datetime.now(UTC), **row}], schema=RUNS)
        with self.storage.reporting("recording the run"):
            write_deltalake(
                table,
                commits.as_in(table, rows),
                mode="append",
                commit_properties=CommitProperties(max_commit_retries=20),
            )

    # --- asking

    def sql(self, query: str, at: int | str | datetime | None = None) -> pa.Table:
        """The answer to a DuckDB query over the tables and views; see sql.py and views.py.

        With `at` of the tables as they were after that commit, or at that time; see lookback.py. Raises QueryError.
        """
        return sql.query(self, query, at)


def new_run_id() -> str:
    """Sorts by time; the tail tells apart runs that start in the same second."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
