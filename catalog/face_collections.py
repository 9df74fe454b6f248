"""Collections of faces as they stand, and what was done with them: the tables `collections` and `collection_faces`."""

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from pinakes.catalog.commits import as_in, retry_conflicts
from pinakes.catalog.errors import CollectionError
from pinakes.catalog.face_tables import COLLECTIONS, TABLES
from pinakes.catalog.index_choice import Index
from pinakes.catalog.milvus import lite_folder

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

#: Parts of a table, above which the small ones are put together.
MOST_PARTS = 50


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
    folder: str | None
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
        """The next row, written on this machine."""
        news = {"load": self.load + 1, "host": platform.node(), "folder": _folder(self), **changes}
        return replace(self, action=action, recorded_at=datetime.now(UTC), **news)


@dataclass(frozen=True)
class Copy:
    """A copy of a collection in Milvus, which may be one that was left behind."""

    collection: str
    milvus_name: str
    milvus: str | None
    host: str
    folder: str | None
    is_current: bool

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return self.milvus or f"Milvus Lite in {self.folder} on {self.host}"


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
        return {row.collection: row for row in self._rows if row.action not in ("begun", "removed")}

    def copies(self, name: str | None = None) -> list[Copy]:
        """All copies in Milvus that were ever begun and are not known to be removed, of one collection or of all."""
        current = {one.milvus_name for one in self.all()}
        found: dict[tuple[str, str | None, str | None, str | None], Copy] = {}
        for row in self._rows:
            if name not in (None, row.collection):
                continue
            key = (row.milvus_name, row.milvus, *((row.host, row.folder) if row.is_lite else (None, None)))
            if row.action == "removed":
                found.pop(key, None)
            elif row.action != "dropped":
                is_current = row.milvus_name in current
                found[key] = Copy(row.collection, row.milvus_name, row.milvus, row.host, row.folder, is_current)
        return list(found.values())

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
                    as_in(self._table, pa.Table.from_pylist([asdict(row)], schema=COLLECTIONS)),
                    mode="append",
                    commit_properties=CommitProperties(app_transactions=[transaction], max_commit_retries=5),
                )
        except CommitFailedError:
            return False
        self._rows.append(row)
        _compact(self._catalog, self._table)
        return True


@retry_conflicts
def append(catalog: "Catalog", table: str, rows: pa.Table) -> None:
    """Append rows to one of the tables of face search. Raises StorageError, CorruptCatalogError."""
    if not rows.num_rows:
        return
    schema = TABLES[table]
    there = catalog.table(table, schema)
    with catalog.storage.reporting(f"writing to {table}"):
        write_deltalake(
            there,
            as_in(there, rows.select(schema.names).cast(schema)),
            mode="append",
            commit_properties=CommitProperties(max_commit_retries=20),
        )
    _compact(catalog, there)


def _compact(catalog: "Catalog", table: DeltaTable) -> None:
    """Put many small parts together, so that who reads the table does not have to open each of them."""
    if len(table.file_uris()) > MOST_PARTS:
        # Another process may be at it, or forget something meanwhile: then that is what counts.
        with suppress(CommitFailedError, DeltaError), catalog.storage.reporting("putting parts together"):
            table.optimize.compact()


def last_load(catalog: "Catalog") -> int:
    """The highest load that any row speaks of, also of a load that was killed: from the parts' statistics alone."""
    highest = 0
    for name in ("collections", "collection_faces"):
        if name in catalog.storage.entries():
            parts = pa.table(catalog.table(name).get_add_actions(flatten=True))
            if parts.num_rows:
                highest = max(highest, pc.max(parts["max.load"]).as_py() or 0)
    return highest


def settings_of(asked: Mapping[str, Any], chosen: Index | None = None) -> str:
    """What the column `index` says."""
    return json.dumps({"asked": dict(asked), "chosen": chosen and asdict(chosen)})


def _folder(collection: Collection) -> str | None:
    """Where Milvus Lite keeps it on this machine."""
    return str(lite_folder(collection.milvus_name)) if collection.is_lite else None
