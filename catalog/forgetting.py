"""Forgetting faces: out of every table, out of the files behind them, out of Milvus; and they do not come back.

In order, where each step may be killed, and the next forgetting of anything does it again:

1. no run is at work, and none starts (live.py)
2. `suppressions` say where the faces are; from now on nobody commits them (suppressions.py, `CommitLog.fence`)
3. a file in `_pinakes/forgetting` says that this one is under way
4. the vectors leave Milvus, while the tables still say where they are; what cannot be reached there keeps the rest
   from nothing: the receipt says so, and every later forgetting tries it again
5. the rows leave the tables: `faces` last but one, since from it and the suppressions follows what the others must
   lose; `people` last, by which a person is known, and with the faces what is a template of them there
   (person_templates.py)
6. replaced parts, orphans of killed processes and the logs' old entries go
7. every file below the catalogue is read, and nothing of it may be found
8. the receipt is written

Of the pictures' items stay: that and how they were looked at, labels, objects, text, vectors of whole pictures, and
the tracks of people's bodies, which hold no face.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, write_deltalake

from pinakes.catalog import live
from pinakes.catalog.chosen_faces import Chosen, choose, suppressed
from pinakes.catalog.commits import CommitLog, as_in
from pinakes.catalog.erasing import sweep, trim_log
from pinakes.catalog.errors import RemnantError, UnknownError
from pinakes.catalog.face_erasing import blank_searches, erase_faces, names_in_conditions, touched
from pinakes.catalog.face_tables import SUPPRESSIONS
from pinakes.catalog.person_templates import Likeness, names_without, templates
from pinakes.catalog.remnants import STATE, look_for, refuse_unreadable
from pinakes.catalog.suppressions import SIDES, Suppressions

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

RECEIPTS = "_pinakes/receipts"
HEADING = ("receipt_id", "request", "requested_at", "by")
Request = Literal["face", "uri", "person", "like"]
#: So begins what a receipt says of a copy in Milvus that could not be reached.
NOT_DONE = "NOT DONE:"


@dataclass(frozen=True)
class Removed:
    """What became of vectors in Milvus."""

    lines: list[str]  # for the receipt
    left: list[str]  # names in Milvus of copies that could not be reached, and may have them still


#: Takes vectors of faces out of Milvus, wherever they are, and does what earlier ones could not: the names in `left`.
RemoveVectors = Callable[[Sequence[str], Sequence[str]], Removed]

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
    references: int = 0  # from photos, which were templates of these faces, and went with them
    names: int = 0  # that nobody has any more, for want of a face by which they were given
    searches: int = 0  # rows of `audit` of which something was blanked
    files_removed: int = 0
    log_entries_removed: int = 0
    milvus: list[str] = field(default_factory=list)
    #: Names of copies in Milvus that could not be reached; `milvus` says why, and what to do.
    not_done: list[str] = field(default_factory=list)
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
    collection: str | None = None,
    likenesses: Sequence[Likeness] = (),
    remove_vectors: RemoveVectors = lambda ids, left: Removed([], list(left)),
    report: Callable[[str], None] = lambda line: None,
) -> Receipt:
    """Forget faces for good: those of some ids, of an item (`uri`), or of a person (name or id, in a collection).

    `likenesses` say what the ids were found by, if it was a photo. Killed, it is to be called again. The receipt's
    `not_done` says whether something is left in Milvus.

    Raises BusyCatalogError (a run is at work), UnknownError (nothing to forget), AmbiguousError (several persons have
    that name), RemnantError (something is left), StorageError, CorruptCatalogError, and what `remove_vectors` raises:
    then nothing has left the tables.
    """
    asked = "uri" if uri is not None else "person" if person is not None else "like" if likenesses else "face"
    request = cast(Request, asked)
    receipt = Receipt(uuid.uuid4().hex, request, datetime.now(UTC).isoformat(), live.user_at_host())
    with live.forgetting(catalog.storage, receipt.receipt_id):
        catalog.finish()
        before = _Before.read(catalog)
        try:
            chosen = choose(
                catalog, face_ids=face_ids, uri=uri, person=person, collection=collection, likenesses=likenesses
            )
            if chosen.is_empty:
                raise UnknownError(f"{catalog.url}: there is no such face, or it has been forgotten")
        except UnknownError as error:
            if not before.states:
                raise
            report(f"{error}: doing what an earlier forgetting has left")
            chosen = choose(catalog)
        receipt.items = chosen.items
        receipt.places = _suppress(catalog, chosen, receipt)
        state = {**_heading(receipt), "person_ids": chosen.person_ids.to_pylist(), "templates": [*chosen.templates]}
        _write_state(catalog, state)
        fence = CommitLog(catalog.storage, receipt.receipt_id, {}).fence()
        ids = _ids(catalog, chosen)
        receipt.faces = len(ids)
        report(f"forgetting {len(ids):,} faces in {receipt.items:,} items")
        removed = remove_vectors(ids.to_pylist(), before.copies)
        receipt.milvus, receipt.not_done = removed.lines, removed.left
        # The tables will not know of the faces any more when this is to be tried again.
        waiting = [*before.waiting, *([receipt.receipt_id] if removed.left else [])]
        _write_state(catalog, {**state, "copies": removed.left, "waiting": waiting})
        person_ids = pa.array([*chosen.person_ids.to_pylist(), *before.person_ids], pa.string())
        photos = chosen.templates | before.templates | templates(catalog, ids)
        gone = _erase(catalog, receipt, ids, person_ids, photos, fence)
        report("reading all files of the catalogue for what is left")
        receipt.checked = _check(catalog, [*ids.to_pylist(), *person_ids.to_pylist()], gone)
        receipt.finished_at = datetime.now(UTC).isoformat()
        _conclude(catalog, receipt, before)
    return receipt


def _erase(
    catalog: "Catalog", receipt: Receipt, ids: pa.Array, person_ids: pa.Array, photos: set[str], fence: int
) -> list[str]:
    """Out of the tables and the files behind them; what was done goes into the receipt. Returns names that are gone."""
    names = names_without(catalog, ids, person_ids, photos)
    receipt.references, receipt.names = len(photos), len(names.gone)
    receipt.searches = blank_searches(catalog, ids, names.lost)
    receipt.rows = erase_faces(catalog, ids, person_ids, photos, names)
    for name in touched(catalog):
        receipt.files_removed += sweep(catalog, name, fence)
        receipt.log_entries_removed += trim_log(catalog, name)
    if names_in_conditions(catalog, names.lost):
        receipt.not_covered.append("conditions of collections that name the person: make these collections anew")
    return names.gone


def _conclude(catalog: "Catalog", receipt: Receipt, before: "_Before") -> None:
    """Write the receipt, and what becomes of those before it; keep what a later forgetting has to do."""
    # One that was killed after its receipt was written had done everything but what it says.
    there = catalog.storage.entries(RECEIPTS)
    killed = [state for state in before.states if f"{state['receipt_id']}.json" not in there]
    receipt.completed = [state["receipt_id"] for state in killed]
    for state in killed:
        _write(catalog, {**{name: state[name] for name in HEADING}, "completed_by": receipt.receipt_id})
    _write(catalog, asdict(receipt))
    if receipt.not_done:
        waiting = [*before.waiting, receipt.receipt_id]
        _write_state(catalog, {**_heading(receipt), "copies": receipt.not_done, "waiting": waiting})
    else:
        for one in (one for one in before.waiting if f"{one}.json" in there):
            found = json.loads(catalog.storage.read(f"{RECEIPTS}/{one}.json"))
            _write(catalog, {**found, "completed_by": receipt.receipt_id})
    done = [state["receipt_id"] for state in before.states]
    for one in done if receipt.not_done else [*done, receipt.receipt_id]:
        catalog.storage.remove(f"{STATE}{one}.json")


def is_unfinished(catalog: "Catalog") -> bool:
    """Whether a forgetting was killed, or could not do all. Raises StorageError."""
    return bool(_Before.read(catalog).states)


@dataclass(frozen=True)
class _Before:
    """What earlier forgettings had begun and did not end. No name or number of a face is in it."""

    states: list[dict[str, Any]]

    @classmethod
    def read(cls, catalog: "Catalog") -> "_Before":
        names = [name for name in catalog.storage.entries(STATE.rstrip("/")) if name.endswith(".json")]
        return cls([json.loads(catalog.storage.read(f"{STATE}{name}")) for name in names])

    def _all(self, what: str) -> list[str]:
        return sorted({one for state in self.states for one in state.get(what, [])})

    @property
    def person_ids(self) -> list[str]:
        return self._all("person_ids")

    @property
    def templates(self) -> set[str]:
        return set(self._all("templates"))

    @property
    def copies(self) -> list[str]:
        """Names of copies in Milvus."""
        return self._all("copies")

    @property
    def waiting(self) -> list[str]:
        """Receipts that say of one of these that it is not done."""
        return self._all("waiting")


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
            rows_of = as_in(table, pa.Table.from_pylist(made, schema=SUPPRESSIONS))
            write_deltalake(table, rows_of, mode="append", commit_properties=CommitProperties(max_commit_retries=20))
    return len(rows)


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["key"], row["frame_ms"], *(row["box"][side] for side in SIDES)


def _heading(receipt: Receipt) -> dict[str, Any]:
    return {name: getattr(receipt, name) for name in HEADING}


def _write_state(catalog: "Catalog", state: Mapping[str, Any]) -> None:
    catalog.storage.write(f"{STATE}{state['receipt_id']}.json", json.dumps(state).encode())


def _write(catalog: "Catalog", receipt: Mapping[str, Any]) -> None:
    catalog.storage.write(f"{RECEIPTS}/{receipt['receipt_id']}.json", json.dumps(receipt, indent=2).encode())


def _check(catalog: "Catalog", ids: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """What was read to see that it is gone. Raises RemnantError when it is not."""
    tables = touched(catalog)
    check = look_for(catalog.storage, ids, names)
    if check.found:
        raise RemnantError(
            f"{catalog.url}: what was to be forgotten is still in {', '.join(check.found[:5])}"
            f"{', ...' if check.found[5:] else ''}: if another process writes there, let it end, and forget again; "
            "if it is a file of yours, remove it"
        )
    refuse_unreadable(catalog.storage, check, tables)
    sought = "ids of faces and persons everywhere, names of persons in people and in the conditions of searches"
    about = {name: value for name, value in asdict(check).items() if name not in ("found", "unreadable")}
    return {"sought": sought, "ids": len(ids), "names": len(names), **about, "unreadable": len(check.unreadable)}
