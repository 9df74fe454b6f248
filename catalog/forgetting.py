"""Forgetting faces: out of every table, out of the files behind them, out of Milvus; and they do not come back.

In order, where each step may be killed, and the next forgetting of anything does it again:

1. no run is at work, and none starts (live.py)
2. `suppressions` say where the faces are; from now on nobody commits them (suppressions.py, `CommitLog.fence`)
3. a file in `_pinakes/forgetting` says that this one is under way
4. the vectors leave Milvus, while the tables still say where they are
5. the rows leave the tables: `faces` last but one, since from it and the suppressions follows what the others must
   lose; `people` last, by which a person is known
6. replaced parts, orphans of killed processes and the logs' old entries go
7. every file below the catalogue is read, and nothing of it may be found
8. the receipt is written

Of the pictures' items stay: that and how they were looked at, labels, objects, text, vectors of whole pictures, and
the tracks of people's bodies, which hold no face.
"""

import getpass
import json
import os
import platform
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, write_deltalake

from pinakes.catalog import live
from pinakes.catalog.chosen_faces import Chosen, choose, names_of, suppressed
from pinakes.catalog.commits import CommitLog
from pinakes.catalog.erasing import sweep, trim_log
from pinakes.catalog.errors import RemnantError, UnknownError
from pinakes.catalog.face_erasing import blank_searches, erase_faces, names_in_conditions, touched
from pinakes.catalog.face_tables import SUPPRESSIONS, TABLES
from pinakes.catalog.remnants import STATE, look_for, refuse_unreadable
from pinakes.catalog.suppressions import SIDES, Suppressions

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

RECEIPTS = "_pinakes/receipts"
Request = Literal["face", "uri", "person", "like"]
#: Takes vectors of faces out of Milvus, wherever they are; says in lines for the receipt what it did.
RemoveVectors = Callable[[Sequence[str]], list[str]]

NOT_COVERED = (
    "the pictures themselves, and copies of the catalogue's files: backups, snapshots of the file system, other "
    "buckets, older versions of a bucket's objects",
    "pictures, sheets and answers of queries that somebody saved",
    "what else was seen in the same pictures: labels, objects, text, vectors of whole pictures, tracks of bodies, uris",
    "the list of what must not come back, which names contents, frames and boxes, and keeps no vector",
    "the same person in files that were not catalogued yet, or in other frames of a film than were looked at: without "
    "keeping a vector nobody can tell who that is",
)


@dataclass
class Receipt:
    """What was forgotten, without saying whom."""

    receipt_id: str
    request: Request
    requested_at: str
    by: str  # user and host
    finished_at: str | None = None
    faces: int = 0
    items: int = 0  # in which they were
    #: Places that were added to the table `suppressions`; fewer than the faces where several looks saw one.
    places: int = 0
    rows: dict[str, int] = field(default_factory=dict)  # deleted, by table
    searches: int = 0  # rows of `audit` of which something was blanked
    files_removed: int = 0
    log_entries_removed: int = 0
    milvus: list[str] = field(default_factory=list)
    #: Receipts of forgettings that had been killed, and were done with this one.
    completed: list[str] = field(default_factory=list)
    checked: dict[str, Any] = field(default_factory=dict)
    not_covered: list[str] = field(default_factory=lambda: list(NOT_COVERED))
    pinakes: str = field(default_factory=lambda: version("pinakes"))


def forget(
    catalog: "Catalog",
    *,
    face_ids: Iterable[str] = (),
    uri: str | None = None,
    person: str | None = None,
    like: bool = False,
    remove_vectors: RemoveVectors = lambda ids: [],
    report: Callable[[str], None] = lambda line: None,
) -> Receipt:
    """Forget faces for good: those of some ids, of an item (`uri`), or of a person (name or id).

    `like` says that the ids were found by a search with a photo. Killed, it is to be called again. Raises
    BusyCatalogError (a run is at work), UnknownError (nothing to forget), RemnantError (something is left),
    StorageError, CorruptCatalogError, and what `remove_vectors` raises: then nothing has left the tables.
    """
    request: Request = "uri" if uri is not None else "person" if person is not None else "like" if like else "face"
    receipt = Receipt(uuid.uuid4().hex, request, datetime.now(UTC).isoformat(), _by())
    with live.forgetting(catalog.storage, receipt.receipt_id):
        catalog.finish()
        killed = _unfinished(catalog)
        try:
            chosen = choose(catalog, face_ids=face_ids, uri=uri, person=person)
            if chosen.is_empty:
                raise UnknownError(f"{catalog.url}: there is no such face, or it has been forgotten")
        except UnknownError as error:
            if not killed:
                raise
            report(f"{error}: doing what a forgetting that was killed has left")
            chosen = choose(catalog)
        receipt.items = chosen.items
        receipt.places = _suppress(catalog, chosen, receipt)
        person_ids = chosen.person_ids.to_pylist()
        state = {**_heading(receipt), "person_ids": person_ids}
        catalog.storage.write(f"{STATE}{receipt.receipt_id}.json", json.dumps(state).encode())
        fence = CommitLog(catalog.storage, receipt.receipt_id, {}).fence()
        ids = _ids(catalog, chosen)
        receipt.faces = len(ids)
        person_ids += [one for state in killed for one in state["person_ids"]]
        names = sorted({*chosen.names, *names_of(catalog, person_ids)})
        report(f"forgetting {len(ids):,} faces in {receipt.items:,} items")
        receipt.milvus = remove_vectors(ids.to_pylist())
        receipt.searches = blank_searches(catalog, ids, names)
        receipt.rows = erase_faces(catalog, ids, pa.array(person_ids, pa.string()))
        for name in touched(catalog):
            receipt.files_removed += sweep(catalog, name, fence)
            receipt.log_entries_removed += trim_log(catalog, name)
        report("reading all files of the catalogue for what is left")
        if names_in_conditions(catalog, names):
            receipt.not_covered.append("conditions of collections that name the person: make these collections anew")
        receipt.checked = _check(catalog, [*ids.to_pylist(), *person_ids], names)
        receipt.finished_at = datetime.now(UTC).isoformat()
        # One that was killed after its receipt was written had done everything.
        there = catalog.storage.entries(RECEIPTS)
        left = [state for state in killed if f"{state['receipt_id']}.json" not in there]
        receipt.completed = [state["receipt_id"] for state in left]
        for state in left:
            heading = {name: value for name, value in state.items() if name != "person_ids"}
            _write(catalog, {**heading, "completed_by": receipt.receipt_id})
        _write(catalog, asdict(receipt))
        for state in (*killed, _heading(receipt)):
            catalog.storage.remove(f"{STATE}{state['receipt_id']}.json")
    return receipt


def receipts(catalog: "Catalog") -> list[dict[str, Any]]:
    """Those of all forgettings, the oldest first. Raises StorageError."""
    names = catalog.storage.entries(RECEIPTS)
    found = [json.loads(catalog.storage.read(f"{RECEIPTS}/{name}")) for name in names]
    return sorted(found, key=lambda one: str(one["requested_at"]))


def _ids(catalog: "Catalog", chosen: Chosen) -> pa.Array:
    """The chosen ones, and what a killed forgetting left."""
    left = suppressed(catalog, Suppressions.read(catalog.storage))
    return pc.unique(pa.concat_arrays([chosen.face_ids, left]))


def _suppress(catalog: "Catalog", chosen: Chosen, receipt: Receipt) -> int:
    """Add what is not there yet to the table `suppressions`. Returns how much that is."""
    before = Suppressions.read(catalog.storage)
    places = chosen.places.to_pylist()
    wanted = {_place(row): row for row in places}
    for row in before.places.to_pylist():
        wanted.pop(_place(row), None)
    whole = set(chosen.whole.to_pylist()).difference(before.whole.to_pylist())
    rows = [*wanted.values(), *({"key": key, "frame_ms": None, "box": None} for key in sorted(whole))]
    if rows:
        at = {"receipt_id": receipt.receipt_id, "suppressed_at": datetime.now(UTC)}
        made = [{"content_id": row.pop("key"), **row, **at} for row in rows]
        table = catalog.table("suppressions", SUPPRESSIONS)
        with catalog.storage.reporting("writing suppressions"):
            rows_of = pa.Table.from_pylist(made, schema=SUPPRESSIONS)
            write_deltalake(table, rows_of, mode="append", commit_properties=CommitProperties(max_commit_retries=20))
    return len(rows)


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["key"], row["frame_ms"], *(row["box"][side] for side in SIDES)


def _heading(receipt: Receipt) -> dict[str, Any]:
    return {name: getattr(receipt, name) for name in ("receipt_id", "request", "requested_at", "by")}


def _unfinished(catalog: "Catalog") -> list[dict[str, Any]]:
    """What forgettings that were killed had begun."""
    names = catalog.storage.entries(STATE.rstrip("/"))
    return [json.loads(catalog.storage.read(f"{STATE}{name}")) for name in names if name.endswith(".json")]


def _write(catalog: "Catalog", receipt: Mapping[str, Any]) -> None:
    catalog.storage.write(f"{RECEIPTS}/{receipt['receipt_id']}.json", json.dumps(receipt, indent=2).encode())


def _check(catalog: "Catalog", ids: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """What was read to see that it is gone. Raises RemnantError when it is not."""
    tables = touched(catalog)
    check = look_for(catalog.storage, ids, names, [*tables, *TABLES])
    if check.found:
        raise RemnantError(
            f"{catalog.url}: what was to be forgotten is still in {', '.join(check.found[:5])}"
            f"{', ...' if check.found[5:] else ''}: if another process writes there, let it end, and forget again; "
            "if it is a file of yours, remove it"
        )
    refuse_unreadable(catalog.storage, check, tables)
    sought = "ids of faces and persons everywhere, names of persons in the tables of face search and beside all tables"
    about = {name: value for name, value in asdict(check).items() if name not in ("found", "unreadable")}
    return {"sought": sought, "ids": len(ids), "names": len(names), **about, "unreadable": len(check.unreadable)}


def _by() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container without names of users
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{platform.node()}"
