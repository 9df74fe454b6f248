"""Collections of faces as they stand, and what was done with them: the tables `collections` and `collection_faces`."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from pinakes.catalog.errors import CollectionError
from pinakes.catalog.face_tables import COLLECTIONS, TABLES
from pinakes.catalog.index_choice import Index

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog


@dataclass(frozen=True)
class Collection:
    """The newest row of a name in `collections`; see face_tables.py for what the columns mean."""

    collection: str
    action: str
    load: int
    model: str
    dimensions: int | None
    condition: str | None
    quality: str
    milvus: str | None
    host: str
    milvus_name: str
    index: str
    n: int
    fingerprints: str
    faces: int
    left_out: int
    recorded_at: datetime

    @property
    def index_asked(self) -> dict[str, Any]:
        """The index as the user wants it; empty: to be chosen by size."""
        asked: dict[str, Any] = json.loads(self.index)["asked"]
        return asked

    @property
    def index_chosen(self) -> Index | None:
        """The index that it has; None until there are vectors."""
        chosen = json.loads(self.index)["chosen"]
        return chosen and Index(**chosen)

    @property
    def is_lite(self) -> bool:
        return self.milvus is None

    def after(self, action: str, **changes: Any) -> "Collection":
        """The next row."""
        news = {"load": self.load + 1, "host": platform.node(), "recorded_at": datetime.now(UTC), **changes}
        return replace(self, action=action, **news)


class Collections:
    """The collections of a catalogue, as they stood when this was made. Raises CatalogError."""

    def __init__(self, catalog: "Catalog") -> None:
        self._catalog = catalog
        self._table: DeltaTable | None = None
        self._rows: list[Collection] = []
        if "collections" in catalog.storage.entries():
            self._read(catalog.table("collections"))

    def _read(self, table: DeltaTable) -> None:
        self._table = table
        with self._catalog.storage.reporting("reading table collections"):
            rows = table.to_pyarrow_table().sort_by("load").to_pylist()
        self._rows = [Collection(**row) for row in rows]

    @property
    def _newest(self) -> dict[str, Collection]:
        return {row.collection: row for row in self._rows}

    def rows(self, name: str) -> list[Collection]:
        """Its history, the oldest row first."""
        return [row for row in self._rows if row.collection == name]

    def all(self) -> list[Collection]:
        """Those that are there, by name."""
        return [one for _, one in sorted(self._newest.items()) if one.action != "dropped"]

    def find(self, name: str) -> Collection | None:
        """The one of that name."""
        return next((one for one in self.all() if one.collection == name), None)

    def get(self, name: str) -> Collection:
        """The same; raises CollectionError when there is none."""
        found = self.find(name)
        if found is None:
            names = ", ".join(one.collection for one in self.all())
            raise CollectionError(
                f"{self._catalog.url} has no collection {name!r}"
                + (f"; there are: {names}" if names else ": `pinakes faces index NAME` makes one")
            )
        return found

    def loads(self, name: str) -> int:
        """The number of the last row of that name, dropped or not; 0 when there never was one."""
        return max((row.load for row in self.rows(name)), default=0)

    def record(self, row: Collection) -> bool:
        """Append a row. False when another process has recorded something of that collection in the meantime."""
        # Who only reads makes no table.
        if self._table is None:
            self._read(self._catalog.table("collections", COLLECTIONS))
            if self.loads(row.collection) >= row.load:
                return False
        assert self._table is not None
        transaction = Transaction(f"collection {row.collection}", row.load)
        try:
            with self._catalog.storage.reporting(f"recording collection {row.collection}"):
                # On the very snapshot that was read: two processes cannot both record load n.
                write_deltalake(
                    self._table,
                    pa.Table.from_pylist([asdict(row)], schema=COLLECTIONS),
                    mode="append",
                    commit_properties=CommitProperties(app_transactions=[transaction], max_commit_retries=5),
                )
        except CommitFailedError:
            return False
        self._rows.append(row)
        return True


def append(catalog: "Catalog", table: str, rows: pa.Table) -> None:
    """Append rows to one of the tables of face search. Raises StorageError, CorruptCatalogError."""
    if not rows.num_rows:
        return
    schema = TABLES[table]
    there = catalog.table(table, schema)
    with catalog.storage.reporting(f"writing to {table}"):
        write_deltalake(
            there,
            rows.select(schema.names).cast(schema),
            mode="append",
            commit_properties=CommitProperties(max_commit_retries=20),
        )


def last_load(catalog: "Catalog", name: str) -> int:
    """The highest load of a collection that any row speaks of, also of a load that was killed."""
    loads = [Collections(catalog).loads(name)]
    if "collection_faces" in catalog.storage.entries():
        rows = catalog.table("collection_faces").to_pyarrow_dataset()
        column = rows.to_table(columns=["load"], filter=pc.field("collection") == name)["load"]
        loads.append(pc.max(column).as_py() or 0)
    return max(loads)


def settings_of(asked: Mapping[str, Any], chosen: Index | None = None) -> str:
    """What the column `index` says."""
    return json.dumps({"asked": dict(asked), "chosen": chosen and asdict(chosen)})
