"""Loading a collection: what `latest_embeddings` has of its model goes to Milvus, and what it has no more leaves it.

What is in Milvus stands in the table `collection_faces`, so that a load is the difference of two tables: of the whole
ones, or of those places only that were looked at since the last load, if the fingerprints that runs asked for have
kept their order (which look counts depends on it; see sql.py).

What happens when a process dies: faces that went to Milvus and not yet to `collection_faces` are sent again, under the
same ids; and the load after that goes on where the table ends.
"""

import json
import platform
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pinakes.catalog.collection_definition import Definition, advice, checked_uri, created, milvus_name, refuse_another
from pinakes.catalog.errors import CatalogError, CollectionError
from pinakes.catalog.face_collections import Collection, Collections, Copy, append, last_load, settings_of
from pinakes.catalog.face_difference import Difference, check_condition, compare, count, has_faces, refuse_replaced
from pinakes.catalog.index_choice import choose
from pinakes.catalog.live import live
from pinakes.catalog.milvus import FIELDS, Vectors, opened, remove
from pinakes.catalog.people import forget_names, match_new, vectors_of
from pinakes.catalog.sql import connect, reading
from pinakes.catalog.thresholds import BY_MODEL

if TYPE_CHECKING:
    from pinakes.catalog.catalog import Catalog

Report = Callable[[str], None]
#: Faces that go to Milvus between two rows of work that is safe.
STEP = 20_000
#: Commits without a face that a run's next load looks through again, so that not each of them makes a row.
QUIET_COMMITS = 100


@dataclass(frozen=True)
class Loaded:
    """What a load did."""

    collection: Collection
    added: int
    removed: int
    left_out: dict[str, int]  # by reason; a face may have several
    seconds: float
    remarks: list[str] = field(default_factory=list)


def index(
    catalog: "Catalog",
    name: str,
    asked: Definition | None = None,
    *,
    report: Report = lambda line: None,
    advance: Callable[[int], None] = lambda faces: None,
    wait: bool = True,
) -> Loaded:
    """Bring a collection up to the catalogue's last commit; make it if there is none of that name.

    With `wait` it returns when Milvus has indexed all of it. Raises CollectionError (another model or condition than
    the collection's, no face vectors, Milvus does not answer), QueryError (the condition) and the other CatalogErrors.
    """
    asked = asked or Definition()
    began = time.monotonic()
    while True:
        n = catalog.finish()
        collections = Collections(catalog)
        there = collections.find(name)
        if there is None:
            there = created(catalog, name, asked)
            check_condition(catalog, there)
            with opened(there.milvus_name, there.milvus, report):
                pass  # what cannot be reached is not recorded
            if not collections.record(there):
                continue
        refuse_another(there, asked)
        with live(catalog.storage, f"load-{uuid.uuid4().hex}"):
            result, trouble = _bring_up(catalog, collections, there, n, report, advance, wait)
        if result is not None:
            return replace(result, seconds=time.monotonic() - began)
        # Another process may have loaded it meanwhile: then hold what is there against the tables again.
        if trouble and Collections(catalog).find(name) == there:
            report(f"{trouble}: making {name} anew")
            return rebuild(catalog, name, report=report, advance=advance, wait=wait)


def rebuild(
    catalog: "Catalog",
    name: str,
    asked: Definition | None = None,
    *,
    report: Report = lambda line: None,
    advance: Callable[[int], None] = lambda faces: None,
    wait: bool = True,
) -> Loaded:
    """Make a collection anew, perhaps of another model, condition, server or index; the old one answers until then.

    Raises as `index` does.
    """
    with live(catalog.storage, f"load-{uuid.uuid4().hex}"):
        return make_anew(catalog, name, asked or Definition(), report, advance, wait)


def make_anew(
    catalog: "Catalog",
    name: str,
    asked: Definition,
    report: Report = lambda line: None,
    advance: Callable[[int], None] = lambda faces: None,
    wait: bool = True,
    without: Sequence[str] = (),
) -> Loaded:
    """What `rebuild` does, for who has seen to it already that no other forgets meanwhile; without some faces."""
    began = time.monotonic()
    n = catalog.finish()
    collections = Collections(catalog)
    old = collections.get(name)
    new = replace(
        old,
        model=asked.model or old.model,
        condition=old.condition if asked.condition is None else asked.condition or None,
        milvus=old.milvus if asked.milvus is None else checked_uri(asked.milvus),
        quality=old.quality if asked.quality is None else asked.quality.model_dump_json(),
        index=settings_of(old.index_asked if asked.index is None else asked.index),
        dimensions=None,
        milvus_name=milvus_name(name),
        load=last_load(catalog),
        n=0,
        faces=0,
        left_out=0,
        fingerprints="[]",
    )
    check_condition(catalog, new)
    with opened(new.milvus_name, new.milvus, report):
        pass
    # From now on whoever forgets somebody, or drops the collection, knows of this copy too.
    begun = new.after("begun")
    recorded = collections.record(begun)
    try:
        while True:
            result, trouble = _bring_up(catalog, collections, begun, n, report, advance, wait, "rebuilt", without)
            if result is not None:
                break
            # A load of the old one came between: what is new since then goes into this one as well.
            n, collections = catalog.finish(), Collections(catalog)
            now = collections.find(name)
            if trouble or now is None or now.milvus_name != old.milvus_name:
                raise CollectionError(
                    f"{name}: {trouble or 'another process has made it anew meanwhile'}: run it again; nothing was lost"
                )
            begun = replace(begun, load=last_load(catalog))
    except CatalogError:
        if recorded:
            _remove_copies(catalog, name, [begun.milvus_name])
        raise
    remarks = _remove_copies(catalog, name)
    if new.model != old.model and (names := forget_names(catalog, name)):
        remarks.append(f"{names:,} names are gone: vectors of {new.model} cannot be compared with the photos")
    return replace(result, seconds=time.monotonic() - began, remarks=[*result.remarks, *remarks])


def drop(catalog: "Catalog", name: str) -> list[str]:
    """Remove a collection from Milvus, and who is who in it; its faces stay in the catalogue's tables.

    Returns what could not be removed, and why: a server that is gone does not keep one from dropping a collection.
    Raises CollectionError.
    """
    with live(catalog.storage, f"load-{uuid.uuid4().hex}"):
        collections = Collections(catalog)
        last = replace(collections.get(name), load=last_load(catalog))
        if not collections.record(last.after("dropped", faces=0, left_out=0, dimensions=None)):
            raise CollectionError(f"another process has changed {name} in the meantime: run it again")
        forget_names(catalog, name)
        return _remove_copies(catalog, name)


def _remove_copies(catalog: "Catalog", name: str, names: Sequence[str] | None = None) -> list[str]:
    """Remove the copies in Milvus that are not the collection. Returns what could not be removed, and why."""
    copies = [one for one in Collections(catalog).copies(name) if not one.is_current]
    tried = [remove_copy(catalog, one) for one in copies if names is None or one.milvus_name in names]
    return [why for why in tried if why]


def remove_copy(catalog: "Catalog", copy: Copy) -> str | None:
    """Remove a copy of a collection from Milvus, and record that it is gone. Returns why it could not be removed."""
    if copy.milvus is None and copy.host != platform.node():
        return f"{copy.milvus_name} is in {copy.place}: any `pinakes faces rebuild {copy.collection}` there removes it"
    try:
        remove(copy.milvus_name, copy.milvus, Path(copy.folder) if copy.folder else None)
    except (CollectionError, OSError) as error:
        return f"{copy.milvus_name} could not be removed from {copy.place}: {error}"
    for _ in range(10):
        collections = Collections(catalog)
        row = next(row for row in collections.rows(copy.collection) if row.milvus_name == copy.milvus_name)
        gone = replace(row, load=last_load(catalog)).after(
            "removed", faces=0, left_out=0, host=copy.host, folder=copy.folder
        )
        if collections.record(gone):
            break
    return None


# --- loading


def _bring_up(
    catalog: "Catalog",
    collections: Collections,
    there: Collection,
    n: int,
    report: Report,
    advance: Callable[[int], None],
    wait: bool,
    action: str = "loaded",
    without: Sequence[str] = (),
) -> tuple[Loaded | None, str | None]:
    """Load, and record it. Returns None for what it did when another process was first, and what is wrong if it has to
    be made anew."""
    if not has_faces(catalog):
        return Loaded(there, 0, 0, {}, 0), None
    asked_for = _fingerprints(catalog, there.model)
    before = json.loads(there.fingerprints)
    since = there.n if [one for one in asked_for if one in before] == before else 0
    load = max(last_load(catalog), there.load) + 1
    remarks: list[str] = []
    with opened(there.milvus_name, there.milvus, report) as vectors:
        with connect(catalog, since) as connection, reading(catalog.url):
            compare(connection, catalog, there, since, without)
            was_there = vectors.exists
            if not was_there and there.faces:
                return None, f"Milvus at {there.milvus or platform.node()} does not have {there.collection} any more"
            refuse_replaced(connection, there)
            difference = count(connection, there, since)
            _remove(catalog, connection, there, vectors, load)
            there = _ready(connection, there, vectors, difference)
            # Of a load that was killed some faces may be there already.
            _add(catalog, connection, there, vectors, load, advance, may_be_there=was_there)
        if vectors.exists and (counted := vectors.count()) != difference.faces:
            trouble = f"Milvus has {counted:,} faces of {there.collection}, and it should be {difference.faces:,}"
            return None, trouble
        last = replace(there, load=load - 1).after(
            action,
            n=n,
            fingerprints=json.dumps(asked_for),
            faces=difference.faces,
            left_out=difference.all_left_out,
        )
        unchanged = (last.faces, last.left_out, last.fingerprints) == (there.faces, there.left_out, there.fingerprints)
        # A row for each load that finds nothing would be all that one has to read in the end.
        is_old = n > there.n if wait else n - there.n > QUIET_COMMITS
        is_news = action != "loaded" or difference.changes or not unchanged or is_old
        if is_news and not collections.record(last):
            return None, None
        # Who does not wait for the end of this loses nothing.
        if wait and vectors.exists:
            indexed = vectors.settle(lambda rows: report(f"Milvus is building the index: {rows:,} rows to go"))
            if not indexed:
                remarks.append("Milvus is still building the index; until it is done, searches take longer")
    now = last if is_news else there
    if difference.added and (better := advice(now)):
        remarks.append(better)
    return Loaded(now, difference.added, difference.removed, dict(difference.left_out), 0, remarks), None


def _fingerprints(catalog: "Catalog", model: str) -> list[str]:
    """Those with which runs asked for looks by the operators that made that model, the newest at the end."""
    rows = catalog.table("runs").to_pyarrow_table(columns=["operators", "recorded_at"]).sort_by("recorded_at")
    runs = [json.loads(text) for text in rows["operators"].to_pylist()]
    makers = {name for run in runs for name, one in run.items() if one["model"] == model}
    found: dict[str, None] = {}
    for run in runs:
        for name in sorted(makers & run.keys()):
            for fingerprint in (run[name]["fingerprint"], run[name].get("video_fingerprint")):
                if fingerprint:
                    found.pop(fingerprint, None)
                    found[fingerprint] = None
    return list(found)


def _remove(
    catalog: "Catalog", connection: duckdb.DuckDBPyConnection, there: Collection, vectors: Vectors, load: int
) -> None:
    """Take out what does not count any more."""
    leaving = connection.sql("SELECT face_id FROM to_leave").to_arrow_table()
    if leaving.num_rows and vectors.exists:
        vectors.remove(leaving["face_id"].to_pylist())
    gone = connection.sql("SELECT face_id, uri FROM to_remove").to_arrow_table()
    if gone.num_rows:
        _record_faces(catalog, there, load, gone, "removed")


def _add(
    catalog: "Catalog",
    connection: duckdb.DuckDBPyConnection,
    there: Collection,
    vectors: Vectors,
    load: int,
    advance: Callable[[int], None],
    *,
    may_be_there: bool,
) -> None:
    """Put in what is new."""
    bad = connection.sql("SELECT face_id, uri, reasons FROM to_add WHERE len(reasons) > 0").to_arrow_table()
    if bad.num_rows:
        _record_faces(catalog, there, load, bad, "left_out")
    first = connection.execute("SELECT min(n) FROM to_add WHERE len(reasons) = 0").fetchall()[0][0]
    if first is None:
        return
    # The bound lets parts be passed over by their statistics.
    reader = connection.sql(
        "SELECT to_add.*, found.vector FROM to_add JOIN embeddings AS found ON found.subject_id = to_add.face_id "
        "AND found.n = to_add.n WHERE len(to_add.reasons) = 0 AND found.subject = 'face' AND found.n >= $first",
        params={"first": first},
    ).to_arrow_reader(STEP)
    references: dict[str, np.ndarray] = {}

    def look_up(face_ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Vectors of references, which are read once for all steps."""
        lacking = [face_id for face_id in face_ids if face_id not in references]
        if lacking:
            references.update(vectors_of(catalog, lacking))
        return {face_id: references[face_id] for face_id in face_ids if face_id in references}

    for batch in reader:
        rows = pa.Table.from_batches([batch])
        sizes = set(pc.list_value_length(rows["vector"]).to_pylist())
        if sizes != {there.dimensions}:
            lengths = sorted({*sizes, there.dimensions or 0})
            raise CollectionError(f"the vectors of {there.model} are of several lengths: {lengths}")
        vectors.add(rows.select([*FIELDS.names, "vector"]), may_be_there=may_be_there)
        _record_faces(catalog, there, load, rows.select(["face_id", "uri"]), "indexed")
        if there.model in BY_MODEL:
            naming = BY_MODEL[there.model].naming
            match_new(catalog, there.collection, rows.select(["face_id", "vector"]), naming, look_up=look_up)
        advance(rows.num_rows)


def _ready(
    connection: duckdb.DuckDBPyConnection, there: Collection, vectors: Vectors, difference: Difference
) -> Collection:
    """Make the collection in Milvus, if there is something to put in. Returns it with its dimensions and its index."""
    if there.index_chosen is None or not vectors.exists:
        found = connection.execute(
            "SELECT len(vector) FROM embeddings SEMI JOIN (SELECT face_id FROM wanted WHERE len(reasons) = 0 LIMIT 1) "
            "AS one ON one.face_id = subject_id WHERE subject = 'face' LIMIT 1"
        ).fetchall()
        if found:
            there = replace(there, dimensions=found[0][0])
            try:
                chosen = choose(difference.faces, found[0][0], there.is_lite, there.index_asked or None)
            except ValueError as error:
                raise CollectionError(f"the index of {there.collection}: {error}") from None
            there = replace(there, index=settings_of(there.index_asked, chosen))
            if not vectors.exists:
                vectors.create(found[0][0], chosen)
    return there


def _record_faces(catalog: "Catalog", there: Collection, load: int, rows: pa.Table, action: str) -> None:
    count = rows.num_rows
    columns = {
        "collection": pa.repeat(pa.scalar(there.collection), count),
        "milvus_name": pa.repeat(pa.scalar(there.milvus_name), count),
        "load": pa.repeat(pa.scalar(load, pa.int64()), count),
        "face_id": rows["face_id"],
        "uri": rows["uri"],
        "action": pa.repeat(pa.scalar(action), count),
        "reasons": rows["reasons"] if "reasons" in rows.column_names else pa.nulls(count, pa.list_(pa.string())),
    }
    append(catalog, "collection_faces", pa.table(columns))
